#include "core/channel.h"

#include <errno.h>

#include <algorithm>

#include "core/channel_detail.h"
#include "core/fault_point.h"
#include "core/ring.h"

namespace tssx {

using namespace channel_detail;

namespace {

// Large transfers are published in steps, so that the other side copies while we do.
constexpr std::size_t kStep = 32U << 10U;

}  // namespace

// --- receiving ---

bool Channel::readable_bytes(std::uint64_t tail, std::uint64_t* available) noexcept {
  // acquire: pairs with publish_head(); the bytes before head are visible.
  const std::uint64_t head = in().producer.head.load(acquire);
  *available = head - tail;
  if (*available <= view_.capacity) return true;
  *available = 0;
  return ended_before(tail);
}

Outcome Channel::at_end_of_ring(int fd) noexcept {
  // Before any end: what the peer sent last may lie on the socket, behind the cut.
  if (peer_is_leaving()) {
    // The cut may be left there for sleepers to see, but not for ones that are dead.
    look_at_socket(fd, Notices::leave_for_a_while);
    if (!receives_from_ring() || side_->receiving.cut.load(relaxed) != 0) return {Status::done};
  }
  const std::uint64_t tail = side_->receiving.tail.load(relaxed);
  // acquire: pairs with the release of kFin, which follows the last head.
  const std::uint32_t flags = in().producer.flags.load(acquire);
  // Of a direction that is on its way back the socket tells the end, behind its last bytes.
  if ((flags & kFin) != 0 && !peer_is_leaving() && in().producer.head.load(acquire) == tail) {
    // A reset comes before the end, as in unix_stream_read_generic().
    if ((flags & kGone) != 0 || due_for_hang_up_check()) poll_hang_up(fd);
    return end_or_reset();
  }
  if (side_->receiving.shut.load(relaxed) != 0) {
    if ((flags & kGone) != 0) poll_hang_up(fd);
    return side_->state.hung_up.load(acquire) != 0 ? end_or_reset() : Outcome{Status::end_of_file};
  }
  if (side_->state.hung_up.load(acquire) != 0) {
    return bytes_to_read() == 0 ? end_or_reset() : Outcome{Status::done};
  }
  help_sending(fd);
  if ((flags & kGone) == 0 && !peer_is_leaving() && !has_old_bells()) return {Status::would_block};
  return {ask_for_end(fd) ? Status::done : Status::would_block};
}

// Asks the socket. True if there may be something to tell now. With the receiving lock.
bool Channel::ask_for_end(int fd) noexcept {
  look_at_socket(fd, Notices::leave_to_sleepers);
  // Bells before the end hide it, where they are left for sleepers to see.
  poll_hang_up(fd);
  return side_->state.hung_up.load(relaxed) != 0 || side_->receiving.cut.load(relaxed) != 0 ||
         !receives_from_ring() || bytes_to_read() != 0;
}

bool Channel::look_for_end(int fd, bool is_told) noexcept {
  LockScope lock(side_->receiving.lock, is_exclusive());
  if (lock.hold() == Hold::nested || !receives_from_ring()) return false;
  return due_for_hang_up_check(is_told) && ask_for_end(fd);
}

std::uint64_t Channel::publish_tail(int fd, std::uint64_t tail, std::uint64_t head) noexcept {
  ConsumerLine& line = in().consumer;
  // A producer sleeps only if it saw more than half of the ring in use, and it saw at least the
  // tail that was last published with a fence. So unless that much has been in use since, nobody
  // sleeps, and neither the fence nor the look at the producer's line is needed.
  if (head - side_->receiving.fenced_tail <= view_.capacity / 2) {
    line.tail.store(tail, release);  // pairs with the acquire in send() and arm_space()
    TSSX_FAULT_POINT(tail_stored);
    // In program order, though without a fence: who asks looks a second time, long after any store
    // has become visible, or makes a fence for both (end_ring()).
    std::atomic_signal_fence(seq_cst);
    if (in().producer.asks.load(relaxed) == 0) return tail;
  }
  line.tail.exchange(tail, seq_cst);  // full fence; pairs with the one in arm_space()
  side_->receiving.fenced_tail = tail;
  TSSX_FAULT_POINT(tail_fenced);
  if (in().producer.asks.load(relaxed) != 0 ||
      (head - tail <= view_.capacity / 2 && in().space_wait.word.load(seq_cst) != 0)) {
    return answer_producer(fd, tail);
  }
  return tail;
}

// The producer sleeps, or is about to end the ring: see commit().
std::uint64_t Channel::answer_producer(int fd, std::uint64_t tail) noexcept {
  const std::uint64_t read =
      (in().producer.asks.load(relaxed) & kEnding) != 0 ? commit(tail) : tail;
  if (in().space_wait.word.load(seq_cst) != 0) ring_for_space(fd);
  return read;
}

Outcome Channel::receive(int fd, const iovec* parts, std::size_t count, Peek peek) noexcept {
  auto& receiving = side_->receiving;
  LockScope lock(receiving.lock, is_exclusive());
  TSSX_FAULT_POINT(receive_locked);
  for (;;) {
    if (receiving.mode.load(relaxed) != word_of(Mode::ring)) return {Status::kernel};
    if (lock.hold() != Hold::nested && receiving.lock.take_abandoned()) {
      finish_abandoned_receiving(fd);
    }
    if (receiving.unfinished.load(relaxed) != 0 && lock.hold() != Hold::nested) {
      finish_receiving(fd);
      if (!receives_from_ring()) return {Status::kernel};
    }
    if (side_->state.broken.load(relaxed) != 0) return end_or_reset();
    const std::uint64_t start = receiving.tail.load(relaxed);
    std::uint64_t available = 0;
    if (!readable_bytes(start, &available)) continue;
    if (available == 0) {
      // A handler took bytes while its own thread held the lock for another purpose, or a reader
      // died between claim and publication: the producer has yet to learn of the space.
      if (lock.hold() != Hold::nested && in().consumer.tail.load(relaxed) != start &&
          publish_tail(fd, start, start) != start) {
        continue;  // nor was what the dead reader had claimed ever read
      }
      if (receiving.cut.load(relaxed) != 0) {
        finish_cut(fd);
        continue;
      }
      const Outcome end = at_end_of_ring(fd);
      if (end.status == Status::done) continue;
      return end;
    }

    const std::uint64_t head = start + available;
    std::uint64_t position = start;
    PartCursor to(parts, count, 0);
    while (!to.at_end() && position != head) {
      const std::size_t size =
          to.total(std::min<std::size_t>(kStep, static_cast<std::size_t>(head - position)));
      // Claim before copying: a handler that interrupts us here goes on behind these bytes.
      if (peek == Peek::no) receiving.tail.store(position + size, relaxed);
      TSSX_FAULT_POINT(receive_claimed);
      std::atomic_signal_fence(seq_cst);
      if (!scatter_from_ring(in_data(), view_.capacity, position, to, size)) {
        // Bad memory: what this step should have brought stays. A step is all or nothing, as a
        // message is to the kernel (unix_stream_read_actor()). Where a handler went on behind the
        // claim, the bytes are gone.
        std::uint64_t claim = position + size;
        if (peek == Peek::no) receiving.tail.compare_exchange_strong(claim, position, relaxed);
        if (position == start) return {Status::failed, 0, EFAULT};
        break;
      }
      position += size;
      std::atomic_signal_fence(seq_cst);
      if (peek == Peek::yes) continue;
      if (lock.hold() == Hold::nested) {
        if (const std::uint64_t read = commit_nested(start, position); read != position) {
          return lost(fd, start, read);
        }
        continue;
      }
      TSSX_FAULT_POINT(receive_copied);
      const std::uint64_t claimed = receiving.tail.load(relaxed);
      const std::uint64_t read = publish_tail(fd, claimed, std::max(head, claimed));
      if (read == position) continue;
      if (read - position <= view_.capacity) break;  // a handler took the bytes that follow
      return lost(fd, start, read);
    }
    if (peek == Peek::no && lock.hold() != Hold::nested) {
      bump(in().consumer.messages);
      in().consumer.cpu.store(current_cpu(), relaxed);
      TSSX_FAULT_POINT(receive_told);
    }
    return {Status::done, static_cast<std::size_t>(position - start)};
  }
}

// --- sending ---

bool Channel::publish_head(int fd, std::uint64_t head) noexcept {
  auto& sending = side_->sending;
  // A handler that interrupted the copy may have moved this direction to the kernel: then these
  // bytes were never sent, and go the new way. From here on such a handler publishes them for us.
  publishing_ = head;
  TSSX_FAULT_POINT(head_announced);
  std::atomic_signal_fence(seq_cst);
  if (sending.mode.load(relaxed) != word_of(Mode::ring)) {
    const bool published = publishing_ == 0;
    publishing_ = 0;
    return published;
  }
  sending.head.store(head, relaxed);
  ProducerLine& line = out().producer;
  TSSX_FAULT_POINT(head_claimed);
  // Full fence between the bytes and the look for sleepers; pairs with the one in arm_data().
  line.head.exchange(head, seq_cst);
  TSSX_FAULT_POINT(head_published);
  std::atomic_signal_fence(seq_cst);
  publishing_ = 0;
  if ((out().data_wait.word.load(seq_cst) & kWaiting) != 0) ring_for_data(fd);
  return true;
}

Outcome Channel::send(int fd, const iovec* parts, std::size_t count, std::size_t skip,
                      bool is_told) noexcept {
  auto& sending = side_->sending;
  LockScope lock(sending.lock, is_exclusive());
  TSSX_FAULT_POINT(send_locked);
  if (sending.mode.load(relaxed) != word_of(Mode::ring)) return {Status::kernel};
  if (lock.hold() == Hold::nested) {
    // We interrupted our own thread in the middle of a copy. What it copied is not published; what
    // we write goes by the kernel, and it will follow.
    return {leave_ring_locked(fd, Leave::aside) ? Status::kernel : Status::would_block};
  }
  if (sending.unfinished.load(relaxed) != 0) {
    finish_sending(fd);
    if (!sends_to_ring()) return {Status::kernel};
    if (sending.unfinished.load(relaxed) != 0) return {Status::would_block};  // no room for a cut
  }
  if (sending.lock.take_abandoned()) finish_abandoned_sending(fd);
  if (side_->state.broken.load(relaxed) != 0) {
    const int error = pending_error(true);
    return {Status::failed, 0, error != 0 ? error : EPIPE};
  }
  const std::uint32_t word = out().data_wait.word.load(acquire);
  if ((word & ~kWaiting) != 0 || sending.fin.load(relaxed) != 0) {
    if (sending.fin.load(relaxed) != 0 || (word & kShut) != 0) return {Status::failed, 0, EPIPE};
    if ((word & kFrozen) != 0) {
      resend_by_kernel(fd);
      return {Status::kernel};
    }
    if ((word & kWantKernel) != 0) {
      return {leave_ring_locked(fd, Leave::aside) ? Status::kernel : Status::would_block};
    }
    if ((word & kReaderGone) != 0) poll_hang_up(fd);
  } else if (due_for_hang_up_check(is_told)) {
    poll_hang_up(fd);
  }
  if (side_->state.hung_up.load(relaxed) != 0) return {Status::failed, 0, EPIPE};
  std::size_t left = 0;
  for (std::size_t i = 0; i < count; ++i) left += parts[i].iov_len;
  left -= skip;
  // A small message goes whole or not at all, as in the kernel: two writers of records don't tear
  // each other's. A large one goes in steps.
  const std::size_t largest = std::min<std::size_t>(kStep, view_.capacity / 4);
  const std::size_t least = left <= largest ? left : 1;
  const std::uint64_t start = sending.head.load(relaxed);
  std::uint64_t head = start;
  PartCursor from(parts, count, skip);
  bool faulted = false;
  while (left != 0) {
    std::uint64_t used = head - seen_tail_;
    if (used > view_.capacity || view_.capacity - used < largest) {
      // acquire: pairs with publish_tail(); the consumer is done with the bytes before it.
      const std::uint64_t tail = out().consumer.tail.load(acquire);
      used = head - tail;
      if (used > view_.capacity) {
        mark_broken();
        break;
      }
      seen_tail_ = tail;
    }
    const auto space = static_cast<std::size_t>(view_.capacity - used);
    if (space < least) break;
    const std::size_t step = std::min({left, largest, space});
    // The kernel copies a message before it sends it: of a step with bad memory in it nothing goes.
    if (!gather_into_ring(out_data(), view_.capacity, head, from, step)) {
      faulted = true;
      break;
    }
    TSSX_FAULT_POINT(send_copied);
    head += step;
    left -= step;
    std::atomic_signal_fence(seq_cst);
    if (!publish_head(fd, head)) break;
  }
  head = sending.head.load(relaxed);
  if (head == start) {
    if (!sends_to_ring()) return {Status::kernel};
    if (side_->state.broken.load(relaxed) != 0) return {Status::failed, 0, EPIPE};
    if (faulted) return {Status::failed, 0, EFAULT};
    return {from.at_end() ? Status::done : Status::would_block};
  }
  TSSX_FAULT_POINT(send_told);
  bump(out().producer.messages);
  bump(side_->counts.sent_sizes[bucket_of(head - start)]);
  const std::uint32_t cpu = current_cpu();
  if (out().producer.cpu.load(relaxed) != cpu) out().producer.cpu.store(cpu, relaxed);
  return {Status::done, static_cast<std::size_t>(head - start)};
}

}  // namespace tssx
