// What is ready: the looks at the rings of a set's members.

#include "core/channel.h"
#include "core/fault_point.h"
#include "core/socket_look.h"
#include "shim/endpoint.h"
#include "shim/epoll_set.h"

namespace tssx {
namespace {

// When to ask for a bell instead of looking at a ring: a bell costs the two sides some 2 us, a look
// at a ring that has not moved about a hundredth of that.
constexpr std::uint32_t kMissesToCool = 128;
constexpr std::uint32_t kHotEnough = 32;

// Taking back costs a tenth of a bell's 2 us or less.
constexpr std::uint32_t kRestsToCool = 16;

constexpr int kAsked =
    POLLIN | POLLRDNORM | POLLRDHUP | POLLPRI | POLLOUT | POLLWRNORM | POLLWRBAND;

std::uint32_t ask_socket(int fd) noexcept {
  return static_cast<std::uint32_t>(static_cast<unsigned short>(poll_now(fd, kAsked)));
}

}  // namespace

void EpollSet::make_hot(Member& member) noexcept {
  member.misses = 0;
  if (member.hot) return;
  end_rest(member);
  drop_room(member);
  member.hot = true;
  member.next_hot = nullptr;
  member.previous_hot = hot_last_;
  (hot_last_ != nullptr ? hot_last_->next_hot : hot_first_) = &member;
  hot_last_ = &member;
  hot_count_.fetch_add(1, std::memory_order_seq_cst);  // against a sleeper's last look, see wait()
}

void EpollSet::make_cold(Member& member) noexcept {
  if (!member.hot) return;
  member.hot = false;
  (member.previous_hot != nullptr ? member.previous_hot->next_hot : hot_first_) = member.next_hot;
  (member.next_hot != nullptr ? member.next_hot->previous_hot : hot_last_) = member.previous_hot;
  hot_count_.fetch_sub(1, std::memory_order_relaxed);
}

// A member that has become cold for a sleep. Its peer need not ring once we are awake: after the
// sleep its bell is taken back, and it is hot again (end_rests()). Not if it has been idle for some
// sleeps: taking back costs a little each time, a bell only once.
void EpollSet::rest(Member& member) noexcept {
  if (member.endpoint == nullptr || member.hot || member.at_rest || member.rests >= kRestsToCool) {
    return;
  }
  ++member.rests;
  member.at_rest = true;
  member.previous_hot = nullptr;
  member.next_hot = rest_first_;
  if (rest_first_ != nullptr) rest_first_->previous_hot = &member;
  rest_first_ = &member;
}

void EpollSet::end_rest(Member& member) noexcept {
  if (!member.at_rest) return;
  member.at_rest = false;
  (member.previous_hot != nullptr ? member.previous_hot->next_hot : rest_first_) = member.next_hot;
  if (member.next_hot != nullptr) member.next_hot->previous_hot = member.previous_hot;
}

// After a sleep of the only thread there is. Locked.
void EpollSet::end_rests() noexcept {
  while (rest_first_ != nullptr) {
    Member& member = *rest_first_;
    end_rest(member);
    // Another set that holds the endpoint relies on the bell as well.
    if (!member.managed || member.disabled || member.next_of_owner != nullptr ||
        member.endpoint->members.load(std::memory_order_relaxed) != &member) {
      continue;
    }
    member.endpoint->channel.take_back_bells(true, false);
    make_hot(member);
  }
}

// What epoll_wait would tell of a managed member now; 0 for nothing. With `report`, it is told:
// edges and ONESHOT are used up.
std::uint32_t EpollSet::look(Member& member, bool report) noexcept {
  if (member.disabled || !member.managed) return 0;
  return member.inner != nullptr ? look_at_set(member, report) : look_at_endpoint(member, report);
}

std::uint32_t EpollSet::look_at_set(Member& member, bool report) noexcept {
  std::uint64_t arrivals = 0;
  if (!member.inner->is_ready_inside(&arrivals)) return 0;
  const std::uint32_t wanted = kReadable & member.events;  // ep_eventpoll_poll()
  const bool edge = member.fresh || arrivals != member.seen_head;
  if (wanted == 0 || ((member.events & EPOLLET) != 0 && !edge)) return 0;
  if (report) {
    member.fresh = false;
    member.seen_head = arrivals;
    if ((member.events & EPOLLONESHOT) != 0) member.disabled = true;
  }
  return wanted;
}

std::uint32_t EpollSet::look_at_endpoint(Member& member, bool report) noexcept {
  Channel& channel = member.endpoint->channel;
  const int fd = socket_of(member);
  std::uint32_t state = 0;
  if (!channel.is_established()) {
    // In a set with a front: may still move, and what is on the socket may be a message of ours.
    state = channel.without_own_reset(ask_socket(fd));
    if ((state & kReadable) != 0 && (state & kEnds) == 0 && !channel.is_plain() &&
        !channel.settle(fd)) {
      state &= ~kReadable;
    }
    if (channel.is_established()) moves_pending.store(true, std::memory_order_release);
  }
  bool edge = member.fresh;
  std::uint64_t head = 0;
  std::uint64_t tail = 0;
  if (channel.is_established()) {
    const bool by_socket =
        !channel.receives_from_ring() || !channel.sends_to_ring() || channel.waits_for_socket();
    // Behind the cut the socket brings bytes while the ring still holds some.
    const bool edge_by_socket = by_socket || channel.peer_is_leaving();
    std::uint32_t socket_events = member.socket_events & kEnds;
    // The urgent byte travels by the socket alone, also while the ring still has data before it.
    const bool urgent = !by_socket && (member.socket_events & EPOLLPRI) != 0;
    if (urgent) {
      const std::uint32_t still = ask_socket(fd) & EPOLLPRI;
      socket_events |= still;
      if (still == 0) member.socket_events &= ~std::uint32_t{EPOLLPRI};
    }
    if (by_socket) {
      socket_events = ask_socket(fd);
      if (!channel.receives_from_ring() && (socket_events & EPOLLIN) != 0 && !channel.settle(fd)) {
        socket_events &= ~kReadable;
      }
      // We may have taken the cut off the socket, which would have told other sets.
      if (channel.receives_from_ring() &&
          !member.endpoint->managed.load(std::memory_order_relaxed)) {
        moves_pending.store(true, std::memory_order_release);
      }
    }
    if (channel.receives_from_ring()) {
      socket_events &= ~kReadable;
      // A level-triggered registration that its number reaches no more would go on reporting bells.
      const bool drain = member.kernel_edge && (member.kernel_events & EPOLLET) == 0;
      if (channel.has_old_bells() || (socket_events & EPOLLHUP) != 0 || channel.peer_is_leaving() ||
          drain) {
        socket_events |= EPOLLIN;  // readiness() drains the socket
      }
    }
    head = channel.head_seen();
    tail = channel.tail_seen();
    if (report && tail != member.seen_tail) channel.forget_reads();
    state = static_cast<std::uint32_t>(
        static_cast<unsigned short>(channel.readiness(fd, static_cast<short>(socket_events))));
    edge = edge || head != member.seen_head ||
           (tail != member.seen_tail && (state & member.events & kWritable) != 0) ||
           (member.kernel_edge && (edge_by_socket || urgent));
  } else {
    edge = edge || member.kernel_edge;
  }
  const std::uint32_t ends = state & kEnds;
  edge = edge || (ends & ~member.ended) != 0;
  const std::uint32_t wanted = state & (member.events | kAlways);
  if ((member.events & EPOLLET) != 0 && !edge) return 0;
  if (report) member.kernel_edge = false;
  if (wanted == 0) return 0;
  if (report) {
    member.fresh = false;
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
    if (!should_manage(member)) {
      settle_mode(member);  // back in the kernel for good: so is the member, in every set
      moves_pending.store(true, std::memory_order_release);
    }
    if (found != 0) {
      member.rests = 0;
      events[count].events = found;
      events[count++].data.u64 = member.data;
    }
    if (member.disabled || !member.managed) continue;
    if (member.inner != nullptr) {
      if (found != 0) make_hot(member);
      continue;
    }
    if (found == 0 && misses + 1 >= kMissesToCool &&
        hot_count_.load(std::memory_order_relaxed) >= kHotEnough) {
      // Not active lately: let a bell tell.
      member.endpoint->channel.announce((member.events & kReadable) != 0,
                                        (member.events & kWritable) != 0);
      register_again(member);
      if (has_nothing_to_tell(member)) {
        note_room(member);
        continue;
      }
    }
    make_hot(member);
    member.misses = found == 0 ? misses + 1 : 0;
  }
  return count;
}

// Looks at a member whose bell was asked for. The look may take the cut to the ring off the socket:
// while bytes came by the kernel there was no bell to ask for, and nothing else would tell of the
// ring's first bytes.
bool EpollSet::has_nothing_to_tell(Member& member) noexcept {
  for (;;) {
    const bool by_ring =
        member.endpoint != nullptr && member.endpoint->channel.receives_from_ring();
    if (look(member, false) != 0) return false;
    if (member.endpoint == nullptr || member.endpoint->channel.receives_from_ring() == by_ring) {
      return true;
    }
    member.endpoint->channel.announce(true, (member.events & kWritable) != 0);
    register_again(member);
  }
}

// Asks for a bell from every hot member. False if one of them is ready after all.
bool EpollSet::arm_all() noexcept {
  for (Member* at = hot_first_; at != nullptr; at = at->next_hot) {
    if (at->endpoint == nullptr) continue;
    // Without EPOLLIN in the mask the end of the stream is told by the socket's own hang-up, but
    // the peer's shutdown() only by a bell.
    if (at->endpoint->channel.is_established()) {
      at->endpoint->channel.announce(true, (at->events & kWritable) != 0);
    }
    TSSX_FAULT_POINT(epoll_announced);
    register_again(*at);  // a direction that went back to the kernel: EPOLLOUT is the socket's now
  }
  for (Member* at = hot_first_; at != nullptr; at = at->next_hot) {
    if (!has_nothing_to_tell(*at)) return false;
  }
  TSSX_FAULT_POINT(epoll_armed);
  while (hot_first_ != nullptr) {
    Member& member = *hot_first_;
    make_cold(member);
    note_room(member);
    if (is_exclusive_process()) rest(member);
  }
  return true;
}

bool EpollSet::hot_may_be_ready() noexcept {
  LockScope lock(lock_, is_exclusive_process());
  int looks = 0;
  for (Member* at = hot_first_; at != nullptr && looks < 64; at = at->next_hot, ++looks) {
    if (at->endpoint == nullptr) continue;
    const Channel& channel = at->endpoint->channel;
    if (!channel.receives_from_ring()) continue;
    if (channel.may_receive() &&
        ((at->events & EPOLLET) == 0 || at->fresh || channel.head_seen() != at->seen_head)) {
      return true;
    }
    if ((at->events & kWritable) != 0 && channel.may_send() && !channel.waits_for_socket() &&
        ((at->events & EPOLLET) == 0 || channel.tail_seen() != at->seen_tail)) {
      return true;
    }
  }
  return false;
}

// Members whose bells were taken by somebody else are armed no more.
void EpollSet::take_poked() noexcept {
  // acquire: pairs with the push in look_again().
  Member* at = poked_.exchange(nullptr, std::memory_order_acquire);
  while (at != nullptr) {
    Member* next = at->next_poked;
    at->poked.store(false, std::memory_order_release);
    if (at->set == this && at->managed && !at->disabled) make_hot(*at);
    at = next;
  }
}

// The same where it was not known which members are concerned.
void EpollSet::heed(std::uint64_t word) noexcept {
  seen_attention_.store(word, std::memory_order_relaxed);
  for (Member* at = members_; at != nullptr; at = at->next_of_set) {
    if (!at->managed || at->disabled) continue;
    if (at->inner != nullptr || at->endpoint->rung.load(std::memory_order_relaxed)) make_hot(*at);
  }
}

void EpollSet::look_at_all() noexcept {
  LockScope lock(lock_, is_exclusive_process());
  for (Member* at = members_; at != nullptr; at = at->next_of_set) {
    if (at->managed && look(*at, false) != 0) make_hot(*at);
  }
}

// --- from outside ---

bool EpollSet::is_readable_itself() noexcept { return (poll_now(number(), POLLIN) & POLLIN) != 0; }

bool EpollSet::is_ready_inside(std::uint64_t* arrivals) noexcept {
  LockScope lock(lock_, is_exclusive_process());
  const bool drained = drain_front();
  take_poked();
  bool ready = false;
  for (Member* at = hot_first_; at != nullptr;) {
    Member* next = at->next_hot;
    const bool established = at->endpoint != nullptr && at->endpoint->channel.is_established();
    // Also of a member that is ready: whoever waits for edges has to hear of what comes next.
    if (established) at->endpoint->channel.announce(true, (at->events & kWritable) != 0);
    if (at->endpoint != nullptr) register_again(*at);
    if (has_nothing_to_tell(*at) && (!ask_for_room(*at) || has_nothing_to_tell(*at))) {
      make_cold(*at);
    } else {
      ready = true;
      if (established) {
        const Channel& channel = at->endpoint->channel;
        const std::uint64_t moved = channel.head_seen() + channel.tail_seen();
        if (moved != at->outside_head) ++arrivals_;
        at->outside_head = moved;
      }
    }
    at = next;
  }
  if (!ready) ready = is_readable_itself();
  if (arrivals != nullptr) *arrivals = arrivals_;
  // What we took from the front would have woken others as well, and they may not have got so far.
  if (drained && ready &&
      (sleepers_.load(std::memory_order_seq_cst) | watchers_.load(std::memory_order_seq_cst)) !=
          0) {
    kick();
  }
  return ready;
}

}  // namespace tssx
