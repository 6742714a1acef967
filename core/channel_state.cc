#include "core/channel.h"

#include <errno.h>
#include <poll.h>

#include "core/channel_detail.h"

namespace tssx {

using namespace channel_detail;

// --- how it ended ---

Outcome Channel::end_or_reset() noexcept {
  const int error = pending_error(true);
  if (error != 0) return {Status::failed, 0, error};
  return {Status::end_of_file};
}

bool Channel::peer_took_everything() const noexcept {
  if (!sends_to_ring()) {
    if (has_rest()) return false;
    // What we wrote before we left may still lie in the ring, unless it was sent again.
    return side_->sending.left.load(relaxed) == 0 ||
           (out().data_wait.word.load(relaxed) & kFrozen) != 0 ||
           out().consumer.tail.load(acquire) == side_->sending.final.load(relaxed);
  }
  if (out().consumer.mode.load(relaxed) != word_of(Mode::ring) && unread_before_cut_) return false;
  return out().consumer.tail.load(acquire) == side_->sending.head.load(relaxed);
}

bool Channel::is_only_shut() const noexcept {
  if (side_->state.closed.load(relaxed) != 0) return false;
  const std::uint32_t flags = in().producer.flags.load(acquire);
  const std::uint32_t word = out().data_wait.word.load(acquire);
  const bool receiving_ends = (flags & kFin) != 0 || side_->receiving.shut.load(relaxed) != 0;
  const bool sending_ends = (word & kShut) != 0 || side_->sending.fin.load(relaxed) != 0;
  return receiving_ends && sending_ends && (flags & kGone) == 0 && (word & kReaderGone) == 0;
}

int Channel::pending_error(bool consume) noexcept {
  // unix_release_sock(): the peer of a socket closed with unread data gets ECONNRESET, once.
  const bool broken = side_->state.broken.load(relaxed) != 0;
  const bool reset = side_->state.reset.load(relaxed) != 0;
  // With both directions shut down, by whom ever, a socket looks hung up whose peer is not closed.
  if (!broken && !reset && view_.page != nullptr && is_only_shut()) return 0;
  if (!broken && (side_->state.hung_up.load(acquire) == 0 || (!reset && peer_took_everything()))) {
    return 0;
  }
  if (side_->state.reset_reported.load(relaxed) != 0) return 0;
  if (consume) side_->state.reset_reported.store(1, relaxed);
  return ECONNRESET;
}

bool Channel::is_own_reset() const noexcept {
  // The peer left something unread. If that can only be a message or a bell of ours, the
  // application never sent it, and the kernel's answer to it would have been a plain end.
  if (sends_to_ring()) return peer_took_everything();
  if (side_->sending.left.load(relaxed) != 0) {
    return side_->sending.kernel_bytes == side_->sending.bytes_at_cut;
  }
  return offer_alone_;
}

// --- answers to questions ---

short Channel::readiness(int fd, short socket_events) noexcept {
  if ((socket_events & POLLHUP) != 0) side_->state.hung_up.store(1, release);
  auto& receiving = side_->receiving;
  const bool in_ring = receives_from_ring();
  const bool out_ring = sends_to_ring();
  if (in_ring && ((socket_events & (POLLIN | POLLHUP)) != 0 || peer_is_leaving())) {
    LockScope lock(receiving.lock, is_exclusive());
    if (lock.hold() != Hold::nested && receives_from_ring()) {
      look_at_socket(fd, Notices::leave_to_sleepers);
    }
  }
  if (side_->state.hung_up.load(relaxed) == 0 &&
      ((in().producer.flags.load(relaxed) & kGone) != 0 ||
       (out().data_wait.word.load(relaxed) & kReaderGone) != 0)) {
    poll_hang_up(fd);
  }
  constexpr int kReadable = POLLIN | POLLRDNORM;
  constexpr int kWritable = POLLOUT | POLLWRNORM | POLLWRBAND;
  const bool had_rest = has_rest();
  help_sending(fd);
  if (had_rest) {
    // The room that the socket told of may be used up.
    socket_events =
        static_cast<short>((socket_events & ~kWritable) | (poll_now(fd, kWritable) & kWritable));
  }
  int events = 0;
  const bool broken = side_->state.broken.load(relaxed) != 0;
  const bool hung_up = side_->state.hung_up.load(acquire) != 0 || broken;
  const std::uint32_t flags = in().producer.flags.load(acquire);
  bool ended = receives_from_ring() && (flags & kFin) != 0;
  if (ended && peer_is_leaving()) ended = is_shut_for_reading(fd);  // behind its last bytes
  bool receive_ends = hung_up || ended || receiving.shut.load(relaxed) != 0;
  const bool send_ends = hung_up || side_->sending.fin.load(relaxed) != 0 ||
                         (sends_to_ring() && (out().data_wait.word.load(relaxed) & kShut) != 0);
  if (receives_from_ring()) {
    if (in().producer.head.load(acquire) != receiving.tail.load(relaxed)) {
      events |= kReadable;
    } else if (receiving.cut.load(relaxed) != 0) {
      LockScope lock(receiving.lock, is_exclusive());
      if (lock.hold() != Hold::nested && receives_from_ring()) finish_cut(fd);
    }
  }
  if (!receives_from_ring()) {
    if (in_ring) {
      // What the socket said then was bells and the cut; ask what it holds now.
      socket_events =
          poll_now(fd, POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP | POLLPRI);
      if ((socket_events & kReadable) != 0 && (socket_events & (POLLHUP | POLLRDHUP)) == 0 &&
          !settle(fd)) {
        socket_events = static_cast<short>(socket_events & ~kReadable);
      }
    }
    events |= socket_events & (kReadable | POLLRDHUP | POLLHUP);
    if ((socket_events & POLLHUP) != 0) side_->state.hung_up.store(1, release);
    if ((socket_events & POLLRDHUP) != 0) receive_ends = true;
  }
  events |= socket_events & POLLPRI;
  if (receive_ends) events |= kReadable | POLLRDHUP;
  if (!sends_to_ring()) {
    if (out_ring) {
      // It went back while we looked, so nobody has asked the socket.
      events |= poll_now(fd, kWritable) & kWritable;
    }
    events |= socket_events & kWritable;
  } else if (hung_up || (side_->sending.head.load(relaxed) - out().consumer.tail.load(relaxed) <=
                             view_.capacity / 2 &&
                         !waits_for_socket())) {
    events |= kWritable;
  }
  if (receive_ends && send_ends) events |= POLLHUP;
  if (pending_error(false) != 0 ||
      ((socket_events & POLLERR) != 0 && !sends_to_ring() && !is_own_reset())) {
    events |= POLLERR;
  }
  return static_cast<short>(events);
}

std::uint64_t Channel::bytes_waiting(int fd) noexcept {
  if (peer_is_leaving()) {
    LockScope lock(side_->receiving.lock, is_exclusive());
    if (lock.hold() != Hold::nested && receives_from_ring()) {
      look_at_socket(fd, Notices::leave_to_sleepers);
    }
  }
  const bool in_ring = receives_from_ring();
  std::uint64_t bytes = view_.page != nullptr ? bytes_to_read() : 0;
  if (in_ring && side_->receiving.cut.load(relaxed) == 0) return bytes;
  int queued = 0;
  if (sys::call(SYS_ioctl, fd, SIOCINQ, sys::word(&queued)) != 0 || queued <= 0) return bytes;
  bytes += static_cast<std::uint64_t>(queued);
  // The cut to the ring is still among them.
  if (!in_ring && view_.page != nullptr && side_->receiving.cut.load(relaxed) == 0 &&
      in().producer.mode.load(relaxed) == word_of(Mode::ring)) {
    --bytes;
  }
  return bytes;
}

std::uint64_t Channel::bytes_to_read() const noexcept {
  // Behind the end the same bytes are on the socket.
  const std::uint64_t end = side_->receiving.cut.load(acquire) != 0
                                ? side_->receiving.final.load(relaxed)
                                : in().producer.head.load(acquire);
  const std::uint64_t available = end - side_->receiving.tail.load(relaxed);
  return available <= view_.capacity ? available : 0;
}

std::uint64_t Channel::bytes_unread() const noexcept {
  // The kernel frees what a closed peer had not read.
  if ((out().data_wait.word.load(relaxed) & kReaderGone) != 0 ||
      (side_->state.hung_up.load(relaxed) != 0 && !is_only_shut())) {
    return 0;
  }
  const auto& sending = side_->sending;
  const std::uint64_t end =
      sends_to_ring() ? sending.head.load(relaxed) : sending.final.load(relaxed);
  const std::uint64_t used = end - out().consumer.tail.load(acquire);
  return used <= view_.capacity ? used : 0;
}

bool Channel::has_room(int fd, std::size_t size) const noexcept {
  if (sends_to_ring()) {
    const std::uint64_t used =
        side_->sending.head.load(relaxed) - out().consumer.tail.load(acquire);
    return used <= view_.capacity && view_.capacity - used >= size;
  }
  if (has_rest()) return false;
  // sock_alloc_send_pskb(): a message may go beyond the limit, one that has reached it waits.
  int used = 0;
  return sys::call(SYS_ioctl, fd, SIOCOUTQ, sys::word(&used)) == 0 &&
         used < option_of(fd, SO_SNDBUF, 0);
}

std::uint64_t Channel::head_seen() const noexcept { return in().producer.head.load(relaxed); }

std::uint64_t Channel::tail_seen() const noexcept { return out().consumer.tail.load(relaxed); }

}  // namespace tssx
