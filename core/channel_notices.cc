// Messages of ours among the application's bytes, while those come by the kernel: what is in front
// of the queue, and what a message was.
#include "core/channel.h"

#include <errno.h>
#include <poll.h>

#include "core/channel_detail.h"
#include "core/fault.h"
#include "core/fault_point.h"

namespace tssx {

using namespace channel_detail;

namespace {

bool is_readable_now(int fd) noexcept { return poll_now(fd, POLLIN | POLLRDHUP) != 0; }

// Our byte stays in the reader's buffer, behind what is returned, where a string may end.
void blank(const msghdr& message, std::size_t position) noexcept {
  const char nothing = '\0';
  // It was written to a moment ago; who unmaps it meanwhile loses nothing.
  static_cast<void>(copy_to_application(place_of(message, position), &nothing, 1));
}

}  // namespace

bool Channel::settle(int fd) noexcept {
  LockScope lock(side_->receiving.lock, is_exclusive());
  if (lock.hold() == Hold::nested) return true;
  return settle_locked(fd, Notices::leave_for_a_while) == Front::application;
}

Channel::Front Channel::settle_locked(int fd, Notices which) noexcept {
  // A peek would move the application's offset, and begin there (SO_PEEK_OFF of socket(7)).
  finish_receiving(fd);
  const int offset = phase() == Phase::retired ? option_of(fd, SO_PEEK_OFF, -1) : -1;
  if (offset < 0) return look_at_front(fd, which);
  const int none = -1;
  sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_PEEK_OFF, sys::word(&none), sizeof none);
  const Front front = look_at_front(fd, which);
  sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_PEEK_OFF, sys::word(&offset), sizeof offset);
  return front;
}

Channel::Front Channel::look_at_front(int fd, Notices which) noexcept {
  for (;;) {
    if (receives_from_ring()) return Front::application;
    // On an empty queue a peek would take the socket's error (sock_error()), which is told once.
    const int unread = unread_bytes(fd);
    if (unread == 0) return is_readable_now(fd) ? Front::application : Front::nothing;
    // So it would where an urgent byte is all there is.
    if (unread == 1 && is_at_mark(fd)) return Front::application;
    // Room for two bytes: a peek that fills its room goes on to later messages, and reports their
    // descriptors (unix_stream_read_generic()). A notice is in front if it came alone.
    char bytes[2];
    iovec part{bytes, sizeof bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    long got = sys::recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK | MSG_CMSG_CLOEXEC);
    // A peek steps over an urgent byte, for which the socket is readable.
    if (got == -EAGAIN) return is_readable_now(fd) ? Front::application : Front::nothing;
    if (got <= 0) return Front::application;
    Descriptors clones;
    collect(message, &clones);
    const Notice kind = got == 1 && clones.count == 1 && !has_too_many_notices()
                            ? classify(clones.fds[0], nonce_)
                            : Notice::foreign;
    const bool ours = kind != Notice::foreign;
    close_all(clones);
    if (!ours) return Front::application;
    // What was found lies behind an urgent byte.
    if (unread != 1 && is_at_mark(fd)) return Front::application;
    if (leaves_to_sleepers(which)) return Front::notice;
    side_->receiving.left_since = 0;
    part.iov_len = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const SignalsBlocked blocked;
    auto& unfinished = side_->receiving.unfinished;
    if (kind == Notice::to_ring) unfinished.store(kTakingCutToRing, relaxed);
    if (kind == Notice::to_kernel) unfinished.store(kTakingCutToKernel, relaxed);
    got = sys::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    bool notice = false;
    if (got == 1) {
      TSSX_FAULT_POINT(notice_taken);
      inspect(fd, message, 1, Peek::no, &notice);
    }
    unfinished.store(0, relaxed);
    if (got != 1) return Front::application;
    if (!notice) {
      // The peer has changed what it sent since we peeked at it. Nobody will ask for it any more.
      Descriptors changed;
      collect(message, &changed);
      close_all(changed);
    }
  }
}

void Channel::count_notice(bool alone) noexcept {
  const std::uint64_t tail = side_->receiving.tail.load(relaxed);
  if (!alone || tail != tail_at_notice_) notices_in_a_row_ = 0;
  tail_at_notice_ = tail;
  if (notices_in_a_row_ <= kMostNotices) ++notices_in_a_row_;
}

