#include "core/channel.h"

#include <errno.h>
#include <poll.h>

#include "core/bell.h"
#include "core/channel_detail.h"
#include "core/fault_point.h"

namespace tssx {

using namespace channel_detail;

namespace {

constexpr std::uint64_t kHangUpCheckTicks = 100'000;  // of the TSC: some 30 to 50 us
// A peer that has moved within so many ticks was alive a moment ago: some 150 to 250 us.
constexpr std::uint64_t kAliveTicks = 500'000;
// A sleeper that has not looked at what lies on the socket by then was killed, or left its sleep by
// siglongjmp.
constexpr std::uint64_t kSleeperNs = 500'000'000;

// Looks at the socket in one go: a peer that sends as fast as this reads must not hold us up.
constexpr int kMostLooks = 64;
// Each bell was asked for. One that comes unasked may be a mistake; so many are none.
constexpr std::uint64_t kMostUnasked = 64U << 10U;

std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return sys::now_ns() * 2;
#endif
}

}  // namespace

// --- cheap looks ---

bool Channel::may_receive() const noexcept {
  if (!receives_from_ring()) return true;
  const ProducerLine& producer = in().producer;
  return producer.head.load(relaxed) != side_->receiving.tail.load(relaxed) ||
         producer.flags.load(relaxed) != 0 || producer.mode.load(relaxed) != word_of(Mode::ring) ||
         side_->state.hung_up.load(relaxed) != 0 || side_->receiving.cut.load(relaxed) != 0 ||
         side_->receiving.shut.load(relaxed) != 0 || side_->state.broken.load(relaxed) != 0;
}

bool Channel::may_send() const noexcept {
  if (!sends_to_ring()) return true;
  return side_->sending.head.load(relaxed) - out().consumer.tail.load(relaxed) <=
             view_.capacity / 2 ||
         (out().data_wait.word.load(relaxed) & ~kWaiting) != 0 ||
         side_->state.hung_up.load(relaxed) != 0 || side_->sending.fin.load(relaxed) != 0 ||
         side_->state.broken.load(relaxed) != 0;
}

std::uint32_t Channel::peer_cpu() const noexcept {
  if (view_.page == nullptr) return ~0U;
  return in().producer.cpu.load(relaxed);
}

bool Channel::peer_is_leaving() const noexcept {
  return receives_from_ring() && in().producer.mode.load(relaxed) != word_of(Mode::ring);
}

// --- the control socket ---

bool Channel::due_for_hang_up_check(bool is_told) noexcept {
  const std::uint64_t now = ticks();
  // relaxed: readers and writers hold different locks; two looks instead of one do no harm.
  const std::uint64_t last = last_hang_up_check_.load(relaxed);
  if (now - last < kHangUpCheckTicks) return false;
  last_hang_up_check_.store(now, relaxed);
  const std::uint64_t progress = side_->receiving.tail.load(relaxed);
  if (progress == progress_seen_.load(relaxed)) return true;
  progress_seen_.store(progress, relaxed);
  return !is_told && now - last >= kAliveTicks;
}

void Channel::poll_hang_up(int fd) noexcept {
  // The cheaper question first. Our own shutdown() gives the same answer as the peer's end.
  if (side_->sending.fin.load(relaxed) == 0 && can_be_written_to(fd)) return;
  if ((poll_now(fd, 0) & POLLHUP) != 0) side_->state.hung_up.store(1, release);
}

bool Channel::look_at_socket(int fd, Notices which) noexcept {
  char bells[256];
  iovec part{bells, sizeof bells};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
  bells_owed_.store(0, relaxed);
  for (int looks = 0; looks < kMostLooks; ++looks) {
    if (side_->receiving.unfinished.load(relaxed) == kFreezing) finish_receiving(fd);
    // Behind the cut there are data on the socket, not bells.
    if (!receives_from_ring() || side_->receiving.cut.load(relaxed) != 0) return true;
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const bool only_look = which != Notices::take_all && has_sleepers();
    if (!only_look && peer_is_leaving() && side_->holders.load(relaxed) > 1) {
      if (!take_bells_before_cut(fd)) return true;
      continue;
    }
    const long got =
        sys::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (only_look ? MSG_PEEK : 0));
    TSSX_FAULT_POINT(bells_drained);
    if (got == -EAGAIN) side_->receiving.left_since = 0;
    if (got == -EAGAIN || got == -EINTR) return true;
    if (only_look && got > 0) {
      Descriptors clones;
      collect(message, &clones);
      close_all(clones);
      if (leaves_to_sleepers(which)) return false;
      continue;
    }
    absorb(fd, got, message);
    if (got < static_cast<long>(sizeof bells)) return true;
  }
  return true;
}

