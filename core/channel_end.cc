// Where a ring ends, when its producer goes back to the kernel.
//
// What the ring holds at that moment and nobody has read must not stay there: the consumer may
// execute another program before it reads on, and by then the producer may be gone as well. So the
// producer sends it by the socket, behind its cut. For that both must agree how far the consumer
// has read, though it may be in the middle of a copy, and need not be in any call of ours.
//
//     producer                                    consumer, with each read
//       asks |= kEnding                               copy bytes
//       fence in all threads (membarrier)           tail := t          (no fence)
//       end: open -> cut at the tail that it sees   asks has kEnding?
//                                                     end: open -> open at t, or
//                                                     cut before t: t was not read after all
//
// Either the producer sees the tail, or the consumer sees kEnding; then the compare-and-swap on
// `end` decides. A read that lost leaves garbage in the application's buffer and returns without
// it. The consumer's freeze() decides by the same word whether a cut may still come.
#include "core/channel.h"

#include <algorithm>

#include "core/channel_detail.h"
#include "core/remote_fence.h"

namespace tssx {

using namespace channel_detail;

namespace {

// A producer that decides does so within a few instructions; it may have lost its processor.
constexpr std::uint64_t kDecisionNs = 50'000'000;
constexpr std::uint32_t kMostHalvings = 16;
// Against a peer that does nothing but change the word.
constexpr int kMostAttempts = 1'000;
// A peer ends its ring once, or a few times if its cut finds no room.
constexpr std::uint32_t kMostLosses = 100;

}  // namespace

// --- the producer; with the sending lock ---

std::uint64_t Channel::unread_in_ring() const noexcept {
  const std::uint64_t unread =
      side_->sending.head.load(relaxed) - out().consumer.tail.load(acquire);
  return unread <= view_.capacity ? unread : 0;  // of nonsense nothing can be told
}

// Decides where the ring ends: at most `most` bytes before its head. False if the consumer froze,
// so that no cut may be sent any more.
bool Channel::end_ring(std::uint64_t most, std::uint64_t* end) noexcept {
  ConsumerLine& line = out().consumer;
  const std::uint64_t head = side_->sending.head.load(relaxed);
  if (most != 0) {
    // Pairs with publish_tail() by way of the fence.
    out().producer.asks.fetch_or(kEnding, seq_cst);
    const SideLine& peer = view_.page->side[1 - static_cast<std::size_t>(role_)];
    fence_everywhere(peer.fenced.load(relaxed) != 0);
  }
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    // acquire: pairs with commit(). First, so that the swap fails if the tail moved by it since.
    std::uint64_t word = line.end.load(acquire);
    if ((word & kEndFrozen) != 0) return false;
    std::uint64_t unread = most;
    for (const std::uint64_t read :
         {line.tail.load(acquire), line.claim.load(acquire), end_position(word)}) {
      unread = std::min(unread, head - read);  // one beyond the head makes it no larger
    }
    // A handler that claims is behind the tail; whoever says less reads what it wrote itself.
    if (head - line.tail.load(acquire) > view_.capacity) unread = 0;
    *end = head - unread;
    const std::uint64_t cut = end_word(*end, (word & kEndCalled) | kEndCut);
    if (line.end.compare_exchange_strong(word, cut, seq_cst)) return true;
  }
  mark_broken();
  *end = head;
  return true;
}

// The cut could not be sent: nothing has ended.
void Channel::go_on_with_ring() noexcept {
  out().consumer.end.fetch_and(~kEndCut, seq_cst);
  out().producer.asks.fetch_and(~kEnding, seq_cst);
}

// Before a cut to the ring: it goes on where it ended. False if the consumer froze.
bool Channel::begin_ring_again() noexcept {
  std::atomic<std::uint64_t>& end = out().consumer.end;
  for (std::uint64_t word = end.load(acquire); (word & (kEndCut | kEndFrozen)) != 0;) {
    if ((word & kEndFrozen) != 0) return false;
    if (end.compare_exchange_strong(word, word & ~kEndCut, seq_cst)) break;
  }
  out().producer.asks.fetch_and(~kEnding, seq_cst);
  const std::uint64_t position = side_->sending.final.load(relaxed);
  side_->sending.head.store(position, relaxed);
  out().producer.head.store(position, release);
  return true;
}

