// What the kernel is told of a member, and where: in the application's set or in its front.

#include <errno.h>

#include "core/channel.h"
#include "core/fault_point.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/epoll_set.h"
#include "shim/real.h"

namespace tssx {
namespace {

int tell_kernel(int epfd, int operation, int fd, std::uint32_t events,
                std::uint64_t data) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  return real::epoll_ctl(epfd, operation, fd, &event);
}

// EPOLLONESHOT that has fired: ep_send_events() leaves it no event but the private bits. By
// epoll_ctl(2) EPOLLERR and EPOLLHUP can't be taken away, so the kernel may tell them, once.
constexpr std::uint32_t kSpent = EPOLLONESHOT | EPOLLET;

std::uint32_t own_events(const Member& member) noexcept {
  return member.disabled ? kSpent : member.events;
}

// What those go under, so that they are dropped: the application may have closed that number.
std::uint64_t own_data(const Member& member) noexcept {
  return member.disabled ? tag_of(kSpentIndex, 0) : member.data;
}

std::uint32_t managed_events(const Member& member) noexcept {
  if (member.endpoint == nullptr) return EPOLLIN | EPOLLET;
  std::uint32_t events = EPOLLIN | EPOLLRDHUP | EPOLLET | (member.events & EPOLLPRI);
  const Channel& channel = member.endpoint->channel;
  const bool by_socket = !channel.sends_to_ring() || channel.waits_for_socket();
  if (by_socket && ((member.events & kWritable) != 0 || channel.has_rest())) events |= EPOLLOUT;
  return events;
}

}  // namespace

// The kernel knows a registration by file and number. A number that was closed while a duplicate is
// open, or that belongs to another file by now, reaches it no more.
bool EpollSet::is_reachable(const Member& member) noexcept {
  const Slot slot = table.find(member.fd);
  if (member.endpoint != nullptr) {
    return slot.kind() == Kind::endpoint && slot.as<Endpoint>() == member.endpoint &&
           table.kernel_fd(member.fd) == member.kernel_fd;
  }
  if (member.inner != nullptr) {
    return slot.kind() == Kind::epoll && slot.as<EpollSet>() == member.inner;
  }
  return true;
}

// Endpoints whose readiness only we can tell. In a set with a front that are also those that may
// still move: a message of ours on their socket must not make the set readable.
bool EpollSet::should_manage(const Member& member) const noexcept {
  if (member.inner != nullptr) return member.inner->front() >= 0;
  if (member.endpoint == nullptr) return false;
  const Channel& channel = member.endpoint->channel;
  return channel.is_established() || (front() >= 0 && !channel.is_plain());
}

int EpollSet::register_first(Member& member) noexcept {
  const int set = number();
  if (member.inner != nullptr) {
    // The set itself, for the kernel's errors and for the time without members of ours.
    if (tell_kernel(set, EPOLL_CTL_ADD, member.kernel_fd, member.managed ? 0 : member.events,
                    member.managed ? tag_of(member) : member.data) != 0) {
      return -1;
    }
    if (member.managed) {
      member.in_front = front() >= 0;
      if (tell_kernel(member.in_front ? front() : set, EPOLL_CTL_ADD, member.inner->front(),
                      EPOLLIN | EPOLLET, tag_of(member)) != 0) {
        member.managed = false;
        return tell_kernel(set, EPOLL_CTL_MOD, member.kernel_fd, member.events, member.data);
      }
      member.kernel_events = EPOLLIN | EPOLLET;
    }
    return 0;
  }
  member.in_front = member.managed && front() >= 0;
  member.kernel_events = member.managed ? managed_events(member) : own_events(member);
  return tell_kernel(member.in_front ? front() : set, EPOLL_CTL_ADD, member.kernel_fd,
                     member.kernel_events, tag_of(member));
}

