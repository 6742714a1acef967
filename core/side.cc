#include "core/side.h"

#include <cstring>

#include "core/sys.h"

namespace tssx {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kKept = 64;

// A short connection must not pay for a fresh page and its fault: keep a few. Slots are claimed by
// exchange (acquire: the page's old contents are done with; release: likewise for the next).
std::atomic<Side*> kept[kKept];

Side* take_kept() noexcept {
  for (std::atomic<Side*>& slot : kept) {
    if (slot.load(std::memory_order_relaxed) == nullptr) continue;
    if (Side* side = slot.exchange(nullptr, std::memory_order_acquire)) return side;
  }
  return nullptr;
}

bool keep(Side* side) noexcept {
  for (std::atomic<Side*>& slot : kept) {
    Side* empty = nullptr;
    if (slot.load(std::memory_order_relaxed) == nullptr &&
        slot.compare_exchange_strong(empty, side, std::memory_order_release)) {
      return true;
    }
  }
  return false;
}

}  // namespace

Side* acquire_side() noexcept {
  Side* side = take_kept();
  if (side == nullptr) {
    side = static_cast<Side*>(
        sys::mmap(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1));
    if (side == nullptr) return nullptr;
  } else {
    std::memset(static_cast<void*>(side), 0, sizeof *side);
  }
  side->holders.store(1, std::memory_order_relaxed);
  side->user.store(process_id(), std::memory_order_relaxed);
  side->state.receive_timeout_ns.store(kUnknownTimeout, std::memory_order_relaxed);
  side->state.send_timeout_ns.store(kUnknownTimeout, std::memory_order_relaxed);
  return side;
}

void release_side(Side* side) noexcept {
  if (side == nullptr) return;
  if (side->inherited.load(std::memory_order_relaxed) == 0) {
    side->record.magic.store(0, std::memory_order_relaxed);
  }
  if (side->inherited.load(std::memory_order_relaxed) == 0 && keep(side)) return;
  sys::munmap(side, kPage);
}

void forget_kept_sides() noexcept {
  for (std::atomic<Side*>& slot : kept) {
    if (Side* side = slot.exchange(nullptr, std::memory_order_relaxed)) sys::munmap(side, kPage);
  }
}

}  // namespace tssx