bool Channel::expects_cut() const noexcept {
  return view_.page != nullptr && !receives_from_ring() &&
         in().producer.mode.load(acquire) == word_of(Mode::ring);
}

// The peer's cut to the ring was read.
void Channel::receive_from_ring_now() noexcept {
  auto& receiving = side_->receiving;
  // Another thread may still be inside make_offer(): the client is that fast.
  LockScope offer(side_->sending.lock, is_exclusive());
  if (view_.page == nullptr || receives_from_ring()) return;
  // It may have been in the ring before, and stepped aside (note_calm()); positions go on.
  receiving.cut.store(0, relaxed);
  if (phase() == Phase::offered) set_phase(Phase::established);
  TSSX_FAULT_POINT(cut_taken);
  in().consumer.mode.store(word_of(Mode::ring), relaxed);
  receiving.mode.store(word_of(Mode::ring), release);
  asleep.spoil();
  TSSX_FAULT_POINT(ring_entered);
  // Threads that fell asleep while bytes came by the kernel need a bell from now on.
  if (side_->state.sleepers.load(seq_cst) != 0) announce_locked(true, false);
}

// A message came with a descriptor for which this process had no number left (recvmsg(2)): the
// kernel dropped it. Ours are known by what else is known of them; true if it was one.
bool Channel::inspect_truncated(int fd, const msghdr& message, std::size_t received) noexcept {
  if (received == 0) return false;
  if (view_.page != nullptr && in().producer.mode.load(acquire) == word_of(Mode::ring)) {
    // The producer says so before it sends its cut, and nothing with a descriptor follows that.
    receive_from_ring_now();
    return receives_from_ring();
  }
  // An offer comes alone. Whatever it was, this connection stays.
  if (role_ != Role::client || phase() != Phase::candidate || received != 1 ||
      *place_of(message, 0) != kNoticeByte) {
    return false;
  }
  note_reason(Reason::no_descriptor);
  retire(fd);
  return true;
}

std::size_t Channel::inspect(int fd, msghdr& message, std::size_t received, Peek peek,
                             bool* notice) noexcept {
  *notice = false;
  auto& receiving = side_->receiving;
  if (received != 0) {
    Descriptors found;
    collect(message, &found);
    // Our messages carry exactly one descriptor.
    // After too many without anything else, a peer just keeps us busy: then they are what the
    // application makes of them.
    const Notice kind = found.count == 1 && !has_too_many_notices() ? classify(found.fds[0], nonce_)
                                                                    : Notice::foreign;
    if (found.count == 0 && peek == Peek::no && (message.msg_flags & MSG_CTRUNC) != 0 &&
        inspect_truncated(fd, message, received)) {
      *notice = true;
      --received;
    }
    if (kind != Notice::foreign && peek == Peek::yes && received >= room_of(message)) {
      // The peek filled its room and went on: whose descriptor this is can't be told. The caller's
      // spare byte makes it irrelevant.
      sys::close(found.fds[0]);
      message.msg_controllen = 0;
      message.msg_flags &= ~MSG_CTRUNC;
    } else if (kind != Notice::foreign) {
      *notice = true;
      --received;
      blank(message, received);
      if (peek == Peek::no) {
        count_notice(received == 0);
        switch (kind) {
          case Notice::segment:
            TSSX_FAULT_POINT(offer_read);
            accept_offer(fd, found.fds[0]);
            break;
          case Notice::to_ring:
            receive_from_ring_now();
            // shutdown(SHUT_RD) came before the cut, when the connection was not known to have
            // moved.
            if (receives_from_ring() && !peer_is_leaving() &&
                side_->state.hung_up.load(relaxed) == 0 && is_shut_for_reading(fd))
              receiving.shut.store(1, relaxed);
            break;
          case Notice::to_kernel:
            // Its direction is here already: what it says is that it reads the socket from now on.
            receiving.called.store(1, relaxed);
            answer_freeze(fd);
            break;
          case Notice::foreign:
            break;
        }
      }
      sys::close(found.fds[0]);
      if (peek == Peek::no && kind == Notice::segment) {
        LockScope lock(side_->sending.lock, is_exclusive());
        if (lock.hold() != Hold::nested) cut_to_ring(fd, Queue::drained);
      }
      note_plain(fd);
    }
  }
  if (peek == Peek::no) {
    if (received != 0) notices_in_a_row_ = 0;
    count_received(fd, received);
  }
  return received;
}

}  // namespace tssx
