#include "core/remote_fence.h"

#include <linux/membarrier.h>
#include <sys/single_threaded.h>

#include <atomic>

#include "core/sys.h"

namespace tssx {
namespace {

constexpr long kLongEnoughNs = 5'000'000;

// Kept over fork(), as the registration is; gone with exec, as that is too.
std::atomic<bool> takes_part{false};

}  // namespace

bool take_part_in_fences() noexcept {
  if (takes_part.load(std::memory_order_relaxed)) return true;
  if (__libc_single_threaded == 0 ||
      sys::call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) != 0) {
    return false;
  }
  takes_part.store(true, std::memory_order_relaxed);
  return true;
}

void fence_everywhere(bool expedited) noexcept {
  if (expedited && sys::call(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED) == 0) return;
  if (sys::call(SYS_membarrier, MEMBARRIER_CMD_GLOBAL) == 0) return;
  const timespec wait{0, kLongEnoughNs};
  sys::poll(nullptr, 0, &wait);
}

}  // namespace tssx
