// Edges of room: EPOLLOUT with EPOLLET, for whoever has room already.
//
// The kernel tells that edge with every message that is read while a quarter of the buffer or less
// is in use (unix_write_space() of net/unix/af_unix.c). A bell with every read would cost what the
// ring saves, and nearly every program that asks for these edges has no use for them: it registers
// for all there is (IN, OUT, RDHUP, ET), writes a request, sleeps, and is woken by the answer. So a
// thread that goes to sleep while a ring still holds bytes of ours sleeps for a short time only,
// and looks. If nothing was read by then, it asks for a bell with the next read, sleeps for a short
// time once more (the reader makes no fence), and then without end.
//
//   note_room()        a member becomes cold: lists it if its ring holds bytes of ours; if not, the
//                      next write of them is to tell the set (note_write())
//   look_after_room()  visits what is due
//   room_bound()       how long a thread may sleep
//
// A thread that is asleep already when another one writes is woken, unless it will wake before
// long. Once woken for that it does so for a while, which spares the writers a system call each.
//
// Thread safety: the set's lock, but for tell_write(), which waits for none.

#include <algorithm>

#include "core/channel.h"
#include "core/sys.h"
#include "shim/endpoint.h"
#include "shim/epoll_set.h"

namespace tssx {
namespace {

constexpr std::uint64_t kRoomLookNs = 2'000'000;
constexpr std::uint64_t kQuietLookNs = 10'000'000;

// Bytes to be read, or read since the last report. In this order: what is read between the two
// questions is seen by the second.
bool has_news_to_come(const Member& member) noexcept {
  const Channel& channel = member.endpoint->channel;
  return channel.bytes_unread() != 0 || channel.tail_seen() != member.seen_tail;
}

}  // namespace

bool EpollSet::wants_room_edges(const Member& member) noexcept {
  return (member.events & EPOLLET) != 0 && (member.events & kWritable) != 0 &&
         member.endpoint != nullptr && member.managed && !member.disabled &&
         member.endpoint->channel.sends_to_ring();
}

void EpollSet::note_room(Member& member) noexcept {
  if (!wants_room_edges(member) || member.awaits_room) return;
  if (!has_news_to_come(member)) {
    // seq_cst, and then a look: against the write, which looks at this flag after its bytes.
    member.endpoint->tells_writes.store(true, std::memory_order_seq_cst);
    if (!has_news_to_come(member)) return;
  }
  // With more than half of the ring in use there is no room yet, and a bell will tell of it.
  if (!member.endpoint->channel.may_send()) return;
  member.awaits_room = true;
  member.asked_for_reads = false;
  member.room_due = sys::now_ns() + kRoomLookNs;
  member.next_room = nullptr;
  member.previous_room = room_last_;
  if (room_last_ != nullptr) {
    room_last_->next_room = &member;
  } else {
    room_first_.store(&member, std::memory_order_relaxed);
  }
  room_last_ = &member;
}

void EpollSet::drop_room(Member& member) noexcept {
  if (!member.awaits_room) return;
  member.awaits_room = false;
  if (member.previous_room != nullptr) {
    member.previous_room->next_room = member.next_room;
  } else {
    room_first_.store(member.next_room, std::memory_order_relaxed);
  }
  (member.next_room != nullptr ? member.next_room->previous_room : room_last_) =
      member.previous_room;
}

// What was read meanwhile makes its member hot: of members that are due, or of all. Not locked.
void EpollSet::look_after_room(bool all) noexcept {
  // relaxed: what this thread has to see was done by itself, or comes with a kick.
  if (wrote_.load(std::memory_order_relaxed)) {
    wrote_.store(false, std::memory_order_relaxed);
    quiet_looks_.store(0, std::memory_order_relaxed);
  }
  if (room_first_.load(std::memory_order_relaxed) == nullptr) return;
  const std::uint64_t now = sys::now_ns();
  LockScope lock(lock_, is_exclusive_process());
  Member* next = room_first_.load(std::memory_order_relaxed);
  while (next != nullptr && (all || next->room_due <= now)) {
    Member* member = next;
    next = member->next_room;
    const bool asked = member->asked_for_reads;
    if (member->room_due > now) {
      if (member->endpoint->channel.tail_seen() != member->seen_tail) make_hot(*member);
      continue;
    }
    drop_room(*member);
    if (!member->managed || member->disabled) continue;
    Channel& channel = member->endpoint->channel;
    // Not for what was read already: the bell would come with the next request's read.
    if (!asked && channel.tail_seen() == member->seen_tail) channel.ask_for_reads();
    if (!channel.sends_to_ring() || channel.tail_seen() != member->seen_tail) {
      make_hot(*member);
    } else if (!asked) {
      note_room(*member);
      member->asked_for_reads = true;
    }
  }
}

// Nanoseconds until the next look, kForever if none is due. Locked.
std::uint64_t EpollSet::room_bound() const noexcept {
  std::uint64_t bound = kForever;
  if (!is_exclusive_process() && quiet_looks_.load(std::memory_order_relaxed) < kQuietForGood) {
    bound = kQuietLookNs;
  }
  if (const Member* member = room_first_.load(std::memory_order_relaxed); member != nullptr) {
    const std::uint64_t now = sys::now_ns();
    bound = std::min(bound, member->room_due > now ? member->room_due - now : 0);
  }
  return bound;
}

bool EpollSet::has_room_to_watch() const noexcept {
  return room_first_.load(std::memory_order_relaxed) != nullptr ||
         poked_.load(std::memory_order_seq_cst) != nullptr;
}

// For who waits for the set from outside, and does not come back to look: asks for a bell with the
// next read at once. True if it did, and the caller has to look again.
bool EpollSet::ask_for_room(Member& member) noexcept {
  if (!wants_room_edges(member)) return false;
  Channel& channel = member.endpoint->channel;
  if (!has_news_to_come(member)) {
    member.endpoint->tells_writes.store(true, std::memory_order_seq_cst);
    if (!has_news_to_come(member)) return false;
  }
  if (!channel.may_send()) return false;
  channel.ask_for_reads();
  // The reader makes no fence between its tail and its look at what we asked for; but no store
  // stays in a processor's buffer for as long as a system call takes.
  sys::sched_yield();
  return true;
}

void tell_write(Endpoint& endpoint) noexcept {
  if (!endpoint.tells_writes.exchange(false, std::memory_order_seq_cst)) return;
  if (!endpoint.members_lock.try_acquire()) {
    // Somebody is changing the list; it may be ourselves, further up the stack.
    endpoint.rung.store(true, std::memory_order_relaxed);
    poke_all();
    return;
  }
  for (Member* at = endpoint.members.load(std::memory_order_relaxed); at != nullptr;
       at = at->next_of_owner) {
    EpollSet& set = *at->set;
    push_poked(*at);
    set.wrote_.store(true, std::memory_order_relaxed);
    // seq_cst, as in poke(). Who wakes before long comes upon the member by itself.
    const bool asleep = set.sleepers_.load(std::memory_order_seq_cst) != 0 &&
                        set.soon_.load(std::memory_order_seq_cst) == 0;
    if (asleep || set.front() >= 0) set.nudge();
  }
  endpoint.members_lock.release();
}

}  // namespace tssx