// Brings the kernel's registration in line with member.managed and member.events.
int EpollSet::register_again(Member& member) noexcept {
  if (!is_reachable(member)) return 0;
  const int set = number();
  const bool to_front = member.managed && front() >= 0;
  const int from = member.in_front ? front() : set;
  const int to = to_front ? front() : set;
  if (member.inner != nullptr) {
    if (tell_kernel(set, EPOLL_CTL_MOD, member.kernel_fd, member.managed ? 0 : own_events(member),
                    member.managed ? tag_of(member) : own_data(member)) != 0) {
      return -1;
    }
    const bool registered = member.kernel_events != 0;
    if (registered && (!member.managed || from != to)) {
      real::epoll_ctl(from, EPOLL_CTL_DEL, member.inner->front(), nullptr);
      member.kernel_events = 0;
    }
    if (member.managed && member.kernel_events == 0) {
      if (tell_kernel(to, EPOLL_CTL_ADD, member.inner->front(), EPOLLIN | EPOLLET,
                      tag_of(member)) != 0) {
        return -1;
      }
      member.kernel_events = EPOLLIN | EPOLLET;
      member.in_front = to_front;
    }
    return 0;
  }
  TSSX_FAULT_POINT(epoll_registering);
  const std::uint32_t events = member.managed ? managed_events(member) : own_events(member);
  if (member.managed && member.in_front == to_front && events == member.kernel_events) return 0;
  // EPOLLEXCLUSIVE can be neither set nor cleared by EPOLL_CTL_MOD.
  if (from != to || ((events | member.kernel_events) & EPOLLEXCLUSIVE) != 0) {
    real::epoll_ctl(from, EPOLL_CTL_DEL, member.kernel_fd, nullptr);
    if (tell_kernel(to, EPOLL_CTL_ADD, member.kernel_fd, events, tag_of(member)) != 0) return -1;
  } else if (tell_kernel(to, EPOLL_CTL_MOD, member.kernel_fd, events, tag_of(member)) != 0) {
    return -1;
  }
  member.in_front = to_front;
  member.kernel_events = events;
  return 0;
}

// EPOLL_CTL_DEL: the kernel's answer.
int EpollSet::unregister(Member& member) noexcept {
  const int set = number();
  if (member.inner != nullptr && member.kernel_events != 0) {
    const int error = errno;
    real::epoll_ctl(member.in_front ? front() : set, EPOLL_CTL_DEL, member.inner->front(), nullptr);
    errno = error;
  }
  const bool in_front = member.in_front && member.inner == nullptr;
  return real::epoll_ctl(in_front ? front() : set, EPOLL_CTL_DEL, member.kernel_fd, nullptr);
}

// A descriptor of the member's socket: its own number may be closed, or another file's.
int EpollSet::socket_of(Member& member) noexcept {
  const auto is_its = [&member](int fd) {
    const Slot slot = table.find(fd);
    return slot.kind() == Kind::endpoint && slot.as<Endpoint>() == member.endpoint;
  };
  if (is_its(member.fd)) return table.kernel_fd(member.fd);
  if (is_its(member.other_fd)) return table.kernel_fd(member.other_fd);
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) {
    if (is_its(fd)) return member.other_fd = fd;
  }
  const int last_id = DescriptorTable::kFirstId - table.ids_in_use();
  for (int fd = DescriptorTable::kFirstId; fd > last_id; --fd) {
    if (is_its(fd)) return table.kernel_fd(member.other_fd = fd);
  }
  return -1;
}

// The member is the kernel's from now on, as if we had never been there. It is forgotten next.
// `reachable`: its number is its socket's, and the registration ours.
void EpollSet::give_back(Member& member, bool reachable) noexcept {
  const int saved = errno;
  if (member.endpoint != nullptr) {
    member.endpoint->channel.note_reason(Reason::epoll_set);
    member.endpoint->channel.leave_for_good(reachable ? member.kernel_fd : socket_of(member));
    moves_pending.store(true, std::memory_order_release);  // it may be in other sets
  } else if (member.inner != nullptr) {
    // A set's own members were given back before (surrender()).
  } else if (table.find(member.fd).kind() == Kind::fresh) {
    table.set(member.fd, Slot(Kind::ordinary, nullptr));  // not to be marked any more
  }
  TSSX_FAULT_POINT(epoll_giving_back);
  const int set = number();
  if (set >= 0 && reachable) {
    const bool moves = member.in_front || (member.kernel_events & EPOLLEXCLUSIVE) != 0 ||
                       (member.events & EPOLLEXCLUSIVE) != 0;
    if (member.inner != nullptr) {
      if (member.kernel_events != 0) {
        real::epoll_ctl(member.in_front ? front() : set, EPOLL_CTL_DEL, member.inner->front(),
                        nullptr);
      }
      tell_kernel(set, EPOLL_CTL_MOD, member.kernel_fd, own_events(member), own_data(member));
    } else if (moves) {
      real::epoll_ctl(member.in_front ? front() : set, EPOLL_CTL_DEL, member.kernel_fd, nullptr);
      tell_kernel(set, EPOLL_CTL_ADD, member.kernel_fd, own_events(member), own_data(member));
    } else {
      tell_kernel(set, EPOLL_CTL_MOD, member.kernel_fd, own_events(member), own_data(member));
    }
  }
  errno = saved;
}