// Before a to_kernel message in a direction that is the kernel's already. False if the consumer
// froze: its next program would read it.
bool Channel::call_peer() noexcept {
  std::atomic<std::uint64_t>& end = out().consumer.end;
  std::uint64_t word = end.load(acquire);
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    if ((word & kEndFrozen) != 0) return false;
    if (end.compare_exchange_strong(word, word | kEndCalled, seq_cst)) return true;
  }
  return false;
}

// --- the consumer; with the receiving lock ---

// The bytes before `tail` were copied, the peer is about to end the ring. Returns `tail` if they
// count as read; otherwise where the ring has ended, and what lies behind comes by the socket.
std::uint64_t Channel::commit(std::uint64_t tail) noexcept {
  ConsumerLine& line = in().consumer;
  std::uint64_t word = line.end.load(acquire);
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    if ((word & kEndCut) != 0) {
      const std::uint64_t end = end_position(word);
      if (tail - end - 1 >= view_.capacity) return tail;  // not beyond the end
      side_->receiving.tail.store(end, relaxed);
      line.tail.store(end, release);
      line.claim.store(end, relaxed);
      side_->receiving.fenced_tail = end;
      return end;
    }
    // seq_cst: pairs with the one in end_ring(); of two that decide at once one sees the other.
    if (line.end.compare_exchange_strong(word, end_word(tail, word & kEndBits), seq_cst))
      return tail;
  }
  mark_broken();
  return tail;
}

// The same for a read in a handler, from `start` to `tail`, which interrupted another: that one
// will publish, and still copies what lies before.
std::uint64_t Channel::commit_nested(std::uint64_t start, std::uint64_t tail) noexcept {
  ConsumerLine& line = in().consumer;
  // Full fence: then either end_ring() sees the claim, or we see that it asks.
  line.claim.exchange(tail, seq_cst);
  if ((in().producer.asks.load(relaxed) & kEnding) == 0) return tail;
  std::uint64_t word = line.end.load(acquire);
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    if ((word & kEndCut) != 0) {
      std::uint64_t end = end_position(word);
      if (tail - end - 1 >= view_.capacity) return tail;
      // The interrupted read will find out by itself that it lost.
      if (tail - end > tail - start) end = start;
      side_->receiving.tail.store(end, relaxed);
      line.claim.store(end, relaxed);
      return end;
    }
    if (line.end.compare_exchange_strong(word, end_word(tail, word & kEndBits), seq_cst))
      return tail;
  }
  mark_broken();
  return tail;
}

// Where the peer has set its head back to the end, while what was claimed here lies behind it.
// Otherwise a head that makes no sense: false, and the connection is broken.
bool Channel::ended_before(std::uint64_t tail) noexcept {
  const std::uint64_t word = in().consumer.end.load(acquire);
  if ((in().producer.asks.load(relaxed) & kEnding) != 0 && (word & kEndCut) != 0 &&
      tail - end_position(word) - 1 < view_.capacity) {
    return true;
  }
  mark_broken();
  return false;
}

// A read from `start` on went beyond the end of the ring. What lies behind it comes by the socket;
// all of it, where `start` was the claim of a reader that died. Status::kernel: to be tried again.
Outcome Channel::lost(int fd, std::uint64_t start, std::uint64_t end) noexcept {
  if (end - start - 1 < view_.capacity) {
    return {Status::done, static_cast<std::size_t>(end - start)};
  }
  return {await_cut(fd) ? Status::kernel : Status::would_block};
}

