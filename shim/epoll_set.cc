// The set as an object, and epoll_ctl(2).

#include "shim/epoll_set.h"

#include <errno.h>
#include <fcntl.h>

#include "core/channel.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/real.h"

namespace tssx {

constinit Pool<EpollSet, 16, 1024> sets{};

namespace {

// EPOLLEXCLUSIVE_OK_BITS of fs/eventpoll.c.
constexpr std::uint32_t kWithExclusive =
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

int fail(int error) noexcept {
  errno = error;
  return -1;
}

}  // namespace

// --- life ---

EpollSet* open_set(int epfd) noexcept {
  EpollSet* set = sets.take();
  if (set == nullptr) return nullptr;
  set->fd_ = epfd;
  if (set->custody_ != nullptr) set->renew_kick();
  set->kick_in_set_ = false;
  set->kick_in_front_ = false;
  set->front_fd_.store(-1, std::memory_order_relaxed);
  set->kept_fd_.store(-1, std::memory_order_relaxed);
  set->arrivals_ = 0;
  set->members_ = nullptr;
  set->loose_ = nullptr;
  set->hot_first_ = nullptr;
  set->rest_first_ = nullptr;
  set->hot_last_ = nullptr;
  set->poked_.store(nullptr, std::memory_order_relaxed);
  set->room_first_.store(nullptr, std::memory_order_relaxed);
  set->room_last_ = nullptr;
  set->wrote_.store(false, std::memory_order_relaxed);
  set->quiet_looks_.store(kQuietForGood, std::memory_order_relaxed);
  set->soon_.store(0, std::memory_order_relaxed);
  set->memberships_.store(nullptr, std::memory_order_relaxed);
  set->custody_ = nullptr;
  set->surrendered_.store(false, std::memory_order_relaxed);
  set->busy_calls_.store(0, std::memory_order_relaxed);
  set->kernel_first_.store(false, std::memory_order_relaxed);
  set->seen_attention_.store(attention.load(std::memory_order_relaxed), std::memory_order_relaxed);
  set->last_kernel_look_.store(0, std::memory_order_relaxed);
  set->used_.store(false, std::memory_order_relaxed);
  set->hot_count_.store(0, std::memory_order_relaxed);
  set->sleepers_.store(0, std::memory_order_relaxed);
  set->set_sleepers_.store(0, std::memory_order_relaxed);
  set->watchers_.store(0, std::memory_order_relaxed);
  set->descriptors.store(1, std::memory_order_relaxed);
  set->references_.store(1, std::memory_order_release);
  return set;
}

void keep_for_waiters(EpollSet& set, int epfd) noexcept {
  constexpr int kFirstHidden = 700;  // as for endpoints
  if (set.descriptors.load(std::memory_order_acquire) != 1 ||
      set.references_.load(std::memory_order_acquire) == 1) {
    return;
  }
  const long kept = sys::fcntl(epfd, F_DUPFD_CLOEXEC, kFirstHidden);
  if (kept < 0) return;  // they get EBADF when they next look
  set.kept_fd_.store(static_cast<int>(kept), std::memory_order_release);
  hide_descriptor(set.kept_fd_);
}

void drop_set(EpollSet* set) noexcept {
  if (set->descriptors.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  {
    // The kernel takes a closed set out of the sets that it was in.
    LockScope outer(set->memberships_lock_, is_exclusive_process());
    while (Member* member = set->memberships_.load(std::memory_order_relaxed)) {
      LockScope lock(member->set->lock_, is_exclusive_process());
      member->set->forget(*member);
    }
  }
  set->drop_reference();
}

void EpollSet::drop_reference() noexcept {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  forget_all();
  close_hidden(front_fd_, -1);
  close_hidden(kept_fd_, -1);
  Pool<EpollSet, 16, 1024>::give(this);
}

EpollSetRef::EpollSetRef(int epfd) noexcept {
  const Slot slot = table.find(epfd);
  if (slot.kind() != Kind::epoll) return;
  auto* set = slot.as<EpollSet>();
  if (is_exclusive_process()) {
    set->references_.store(set->references_.load(std::memory_order_relaxed) + 1,
                           std::memory_order_relaxed);
  } else {
    if (!take_reference(set->references_)) return;
    if (table.find(epfd).word() != slot.word()) {
      set->drop_reference();
      return;
    }
  }
  set_ = set;
}

EpollSetRef& EpollSetRef::operator=(EpollSetRef&& other) noexcept {
  if (this != &other) {
    reset();
    set_ = other.set_;
    other.set_ = nullptr;
  }
  return *this;
}

void EpollSetRef::reset() noexcept {
  if (set_ == nullptr) return;
  if (is_exclusive_process()) {
    const std::uint32_t left = set_->references_.load(std::memory_order_relaxed) - 1;
    if (left != 0) {
      set_->references_.store(left, std::memory_order_relaxed);
      set_ = nullptr;
      return;
    }
  }
  set_->drop_reference();
  set_ = nullptr;
}

// A number of the set that is open now; -1 once all are closed and none is kept. The one that it
// was made with may be closed while a duplicate is open.
int EpollSet::number() noexcept {
  const auto is_ours = [this](int fd) {
    const Slot slot = table.find(fd);
    return slot.kind() == Kind::epoll && slot.as<EpollSet>() == this;
  };
  if (is_ours(fd_)) return fd_;
  if (const int kept = kept_fd_.load(std::memory_order_acquire); kept >= 0) return kept;
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) {
    if (is_ours(fd)) return fd_ = fd;
  }
  return -1;
}

bool EpollSet::has_members() const noexcept {
  if (used_.load(std::memory_order_acquire)) return true;
  if (custody_ == nullptr) return false;
  const std::uint64_t keeper = custody_->load(std::memory_order_acquire);
  return keeper != 0 && keeper != process_id();
}

// --- members ---

RobustLock* EpollSet::lock_of(const Owner& owner) noexcept {
  if (owner.endpoint != nullptr) return &owner.endpoint->members_lock;
  return owner.inner != nullptr ? &owner.inner->memberships_lock_ : nullptr;
}

Member* EpollSet::find(int fd, const Owner& owner) noexcept {
  Member* at = owner.endpoint != nullptr ? owner.endpoint->members.load(std::memory_order_acquire)
               : owner.inner != nullptr  ? owner.inner->memberships_.load(std::memory_order_acquire)
                                         : loose_;
  while (at != nullptr && (at->set != this || at->fd != fd)) at = at->next_of_owner;
  return at;
}

// Into the lists of the set and of the owner; both locks are held.
void EpollSet::link(Member& member) noexcept {
  member.previous_of_set = nullptr;
  member.next_of_set = members_;
  if (members_ != nullptr) members_->previous_of_set = &member;
  members_ = &member;
  if (member.endpoint != nullptr) {
    member.next_of_owner = member.endpoint->members.load(std::memory_order_relaxed);
    member.endpoint->members.store(&member, std::memory_order_release);
  } else if (member.inner != nullptr) {
    member.next_of_owner = member.inner->memberships_.load(std::memory_order_relaxed);
    // seq_cst: against the owner's look after its first member; see control().
    member.inner->memberships_.store(&member, std::memory_order_seq_cst);
  } else {
    member.next_of_owner = loose_;
    loose_ = &member;
  }
}

namespace {

void unlink_from(std::atomic<Member*>& first, Member& member) noexcept {
  Member* at = first.load(std::memory_order_relaxed);
  if (at == &member) {
    first.store(member.next_of_owner, std::memory_order_relaxed);
    return;
  }
  while (at != nullptr && at->next_of_owner != &member) at = at->next_of_owner;
  if (at != nullptr) at->next_of_owner = member.next_of_owner;
}

}  // namespace

// Unlinks and frees; both locks are held where there is an owner.
void EpollSet::forget(Member& member) noexcept {
  take_poked();  // nobody pokes it any more: that takes the owner's lock
  make_cold(member);
  end_rest(member);
  drop_room(member);
  (member.previous_of_set != nullptr ? member.previous_of_set->next_of_set : members_) =
      member.next_of_set;
  if (member.next_of_set != nullptr) member.next_of_set->previous_of_set = member.previous_of_set;
  if (member.endpoint != nullptr) {
    unlink_from(member.endpoint->members, member);
  } else if (member.inner != nullptr) {
    unlink_from(member.inner->memberships_, member);
  } else {
    unlink_loose(member);
  }
  give_member(member);
}

void EpollSet::unlink_loose(Member& member) noexcept {
  Member** at = &loose_;
  while (*at != nullptr && *at != &member) at = &(*at)->next_of_owner;
  if (*at != nullptr) *at = member.next_of_owner;
}

// Visits and forgets every member, with the locks held.
template <class Visit>
void EpollSet::take_members(Visit&& visit) noexcept {
  for (;;) {
    Member* member = nullptr;
    Owner owner{};
    {
      LockScope lock(lock_, is_exclusive_process());
      member = members_;
      if (member == nullptr) return;
      owner = {member->endpoint, member->inner};
    }
    // The owner's lock comes first; until it is ours, another thread may be faster.
    RobustLock none{};
    RobustLock* first = lock_of(owner);
    LockScope outer(first != nullptr ? *first : none, is_exclusive_process());
    LockScope lock(lock_, is_exclusive_process());
    if (members_ != member || member->endpoint != owner.endpoint || member->inner != owner.inner) {
      continue;
    }
    visit(*member);
    forget(*member);
  }
}

void EpollSet::forget_all() noexcept {
  take_members([](Member&) {});
}

// Gives every member to the kernel, with the application's own events and data.
void EpollSet::surrender() noexcept {
  if (surrendered_.exchange(true, std::memory_order_acq_rel)) return;
  // The sets inside first, and without our lock: their members' locks come before it.
  for (;;) {
    EpollSet* inner = nullptr;
    {
      LockScope lock(lock_, is_exclusive_process());
      for (Member* at = members_; at != nullptr && inner == nullptr; at = at->next_of_set) {
        if (at->inner == nullptr) continue;
        if (!at->inner->surrendered_.load(std::memory_order_acquire)) inner = at->inner;
      }
      if (inner == nullptr) break;
      inner->references_.fetch_add(1, std::memory_order_relaxed);
    }
    inner->surrender();
    inner->drop_reference();
  }
  if (custody_ != nullptr) {
    // Another process may have given its members back, and the application changed them since.
    LockScope lock(lock_, is_exclusive_process());
    find_tags(number());
    if (front() >= 0) find_tags(front());
  }
  take_members([this](Member& member) {
    give_back(member, is_reachable(member) && (custody_ == nullptr || member.told_tag));
  });
}

int EpollSet::add(int fd, const Owner& owner, epoll_event* event) noexcept {
  Member* member = take_member();
  if (member == nullptr) return fail(ENOMEM);
  member->set = this;
  member->endpoint = owner.endpoint;
  member->inner = owner.inner;
  member->poked.store(false, std::memory_order_relaxed);
  member->fd = fd;
  member->kernel_fd = table.kernel_fd(fd);
  member->events = event->events;
  member->data = event->data.u64;
  member->hot = false;
  member->at_rest = false;
  member->rests = 0;
  member->disabled = false;
  member->fresh = true;
  member->kernel_edge = false;
  member->in_front = false;
  member->other_fd = fd;
  member->told_tag = false;
  member->kernel_events = 0;
  member->socket_events = 0;
  member->misses = 0;
  member->ended = 0;
  member->seen_head = 0;
  member->seen_tail = 0;
  member->outside_head = 0;
  member->awaits_room = false;
  member->managed = should_manage(*member);
  // Before the kernel can tell of the tag.
  if (owner.inner == nullptr || member->managed) used_.store(true, std::memory_order_seq_cst);
  if (register_first(*member) != 0) {
    const int error = errno;
    give_member(*member);
    return fail(error);
  }
  link(*member);
  if (member->managed) {
    if (owner.endpoint != nullptr && owner.endpoint->channel.is_established()) {
      owner.endpoint->managed.store(owner.endpoint->channel.receives_from_ring(),
                                    std::memory_order_relaxed);
    }
    make_hot(*member);
  }
  return 0;
}

int EpollSet::modify(Member& member, epoll_event* event) noexcept {
  // ep_ctl's EINVAL: neither to EPOLLEXCLUSIVE nor from it.
  if (((event->events | member.events) & EPOLLEXCLUSIVE) != 0) return fail(EINVAL);
  const std::uint32_t events = member.events;
  const std::uint64_t data = member.data;
  member.events = event->events;
  member.data = event->data.u64;
  member.disabled = false;
  if (register_again(member) != 0) {
    member.events = events;
    member.data = data;
    return -1;
  }
  member.fresh = true;
  member.ended = 0;
  if (member.managed) make_hot(member);
  return 0;
}

int EpollSet::remove(Member& member) noexcept {
  const int removed = unregister(member);
  forget(member);
  return removed;
}

// The kernel keeps this set's members.
int EpollSet::control_in_kernel(int epfd, int operation, int fd, epoll_event* event) noexcept {
  if (operation == EPOLL_CTL_ADD) {
    const int saved = errno;
    const Kind kind = table.find(fd).kind();
    if (EndpointRef endpoint(fd); endpoint) {
      endpoint.channel().note_reason(Reason::epoll_set);
      endpoint.channel().leave_for_good(endpoint.fd());
    }
    if (EpollSetRef inner(fd); inner && &*inner != this && inner->has_members()) {
      inner->surrender();
    }
    if (kind == Kind::fresh) table.set(fd, Slot(Kind::ordinary, nullptr));
    errno = saved;
  }
  return real::epoll_ctl(epfd, operation, table.kernel_fd(fd), event);
}

int EpollSet::control(int epfd, int operation, int fd, epoll_event* event) noexcept {
  const Kind kind = table.find(fd).kind();
  const bool ours =
      kind == Kind::endpoint || kind == Kind::fresh || kind == Kind::marked || kind == Kind::epoll;
  // The kernel's EFAULT for a bad event, and its EBADF, EINVAL and EPERM, are its own.
  if (!ours || (operation != EPOLL_CTL_DEL && event == nullptr)) {
    return real::epoll_ctl(epfd, operation, table.kernel_fd(fd), event);
  }
  const int saved = errno;
  const bool kept = is_kept_here(operation == EPOLL_CTL_ADD);
  errno = saved;
  if (!kept) return control_in_kernel(epfd, operation, fd, event);

  EndpointRef endpoint(fd);
  EpollSetRef inner(fd);
  const Owner owner{endpoint ? &*endpoint : nullptr, inner ? &*inner : nullptr};
  if (owner.inner == this) return real::epoll_ctl(epfd, operation, fd, event);
  if (inner && operation == EPOLL_CTL_ADD && inner->has_members()) inner->enter_front();
  int result = 0;
  bool followed = true;  // the set below, if it is one, is watched as its members need it
  {
    RobustLock none{};
    RobustLock* first = lock_of(owner);
    LockScope outer(first != nullptr ? *first : none, is_exclusive_process());
    LockScope lock(lock_, is_exclusive_process());
    busy_calls_.store(0, std::memory_order_relaxed);
    result = control_locked(epfd, operation, fd, owner, event);
    const int error = errno;
    if (result == 0 && operation == EPOLL_CTL_ADD && owner.inner != nullptr) {
      const Member* member = find(fd, owner);
      followed = member == nullptr || member->managed || !owner.inner->has_members();
    }
    wake_for_change();
    errno = error;
  }
  const int error = errno;
  // As deep as the kernel allows there is no room for a front: then the kernel has to see it all.
  if (!followed) inner->surrender();
  // The first member of a set that is inside another already. seq_cst: see link().
  if (result == 0 && operation == EPOLL_CTL_ADD && front() < 0 &&
      memberships_.load(std::memory_order_seq_cst) != nullptr && has_members()) {
    enter_front();
  }
  errno = error;
  return result;
}

int EpollSet::control_locked(int epfd, int operation, int fd, const Owner& owner,
                             epoll_event* event) noexcept {
  Member* member = find(fd, owner);
  const bool loose = owner.endpoint == nullptr && owner.inner == nullptr;
  if (operation == EPOLL_CTL_ADD) {
    if ((event->events & EPOLLEXCLUSIVE) != 0 &&
        (owner.inner != nullptr || (event->events & ~kWithExclusive) != 0)) {
      return fail(EINVAL);
    }
    if (member != nullptr && !loose) return fail(EEXIST);
    const int result = add(fd, owner, event);
    if (result == 0) {
      // The kernel had dropped it when an earlier socket of this number was closed.
      if (member != nullptr) forget(*member);
      return 0;
    }
    if (errno != ENOMEM || owner.inner != nullptr) return -1;
    // No place for another member: the connection stays, or goes back to, where the kernel sees it.
    if (owner.endpoint != nullptr) {
      owner.endpoint->channel.note_reason(Reason::epoll_set);
      owner.endpoint->channel.leave_for_good(table.kernel_fd(fd));
    }
    return real::epoll_ctl(epfd, operation, table.kernel_fd(fd), event);
  }
  if (member == nullptr || (operation != EPOLL_CTL_MOD && operation != EPOLL_CTL_DEL)) {
    return real::epoll_ctl(epfd, operation, table.kernel_fd(fd), event);
  }
  const int result = operation == EPOLL_CTL_MOD ? modify(*member, event) : remove(*member);
  if (operation == EPOLL_CTL_MOD && result != 0 && errno == ENOENT && loose) {
    forget(*member);  // of an earlier socket of this number
  }
  return result;
}

}  // namespace tssx
