// epoll(7): fronts of EpollSet.

#include <errno.h>

#include "core/fault.h"
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

EpollSet* set_of(int epfd) noexcept {
  const Slot slot = table.find(epfd);
  return slot.kind() == Kind::epoll ? slot.as<EpollSet>() : nullptr;
}

// A set with members of ours, and arguments that the kernel would accept.
EpollSet* managed_set(int epfd, const epoll_event* events, int maximum) noexcept {
  EpollSet* set = set_of(epfd);
  if (set == nullptr || !set->has_members() || maximum <= 0 || maximum > kMaxEvents ||
      is_kernel_address(events, static_cast<size_t>(maximum) * sizeof *events)) {
    return nullptr;
  }
  return set;
}

// Waits for as many events as there is memory for: the kernel tells those too, and says EFAULT only
// where that is none (ep_send_events()).
int wait_managed(EpollSet& set, int epfd, epoll_event* events, int maximum, std::uint64_t timeout,
                 const sigset_t* mask) {
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
  return set.wait(epfd, events, maximum, timeout, mask);
}

// What libc's epoll_wait() said of a set that had no member of ours. One may have come meanwhile.
template <class Again>
int checked(int epfd, epoll_event* events, int maximum, int count, Again&& again) {
  if (count <= 0 || table.size() == 0) return count;
  EpollSet* set = managed_set(epfd, events, maximum);
  if (set == nullptr) return count;
  const int told = set->translate(events, count);
  return told != 0 ? told : again(*set);
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
  EpollSet* set = set_of(epfd);
  if (set == nullptr) {
    // A set that this process inherited over exec, or that was made before we could see it.
    const Kind kind = table.find(fd).kind();
    if (kind != Kind::endpoint && kind != Kind::fresh && kind != Kind::marked) {
      return real::epoll_ctl(table.kernel_fd(epfd), operation, table.kernel_fd(fd), event);
    }
    if (operation == EPOLL_CTL_ADD && kind == Kind::endpoint) {
      EndpointRef endpoint(fd);
      if (endpoint) endpoint.channel().retire(endpoint.fd());
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
  if (EpollSet* set = managed_set(epfd, events, maximum)) {
    return wait_managed(*set, epfd, events, maximum, from_milliseconds(timeout), nullptr);
  }
  return checked(
      epfd, events, maximum, real::epoll_wait(table.kernel_fd(epfd), events, maximum, timeout),
      [&](EpollSet& set) {
        return wait_managed(set, epfd, events, maximum, from_milliseconds(timeout), nullptr);
      });
}

TSSX_INTERPOSED int epoll_pwait(int epfd, epoll_event* events, int maximum, int timeout,
                                const sigset_t* mask) {
  real::ensure();
  if (EpollSet* set = managed_set(epfd, events, maximum)) {
    return wait_managed(*set, epfd, events, maximum, from_milliseconds(timeout), mask);
  }
  return checked(
      epfd, events, maximum,
      real::epoll_pwait(table.kernel_fd(epfd), events, maximum, timeout, mask), [&](EpollSet& set) {
        return wait_managed(set, epfd, events, maximum, from_milliseconds(timeout), mask);
      });
}

TSSX_INTERPOSED int epoll_pwait2(int epfd, epoll_event* events, int maximum,
                                 const timespec* timeout, const sigset_t* mask) {
  real::ensure();
  EpollSet* set = managed_set(epfd, events, maximum);
  timespec time{};
  if (set == nullptr ||
      (timeout != nullptr && (!copy_early(&time, timeout, sizeof time) || time.tv_sec < 0 ||
                              time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000))) {
    return real::epoll_pwait2(table.kernel_fd(epfd), events, maximum, timeout, mask);
  }
  const std::uint64_t limit = timeout == nullptr || time.tv_sec > 4'000'000'000
                                  ? EpollSet::kForever
                                  : static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
                                        static_cast<std::uint64_t>(time.tv_nsec);
  return wait_managed(*set, epfd, events, maximum, limit, mask);
}
