#include "shim/epoll_set.h"

#include <errno.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstddef>

#include "core/channel.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/endpoint_pool.h"
#include "shim/pool.h"
#include "shim/real.h"

namespace tssx {
namespace {

// tag: 32 random bits | 12 bits of generation | 20 bits of index
constexpr std::uint32_t kIndexBits = 20;
constexpr std::uint32_t kMaxMembers = 1U << 18U;
constexpr std::uint32_t kKickIndex = (1U << kIndexBits) - 1;
constexpr std::uint32_t kGenerationMask = (1U << 12U) - 1;

constexpr int kBatch = 128;  // kernel events fetched at once
constexpr std::uint32_t kBusyCalls = 4;
constexpr std::uint64_t kSharedSleepNs = 200'000'000;
constexpr std::uint64_t kKernelEveryNs =
    50'000;  // kernel members are looked at this often at least
constexpr std::uint64_t kKernelWhileWaitingNs = 10'000;
constexpr std::uint32_t kMissesToCool = 4;
constexpr std::uint32_t kHotEnough = 32;

constexpr std::uint32_t kEnds = EPOLLHUP | EPOLLRDHUP | EPOLLERR;
constexpr std::uint32_t kAlways = EPOLLHUP | EPOLLERR;
constexpr std::uint32_t kReadable = EPOLLIN | EPOLLRDNORM;
constexpr std::uint32_t kWritable = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;

Member* members = nullptr;
std::uint32_t secret = 0;
std::atomic<std::uint32_t> next_member{0};

// Moves whenever bells were consumed outside of the sets: see look_again().
std::atomic<std::uint64_t> attention{0};

constinit Pool<EpollSet, 16, 1024> sets{};

Member* take_member() noexcept {
  if (members == nullptr) return nullptr;
  const std::uint32_t start = next_member.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < kMaxMembers; ++i) {
    const std::uint32_t index = (start + i) % kMaxMembers;
    std::uint32_t free = 0;
    if (members[index].taken.load(std::memory_order_relaxed) == 0 &&
        members[index].taken.compare_exchange_strong(free, 1, std::memory_order_acquire)) {
      next_member.store(index + 1 == kMaxMembers ? 0 : index + 1, std::memory_order_relaxed);
      return &members[index];
    }
  }
  return nullptr;
}

void give_member(Member& member) noexcept {
  const std::uint32_t generation = member.generation + 1;
  const std::uint32_t index = static_cast<std::uint32_t>(&member - members);
  member.set = nullptr;
  member.endpoint = nullptr;
  member.generation = generation;
  member.taken.store(0, std::memory_order_release);
  next_member.store(index, std::memory_order_relaxed);  // reuse warm slots first
}

std::uint64_t tag_of(std::uint32_t index, std::uint32_t generation) noexcept {
  return std::uint64_t{secret} << 32U | std::uint64_t{generation & kGenerationMask} << kIndexBits |
         index;
}

std::uint64_t tag_of(const Member& member) noexcept {
  return tag_of(static_cast<std::uint32_t>(&member - members), member.generation);
}

bool is_tag(std::uint64_t data) noexcept { return members != nullptr && data >> 32U == secret; }

std::uint32_t index_of(std::uint64_t tag) noexcept {
  return static_cast<std::uint32_t>(tag) & ((1U << kIndexBits) - 1);
}

Member* member_of(std::uint64_t tag, const EpollSet* set) noexcept {
  const std::uint32_t index = index_of(tag);
  if (index >= kMaxMembers) return nullptr;
  Member& member = members[index];
  const bool current = member.taken.load(std::memory_order_acquire) != 0 && member.set == set &&
                       tag_of(member) == tag;
  return current ? &member : nullptr;  // otherwise stale: of a member that was removed
}

bool is_exclusive_process() noexcept { return __libc_single_threaded != 0; }

int fail(int error) noexcept {
  errno = error;
  return -1;
}

}  // namespace

