#include "core/channel.h"

#include <errno.h>

#include "core/channel_detail.h"
#include "core/fault_point.h"
#include "core/presence.h"
#include "core/send_room.h"

namespace tssx {

using namespace channel_detail;

namespace {

constexpr std::uint64_t kFarewellNs = 50'000'000;
constexpr std::uint64_t kRefusalNs = 200'000;
// Who hands an end on waits a second, if need be, until what is unread finds room on the socket.
constexpr long kNapNs = 1'000'000;
constexpr int kMostNaps = 1'000;
// A peer that reads nothing for so long, or little for longer, is not waited for.
constexpr std::uint64_t kSilenceNs = 1'000'000'000;
constexpr std::uint64_t kHandOnNs = 5'000'000'000;

}  // namespace

// --- the peer leaves ---

void Channel::note_cut(int fd) noexcept {
  count_notice(true);
  if (has_too_many_notices()) {
    mark_broken();
    return;
  }
  // The peer decided where the ring ends before it sent the cut, and the kernel's queue orders
  // both.
  side_->receiving.final.store(end_position(in().consumer.end.load(acquire)), relaxed);
  side_->receiving.cut.store(1, release);
  TSSX_FAULT_POINT(leave_cut_noted);
  if (side_->receiving.final.load(relaxed) == side_->receiving.tail.load(relaxed)) finish_cut(fd);
  answer_freeze(fd);
}

// The peer executed another program, which can read what we wrote only from the socket. It may be
// waiting for just that, so don't wait for our next send.
void Channel::answer_freeze(int fd) noexcept {
  if (!sends_to_ring() || (out().data_wait.word.load(acquire) & kFrozen) == 0) return;
  LockScope lock(side_->sending.lock, is_exclusive());
  if (lock.hold() != Hold::nested && sends_to_ring()) resend_by_kernel(fd);
}

void Channel::follow_leaver(int fd) noexcept {
  if (view_.page == nullptr || is_plain()) return;
  const LockScope lock(side_->receiving.lock, false);
  answer_freeze(fd);
}

void Channel::finish_cut(int fd) noexcept {
  // The peer's next bytes would come by the kernel, which has to refuse them.
  if (side_->receiving.shut.load(relaxed) != 0) sys::call(SYS_shutdown, fd, SHUT_RD);
  side_->receiving.bytes_at_cut = side_->receiving.kernel_bytes;
  side_->receiving.mode.store(word_of(Mode::kernel), release);
  TSSX_FAULT_POINT(kernel_entered);
  in().consumer.mode.store(word_of(Mode::kernel), release);
  // What the peer sent again we will not read from the ring: who waits there for room asks the
  // socket now.
  if ((in().space_wait.word.load(relaxed) & kWaiting) != 0) ring_for_space(fd);
  // It has not sent again all of it: who was to do that may have been killed, and others of the
  // peer's be asleep. acquire: pairs with send_rest().
  if (in().producer.head.load(acquire) != side_->receiving.final.load(relaxed)) knock(fd);
  // Our own direction follows with our next send, which sees kWantKernel.
  note_plain(fd);
}

// --- we leave ---

// From here on this direction stays with the kernel, and the peer knows.
void Channel::stay_in_kernel(int fd) noexcept {
  out().producer.flags.fetch_or(kStays, seq_cst);
  TSSX_FAULT_POINT(stay_told);
  note_retired(fd);
}

bool Channel::leave_ring_locked(int fd, Leave how) noexcept {
  auto& sending = side_->sending;
  const SignalsBlocked blocked;
  if (sending.unfinished.load(relaxed) != 0) {
    finish_sending(fd);
    if (sending.unfinished.load(relaxed) != 0 && sends_to_ring()) return false;
  }
  // Who follows a peer that left for good need not hope either.
  if (how == Leave::aside && (in().producer.flags.load(acquire) & kStays) != 0) {
    how = Leave::for_good;
  }
  if (!sends_to_ring()) {
    // No byte of ours is in the ring, so no cut is needed: the peer reads on where it reads.
    if (sending.left.exchange(1, relaxed) == 0) sending.bytes_at_cut = ~std::uint64_t{0};
    in().data_wait.word.fetch_or(kWantKernel, seq_cst);
    if (how != Leave::aside) stay_in_kernel(fd);
    return true;
  }
  // We interrupted publish_head() in a handler: its bytes are complete, and come before ours.
  if (const std::uint64_t head = publishing_;
      head != 0 && head - sending.head.load(relaxed) <= view_.capacity) {
    sending.head.store(head, relaxed);
    out().producer.head.exchange(head, seq_cst);
    publishing_ = 0;
  }
  const std::uint32_t word = out().data_wait.word.load(acquire);
  if ((word & kFrozen) != 0) {
    resend_by_kernel(fd);
    return true;
  }
  // What the peer has not read goes again by the socket, behind the cut: it may leave the ring
  // itself before it reads on. Who shut his end for reading can't get it there. In a move for a
  // while it has to be quick, and what has no room can stay: the peer reads it in the ring, unless
  // it leaves before that.
  const SideLine& peer = view_.page->side[1 - static_cast<std::size_t>(role_)];
  const bool again = (word & kShut) == 0 && (how != Leave::aside || peer.fenced.load(relaxed) != 0);
  const SendRoom room(fd, again ? unread_in_ring() : 0);
  std::uint64_t most = again ? unread_in_ring() : 0;
  for (int naps = 0; most != 0 && room.fits() < most; most = unread_in_ring()) {
    if (how != Leave::to_others || ++naps > kMostNaps) {
      most = room.fits();
      break;
    }
    const timespec nap{0, kNapNs};
    sys::poll(nullptr, 0, &nap);
  }
  const std::uint64_t head = sending.head.load(relaxed);
  std::uint64_t end = head;
  sending.unfinished.store(kLeaving, release);
  if (!end_ring(most, &end)) {
    sending.unfinished.store(0, relaxed);
    resend_by_kernel(fd);
    return true;
  }
  const int failed = announce_cut(fd);
  // Data must not follow a cut that was not sent; a peer that is gone reads neither.
  if (failed != 0 && failed != -EPIPE && failed != -ECONNRESET) {
    go_on_with_ring();
    sending.unfinished.store(failed == -EAGAIN ? std::uint32_t{kAwaitingRoom} : 0, relaxed);
    return false;
  }
  TSSX_FAULT_POINT(leave_cut_sent);
  send_behind_cut(fd, how, end, end, failed != 0);
  return true;
}

// The end of the ring is decided. 0, or -errno of the cut.
int Channel::announce_cut(int fd) noexcept {
  // A receiver that does not read the socket while the ring keeps it busy sees it here.
  out().producer.mode.store(word_of(Mode::kernel), relaxed);
  TSSX_FAULT_POINT(leave_announced);
  // Before the cut: whoever finds our direction in the kernel knows that its own must follow.
  in().data_wait.word.fetch_or(kWantKernel, seq_cst);
  TSSX_FAULT_POINT(leave_wanted);
  const int failed = send_token(fd, TokenKind::to_kernel, nonce_);
  // Without a token any open descriptor marks the cut: in the ring nothing else carries one.
  return failed != 0 && failed != -EAGAIN ? send_with_descriptor(fd, fd) : failed;
}

// What the ring holds from `end` on goes by the socket, behind the cut; before `position` it has.
void Channel::send_behind_cut(int fd, Leave how, std::uint64_t end, std::uint64_t position,
                              bool peer_is_gone) noexcept {
  auto& sending = side_->sending;
  if (peer_is_gone) end = position = sending.head.load(relaxed);
  sending.bytes_at_cut = sending.kernel_bytes;
  enter_kernel(fd, how, end, position);
}

// The consumer's tail is final (kFrozen): what lies behind it goes by the socket, which from now on
// carries nothing but data. Called with the sending lock held.
void Channel::resend_by_kernel(int fd) noexcept {
  // A handler that leaves must not find it half done.
  const SignalsBlocked blocked;
  auto& sending = side_->sending;
  if (sending.unfinished.load(relaxed) != 0) finish_sending(fd);
  if (!sends_to_ring()) return;
  const std::uint64_t head = sending.head.load(relaxed);
  std::uint64_t unread = unread_in_ring();
  // A handler's freeze may be beyond what the read that it interrupted has published.
  const std::uint64_t word = out().consumer.end.load(acquire);
  if ((word & kEndFrozen) != 0) unread = std::min(unread, head - end_position(word));
  finish_resending(fd, head - unread);
}

// What lies in the ring from `position` on, to a peer that froze.
void Channel::finish_resending(int fd, std::uint64_t position) noexcept {
  in().data_wait.word.fetch_or(kWantKernel, seq_cst);
  out().producer.mode.store(word_of(Mode::kernel), relaxed);
  enter_kernel(fd, Leave::for_good, side_->sending.head.load(relaxed), position);
}

// By the socket, what lies in the ring there, as far as there is room.
Channel::Sent Channel::send_again(int fd, std::uint64_t position, std::uint64_t head) noexcept {
  auto& sending = side_->sending;
  while (position != head) {
    const std::uint64_t offset = position & (view_.capacity - 1);
    const std::uint64_t size = std::min(head - position, view_.capacity - offset);
    TSSX_FAULT_POINT(resending);
    sending.unfinished.store(kSendingPart, release);
    const long sent = sys::send(fd, out_data() + offset, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      position += static_cast<std::uint64_t>(sent);
      sending.sent_again.store(position, release);
    }
    sending.unfinished.store(kSendingAgain, release);
    if (sent == -ECONNRESET) {
      // The kernel tells that once, and this was no call of the application's.
      side_->state.reset.store(1, relaxed);
      side_->state.hung_up.store(1, release);
    }
    if (sent == -EPIPE || sent == -ECONNRESET) return Sent::nowhere;
    if (sent <= 0) return Sent::part;  // the reader has a full queue before it, or memory is short
  }
  return Sent::all;
}

// This direction runs by the kernel from here on. The ring ended at `end`; what it holds from
// `position` on goes first, and stays until there is room for it.
void Channel::enter_kernel(int fd, Leave how, std::uint64_t end, std::uint64_t position) noexcept {
  auto& sending = side_->sending;
  sending.sent_again.store(position, relaxed);
  sending.final.store(end, relaxed);
  sending.unfinished.store(kSendingAgain, release);
  sending.left.store(1, relaxed);
  sending.calm = 0;
  TSSX_FAULT_POINT(leave_counted);
  sending.mode.store(word_of(Mode::kernel), release);
  TSSX_FAULT_POINT(leave_noted);
  if (how != Leave::aside) stay_in_kernel(fd);
  send_rest(fd);
}

// With the sending lock, and no handler of this thread in between.
void Channel::send_rest(int fd) noexcept {
  auto& sending = side_->sending;
  const std::uint64_t head = sending.head.load(relaxed);
  const std::uint64_t end = sending.final.load(relaxed);
  std::uint64_t position = sending.sent_again.load(relaxed);
  if (head - position > view_.capacity) position = head;
  Sent sent = Sent::all;
  if (position != head) {
    const SendRoom room(fd, head - position);
    sent = send_again(fd, position, head);
  }
  if (sent == Sent::part) return;
  TSSX_FAULT_POINT(resent);
  if (sent == Sent::nowhere) {
    sending.final.store(head, relaxed);
    // A socket that is closed with bytes unread is reset, and to the kernel these would be there.
    poll_hang_up(fd);
    if (side_->state.hung_up.load(relaxed) != 0 && !is_only_shut()) {
      side_->state.reset.store(1, relaxed);
    }
  } else if (end != head) {
    sending.kernel_bytes += head - end;
    // Last: a reader that waits for what it may no longer take from the ring finds it now. release:
    // after the mode, by which it knows that this is no end.
    out().producer.head.store(end, release);
  }
  sending.unfinished.store(0, relaxed);
  // An end that was told in the ring is told there.
  if (sending.fin.load(relaxed) != 0) sys::call(SYS_shutdown, fd, SHUT_WR);
  note_plain(fd);
}

// Nothing must follow a hole in the stream: then the connection has ended.
void Channel::drop_rest(int fd) noexcept {
  mark_broken();
  sys::call(SYS_shutdown, fd, SHUT_RDWR);
  side_->sending.unfinished.store(0, relaxed);
}

// The next holder of this end knows nothing of it. With both locks.
void Channel::wait_to_hand_on(int fd) noexcept {
  const std::uint64_t deadline = sys::now_ns() + kHandOnNs;
  std::uint64_t position = side_->sending.sent_again.load(relaxed);
  for (std::uint64_t moved = sys::now_ns(); has_rest();) {
    // Memory may be short where there is room, so no wait for that.
    const timespec nap{0, kNapNs};
    sys::poll(nullptr, 0, &nap);
    finish_sending(fd);
    const std::uint64_t now = sys::now_ns();
    const std::uint64_t sent = side_->sending.sent_again.load(relaxed);
    if (sent != position) moved = now;
    position = sent;
    if (has_rest() && (now >= deadline || now - moved >= kSilenceNs)) drop_rest(fd);
  }
}

void Channel::finish_with_leaver(int fd, std::uint64_t nanoseconds) noexcept {
  {
    const LockScope lock(side_->receiving.lock, is_exclusive());
    if (lock.hold() == Hold::nested) return;
    answer_freeze(fd);
    if (receives_from_ring()) {
      look_at_socket(fd, Notices::take_all);
    } else {
      settle_locked(fd, Notices::take_all);
    }
  }
  const std::uint64_t deadline = sys::now_ns() + nanoseconds;
  for (help_sending(fd); has_rest() && sys::now_ns() < deadline; help_sending(fd)) {
    const timespec nap{0, kNapNs};
    sys::poll(nullptr, 0, &nap);
  }
}

// A connection that has not moved: what is under way of ours is taken out.
void Channel::refuse(int fd) noexcept {
  set_phase(Phase::retired);  // an offer that is in front of the queue is dropped
  TSSX_FAULT_POINT(refusing);
  if (role_ == Role::server) {
    note_plain(fd);
    return;
  }
  settle_locked(fd, Notices::take_all);
  if (view_.page != nullptr) return;
  // The offer might still come, also to an end that retired before, and the next program would take
  // it for data. A server asks for our presence before it offers; one that is at it this very
  // moment gets a moment to finish.
  revoke_presence();
  const std::uint64_t deadline = sys::now_ns() + kRefusalNs;
  do {
    sys::sched_yield();
    settle_locked(fd, Notices::take_all);
  } while (sys::now_ns() < deadline);
}

void Channel::freeze(int fd) noexcept {
  if (is_plain()) return;
  auto& receiving = side_->receiving;
  LockScope reading(receiving.lock, false);
  TSSX_FAULT_POINT(freeze_locked);
  LockScope writing(side_->sending.lock, false);
  if (writing.hold() != Hold::nested) finish_sending(fd);
  if (reading.hold() != Hold::nested) finish_receiving(fd);
  if (phase() == Phase::offered) withdraw();
  // Where our direction was in the ring, the peer's messages may lie unread (is_retired()).
  if (view_.page == nullptr || (phase() != Phase::established && !receives_from_ring() &&
                                !sends_to_ring() && side_->sending.left.load(relaxed) == 0)) {
    refuse(fd);
    return;
  }
  if ((in().data_wait.word.load(relaxed) & kFrozen) != 0) {
    if (receiving.unfinished.load(relaxed) == kFreezing &&
        (in().consumer.end.load(acquire) & kEndFrozen) == 0) {
      freeze_end(fd);
    }
    return;
  }
  if (!receives_from_ring()) {
    // From here on the peer will not cut its direction to the ring; but it may have begun to.
    // seq_cst on both: pairs with those in cut_to_ring().
    in().data_wait.word.fetch_or(kWantKernel | kFrozen, seq_cst);
    const std::uint64_t patience = sys::now_ns() + kFarewellNs;
    settle_locked(fd, Notices::take_all);
    while (!receives_from_ring() && in().producer.mode.load(seq_cst) == word_of(Mode::ring) &&
           side_->state.hung_up.load(relaxed) == 0 && sys::now_ns() < patience) {
      sys::sched_yield();
      settle_locked(fd, Notices::take_all);
    }
  }
  // Once frozen, the socket carries data. So every bell must have come before: wait for what the
  // peer had claimed already, and take back what was asked for.
  TSSX_FAULT_POINT(freezing);
  auto& state = side_->state;
  auto& waiting = in().data_wait.word;
  if ((out().space_wait.word.fetch_and(~kWaiting, seq_cst) & kWaiting) != 0) {
    state.bells_asked.fetch_sub(1, relaxed);
  }
  TSSX_FAULT_POINT(freeze_unasked);
  const std::uint64_t deadline = sys::now_ns() + kFarewellNs;
  for (;;) {
    // Of a freeze that a killed process had begun the peer may know already.
    const bool bells_come = receives_from_ring() && receiving.cut.load(relaxed) == 0 &&
                            (in().consumer.end.load(acquire) & kEndFrozen) == 0;
    if (bells_come) look_at_socket(fd, Notices::take_all);
    std::uint32_t word = waiting.load(seq_cst);
    const std::uint64_t unclaimed = (word & kWaiting) != 0 ? 1 : 0;
    if (bells_come && receiving.cut.load(relaxed) == 0 &&
        state.bells_heard.load(relaxed) + unclaimed < state.bells_asked.load(relaxed) &&
        state.hung_up.load(relaxed) == 0 && sys::now_ns() <= deadline) {
      sys::sched_yield();
      continue;
    }
    TSSX_FAULT_POINT(freeze_waited);
    if (freeze_now(fd, word, reading.hold() == Hold::nested)) {
      state.bells_asked.fetch_sub(unclaimed, relaxed);
      return;
    }
  }
}

// The last steps of freeze(), with what it found in the word that the peer claims bells from. False
// if a bell was claimed meanwhile, which is still to come.
bool Channel::freeze_now(int fd, std::uint32_t word, bool nested) noexcept {
  const SignalsBlocked blocked;
  auto& receiving = side_->receiving;
  auto& waiting = in().data_wait.word;
  receiving.unfinished.store(kFreezing, release);
  const std::uint64_t outer = resuming_;
  resuming_ = thread_token();
  // Where we interrupted a read of our own thread, only the end of the ring says what it had
  // claimed, so the peer must find that when it sees kFrozen.
  if (nested) {
    if ((word & kWaiting) != 0 &&
        !waiting.compare_exchange_strong(word, word & ~kWaiting, seq_cst)) {
      receiving.unfinished.store(0, relaxed);
      resuming_ = outer;
      return false;
    }
    freeze_end(fd);
    resuming_ = outer;
    waiting.fetch_or(kWantKernel | kFrozen, seq_cst);
    return true;
  }
  // What a handler took while its own thread held the lock, or a reader that died had claimed.
  if (const std::uint64_t tail = receiving.tail.load(relaxed);
      receives_from_ring() && in().consumer.tail.load(relaxed) != tail) {
    publish_tail(fd, tail, tail);
  }
  // In one step: whoever else sleeps here is rung for until the peer knows that this end leaves.
  if (!waiting.compare_exchange_strong(word, (word & ~kWaiting) | kWantKernel | kFrozen, seq_cst)) {
    receiving.unfinished.store(0, relaxed);
    resuming_ = outer;
    return false;
  }
  freeze_end(fd);
  resuming_ = outer;
  return true;
}

void Channel::leave_for_good(int fd) noexcept {
  freeze(fd);
  if (is_plain()) return;
  auto& receiving = side_->receiving;
  LockScope reading(receiving.lock, false);
  LockScope writing(side_->sending.lock, false);
  if (view_.page == nullptr || (in().data_wait.word.load(relaxed) & kFrozen) == 0) {
    return;
  }
  TSSX_FAULT_POINT(frozen);
  // The peer has to send again what we leave in the ring, and may be asleep: the cut wakes it.
  // Where our direction is with the kernel already, so does a cut that changes nothing.
  // A peer that has left the ring itself sends nothing again, and may take it for data.
  const bool resend =
      receives_from_ring() && receiving.cut.load(relaxed) == 0 && !peer_is_leaving();
  const std::uint64_t deadline = sys::now_ns() + kFarewellNs;
  if (sends_to_ring()) {
    while (!leave_ring_locked(fd, Leave::to_others) && sys::now_ns() < deadline) sys::sched_yield();
  } else if (resend && !has_rest() && call_peer()) {
    // Nothing in its place, unlike announce_cut(): to who reads by the kernel any other descriptor
    // is the application's.
    send_token(fd, TokenKind::to_kernel, nonce_);
  }
  wait_to_hand_on(fd);
  TSSX_FAULT_POINT(farewell_cut_sent);
  // An end that was told in the ring: the peer need not do anything more, by which it would tell it
  // here. To the kernel our SHUT_RD is the peer's SHUT_WR (unix_shutdown()).
  if (resend && (in().producer.flags.load(seq_cst) & kFin) != 0 &&
      in().producer.head.load(acquire) == receiving.tail.load(relaxed)) {
    sys::call(SYS_shutdown, fd, SHUT_RD);
  }
  receiving.cut.store(1, relaxed);
  receiving.mode.store(word_of(Mode::kernel), release);
  asleep.spoil();
  in().consumer.mode.store(word_of(Mode::kernel), relaxed);
  receiving.unfinished.store(0, relaxed);
  TSSX_FAULT_POINT(farewell_received);
  side_->sending.left.store(1, relaxed);
  side_->sending.mode.store(word_of(Mode::kernel), release);
  side_->sending.unfinished.store(0, relaxed);
  stay_in_kernel(fd);
  TSSX_FAULT_POINT(farewell_told);
  stop_looking();
}

bool Channel::leave_ring(int fd) noexcept {
  LockScope lock(side_->sending.lock, is_exclusive());
  if (view_.page == nullptr) return true;
  if (lock.hold() != Hold::nested) finish_sending(fd);
  if (phase() == Phase::offered) withdraw();
  if (phase() != Phase::established) return true;
  return leave_ring_locked(fd, Leave::for_good);
}

void Channel::step_aside(int fd) noexcept {
  LockScope lock(side_->sending.lock, is_exclusive());
  TSSX_FAULT_POINT(aside_locked);
  if (lock.hold() != Hold::nested) finish_sending(fd);
  if (sends_to_ring()) leave_ring_locked(fd, Leave::aside);
}

void Channel::retire(int fd) noexcept {
  LockScope lock(side_->sending.lock, is_exclusive());
  if (lock.hold() != Hold::nested) finish_sending(fd);
  if (phase() == Phase::offered) withdraw();
  if (phase() == Phase::established) {
    leave_ring_locked(fd, Leave::for_good);
  } else {
    // A client is not plain yet: it has to drop the offer that may be under way.
    set_phase(Phase::retired);
    if (role_ == Role::server) note_plain(fd);
  }
}

// --- half of it: shutdown(2) ---

// Both at once, as a sleeper of the peer's is to see it: by the kernel. False if our direction
// can't go back there at the moment.
bool Channel::shutdown_both(int fd) noexcept {
  LockScope reading(side_->receiving.lock, is_exclusive());
  LockScope writing(side_->sending.lock, is_exclusive());
  if (view_.page == nullptr) return false;
  if (writing.hold() != Hold::nested) finish_sending(fd);
  leave_ring_locked(fd, Leave::for_good);
  if (sends_to_ring()) return false;
  note_shutdown(true, true);
  // Writing ends behind what is still to be sent (send_rest()).
  sys::call(SYS_shutdown, fd, has_rest() ? SHUT_RD : SHUT_RDWR);
  return true;
}

void Channel::note_shutdown(bool reading, bool writing) noexcept {
  if (view_.page == nullptr) return;
  if (reading) {
    side_->receiving.shut.store(1, relaxed);
    in().data_wait.word.fetch_or(kShut, seq_cst);
  }
  if (writing) {
    side_->sending.fin.store(1, relaxed);
    out().producer.flags.fetch_or(kFin, seq_cst);
  }
}

void Channel::shutdown(int fd, bool reading, bool writing) noexcept {
  // Afterwards the socket may look hung up all the same.
  poll_hang_up(fd);
  if (side_->state.hung_up.load(relaxed) != 0 && !is_only_shut()) {
    side_->state.closed.store(1, relaxed);
  }
  if (reading && writing && shutdown_both(fd)) return;
  if (writing) {
    LockScope lock(side_->sending.lock, is_exclusive());
    if (lock.hold() != Hold::nested) finish_sending(fd);
    if (lock.hold() != Hold::nested && sends_to_ring() && side_->sending.lock.take_abandoned()) {
      finish_abandoned_sending(fd);
    }
    if (sends_to_ring() && (out().data_wait.word.load(acquire) & kFrozen) != 0) {
      resend_by_kernel(fd);
    }
    // Where no bell for space will be needed, as the peer has not begun to move its direction, the
    // kernel tells the end: the peer may not look at the ring yet, nor take a cut for one.
    // seq_cst: against cut_to_ring() of the peer's, as in freeze(); should it come all the same,
    // its next send takes it back.
    if (!receives_from_ring() && in().producer.mode.load(seq_cst) != word_of(Mode::ring)) {
      leave_ring_locked(fd, Leave::for_good);
    }
    const bool by_kernel = !sends_to_ring() && !cut_to_ring(fd, Queue::any);
    side_->sending.fin.store(1, relaxed);
    // release: after the last head; then as after any publication, tell a sleeper.
    TSSX_FAULT_POINT(shut_begun);
    out().producer.flags.fetch_or(kFin, seq_cst);
    // Last: a peer that sees its socket hung up must see that it was only shut (is_only_shut()).
    if (by_kernel && !has_rest()) sys::call(SYS_shutdown, fd, SHUT_WR);
    // Against leave_for_good(): one of the two sees the other.
    TSSX_FAULT_POINT(shut_told);
    const std::uint32_t word = out().data_wait.word.load(seq_cst);
    if (sends_to_ring() && (word & kFrozen) != 0) {
      resend_by_kernel(fd);
    } else if ((word & kWaiting) != 0) {
      ring_for_data(fd);
    }
  }
  if (reading) {
    {
      LockScope lock(side_->receiving.lock, is_exclusive());
      TSSX_FAULT_POINT(shut_reading);
      side_->receiving.shut.store(1, relaxed);
      in().data_wait.word.fetch_or(kShut, seq_cst);
      if ((in().space_wait.word.load(relaxed) & kWaiting) != 0) ring_for_space(fd);
    }
    // The kernel's own shutdown wakes our readers, but nothing could ring for us any more: so our
    // direction goes back first. What the ring still holds can be read.
    leave_ring(fd);
    sys::call(SYS_shutdown, fd, SHUT_RD);
  }
}

}  // namespace tssx
