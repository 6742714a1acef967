// What a process of this side had begun under a lock of the Side's when it was killed.
//
// The lock comes back to those who hold the end too (robust_lock.h), and positions are such that a
// copy cut short is as if it had not begun; bells that were claimed are rung by who takes the lock
// over (finish_abandoned_sending()). What else goes by the socket is not seen there: a cut of which
// nobody can say whether it was sent, or one that was taken off the socket and not noted. So
// whoever does such a thing says so in Side::unfinished first, and whoever next comes to depend on
// it does it again:
//
//   kCutting   a cut to the ring that comes twice is known by its token (absorb())
//   kLeaving   a cut to the kernel that comes twice is no data for who reads with room for
//              descriptors, and who has become plain has finished the first one before. Where the
//              ring ends was decided before it was sent, and stays so (channel_end.cc)
//   kSending*  what lies behind that end goes on where it was, as it does for who found no room for
//              it (has_rest()); if nobody can say where, because a part of it was just being sent,
//              the connection ends instead
//   kFreezing  the ring is not to be read any more, and what is on the socket is data
//   kTaking*   a cut is taken off the socket by itself, so that it can be seen whether it was
#include <errno.h>
#include <poll.h>

#include "core/channel.h"
#include "core/channel_detail.h"
#include "core/send_room.h"