bool open_members() noexcept {
  if (sys::getrandom(&secret, sizeof secret) != sizeof secret) return false;
  secret |= 0x80000000U;  // no pointer and no small number looks like a tag
  void* memory = sys::mmap(kMaxMembers * sizeof(Member), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  members = static_cast<Member*>(memory);
  return members != nullptr;
}

// --- the set as an object ---

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

// --- readiness ---

// What epoll_wait would tell of a managed member now; 0 for nothing. With `report`, it is told:
// edges and ONESHOT are used up.
std::uint32_t EpollSet::look(Member& member, bool report) noexcept {
  if (member.disabled) return 0;
  Channel& channel = member.endpoint->channel;
  std::uint32_t socket_events = member.socket_events & kEnds;
  if (!channel.receives_from_ring() || !channel.sends_to_ring()) {
    pollfd control{member.kernel_fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    const timespec now{0, 0};
    sys::poll(&control, 1, &now);
    socket_events = static_cast<std::uint32_t>(control.revents);
    if (!channel.receives_from_ring() && (socket_events & EPOLLIN) != 0 &&
        !channel.settle(member.kernel_fd)) {
      socket_events &= ~kReadable;
    }
  }
  if (channel.receives_from_ring()) {
    socket_events &= ~kReadable;
    if (channel.has_old_bells() || (socket_events & EPOLLHUP) != 0 || channel.peer_is_leaving()) {
      socket_events |= EPOLLIN;  // readiness() drains the socket
    }
  }
  const std::uint64_t head = channel.head_seen();
  const std::uint64_t tail = channel.tail_seen();
  const auto state = static_cast<std::uint32_t>(static_cast<unsigned short>(
      channel.readiness(member.kernel_fd, static_cast<short>(socket_events))));
  const std::uint32_t wanted = state & (member.events | kAlways);
  if ((member.events & EPOLLET) == 0) {
    if (wanted != 0 && report && (member.events & EPOLLONESHOT) != 0) member.disabled = true;
    if (report) member.fresh = member.kernel_edge = false;
    return wanted;
  }
  const std::uint32_t ends = state & kEnds;
  const bool edge =
      member.fresh || head != member.seen_head ||
      (tail != member.seen_tail && (state & kWritable) != 0) || (ends & ~member.ended) != 0 ||
      (member.kernel_edge && (!channel.receives_from_ring() || !channel.sends_to_ring()));
  if (!edge || wanted == 0) return 0;
  if (report) {
    member.fresh = false;
    member.kernel_edge = false;
    member.seen_head = head;
    member.seen_tail = tail;
    member.ended = ends;
    if ((member.events & EPOLLONESHOT) != 0) member.disabled = true;
  }
  return wanted;
}

int EpollSet::harvest(epoll_event* events, int maximum) noexcept {
  int count = 0;
  std::uint32_t left = hot_count_.load(std::memory_order_relaxed);
  while (left-- != 0 && count < maximum && hot_first_ != nullptr) {
    Member& member = *hot_first_;
    const std::uint32_t misses = member.misses;
    make_cold(member);
    const std::uint32_t found = look(member, true);
    if (!member.endpoint->channel.is_established()) {
      // Back in the kernel for good: so is the member.
      member.managed = false;
      register_in_kernel(EPOLL_CTL_MOD, member);
    }
    if (found != 0) {
      events[count].events = found;
      events[count++].data.u64 = member.data;
    }
    if (member.disabled || !member.managed) continue;
    if (found == 0 && misses + 1 >= kMissesToCool &&
        hot_count_.load(std::memory_order_relaxed) >= kHotEnough) {
      // Not active lately: let a bell tell.
      member.endpoint->channel.announce((member.events & kReadable) != 0,
                                        (member.events & kWritable) != 0);
      if (look(member, false) == 0) continue;
    }
    make_hot(member);
    member.misses = found == 0 ? misses + 1 : 0;
  }
  return count;
}

// Asks for a bell from every hot member. False if one of them is ready after all.
bool EpollSet::arm_all() noexcept {
  for (Member* at = hot_first_; at != nullptr; at = at->next_hot) {
    // Without EPOLLIN in the mask the end of the stream is told by the socket's own hang-up, but
    // the peer's shutdown() only by a bell.
    at->endpoint->channel.announce(true, (at->events & kWritable) != 0);
  }
  for (Member* at = hot_first_; at != nullptr; at = at->next_hot) {
    if (look(*at, false) != 0) return false;
  }
  while (hot_first_ != nullptr) make_cold(*hot_first_);
  return true;
}

bool EpollSet::hot_may_be_ready() noexcept {
  LockScope lock(lock_, is_exclusive_process());
  int looks = 0;
  for (Member* at = hot_first_; at != nullptr && looks < 64; at = at->next_hot, ++looks) {
    const Channel& channel = at->endpoint->channel;
    if (!channel.receives_from_ring()) continue;
    if (channel.may_receive() &&
        ((at->events & EPOLLET) == 0 || at->fresh || channel.head_seen() != at->seen_head)) {
      return true;
    }
    if ((at->events & kWritable) != 0 && channel.may_send() &&
        ((at->events & EPOLLET) == 0 || channel.tail_seen() != at->seen_tail)) {
      return true;
    }
  }
  return false;
}

// --- the kernel's part ---

int EpollSet::collect(const epoll_event* found, int count, epoll_event* events) noexcept {
  int told = 0;
  int moving = 0;
  Endpoint* moved[kBatch];
  {
    LockScope lock(lock_, is_exclusive_process());
    for (int i = 0; i < count; ++i) {
      if (!is_tag(found[i].data.u64)) {
        events[told++] = found[i];
        continue;
      }
      if (index_of(found[i].data.u64) == kKickIndex) continue;
      Member* member = member_of(found[i].data.u64, this);
      if (member == nullptr) continue;
      if (member->managed) {
        member->socket_events |= found[i].events & kEnds;
        member->kernel_edge = true;
        make_hot(*member);
        continue;
      }
      std::uint32_t what = found[i].events;
      if (member->endpoint != nullptr) {
        Channel& channel = member->endpoint->channel;
        // A message of ours that comes by itself is no news to the application.
        if ((what & EPOLLIN) != 0 && !channel.is_plain() && (what & kEnds) == 0 &&
            (!channel.settle(member->kernel_fd) || channel.receives_from_ring())) {
          what &= ~kReadable;
        }
        if (channel.is_established()) {
          // It was the cut, or the answer to an offer: from here on the ring tells.
          member->endpoint->references.fetch_add(1, std::memory_order_acquire);
          moved[moving++] = member->endpoint;
          continue;
        }
        if ((what & (member->events | kAlways)) == 0) continue;
      }
      if ((member->events & EPOLLONESHOT) != 0) member->disabled = true;
      events[told].events = what;
      events[told++].data.u64 = member->data;
    }
  }
  for (int i = 0; i < moving; ++i) {
    move_registrations(*moved[i]);
    drop_reference(*moved[i]);
  }
  return told;
}

// Waits in the kernel, counted as a sleeper. -1 with errno set, or the number of events.
int EpollSet::sleep_in_kernel(int epfd, epoll_event* found, int room, std::uint64_t timeout,
                              const sigset_t* mask) {
  struct Awake {  // also when the thread is cancelled in its sleep
    std::atomic<std::uint32_t>& sleepers;
    ~Awake() { sleepers.fetch_sub(1, std::memory_order_seq_cst); }
  } awake{sleepers_};
  if (timeout == kForever || timeout % 1'000'000U == 0) {
    const std::uint64_t milliseconds = timeout / 1'000'000U;
    const int limit = timeout == kForever
                          ? -1
                          : static_cast<int>(std::min<std::uint64_t>(milliseconds, 0x7fffffff));
    return real::epoll_pwait(epfd, found, room, limit, mask);
  }
  const timespec limit{static_cast<time_t>(timeout / 1'000'000'000U),
                       static_cast<long>(timeout % 1'000'000'000U)};
  const int count = real::epoll_pwait2 != nullptr
                        ? real::epoll_pwait2(epfd, found, room, &limit, mask)
                        : fail(ENOSYS);
  if (count >= 0 || errno != ENOSYS) return count;
  // Kernels before 5.11: milliseconds, rounded up so as not to return early.
  return real::epoll_pwait(epfd, found, room, static_cast<int>((timeout + 999'999U) / 1'000'000U),
                           mask);
}

// What the kernel knows, without waiting unless `timeout` says so; then the caller has counted
// itself as a sleeper.
int EpollSet::ask_kernel(int epfd, epoll_event* events, int maximum, std::uint64_t timeout,
                         const sigset_t* mask) {
  epoll_event found[kBatch];
  const int room = std::min(maximum, kBatch);
  int count = 0;
  if (timeout != 0) {
    count = sleep_in_kernel(epfd, found, room, timeout, mask);
  } else if (mask != nullptr) {
    count = real::epoll_pwait(epfd, found, room, 0, mask);
  } else {
    // No cancellation point and no sleep: straight to the kernel.
    const long got = sys::call(SYS_epoll_pwait, epfd, sys::word(found), room, 0, 0, 8);
    count = got < 0 ? fail(static_cast<int>(-got)) : static_cast<int>(got);
  }
  if (count <= 0) return count;
  return collect(found, count, events);
}

void EpollSet::prepare_kick() noexcept {
  if (kick_fd_ >= 0) return;
  const long made = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (made < 0) return;
  long high = sys::fcntl(static_cast<int>(made), F_DUPFD_CLOEXEC, 700);
  if (high < 0) {
    high = made;
  } else {
    sys::close(static_cast<int>(made));
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // never read: every write is an edge
  event.data.u64 = tag_of(kKickIndex, 0);
  if (real::epoll_ctl(fd_, EPOLL_CTL_ADD, static_cast<int>(high), &event) != 0) {
    sys::close(static_cast<int>(high));
    return;
  }
  kick_fd_ = static_cast<int>(high);
  table.set(kick_fd_, Slot(Kind::hidden, nullptr));
  table.note_highest(kick_fd_);
}

void EpollSet::kick() noexcept {
  prepare_kick();
  nudge();
}

void EpollSet::nudge() noexcept {
  if (kick_fd_ < 0) return;
  const std::uint64_t one = 1;
  sys::call(SYS_write, kick_fd_, sys::word(&one), sizeof one);
}

// A thread leaves with events: what is hot is nobody's to look at until somebody comes back.
void EpollSet::leave() noexcept {
  const bool others = sleepers_.load(std::memory_order_seq_cst) != 0;
  if (!others && !nested_) return;
  LockScope lock(lock_, is_exclusive_process());
  if (hot_first_ == nullptr) return;
  if (!arm_all()) kick();
}

int EpollSet::wait(int epfd, epoll_event* events, int maximum, std::uint64_t timeout,
                   const sigset_t* mask) {
  act_on_cancellation();
  const std::uint64_t start = timeout != 0 && timeout != kForever ? sys::now_ns() : 0;
  std::uint64_t left = timeout;
  for (;;) {
    int count = 0;
    const std::uint64_t word = attention.load(std::memory_order_seq_cst);
    if (word != seen_attention_) heed(word);
    if (hot_count_.load(std::memory_order_relaxed) != 0) {
      // The kernel's members first when their turn has come: a busy ring must not starve them. As
      // long as they have something to tell, it comes with every call.
      const std::uint64_t now = sys::now_ns();
      if (busy_calls_ < kBusyCalls || now - last_kernel_look_ > kKernelEveryNs) {
        count = ask_kernel(epfd, events, maximum, 0, nullptr);
        if (count < 0) count = 0;
        last_kernel_look_ = now;
        if (count != 0) busy_calls_ = 0;
      }
      ++busy_calls_;
      if (count < maximum) {
        LockScope lock(lock_, is_exclusive_process());
        count += harvest(events + count, maximum - count);
      }
    }
    if (count != 0 || timeout == 0) {
      if (count == 0) {
        count = ask_kernel(epfd, events, maximum, 0, mask);
        if (count < 0) return count;
        if (count < maximum && hot_count_.load(std::memory_order_relaxed) != 0) {
          LockScope lock(lock_, is_exclusive_process());
          count += harvest(events + count, maximum - count);
        }
      }
      leave();
      return count;
    }

    // A caller's signal mask holds for the wait alone: then only the kernel may wait.
    if (hot_count_.load(std::memory_order_relaxed) != 0 && mask == nullptr) {
      std::uint32_t peer_cpu = ~0U;
      {
        LockScope lock(lock_, is_exclusive_process());
        if (hot_last_ != nullptr) peer_cpu = hot_last_->endpoint->channel.peer_cpu();
      }
      std::uint64_t next_kernel_look = sys::now_ns() + kKernelWhileWaitingNs;
      int looks = 0;
      const bool found = waiter_.wait(peer_cpu, [&] {
        if (hot_may_be_ready()) return true;
        if (++looks % 16 != 0) return false;
        const std::uint64_t now = sys::now_ns();
        if (now < next_kernel_look) return false;
        next_kernel_look = now + kKernelWhileWaitingNs;
        last_kernel_look_ = now;
        count = ask_kernel(epfd, events, maximum, 0, nullptr);
        return count != 0;
      });
      if (count < 0) return count;
      if (count > 0) {
        leave();
        return count;
      }
      if (found) continue;
    }

    {
      LockScope lock(lock_, is_exclusive_process());
      if (!arm_all()) continue;
      if (!is_exclusive_process()) prepare_kick();
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
    }
    if (attention.load(std::memory_order_seq_cst) != word) {
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
      continue;
    }
    if (start != 0) {
      const std::uint64_t gone = sys::now_ns() - start;
      left = gone < timeout ? timeout - gone : 0;
      // Whole milliseconds stay whole: never early, and by the older call.
      if (left != 0 && timeout % 1'000'000U == 0)
        left = (left + 999'999U) / 1'000'000U * 1'000'000U;
    }
    // Between threads of one process a member can move to the ring, or lose its bell to a reader,
    // at the very moment another thread falls asleep here. Whatever is missed is found after a
    // while.
    const bool bounded = !is_exclusive_process() && left > kSharedSleepNs;
    if (bounded) left = kSharedSleepNs;
    std::uint64_t slept = sys::now_ns();
    if (left == 0) sleepers_.fetch_sub(1, std::memory_order_seq_cst);  // too late to sleep
    count = ask_kernel(epfd, events, maximum, left, mask);
    slept = sys::now_ns() - slept;
    busy_calls_ = 0;
    waiter_.note_sleep(slept);
    if (count < 0) return count;
    if (bounded && count == 0) {
      left = timeout;
      look_at_all();
    }
    if (count > 0) {
      if (hot_count_.load(std::memory_order_relaxed) != 0 && count < maximum) {
        LockScope lock(lock_, is_exclusive_process());
        count += harvest(events + count, maximum - count);
      }
      leave();
      return count;
    }
    if (start != 0 && hot_count_.load(std::memory_order_relaxed) == 0 &&
        sys::now_ns() - start >= timeout) {
      return 0;
    }
    if (start != 0 && sys::now_ns() - start >= timeout) timeout = 0;  // one last look
  }
}

void EpollSet::look_at_all() noexcept {
  LockScope lock(lock_, is_exclusive_process());
  for (Member* at = members_; at != nullptr; at = at->next_of_set) {
    if (at->managed && look(*at, false) != 0) make_hot(*at);
  }
}

// Somebody consumed bells that may have been meant for members of this set.
void EpollSet::heed(std::uint64_t word) noexcept {
  LockScope lock(lock_, is_exclusive_process());
  seen_attention_ = word;
  for (Member* at = members_; at != nullptr; at = at->next_of_set) {
    if (at->endpoint == nullptr || !at->managed || at->disabled) continue;
    if (at->endpoint->rung.load(std::memory_order_relaxed)) make_hot(*at);
  }
}

bool EpollSet::prepare_foreign_wait() noexcept {
  LockScope lock(lock_, is_exclusive_process());
  if (hot_first_ == nullptr) return false;
  if (arm_all()) return false;
  if (nested_) kick();
  return true;
}

int EpollSet::translate(epoll_event* events, int count) noexcept {
  int told = 0;
  for (int at = 0; at < count; at += kBatch) {
    epoll_event found[kBatch];
    const int size = std::min(count - at, kBatch);
    std::copy_n(events + at, size, found);
    told += collect(found, size, events + told);
  }
  return told;
}

// --- what happens to endpoints ---

void detach_endpoint(Endpoint& endpoint) noexcept {
  if (endpoint.members.load(std::memory_order_acquire) == nullptr) return;
  LockScope lock(endpoint.members_lock, is_exclusive_process());
  // Another process that holds the endpoint may share the set: its registration must stay.
  const bool last = endpoint.channel.side().holders.load(std::memory_order_acquire) == 1;
  while (Member* member = endpoint.members.load(std::memory_order_relaxed)) {
    EpollSet& set = *member->set;
    LockScope inner(set.lock_, is_exclusive_process());
    if (last) real::epoll_ctl(set.fd_, EPOLL_CTL_DEL, member->kernel_fd, nullptr);
    set.forget(*member);
  }
}

void move_registrations(Endpoint& endpoint) noexcept {
  const int saved = errno;
  LockScope lock(endpoint.members_lock, is_exclusive_process());
  const bool established = endpoint.channel.is_established();
  endpoint.managed.store(established, std::memory_order_relaxed);
  for (Member* at = endpoint.members.load(std::memory_order_relaxed); at != nullptr;
       at = at->next_of_endpoint) {
    EpollSet& set = *at->set;
    LockScope inner(set.lock_, is_exclusive_process());
    if (at->managed == established) continue;
    at->managed = established;
    at->fresh = true;
    set.register_in_kernel(EPOLL_CTL_MOD, *at);
    if (established && !at->disabled) {
      set.make_hot(*at);
      if (set.sleepers_.load(std::memory_order_seq_cst) != 0 || set.nested_) {
        if (!set.arm_all()) set.kick();
      }
    } else {
      set.make_cold(*at);
    }
  }
  errno = saved;
}

void adopt_registrations(int fd, Endpoint& endpoint) noexcept {
  sets.for_each([&](EpollSet& set) {
    if (!set.has_members()) return;
    LockScope outer(endpoint.members_lock, is_exclusive_process());
    LockScope lock(set.lock_, is_exclusive_process());
    for (Member* at = set.members_; at != nullptr; at = at->next_of_set) {
      if (at->fd != fd || at->endpoint != nullptr) continue;
      at->endpoint = &endpoint;
      at->next_of_endpoint = endpoint.members.load(std::memory_order_relaxed);
      endpoint.members.store(at, std::memory_order_release);
    }
  });
}

// Called with a channel's lock held, so it takes no lock of a set: it leaves word, and wakes who
// may have to read it.
void look_again(void* context) noexcept {
  auto* endpoint = static_cast<Endpoint*>(context);
  if (endpoint->members.load(std::memory_order_acquire) == nullptr) return;
  endpoint->rung.store(true, std::memory_order_relaxed);
  // seq_cst, between the word and the look for sleepers; pairs with those in wait().
  attention.fetch_add(1, std::memory_order_seq_cst);
  sets.for_each([](EpollSet& set) {
    if (set.sleepers_.load(std::memory_order_seq_cst) != 0 || set.nested_) set.nudge();
  });
}

// --- around fork ---

void lock_sets() noexcept {
  sets.for_each([](EpollSet& set) { set.lock_.acquire(is_exclusive_process()); });
}

void unlock_sets() noexcept {
  sets.for_each([](EpollSet& set) { set.lock_.release(); });
}

void reset_sets() noexcept {
  sets.for_each([](EpollSet& set) {
    new (&set.lock_) RobustLock();
    set.sleepers_.store(0, std::memory_order_relaxed);
  });
}

}  // namespace tssx
