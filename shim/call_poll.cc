// poll(2), ppoll(2), select(2), pselect(2).

#include <errno.h>

#include <algorithm>

#include "core/fault.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/poll_wait.h"
#include "shim/real.h"
#include "shim/table_size.h"

using namespace tssx;

namespace {

std::uint64_t nanoseconds(const timespec& time) noexcept {
  if (time.tv_sec > 4'000'000'000) return kWaitForever;
  return sys::nanoseconds_of(time);
}

constexpr nfds_t kMaxPoll = 1U << 28U;  // more than any limit on descriptors
constexpr std::size_t kMaskSize = 8;    // of the kernel's signal sets, in bytes

bool is_ours(const pollfd* fds, nfds_t count) noexcept {
  // Faults are caught from the first endpoint on; before it nothing is ours.
  return faults_are_caught() && count != 0 && count < kMaxPoll &&
         is_readable(fds, count * sizeof *fds) && needs_rings(fds, count);
}

// The kernel writes the answers back when it has them, and the mask is read before it waits.
int wait_polling(pollfd* fds, nfds_t count, std::uint64_t timeout, const sigset_t* mask) {
  sigset_t copy;
  if (!is_writable(fds, count * sizeof *fds) ||
      (mask != nullptr && !copy_from_application(&copy, mask, kMaskSize))) {
    errno = EFAULT;
    return -1;
  }
  return wait_for_events(fds, count, timeout, mask);
}

// False for a timeout that the kernel refuses: EFAULT, EINVAL.
bool get_timeout(timespec* to, const timespec* from) noexcept {
  return from == nullptr ||
         (get(to, from) && to->tv_sec >= 0 && to->tv_nsec >= 0 && to->tv_nsec < 1'000'000'000);
}

int do_poll(pollfd* fds, nfds_t count, int timeout) {
  real::ensure();
  if (!is_ours(fds, count)) return real::poll(fds, count, timeout);
  return wait_polling(fds, count,
                      timeout < 0 ? kWaitForever : static_cast<std::uint64_t>(timeout) * 1'000'000U,
                      nullptr);
}

int do_ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  real::ensure();
  if (!is_ours(fds, count)) return real::ppoll(fds, count, timeout, mask);
  timespec time{};
  if (!get_timeout(&time, timeout)) {
    return real::ppoll(fds, count, timeout, mask);  // the kernel's own error
  }
  return wait_polling(fds, count, timeout == nullptr ? kWaitForever : nanoseconds(time), mask);
}

// --- select ---

// Up to here a set has room for the bits (FD_SETSIZE), whatever the table's size is.
constexpr int kUsualSet = 1024;

bool is_set(int fd, const fd_set* set) noexcept {
  // Beyond FD_SETSIZE the array goes on: programs allocate larger ones.
  if (set == nullptr) return false;
  const auto* words = reinterpret_cast<const unsigned long*>(set);
  return (words[static_cast<unsigned>(fd) / 64] >> (static_cast<unsigned>(fd) % 64) & 1U) != 0;
}

void mark(int fd, fd_set* set) noexcept {
  auto* words = reinterpret_cast<unsigned long*>(set);
  words[static_cast<unsigned>(fd) / 64] |= 1UL << (static_cast<unsigned>(fd) % 64);
}

std::size_t size_of_set(int nfds) noexcept { return static_cast<std::size_t>(nfds + 63) / 64 * 8; }

// Writes nothing where nothing is set: that may lie behind the set, where the kernel writes
// nothing.
void clear(int nfds, fd_set* set) noexcept {
  auto* words = reinterpret_cast<unsigned long*>(set);
  for (std::size_t i = 0; set != nullptr && i < size_of_set(nfds) / sizeof *words; ++i) {
    if (words[i] != 0) words[i] = 0;
  }
}

bool select_is_ours(int nfds, const fd_set* reading, const fd_set* writing,
                    const fd_set* special) noexcept {
  if (!faults_are_caught() || nfds <= 0) return false;
  // All that is ours lies below, and so inside the kernel's table.
  const int last = std::min(nfds, table.highest());
  for (const fd_set* set : {reading, writing, special}) {
    if (set != nullptr && !is_readable(set, size_of_set(last))) return false;
  }
  for (int fd = 0; fd < last; ++fd) {
    const Slot slot = table.find(fd);
    if (slot.kind() != Kind::endpoint && slot.kind() != Kind::epoll) continue;
    if (!is_set(fd, reading) && !is_set(fd, writing) && !is_set(fd, special)) continue;
    const pollfd one{fd, 0, 0};
    if (needs_rings(&one, 1)) return true;
  }
  return false;
}

// The masks by which select(2) reads poll's answer (POLLIN_SET and its like in fs/select.c).
constexpr int kReadSet = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR;
constexpr int kWriteSet = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR;
constexpr int kSpecialSet = POLLPRI;

// No bit of the sets is behind the kernel's table, unless *beyond says that one may be.
int poll_for_select(int nfds, fd_set* reading, fd_set* writing, fd_set* special,
                    std::uint64_t timeout, const sigset_t* mask, bool* beyond) {
  const std::size_t bytes = size_of_set(nfds);
  sigset_t copy;
  for (fd_set* set : {reading, writing, special}) {
    if ((set != nullptr && !is_writable(set, bytes)) ||
        (mask != nullptr && !copy_from_application(&copy, mask, kMaskSize))) {
      errno = EFAULT;
      return -1;
    }
  }
  std::size_t count = 0;
  for (int fd = 0; fd < nfds; ++fd) {
    if (is_set(fd, reading) || is_set(fd, writing) || is_set(fd, special)) ++count;
  }
  pollfd few[64];
  pollfd* fds = few;
  if (count > 64) {
    fds = static_cast<pollfd*>(
        sys::mmap(count * sizeof(pollfd), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
    if (fds == nullptr) {
      errno = ENOMEM;
      return -1;
    }
  }
  struct Release {
    pollfd* fds;
    pollfd* few;
    std::size_t count;
    ~Release() {
      if (fds != few) sys::munmap(fds, count * sizeof(pollfd));
    }
  } release{fds, few, count};

  std::size_t at = 0;
  for (int fd = 0; fd < nfds; ++fd) {
    int events = 0;
    if (is_set(fd, reading)) events |= POLLIN | POLLRDNORM | POLLRDBAND;
    if (is_set(fd, writing)) events |= POLLOUT | POLLWRNORM | POLLWRBAND;
    if (is_set(fd, special)) events |= POLLPRI;
    if (events != 0) fds[at++] = pollfd{fd, static_cast<short>(events), 0};
  }
  const int ready = wait_for_events(fds, count, timeout, mask);
  if (ready < 0) return -1;
  for (std::size_t i = 0; i < count; ++i) {
    if ((fds[i].revents & POLLNVAL) != 0) {
      *beyond = clamp_to_table(fds[i].fd + 1) <= fds[i].fd;
      errno = EBADF;
      return -1;
    }
  }
  fd_set* const sets[] = {reading, writing, special};
  const int masks[] = {kReadSet, kWriteSet, kSpecialSet};
  const int interests[] = {POLLIN, POLLOUT, POLLPRI};
  for (fd_set* set : sets) clear(nfds, set);
  int bits = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (int kind = 0; kind < 3; ++kind) {
      if (sets[kind] == nullptr || (fds[i].events & interests[kind]) == 0 ||
          (fds[i].revents & masks[kind]) == 0) {
        continue;
      }
      mark(fds[i].fd, sets[kind]);
      ++bits;
    }
  }
  return bits;
}

int select_by_poll(int nfds, fd_set* reading, fd_set* writing, fd_set* special,
                   std::uint64_t timeout, const sigset_t* mask) {
  bool beyond = false;
  if (nfds > kUsualSet) nfds = clamp_to_table(nfds);
  const int ready = poll_for_select(nfds, reading, writing, special, timeout, mask, &beyond);
  if (!beyond) return ready;
  return poll_for_select(clamp_to_table(nfds), reading, writing, special, timeout, mask, &beyond);
}

int do_select(int nfds, fd_set* reading, fd_set* writing, fd_set* special, timeval* timeout) {
  real::ensure();
  timeval time{};
  if (!select_is_ours(nfds, reading, writing, special) ||
      (timeout != nullptr && (!get(&time, timeout) || time.tv_sec < 0 || time.tv_usec < 0))) {
    return real::select(nfds, reading, writing, special, timeout);
  }
  if (timeout == nullptr) {
    return select_by_poll(nfds, reading, writing, special, kWaitForever, nullptr);
  }
  const timespec wanted{time.tv_sec + time.tv_usec / 1'000'000, time.tv_usec % 1'000'000 * 1000};
  const std::uint64_t limit = nanoseconds(wanted);
  const std::uint64_t start = sys::now_ns();
  const int ready = select_by_poll(nfds, reading, writing, special, limit, nullptr);
  // Linux tells how much of the time was left (select(2)).
  const std::uint64_t gone = sys::now_ns() - start;
  const std::uint64_t left = limit > gone && ready != 0 ? limit - gone : 0;
  if (limit != kWaitForever) {
    time.tv_sec = static_cast<time_t>(left / 1'000'000'000U);
    time.tv_usec = static_cast<suseconds_t>(left % 1'000'000'000U / 1000U);
    // A timeout that can only be read is no error to the kernel (poll_select_finish()).
    [[maybe_unused]] const bool told = put(timeout, time);
  }
  return ready;
}

}  // namespace

TSSX_INTERPOSED int poll(pollfd* fds, nfds_t count, int timeout) {
  return do_poll(fds, count, timeout);
}
TSSX_INTERPOSED int __poll(pollfd* fds, nfds_t count, int timeout) {
  return do_poll(fds, count, timeout);
}
TSSX_INTERPOSED int __poll_chk(pollfd* fds, nfds_t count, int timeout, size_t room) {
  real::ensure();
  if (room / sizeof *fds < count) return real::__poll_chk(fds, count, timeout, room);
  return do_poll(fds, count, timeout);
}
TSSX_INTERPOSED int ppoll(pollfd* fds, nfds_t count, const timespec* timeout,
                          const sigset_t* mask) {
  return do_ppoll(fds, count, timeout, mask);
}
TSSX_INTERPOSED int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout,
                                const sigset_t* mask, size_t room) {
  real::ensure();
  if (room / sizeof *fds < count) return real::__ppoll_chk(fds, count, timeout, mask, room);
  return do_ppoll(fds, count, timeout, mask);
}

TSSX_INTERPOSED int select(int nfds, fd_set* reading, fd_set* writing, fd_set* special,
                           timeval* timeout) {
  return do_select(nfds, reading, writing, special, timeout);
}
TSSX_INTERPOSED int __select(int nfds, fd_set* reading, fd_set* writing, fd_set* special,
                             timeval* timeout) {
  return do_select(nfds, reading, writing, special, timeout);
}
TSSX_INTERPOSED int pselect(int nfds, fd_set* reading, fd_set* writing, fd_set* special,
                            const timespec* timeout, const sigset_t* mask) {
  real::ensure();
  timespec time{};
  if (!select_is_ours(nfds, reading, writing, special) || !get_timeout(&time, timeout)) {
    return real::pselect(nfds, reading, writing, special, timeout, mask);
  }
  return select_by_poll(nfds, reading, writing, special,
                        timeout == nullptr ? kWaitForever : nanoseconds(time), mask);
}
