#include "shim/table_size.h"

#include <errno.h>

#include <atomic>
#include <cstddef>

#include "core/sys.h"

namespace tssx {
namespace {

constexpr int kSmallest = 64;  // NR_OPEN_DEFAULT

// What the table has at least.
std::atomic<int> known{kSmallest};

// Asks select(2) for `fd` alone. Inside the table that is EBADF unless somebody has just opened it;
// behind its end the bit is not looked at. `set` has room for the bits up to `fd`, all clear.
bool select_refuses(int fd, unsigned long* set) noexcept {
  set[fd / 64] = 1UL << (static_cast<unsigned>(fd) % 64);
  const timespec now{0, 0};
  const long result = sys::call(SYS_pselect6, fd + 1L, sys::word(set), 0, 0, sys::word(&now), 0);
  return result == -EBADF;
}

bool has_room_for(int fd) noexcept {
  if (sys::fcntl(fd, F_GETFD) >= 0) return true;
  constexpr int kFew = 8192;
  if (fd < kFew) {
    unsigned long set[kFew / 64]{};
    return select_refuses(fd, set);
  }
  const std::size_t bytes = static_cast<std::size_t>(fd) / 8 + sizeof(unsigned long);
  void* set =
      sys::mmap(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (set == nullptr) return false;
  const bool refused = select_refuses(fd, static_cast<unsigned long*>(set));
  sys::munmap(set, bytes);
  return refused;
}

}  // namespace

int clamp_to_table(int nfds) noexcept {
  int size = known.load(std::memory_order_relaxed);
  while (size < nfds && has_room_for(size)) {
    if (size > nfds / 2) return nfds;  // the next size is beyond it, whichever it is
    size *= 2;
    known.store(size, std::memory_order_relaxed);
  }
  return size < nfds ? size : nfds;
}

void forget_table_size() noexcept { known.store(kSmallest, std::memory_order_relaxed); }

}  // namespace tssx
