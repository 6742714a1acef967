// The set as an object, and epoll_ctl(2).

#include "shim/epoll_set.h"

#include <errno.h>

#include "core/channel.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/real.h"

namespace tssx {

constinit Pool<EpollSet, 16, 1024> sets{};

namespace {

int fail(int error) noexcept {
  errno = error;
  return -1;
}

}  // namespace

EpollSet* open_set(int epfd) noexcept {
  EpollSet* set = sets.take();
  if (set == nullptr) return nullptr;
  set->fd_ = epfd;
  set->kick_fd_ = -1;
  set->members_ = nullptr;
  set->hot_first_ = nullptr;
  set->hot_last_ = nullptr;
  set->nested_ = false;
  set->busy_calls_ = 0;
  set->seen_attention_ = attention.load(std::memory_order_relaxed);
  set->last_kernel_look_ = 0;
  set->used_.store(false, std::memory_order_relaxed);
  set->hot_count_.store(0, std::memory_order_relaxed);
  set->sleepers_.store(0, std::memory_order_relaxed);
  set->descriptors.store(1, std::memory_order_release);
  return set;
}

void drop_set(EpollSet* set) noexcept {
  if (set->descriptors.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (;;) {
    Member* member = nullptr;
    {
      LockScope lock(set->lock_, is_exclusive_process());
      member = set->members_;
      if (member == nullptr) break;
    }
    if (Endpoint* endpoint = member->endpoint) {
      LockScope lock(endpoint->members_lock, is_exclusive_process());
      LockScope inner(set->lock_, is_exclusive_process());
      set->forget(*member);
    } else {
      LockScope lock(set->lock_, is_exclusive_process());
      set->forget(*member);
    }
  }
  if (set->kick_fd_ >= 0) {
    table.set(set->kick_fd_, Slot());
    sys::close(set->kick_fd_);
    set->kick_fd_ = -1;
  }
  Pool<EpollSet, 16, 1024>::give(set);
}

void EpollSet::make_hot(Member& member) noexcept {
  member.misses = 0;
  if (member.hot) return;
  member.hot = true;
  member.next_hot = nullptr;
  member.previous_hot = hot_last_;
  (hot_last_ != nullptr ? hot_last_->next_hot : hot_first_) = &member;
  hot_last_ = &member;
  hot_count_.fetch_add(1, std::memory_order_relaxed);
}

void EpollSet::make_cold(Member& member) noexcept {
  if (!member.hot) return;
  member.hot = false;
  (member.previous_hot != nullptr ? member.previous_hot->next_hot : hot_first_) = member.next_hot;
  (member.next_hot != nullptr ? member.next_hot->previous_hot : hot_last_) = member.previous_hot;
  hot_count_.fetch_sub(1, std::memory_order_relaxed);
}

// Unlinks and frees; both locks are held where there is an endpoint.
void EpollSet::forget(Member& member) noexcept {
  make_cold(member);
  (member.previous_of_set != nullptr ? member.previous_of_set->next_of_set : members_) =
      member.next_of_set;
  if (member.next_of_set != nullptr) member.next_of_set->previous_of_set = member.previous_of_set;
  if (member.endpoint != nullptr) {
    Member* at = member.endpoint->members.load(std::memory_order_relaxed);
    if (at == &member) {
      member.endpoint->members.store(member.next_of_endpoint, std::memory_order_relaxed);
    } else {
      while (at != nullptr && at->next_of_endpoint != &member) at = at->next_of_endpoint;
      if (at != nullptr) at->next_of_endpoint = member.next_of_endpoint;
    }
  }
  give_member(member);
}

Member* EpollSet::find(int fd) noexcept {
  const Slot slot = table.find(fd);
  if (slot.kind() == Kind::endpoint) {
    auto* endpoint = slot.as<Endpoint>();
    for (Member* at = endpoint->members.load(std::memory_order_acquire); at != nullptr;
         at = at->next_of_endpoint) {
      if (at->set == this && at->fd == fd) return at;
    }
    return nullptr;
  }
  for (Member* at = members_; at != nullptr; at = at->next_of_set) {
    if (at->fd == fd && at->endpoint == nullptr) return at;
  }
  return nullptr;
}

int EpollSet::register_in_kernel(int operation, Member& member) noexcept {
  epoll_event event{};
  event.data.u64 = tag_of(member);
  if (member.managed) {
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    if ((member.events & EPOLLOUT) != 0 && !member.endpoint->channel.sends_to_ring()) {
      event.events |= EPOLLOUT;
    }
  } else {
    event.events = member.disabled ? 0 : member.events;
  }
  return real::epoll_ctl(fd_, operation, member.kernel_fd, &event);
}

int EpollSet::add(int epfd, int fd, epoll_event* event) noexcept {
  const Slot slot = table.find(fd);
  Endpoint* endpoint = slot.kind() == Kind::endpoint ? slot.as<Endpoint>() : nullptr;
  const int kernel_fd = table.kernel_fd(fd);
  Member* member = (event->events & EPOLLEXCLUSIVE) != 0 ? nullptr : take_member();
  if (member == nullptr) {
    // Not ours to keep: then the connection stays, or goes back to, where the kernel sees it.
    if (endpoint != nullptr) endpoint->channel.retire(kernel_fd);
    return real::epoll_ctl(epfd, EPOLL_CTL_ADD, kernel_fd, event);
  }
  const std::uint32_t generation = member->generation;
  member->set = this;
  member->endpoint = endpoint;
  member->fd = fd;
  member->kernel_fd = kernel_fd;
  member->events = event->events;
  member->data = event->data.u64;
  member->managed = endpoint != nullptr && endpoint->channel.is_established();
  member->hot = false;
  member->disabled = false;
  member->fresh = true;
  member->kernel_edge = false;
  member->socket_events = 0;
  member->misses = 0;
  member->ended = 0;
  member->seen_head = 0;
  member->seen_tail = 0;
  member->generation = generation;
  if (register_in_kernel(EPOLL_CTL_ADD, *member) != 0) {
    const int error = errno;
    member->set = nullptr;
    give_member(*member);
    return fail(error);
  }
  member->previous_of_set = nullptr;
  member->next_of_set = members_;
  if (members_ != nullptr) members_->previous_of_set = member;
  members_ = member;
  if (endpoint != nullptr) {
    member->next_of_endpoint = endpoint->members.load(std::memory_order_relaxed);
    endpoint->members.store(member, std::memory_order_release);
    if (member->managed) {
      endpoint->managed.store(true, std::memory_order_relaxed);
      make_hot(*member);
    }
  }
  used_.store(true, std::memory_order_release);
  return 0;
}

int EpollSet::modify(Member& member, epoll_event* event) noexcept {
  if ((event->events & EPOLLEXCLUSIVE) != 0) return fail(EINVAL);
  member.events = event->events;
  member.data = event->data.u64;
  member.disabled = false;
  member.fresh = true;
  member.ended = 0;
  if (!member.managed) return register_in_kernel(EPOLL_CTL_MOD, member);
  if (!member.endpoint->channel.sends_to_ring()) register_in_kernel(EPOLL_CTL_MOD, member);
  make_hot(member);
  return 0;
}

int EpollSet::remove(int epfd, Member& member) noexcept {
  const int removed = real::epoll_ctl(epfd, EPOLL_CTL_DEL, member.kernel_fd, nullptr);
  forget(member);
  return removed;
}

int EpollSet::control(int epfd, int operation, int fd, epoll_event* event) noexcept {
  const Slot slot = table.find(fd);
  const bool ours =
      slot.kind() == Kind::endpoint || slot.kind() == Kind::fresh || slot.kind() == Kind::marked;
  const int kernel_fd = table.kernel_fd(fd);
  if (slot.kind() == Kind::epoll && operation == EPOLL_CTL_ADD) {
    slot.as<EpollSet>()->set_nested();
    slot.as<EpollSet>()->prepare_foreign_wait();
  }
  // The kernel's EFAULT for a bad event, and its EBADF, EINVAL and EPERM, are its own.
  if (!ours || (operation != EPOLL_CTL_DEL && event == nullptr)) {
    return real::epoll_ctl(epfd, operation, kernel_fd, event);
  }
  EndpointRef keep(fd);
  RobustLock unused{};
  LockScope outer(keep ? keep->members_lock : unused, is_exclusive_process());
  LockScope lock(lock_, is_exclusive_process());
  busy_calls_ = 0;
  const int result = control_locked(epfd, operation, fd, event);
  // Threads that wait already must see the change.
  if (hot_first_ != nullptr && !is_exclusive_process() && !arm_all()) {
    const int error = errno;
    kick();
    errno = error;
  }
  return result;
}

int EpollSet::control_locked(int epfd, int operation, int fd, epoll_event* event) noexcept {
  const int kernel_fd = table.kernel_fd(fd);
  Member* member = find(fd);
  switch (operation) {
    case EPOLL_CTL_ADD:
      if (member != nullptr) {
        // EEXIST, unless the kernel dropped it when an earlier socket of this number was closed.
        if (member->endpoint != nullptr) return fail(EEXIST);
        forget(*member);
      }
      return add(epfd, fd, event);
    case EPOLL_CTL_MOD:
      if (member == nullptr) return real::epoll_ctl(epfd, operation, kernel_fd, event);
      return modify(*member, event);
    case EPOLL_CTL_DEL:
      if (member == nullptr) return real::epoll_ctl(epfd, operation, kernel_fd, event);
      return remove(epfd, *member);
    default:
      return real::epoll_ctl(epfd, operation, kernel_fd, event);
  }
}

}  // namespace tssx
