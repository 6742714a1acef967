// What is ready: the looks at the rings of a set's members.

#include "core/channel.h"
#include "core/sys.h"
#include "shim/endpoint.h"
#include "shim/epoll_set.h"
#include "shim/real.h"

namespace tssx {
namespace {

constexpr std::uint32_t kMissesToCool = 4;
constexpr std::uint32_t kHotEnough = 32;

}  // namespace

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

}  // namespace tssx