void Channel::absorb(int fd, long received, const msghdr& message) noexcept {
  if (received <= 0) {
    if (received == 0 && side_->receiving.shut.load(relaxed) != 0) return;  // our own shutdown()
    // 0, or ECONNRESET where the peer left something unread: either way it is gone.
    if (received == -ECONNRESET && !is_own_reset()) side_->state.reset.store(1, relaxed);
    if (received == 0 || received == -ECONNRESET || received == -EPIPE) {
      side_->state.hung_up.store(1, release);
    }
    return;
  }
  side_->receiving.left_since = 0;
  asleep.spoil();
  TSSX_FAULT_POINT(bell_taken);
  msghdr copy = message;
  Descriptors found;
  collect(copy, &found);
  // In the ring nothing but a cut carries a descriptor; without a free number it is truncated.
  const bool carries = found.count != 0 || (message.msg_flags & MSG_CTRUNC) != 0;
  // One to the ring was repeated, by who did not know whether it was sent (repeat_cut()).
  const bool cut =
      carries && (found.count == 0 || in().producer.mode.load(acquire) != word_of(Mode::ring) ||
                  classify(found.fds[0], nonce_) != Notice::to_ring);
  close_all(found);
  const std::uint64_t bells = static_cast<std::uint64_t>(received) - (carries ? 1U : 0U);
  const std::uint64_t heard = side_->state.bells_heard.fetch_add(bells, relaxed) + bells;
  if (heard > side_->state.bells_asked.load(relaxed) + kMostUnasked) mark_broken();
  if (cut) note_cut(fd);
  if (on_bells != nullptr) on_bells(on_bells_context);
}

// --- bells ---

void Channel::ring_for_data(int fd) noexcept {
  // Claim the waiting bit: one bell for one sleeper, however many writers see it. A frozen consumer
  // left the socket to somebody who knows no bells.
  const std::uint32_t word = out().data_wait.word.fetch_and(~kWaiting, seq_cst);
  if ((word & kWaiting) == 0 || (word & kFrozen) != 0) return;
  TSSX_FAULT_POINT(data_bell_claimed);
  // A handler may have taken this direction to the kernel. Its cut has woken the sleeper.
  if (send_bell(fd, side_->sending.mode)) bump(out().producer.bells);
  TSSX_FAULT_POINT(data_bell_rung);
}

void Channel::ring_for_space(int fd) noexcept {
  if ((in().space_wait.word.fetch_and(~kWaiting, seq_cst) & kWaiting) == 0) return;
  if ((out().data_wait.word.load(seq_cst) & kFrozen) != 0) return;
  TSSX_FAULT_POINT(space_bell_claimed);
  bool rung = false;
  // Under the lock: a bell must not overtake a cut that another thread is about to send. Locks are
  // always taken in this order, receiving before sending.
  LockScope lock(side_->sending.lock, is_exclusive());
  if (lock.hold() != Hold::nested) finish_sending(fd);
  if (sends_to_ring()) {
    TSSX_FAULT_POINT(space_bell_locked);
    rung = send_bell(fd, side_->sending.mode);
  } else if (side_->sending.left.load(relaxed) == 0 && lock.hold() != Hold::nested) {
    // Our direction is still plain data, where a bell would be a stray byte: cut first. The cut
    // wakes as well as a bell.
    TSSX_FAULT_POINT(space_bell_by_cut);
    const SignalsBlocked blocked;
    rung = cut_to_ring(fd, Queue::any);
  }
  TSSX_FAULT_POINT(space_bell_rung);
  if (rung) bump(in().consumer.bells);
}

// Who was killed in a call may have claimed a waiting bit and not rung for it, so that a sleeper of
// the peer's relies on a bell that nobody owes; or have counted bytes that it had not published.
// Who takes over its lock publishes all that it had finished, and rings whether it was asked to or
// not. docs/model has the cases.

void Channel::finish_abandoned_sending(int fd) noexcept {
  out().producer.head.exchange(side_->sending.head.load(relaxed), seq_cst);
  const std::uint32_t word = out().data_wait.word.fetch_and(~kWaiting, seq_cst);
  if ((word & kFrozen) == 0 && send_bell(fd, side_->sending.mode)) bump(out().producer.bells);
}

void Channel::finish_abandoned_receiving(int fd) noexcept {
  const std::uint64_t tail = side_->receiving.tail.load(relaxed);
  in().consumer.tail.exchange(tail, seq_cst);
  side_->receiving.fenced_tail = tail;
  // As if the producer had asked again.
  in().space_wait.word.fetch_or(kWaiting, seq_cst);
  ring_for_space(fd);
}

// --- sleepers ---

// Under the receiving lock, as bells that are asked for while another thread or process freezes
// this end would come among the data (freeze()).
void Channel::announce(bool for_data, bool for_space) noexcept {
  LockScope lock(side_->receiving.lock, is_exclusive());
  announce_locked(for_data, for_space);
}

