// epoll(7): fronts of EpollSet.

#include <errno.h>

#include "core/ring.h"
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

EpollSet* set_of(int epfd) noexcept {
  const Slot slot = table.find(epfd);
  return slot.kind() == Kind::epoll ? slot.as<EpollSet>() : nullptr;
}

// A set with members of ours, and arguments that the kernel would accept.
EpollSet* managed_set(int epfd, const epoll_event* events, int maximum) noexcept {
  EpollSet* set = set_of(epfd);
  if (set == nullptr || !set->has_members() || maximum <= 0 ||
      is_bad_address(events, static_cast<size_t>(maximum) * sizeof *events)) {
    return nullptr;
  }
  return set;
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
  if (table.size() == 0) return real::epoll_ctl(epfd, operation, fd, event);
  EpollSet* set = set_of(epfd);
  if (set == nullptr) {
    // A set that this process inherited over exec, or that was made before we could see it.
    const Kind kind = table.find(fd).kind();
    if (kind != Kind::endpoint && kind != Kind::fresh && kind != Kind::marked) {
      return real::epoll_ctl(epfd, operation, table.kernel_fd(fd), event);
    }
    if (operation == EPOLL_CTL_ADD && kind == Kind::endpoint) {
      EndpointRef endpoint(fd);
      if (endpoint) endpoint.channel().retire(endpoint.fd());
    }
    return real::epoll_ctl(epfd, operation, table.kernel_fd(fd), event);
  }
  if (event != nullptr && is_bad_address(event, sizeof *event)) {
    return real::epoll_ctl(epfd, operation, table.kernel_fd(fd), event);
  }
  return set->control(epfd, operation, fd, event);
}

TSSX_INTERPOSED int epoll_wait(int epfd, epoll_event* events, int maximum, int timeout) {
  real::ensure();
  if (EpollSet* set = managed_set(epfd, events, maximum)) {
    return set->wait(epfd, events, maximum, from_milliseconds(timeout), nullptr);
  }
  return checked(epfd, events, maximum, real::epoll_wait(epfd, events, maximum, timeout),
                 [&](EpollSet& set) {
                   return set.wait(epfd, events, maximum, from_milliseconds(timeout), nullptr);
                 });
}

TSSX_INTERPOSED int epoll_pwait(int epfd, epoll_event* events, int maximum, int timeout,
                                const sigset_t* mask) {
  real::ensure();
  if (EpollSet* set = managed_set(epfd, events, maximum)) {
    return set->wait(epfd, events, maximum, from_milliseconds(timeout), mask);
  }
  return checked(epfd, events, maximum, real::epoll_pwait(epfd, events, maximum, timeout, mask),
                 [&](EpollSet& set) {
                   return set.wait(epfd, events, maximum, from_milliseconds(timeout), mask);
                 });
}

TSSX_INTERPOSED int epoll_pwait2(int epfd, epoll_event* events, int maximum,
                                 const timespec* timeout, const sigset_t* mask) {
  real::ensure();
  EpollSet* set = managed_set(epfd, events, maximum);
  if (set == nullptr ||
      (timeout != nullptr && (is_bad_address(timeout, sizeof *timeout) || timeout->tv_sec < 0 ||
                              timeout->tv_nsec < 0 || timeout->tv_nsec >= 1'000'000'000))) {
    return real::epoll_pwait2(epfd, events, maximum, timeout, mask);
  }
  const std::uint64_t limit = timeout == nullptr || timeout->tv_sec > 4'000'000'000
                                  ? EpollSet::kForever
                                  : static_cast<std::uint64_t>(timeout->tv_sec) * 1'000'000'000U +
                                        static_cast<std::uint64_t>(timeout->tv_nsec);
  return set->wait(epfd, events, maximum, limit, mask);
}