namespace tssx {

using namespace channel_detail;

namespace {

constexpr std::uint64_t kRepeatNs = 50'000'000;

}  // namespace

// Called with the sending lock, and not from a handler that interrupted its holder. What is left
// unfinished had no room on the socket, and is to be tried again.
void Channel::finish_sending(int fd) noexcept {
  auto& sending = side_->sending;
  const std::uint32_t unfinished = sending.unfinished.load(acquire);
  if (unfinished == 0) return;
  if (unfinished == kCutting) {
    if (!sends_to_ring()) repeat_cut(fd);
    sending.unfinished.store(0, relaxed);
  } else if (unfinished == kAwaitingRoom) {
    sending.unfinished.store(0, relaxed);  // whoever has to try again does
  } else if (sends_to_ring()) {
    go_on_leaving(fd);
  } else if (unfinished == kSendingAgain) {
    const SignalsBlocked blocked;
    send_rest(fd);
  } else if (unfinished == kSendingPart) {
    drop_rest(fd);
  } else {
    sending.unfinished.store(0, relaxed);
  }
}

// For who only reads, and would wait: the peer may wait for what a killed process of ours has begun
// to send, or what had no room. Not with the sending lock.
void Channel::help_sending(int fd) noexcept {
  auto& sending = side_->sending;
  if (sending.unfinished.load(relaxed) == 0) return;
  if (waits_for_socket() && (poll_now(fd, POLLOUT) & POLLOUT) == 0) return;
  LockScope lock(sending.lock, is_exclusive());
  if (lock.hold() != Hold::nested) finish_sending(fd);
}

// Where what is sent by the kernel next has to go. Called with the sending lock, also by a handler
// that interrupted its holder: it did not interrupt send_rest().
Route Channel::route_of_rest() noexcept {
  if (!has_rest()) return Route::kernel;
  return side_->sending.fin.load(relaxed) != 0 ? Route::ended : Route::wait;
}

// Bytes of ours would be bells to a peer that has read the cut, and bytes in the ring unread by one
// that has not.
void Channel::repeat_cut(int fd) noexcept {
  const SignalsBlocked blocked;
  out().producer.mode.store(word_of(Mode::ring), seq_cst);
  if ((out().data_wait.word.load(seq_cst) & kFrozen) != 0 || !begin_ring_again()) {
    // It waited for the cut before it froze, and reads the socket alone now.
    out().producer.mode.store(word_of(Mode::kernel), seq_cst);
    return;
  }
  const std::uint64_t deadline = sys::now_ns() + kRepeatNs;
  int failed = 0;
  while ((failed = send_token(fd, TokenKind::to_ring, nonce_)) != 0 && failed != -EPIPE &&
         failed != -ECONNRESET && sys::now_ns() < deadline) {
    sys::sched_yield();
  }
  if (failed != 0 && failed != -EPIPE && failed != -ECONNRESET) mark_broken();
  side_->sending.mode.store(word_of(Mode::ring), release);
}

void Channel::go_on_leaving(int fd) noexcept {
  const SignalsBlocked blocked;
  auto& sending = side_->sending;
  const std::uint32_t unfinished = sending.unfinished.load(acquire);
  const std::uint64_t head = sending.head.load(relaxed);
  const std::uint64_t word = out().consumer.end.load(acquire);
  std::uint64_t end = end_position(word);
  if (head - end > view_.capacity) end = head;  // nonsense: nothing can be told
  const Leave how =
      (in().producer.flags.load(acquire) & kStays) != 0 ? Leave::for_good : Leave::aside;
  if (unfinished == kSendingAgain) {
    const std::uint64_t position = sending.sent_again.load(relaxed);
    if ((word & kEndCut) != 0) {
      send_behind_cut(fd, how, end, position, false);
    } else {
      finish_resending(fd, position);
    }
    return;
  }
  // No byte went behind a cut, if there was one. A peer that froze has read it, or never will.
  if ((word & kEndFrozen) != 0 || (out().data_wait.word.load(seq_cst) & kFrozen) != 0) {
    sending.unfinished.store(0, relaxed);
    resend_by_kernel(fd);
    return;
  }
  if ((word & kEndCut) == 0) {
    go_on_with_ring();
    sending.unfinished.store(0, relaxed);
    return;
  }
  int failed = 0;
  // A peer that has left the ring has read the cut.
  if (out().consumer.mode.load(acquire) == word_of(Mode::ring)) {
    failed = announce_cut(fd);
    if (failed != 0 && failed != -EPIPE && failed != -ECONNRESET) return;
  }
  send_behind_cut(fd, how, end, end, failed != 0);
}

// Called with the receiving lock, and not from a handler that interrupted its holder.
void Channel::finish_receiving(int fd) noexcept {
  auto& receiving = side_->receiving;
  const std::uint32_t unfinished = receiving.unfinished.load(acquire);
  if (unfinished == 0 || resuming_ == thread_token()) return;
  const SignalsBlocked blocked;
  if (unfinished == kFreezing) {
    // It looks at the socket on the way.
    resuming_ = thread_token();
    leave_for_good(fd);
    resuming_ = 0;
    return;
  }
  receiving.unfinished.store(0, relaxed);
  const Notice wanted = unfinished == kTakingCutToRing ? Notice::to_ring : Notice::to_kernel;
  if (is_in_front(fd, wanted)) return;
  if (wanted == Notice::to_ring) {
    receive_from_ring_now();
  } else if (!receives_from_ring()) {
    receiving.called.store(1, relaxed);
    answer_freeze(fd);
  } else if (receiving.cut.load(relaxed) == 0) {
    note_cut(fd);
  }
}

// Is this cut the next message on the socket?
bool Channel::is_in_front(int fd, Notice wanted) noexcept {
  // Room for two bytes, as in look_at_front().
  char bytes[2];
  iovec part{bytes, sizeof bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (sys::recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK | MSG_CMSG_CLOEXEC) != 1) return false;
  Descriptors clones;
  collect(message, &clones);
  const bool there = (clones.count == 1 && classify(clones.fds[0], nonce_) == wanted) ||
                     (clones.count == 0 && (message.msg_flags & MSG_CTRUNC) != 0);
  close_all(clones);
  return there;
}

// Takes bells off a socket on which the peer's cut to the kernel may be among them; the cut by
// itself. False if there is no more for now. Called with the receiving lock.
bool Channel::take_bells_before_cut(int fd) noexcept {
  auto& receiving = side_->receiving;
  if (receiving.unfinished.load(relaxed) != 0) {
    finish_receiving(fd);
    return true;
  }
  char bells[257];
  iovec part{bells, sizeof bells};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  long got = sys::recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK | MSG_CMSG_CLOEXEC);
  if (got > 0) {
    Descriptors clones;
    collect(message, &clones);
    close_all(clones);
    const bool carries = clones.count != 0 || (message.msg_flags & MSG_CTRUNC) != 0;
    // A peek that fills its room may tell of the descriptors of later messages.
    const bool filled = got == static_cast<long>(sizeof bells);
    const long before = got - (filled || carries ? 1 : 0);
    part.iov_len = static_cast<std::size_t>(before == 0 ? 1 : before);
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    message.msg_flags = 0;
    const SignalsBlocked blocked;
    if (before == 0) receiving.unfinished.store(kTakingCutToKernel, relaxed);
    got = sys::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    absorb(fd, got, message);
    receiving.unfinished.store(0, relaxed);
    return got > 0;
  }
  if (got == -EAGAIN) receiving.left_since = 0;
  absorb(fd, got, message);
  return false;
}

}  // namespace tssx
