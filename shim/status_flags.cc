#include "shim/status_flags.h"

#include <fcntl.h>

#include "core/sys.h"

namespace tssx {
namespace {

// Side::state.status_flags: what is known, and above it how often that was forgotten.
constexpr std::uint32_t kKnown = 3;
constexpr std::uint32_t kBlocking = 1;
constexpr std::uint32_t kNonblocking = 2;
constexpr std::uint32_t kForgotten = 4;

}  // namespace

bool is_nonblocking(int fd) noexcept {
  const long flags = sys::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

bool ask_nonblocking(Channel& channel, int fd) noexcept {
  std::atomic<std::uint32_t>& word = channel.side().state.status_flags;
  // acquire: pairs with forget_status_flags(). The question comes after the word was read; if the
  // flags change behind it, the word has changed as well, and the answer is not kept.
  std::uint32_t before = word.load(std::memory_order_acquire);
  const long flags = sys::fcntl(fd, F_GETFL);
  const bool nonblocking = flags >= 0 && (flags & O_NONBLOCK) != 0;
  const std::uint32_t after = (before & ~kKnown) | (nonblocking ? kNonblocking : kBlocking);
  if (flags >= 0) word.compare_exchange_strong(before, after, std::memory_order_relaxed);
  return nonblocking;
}

bool is_nonblocking(Channel& channel, int fd) noexcept {
  switch (channel.side().state.status_flags.load(std::memory_order_relaxed) & kKnown) {
    case kBlocking:
      return false;
    case kNonblocking:
      return true;
    default:
      return ask_nonblocking(channel, fd);
  }
}

void forget_status_flags(Channel& channel) noexcept {
  std::atomic<std::uint32_t>& word = channel.side().state.status_flags;
  std::uint32_t before = word.load(std::memory_order_relaxed);
  // release: pairs with ask_nonblocking().
  while (!word.compare_exchange_weak(before, (before & ~kKnown) + kForgotten,
                                     std::memory_order_release, std::memory_order_relaxed)) {
  }
}

}  // namespace tssx