// The ring has ended where we are, but the peer has yet to send what lies behind: a matter of
// microseconds, in which a reader must not be told that there is nothing. False if it takes longer:
// then the next one waits half as long, as such a peer is stopped, or hostile.
bool Channel::await_cut(int fd) noexcept {
  auto& receiving = side_->receiving;
  if (++losses_ % kMostLosses == 0) return false;
  const std::uint64_t deadline =
      sys::now_ns() + (kDecisionNs >> std::min(awaited_in_vain_, kMostHalvings));
  for (;;) {
    const std::uint64_t tail = receiving.tail.load(relaxed);
    if (!receives_from_ring()) return true;
    if (receiving.cut.load(relaxed) != 0 && receiving.final.load(relaxed) == tail) {
      finish_cut(fd);
      return true;
    }
    // acquire: the peer sets its head back when all of it is on the socket.
    const std::uint64_t unread = in().producer.head.load(acquire) - tail;
    std::uint64_t word = in().consumer.end.load(acquire);
    if (unread - 1 >= view_.capacity || (word & kEndCut) == 0 ||
        end_position(word) - tail - 1 < view_.capacity) {
      return true;
    }
    poll_hang_up(fd);
    const bool gone = side_->state.hung_up.load(relaxed) != 0;
    if (gone) {
      look_at_socket(fd, Notices::take_all);
      if (receiving.cut.load(relaxed) == 0 && receives_from_ring()) {
        // It died before its cut, so the ring has everything.
        in().consumer.end.fetch_and(~kEndCut, seq_cst);
      }
    }
    if (sys::now_ns() > deadline) {
      if (gone) {
        mark_broken();  // its cut was another one, or it still writes to the segment
        return true;
      }
      ++awaited_in_vain_;
      knock(fd);
      return false;
    }
    sys::sched_yield();
  }
}

// The peer sets its head back to where the ring ended when all that lay behind has gone by the
// socket, which brings that first. So who was killed before left the rest where it was.
bool Channel::takes_rest_from_ring(int fd) noexcept {
  auto& receiving = side_->receiving;
  // Threads that read by the kernel for good don't count together.
  if (view_.page == nullptr || receiving.cut.load(relaxed) == 0 || is_plain() ||
      (is_back() && !is_exclusive())) {
    return false;
  }
  LockScope lock(receiving.lock, is_exclusive());
  if (lock.hold() == Hold::nested || receives_from_ring() || receiving.cut.load(relaxed) == 0 ||
      receiving.shut.load(relaxed) != 0) {
    return false;
  }
  const std::uint64_t position =
      receiving.final.load(relaxed) + receiving.kernel_bytes - receiving.bytes_at_cut;
  const std::uint64_t rest = in().producer.head.load(acquire) - position;
  if (rest - 1 >= view_.capacity || !nothing_to_read(fd)) return false;
  poll_hang_up(fd);
  if (side_->state.hung_up.load(relaxed) == 0) return false;
  in().consumer.end.fetch_and(~kEndCut, seq_cst);
  receiving.tail.store(position, relaxed);
  receiving.fenced_tail = position;
  receiving.cut.store(0, relaxed);
  receiving.mode.store(word_of(Mode::ring), release);
  return true;
}

// The peer's process may have been killed before it had sent that, and another one that shares its
// end be asleep. Whoever has asked for a bell gets it, and goes on with what was begun
// (help_sending()).
void Channel::knock(int fd) noexcept {
  {
    LockScope lock(side_->sending.lock, is_exclusive());
    if (lock.hold() == Hold::nested) return;
    if (sends_to_ring()) ring_for_data(fd);
  }
  ring_for_space(fd);
}

// The last step of freeze(): from here on the peer sends no message of ours, or it has been read.
void Channel::freeze_end(int fd) noexcept {
  auto& receiving = side_->receiving;
  std::atomic<std::uint64_t>& end = in().consumer.end;
  const std::uint64_t deadline = sys::now_ns() + kDecisionNs;
  for (std::uint64_t word = end.load(acquire);;) {
    const bool in_ring = receives_from_ring() && receiving.cut.load(relaxed) == 0;
    const bool coming = (in_ring && (word & kEndCut) != 0) ||
                        ((word & kEndCalled) != 0 && receiving.called.load(relaxed) == 0);
    if (!coming) {
      const std::uint64_t bits = (word & kEndBits) | kEndFrozen;
      const std::uint64_t position = in_ring ? receiving.tail.load(relaxed) : end_position(word);
      if (end.compare_exchange_strong(word, end_word(position, bits), seq_cst)) return;
      continue;
    }
    if (receives_from_ring()) {
      look_at_socket(fd, Notices::take_all);
    } else {
      settle_locked(fd, Notices::take_all);
    }
    if (side_->state.hung_up.load(relaxed) != 0 || sys::now_ns() > deadline) return;
    word = end.load(acquire);
    sys::sched_yield();
  }
}

}  // namespace tssx