// The channel of an endpoint has moved, or the set got its front.
void EpollSet::settle_mode(Member& member) noexcept {
  const bool managed = should_manage(member);
  if (!managed && !member.managed) return;
  const bool changes = managed != member.managed;
  if (changes) {
    member.managed = managed;
    member.fresh = true;
  }
  register_again(member);
  if (!changes && member.endpoint != nullptr && !member.endpoint->channel.receives_from_ring() &&
      !member.endpoint->channel.sends_to_ring()) {
    return;  // its socket tells
  }
  if (managed && !member.disabled) {
    make_hot(member);
  } else {
    make_cold(member);
  }
}

// A hidden descriptor that may be registered here by its number has got another. The kernel knows a
// registration by both file and number, so it is made anew; an edge too many does no harm.
void EpollSet::follow_number(int from, int to) noexcept {
  const auto follow = [from, to](int epfd, std::uint32_t events, std::uint64_t data) {
    if (epfd < 0 || real::epoll_ctl(epfd, EPOLL_CTL_DEL, from, nullptr) != 0) return;
    tell_kernel(epfd, EPOLL_CTL_ADD, to, events, data);
  };
  LockScope lock(lock_, is_exclusive_process());
  if (kick_fd_.load(std::memory_order_relaxed) == to) {
    if (kick_in_set_) follow(number(), EPOLLIN | EPOLLET, tag_of(kKickIndex, 0));
    if (kick_in_front_) follow(front(), EPOLLIN | EPOLLET, tag_of(kKickIndex, 0));
  }
  for (Member* at = members_; at != nullptr; at = at->next_of_set) {
    const int epfd = at->in_front ? front() : number();
    if (at->inner != nullptr && at->inner->front() == to) {
      if (at->kernel_events != 0) follow(epfd, EPOLLIN | EPOLLET, tag_of(*at));
    } else if (at->endpoint != nullptr && at->kernel_fd == from && DescriptorTable::is_id(at->fd)) {
      follow(epfd, at->kernel_events, tag_of(*at));
      at->kernel_fd = to;
    }
  }
}

void move_registrations(int from, int to) noexcept {
  const int saved = errno;
  sets.for_each([from, to](EpollSet& set) { set.follow_number(from, to); });
  errno = saved;
}

void EpollSet::enter_front() noexcept {
  if (front() >= 0 || surrendered_.load(std::memory_order_acquire)) return;
  const int saved = errno;
  bool failed = false;
  {
    LockScope outer(memberships_lock_, is_exclusive_process());
    {
      LockScope lock(lock_, is_exclusive_process());
      const int set = number();
      if (front() < 0 && set >= 0) {
        const long made = sys::call(SYS_epoll_create1, EPOLL_CLOEXEC);
        const int front = made < 0 ? -1 : move_out_of_the_way(static_cast<int>(made));
        if (front < 0 ||
            tell_kernel(front, EPOLL_CTL_ADD, set, EPOLLIN | EPOLLET, tag_of(kSetIndex, 0)) != 0) {
          if (front >= 0) sys::close(front);
          failed = true;
        } else {
          // seq_cst: before the look for who sleeps in the set; see SetStay.
          front_fd_.store(front, std::memory_order_seq_cst);
          table.hide(front_fd_);
          for (Member* at = members_; at != nullptr; at = at->next_of_set) settle_mode(*at);
          // Who sleeps in the set itself comes out, and into the front.
          if (set_sleepers_.load(std::memory_order_seq_cst) == 0) take_kick_out();
          kick();
        }
      }
    }
    if (front() >= 0) {
      for (Member* at = memberships_.load(std::memory_order_relaxed); at != nullptr;
           at = at->next_of_owner) {
        EpollSet& around = *at->set;
        LockScope lock(around.lock_, is_exclusive_process());
        if (at->managed) continue;
        at->managed = true;
        at->fresh = true;
        around.used_.store(true, std::memory_order_seq_cst);
        if (around.register_again(*at) != 0) {
          at->managed = false;
          around.register_again(*at);
          failed = true;
          continue;
        }
        around.make_hot(*at);
        around.wake_for_change();
      }
    }
  }
  if (failed) surrender();
  errno = saved;
}

}  // namespace tssx