// A set waiting bit is not taken back where another thread or an epoll set may rely on it (see
// take_back_bells()). The price is a bell too many when the wait ended by itself.
void Channel::announce_locked(bool for_data, bool for_space) noexcept {
  // Full fences between the announcement and the caller's look; they pair with those in
  // publish_head() and publish_tail().
  // Each announcement that finds the bit clear may bring one bell.
  if (for_data && receives_from_ring() &&
      (in().data_wait.word.fetch_or(kWaiting, seq_cst) & kWaiting) == 0) {
    bells_owed_.fetch_add(1, relaxed);
    side_->state.bells_asked.fetch_add(1, relaxed);
  }
  if (for_space && sends_to_ring() &&
      (out().space_wait.word.fetch_or(kWaiting, seq_cst) & kWaiting) == 0) {
    bells_owed_.fetch_add(1, relaxed);
    side_->state.bells_asked.fetch_add(1, relaxed);
  }
}

void Channel::take_back_bells(bool of_data, bool of_space) noexcept {
  // Who counts as a sleeper may be this very thread, further down the stack of a signal handler.
  if (!is_exclusive() || side_->state.sleepers.load(relaxed) != 0) return;
  const auto take_back = [this](std::atomic<std::uint32_t>& word) {
    // The peer has claimed it: its bell is under way.
    if ((word.load(relaxed) & kWaiting) == 0) return;
    if ((word.fetch_and(~kWaiting, seq_cst) & kWaiting) == 0) return;
    side_->state.bells_asked.fetch_sub(1, relaxed);
    // Not below 0: draining forgets what is still to come.
    const std::uint32_t owed = bells_owed_.load(relaxed);
    if (owed != 0) bells_owed_.store(owed - 1, relaxed);
  };
  if (of_data && receives_from_ring()) take_back(in().data_wait.word);
  if (of_space && sends_to_ring()) take_back(out().space_wait.word);
}

void Channel::ask_for_reads() noexcept {
  {
    LockScope lock(side_->sending.lock, is_exclusive());
    if (!sends_to_ring()) return;
    asked_tail_ = out().consumer.tail.load(relaxed);
    TSSX_FAULT_POINT(reads_asked);
    out().producer.asks.fetch_or(kTellReads, seq_cst);
  }
  announce(false, true);
}

void Channel::forget_reads() noexcept {
  if ((out().producer.asks.load(relaxed) & kTellReads) == 0) return;
  // Under the lock: somebody else may ask at this moment, and has not been told yet.
  LockScope lock(side_->sending.lock, is_exclusive());
  if (out().consumer.tail.load(relaxed) != asked_tail_) {
    out().producer.asks.fetch_and(~kTellReads, relaxed);
  }
}

bool Channel::arm_data() noexcept {
  auto& receiving = side_->receiving;
  // Under the lock: nobody drains the bell that this announcement may already have caused.
  LockScope lock(receiving.lock, is_exclusive());
  if (side_->state.hung_up.load(relaxed) != 0) return false;
  if (receives_from_ring()) {
    announce_locked(true, false);
    TSSX_FAULT_POINT(data_announced);
    // kGone alone is a hint, and no reason to stay awake: the socket's own end wakes the sleeper.
    if (in().producer.head.load(acquire) != receiving.tail.load(relaxed) ||
        (in().producer.flags.load(acquire) & kFin) != 0 || receiving.cut.load(relaxed) != 0 ||
        receiving.shut.load(relaxed) != 0 || side_->state.broken.load(relaxed) != 0) {
      return false;
    }
    bump(in().consumer.sleeps);
  }
  TSSX_FAULT_POINT(data_armed);
  count_sleeper();
  return true;
}

bool Channel::arm_space() noexcept {
  LockScope lock(side_->receiving.lock, is_exclusive());
  if (side_->state.hung_up.load(relaxed) != 0) return false;
  if (sends_to_ring()) {
    announce_locked(false, true);
    if (may_send()) return false;
    TSSX_FAULT_POINT(space_announced);
    bump(out().producer.sleeps);
  }
  TSSX_FAULT_POINT(space_armed);
  count_sleeper();
  return true;
}

bool Channel::has_sleepers() noexcept {
  const std::uint32_t counted = side_->state.sleepers.load(seq_cst);
  // relaxed: a guess of this process's own.
  if (counted < given_up_.load(relaxed)) given_up_.store(counted, relaxed);
  return counted > given_up_.load(relaxed);
}

// Called with the receiving lock.
void Channel::count_sleeper() noexcept {
  // Whoever lost patience lost it with others.
  if (!has_sleepers()) side_->receiving.left_since = 0;
  side_->state.sleepers.fetch_add(1, seq_cst);
}

// There is a message of ours on the socket: is it to stay there for those who sleep? Called with
// the receiving lock. All that leave something for a while have their patience in common.
bool Channel::leaves_to_sleepers(Notices which) noexcept {
  if (which == Notices::take_all || !has_sleepers()) return false;
  if (which == Notices::leave_to_sleepers) return true;
  auto& receiving = side_->receiving;
  const std::uint64_t now = sys::now_ns();
  if (receiving.left_since == 0) receiving.left_since = now;
  if (now - receiving.left_since < kSleeperNs) return true;
  given_up_.store(side_->state.sleepers.load(seq_cst), relaxed);
  return false;
}

void Channel::woken() noexcept { side_->state.sleepers.fetch_sub(1, seq_cst); }

}  // namespace tssx
