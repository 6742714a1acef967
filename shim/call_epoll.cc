// epoll(7): fronts of EpollSet.

#include <errno.h>

#include "core/fault.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/epoll_set.h"
#include "shim/real.h"

using namespace tssx;

namespace {

int note_set(int epfd) noexcept {
  if (epfd < 0 || table.size() == 0) return epfd;
  forget_stale(epfd);
  if (EpollSet* set = open_set(epfd)) {
    table.set(epfd, Slot(Kind::epoll, set));
    table.note_highest(epfd);
  }
  return epfd;
}

constexpr int kMaxEvents = static_cast<int>(0x7fffffffU / sizeof(epoll_event));  // EP_MAX_EVENTS
constexpr size_t kMaskSize = 8;  // of the kernel's signal sets, in bytes

// A set that we know, and arguments that the kernel would accept.
EpollSetRef known_set(int epfd, const epoll_event* events, int maximum) noexcept {
  if (table.size() == 0 || maximum <= 0 || maximum > kMaxEvents ||
      is_kernel_address(events, static_cast<size_t>(maximum) * sizeof *events)) {
    return {};
  }
  return EpollSetRef(epfd);
}

// Waits for as many events as there is memory for: the kernel tells those too, and says EFAULT only
// where that is none (ep_send_events()).
int wait_in(EpollSet& set, epoll_event* events, int maximum, std::uint64_t timeout,
            const sigset_t* mask) {
  if (!set.has_members()) return set.wait_unused(events, maximum, timeout, mask);
  if (faults_are_caught()) {
    sigset_t copy;
    const size_t room =
        readable_size(events, static_cast<size_t>(maximum) * sizeof *events) / sizeof *events;
    if (room == 0 || !is_writable(events, sizeof *events) ||
        (mask != nullptr && !copy_from_application(&copy, mask, kMaskSize))) {
      errno = EFAULT;
      return -1;
    }
    maximum = static_cast<int>(room);
  }
  return set.wait(events, maximum, timeout, mask);
}

std::uint64_t from_milliseconds(int timeout) noexcept {
  return timeout < 0 ? EpollSet::kForever : static_cast<std::uint64_t>(timeout) * 1'000'000U;
}

}  // namespace

TSSX_INTERPOSED int epoll_create(int size) noexcept {
  real::ensure();
  return note_set(real::epoll_create(size));
}

TSSX_INTERPOSED int epoll_create1(int flags) noexcept {
  real::ensure();
  return note_set(real::epoll_create1(flags));
}

TSSX_INTERPOSED int epoll_ctl(int epfd, int operation, int fd, epoll_event* event) noexcept {
  real::ensure();
  if (table.size() == 0) return real::epoll_ctl(table.kernel_fd(epfd), operation, fd, event);
  EpollSetRef set(epfd);
  if (!set) {
    // A set that this process inherited over exec, or that was made before we could see it.
    const Kind kind = table.find(fd).kind();
    if (operation == EPOLL_CTL_ADD && kind == Kind::endpoint) {
      const int saved = errno;
      if (EndpointRef endpoint(fd); endpoint) {
        endpoint.channel().note_reason(Reason::epoll_set);
        endpoint.channel().leave_for_good(endpoint.fd());
      }
      errno = saved;
    }
    return real::epoll_ctl(table.kernel_fd(epfd), operation, table.kernel_fd(fd), event);
  }
  epoll_event copy{};
  if (event == nullptr || operation == EPOLL_CTL_DEL) {
    return set->control(epfd, operation, fd, event);
  }
  if (!copy_early(&copy, event, sizeof copy)) {
    return real::epoll_ctl(table.kernel_fd(epfd), operation, table.kernel_fd(fd), event);
  }
  return set->control(epfd, operation, fd, &copy);
}

TSSX_INTERPOSED int epoll_wait(int epfd, epoll_event* events, int maximum, int timeout) {
  real::ensure();
  EpollSetRef set = known_set(epfd, events, maximum);
  if (!set || set->stays_unused()) {
    return real::epoll_wait(table.kernel_fd(epfd), events, maximum, timeout);
  }
  return wait_in(*set, events, maximum, from_milliseconds(timeout), nullptr);
}

TSSX_INTERPOSED int epoll_pwait(int epfd, epoll_event* events, int maximum, int timeout,
                                const sigset_t* mask) {
  real::ensure();
  EpollSetRef set = known_set(epfd, events, maximum);
  if (!set || set->stays_unused()) {
    return real::epoll_pwait(table.kernel_fd(epfd), events, maximum, timeout, mask);
  }
  return wait_in(*set, events, maximum, from_milliseconds(timeout), mask);
}

TSSX_INTERPOSED int epoll_pwait2(int epfd, epoll_event* events, int maximum,
                                 const timespec* timeout, const sigset_t* mask) {
  real::ensure();
  EpollSetRef set = known_set(epfd, events, maximum);
  timespec time{};
  if (!set || set->stays_unused() ||
      (timeout != nullptr && (!copy_early(&time, timeout, sizeof time) || time.tv_sec < 0 ||
                              time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000))) {
    return real::epoll_pwait2(table.kernel_fd(epfd), events, maximum, timeout, mask);
  }
  const std::uint64_t limit = timeout == nullptr || time.tv_sec > 4'000'000'000
                                  ? EpollSet::kForever
                                  : sys::nanoseconds_of(time);
  return wait_in(*set, events, maximum, limit, mask);
}
