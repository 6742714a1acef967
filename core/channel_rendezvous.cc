#include "core/channel.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>

#include "core/channel_detail.h"
#include "core/fault_point.h"
#include "core/fork_gate.h"
#include "core/presence.h"
#include "core/remote_fence.h"

namespace tssx {

using namespace channel_detail;

namespace {

// When a connection has proved worth a segment. A connection of one request never gets there.
constexpr std::uint32_t kOfferAfterCalls = 8;
constexpr std::uint64_t kOfferAfterBytes = 64U << 10U;
constexpr std::uint32_t kOfferAloneAfterCalls = 24;
// A server offers within its first megabytes or never, so a client need not look for ever.
constexpr std::uint64_t kOfferWindow = 8U << 20U;
constexpr std::uint32_t kAnswerWithinCalls = 64;
constexpr std::uint32_t kLookForOfferEvery = 16;
// A stream's queue is seldom empty by itself: give its reader this long, ever more rarely.
constexpr std::uint64_t kDrainNs = 500'000;
constexpr std::uint32_t kMostPatience = 8;  // doublings of the calls between two attempts
// A direction that stepped aside for a message with ancillary data comes back after so many calls
// without one, and after twice as many the next time.
constexpr std::uint32_t kReturnAfterCalls = 32;
constexpr std::uint32_t kMaxReturnDoublings = 6;
constexpr std::uint64_t kDefaultCapacity = 256U << 10U;

constexpr int kPassPidfd = 76;  // SO_PASSPIDFD, newer than this libc's headers

std::uint32_t peer_process(int fd) noexcept {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (sys::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return 0;
  return static_cast<std::uint32_t>(peer.pid);
}

// Is something set on the socket that a ring can't honour? Most of it is noticed when it is set;
// but a socket can come by inheritance from its listener, or be set before it is marked.
bool needs_kernel(int fd) noexcept {
  // Each message brings data of the kernel's own.
  for (const int option : {SO_PASSCRED, SO_PASSSEC, kPassPidfd}) {
    if (option_of(fd, option, 0) != 0) return true;
  }
  if (option_of(fd, SO_RCVLOWAT, 1) > 1 || option_of(fd, SO_PEEK_OFF, -1) >= 0) return true;
  const long flags = sys::fcntl(fd, F_GETFL);
  return flags < 0 || (flags & O_ASYNC) != 0;
}

// Has the peer taken everything that was written? A message of ours goes into an empty queue: then
// nothing of the application's lies before it, and whoever reads next finds it in front.
bool becomes_drained(int fd) noexcept {
  if (kernel_queue_is_empty(fd)) return true;
  const std::uint64_t deadline = sys::now_ns() + kDrainNs;
  do {
    sys::sched_yield();
    if (kernel_queue_is_empty(fd)) return true;
  } while (sys::now_ns() < deadline);
  return false;
}

std::uint64_t capacity_for(int fd) noexcept {
  const int bytes = option_of(fd, SO_SNDBUF, -1);
  if (bytes < 0) return 0;
  std::uint64_t capacity = kDefaultCapacity;
  while (capacity < static_cast<std::uint64_t>(bytes)) capacity *= 2;
  return capacity;
}

}  // namespace

// --- the offer ---

// The next attempt comes after more calls than the last one did.
void Channel::postpone(Reason why) noexcept {
  side_->record.postponed.store(static_cast<std::uint32_t>(why), relaxed);
  auto& sending = side_->sending;
  if (sending.attempts < kMostPatience) ++sending.attempts;
  sending.next_attempt = sending.calls + (kOfferAfterCalls << sending.attempts) / 2;
}

// Can the client still follow an offer? If not, the connection stays in the kernel.
bool Channel::client_is_present(int fd) noexcept {
  int failed = 0;
  if (is_present(nonce_, &failed)) return true;
  note_reason(failed != 0 ? Reason::no_segment : Reason::peer_absent, failed);
  note_retired(fd);
  return false;
}

bool Channel::make_offer(int fd) noexcept {
  auto& sending = side_->sending;
  const SetUpScope set_up;
  if (!set_up.entered() || !is_only_holder(fd) || sending.kernel_senders.load(relaxed) != 0) {
    postpone(side_->holders.load(relaxed) > 1 ? Reason::shared : Reason::busy);
    return false;
  }
  if (sending.kernel_bytes >= kOfferWindow || needs_kernel(fd)) {
    note_reason(sending.kernel_bytes >= kOfferWindow ? Reason::too_late : Reason::option);
    set_phase(Phase::retired);
    return false;
  }
  if (!client_is_present(fd)) return false;
  if (!becomes_drained(fd)) {
    postpone(Reason::unread);
    return false;
  }
  TSSX_FAULT_POINT(offer_begun);
  const SegmentOrigin origin{nonce_, peer_process(fd), path_, path_length_};
  Result<NewSegment> made = create_segment(capacity_for(fd), origin);
  if (!made) {
    note_reason(Reason::no_segment, made.error());
    set_phase(Phase::retired);
    return false;
  }
  SegmentView view = made.value().view;
  TSSX_FAULT_POINT(offer_made);
  SideLine& line = view.page->side[static_cast<std::size_t>(role_)];
  line.pid.store(process_id(), relaxed);
  line.holders.store(1, relaxed);
  line.fenced.store(take_part_in_fences() ? 1 : 0, relaxed);
  // Asked again, as late as can be: a client that left since then finds one byte too many.
  if (!client_is_present(fd)) {
    unmap_segment(view);
    return false;
  }
  if (send_with_descriptor(fd, made.value().fd.get()) != 0) {
    unmap_segment(view);
    postpone(Reason::no_queue);  // the peer is gone, or has no room: not now
    return false;
  }
  TSSX_FAULT_POINT(offer_sent);
  view_ = view;
  offer_alone_ = true;
  sending.attempts = sending.next_attempt = 0;
  sending.calls_since_offer = 0;
  set_phase(Phase::offered);
  TSSX_FAULT_POINT(offer_noted);
  return true;
}

void Channel::withdraw(Reason why) noexcept {
  if (view_.page == nullptr) return;  // an uncounted child: its parent made the offer
  auto none = static_cast<std::uint32_t>(Answer::none);
  // Against the client's none -> accepted in accept_offer(): one of them wins.
  if (view_.page->answer.answer.compare_exchange_strong(
          none, static_cast<std::uint32_t>(Answer::withdrawn), std::memory_order_acq_rel)) {
    TSSX_FAULT_POINT(offer_withdrawn);
    // The client will drop the offer when it comes to it (note_plain()).
    note_reason(why);
    set_phase(Phase::retired);
  } else if (none == static_cast<std::uint32_t>(Answer::accepted)) {
    set_phase(Phase::established);
  } else {
    set_phase(Phase::retired);
  }
}

void Channel::accept_offer(int fd, int segment) noexcept {
  // Against retire() and leave_ring() of another thread.
  LockScope lock(side_->sending.lock, is_exclusive());
  if (role_ != Role::client || phase() != Phase::candidate || view_.page != nullptr) return;
  const SetUpScope set_up;
  if (!set_up.entered() || !is_only_holder(fd) || side_->sending.fin.load(relaxed) != 0 ||
      needs_kernel(fd)) {
    note_reason(side_->holders.load(relaxed) > 1        ? Reason::shared
                : side_->sending.fin.load(relaxed) != 0 ? Reason::shut_down
                : needs_kernel(fd)                      ? Reason::option
                                                        : Reason::busy);
    note_retired(fd);
    return;
  }
  TSSX_FAULT_POINT(answer_begun);
  Result<SegmentView> mapped = map_segment(segment, nonce_);
  if (!mapped || mapped.value().capacity < capacity_for(fd)) {
    if (mapped) {
      note_reason(Reason::small_segment);
    } else {
      note_reason(Reason::no_segment, mapped.error());
    }
    if (mapped) unmap_segment(mapped.value());
    note_retired(fd);
    return;
  }
  SegmentPage* page = mapped.value().page;
  TSSX_FAULT_POINT(answer_mapped);
  SideLine& line = page->side[static_cast<std::size_t>(role_)];
  line.pid.store(process_id(), relaxed);
  line.holders.store(1, relaxed);
  line.fenced.store(take_part_in_fences() ? 1 : 0, relaxed);
  auto none = static_cast<std::uint32_t>(Answer::none);
  // release: what we wrote into the page; against the server's none -> withdrawn.
  if (!page->answer.answer.compare_exchange_strong(
          none, static_cast<std::uint32_t>(Answer::accepted), std::memory_order_acq_rel)) {
    unmap_segment(mapped.value());  // the server took the offer back, and says why
    note_retired(fd);
    return;
  }
  TSSX_FAULT_POINT(answered);
  view_ = mapped.value();
  set_phase(Phase::established);
}

// --- the cut to the ring ---

bool Channel::cut_to_ring(int fd, Queue queue) noexcept {
  auto& sending = side_->sending;
  // Another thread was faster: in the ring, a second descriptor would be the cut back.
  if (sends_to_ring()) return true;
  constexpr std::uint32_t kAway = kWantKernel | kFrozen;
  if (view_.page == nullptr || phase() != Phase::established || sending.left.load(relaxed) != 0 ||
      (out().data_wait.word.load(acquire) & kAway) != 0 ||
      sending.kernel_senders.load(relaxed) != 0 || sending.fin.load(relaxed) != 0) {
    return false;
  }
  unread_before_cut_ = !kernel_queue_is_empty(fd);
  if (unread_before_cut_ && queue != Queue::any) {
    unread_before_cut_ = queue != Queue::draining || !becomes_drained(fd);
    if (unread_before_cut_) {
      postpone(Reason::unread);
      return false;
    }
  }
  const SignalsBlocked blocked;
  sending.unfinished.store(kCutting, relaxed);
  // Before the cut, so that its receiver never sees the ring without it (see peer_is_leaving()).
  // seq_cst, then a look: against a consumer that freezes, and then looks whether a cut is coming
  // (leave_for_good()). One of the two sees the other.
  out().producer.mode.store(word_of(Mode::ring), seq_cst);
  TSSX_FAULT_POINT(cut_announced);
  if ((out().data_wait.word.load(seq_cst) & kAway) != 0 || !begin_ring_again() ||
      send_token(fd, TokenKind::to_ring, nonce_) != 0) {
    out().producer.mode.store(word_of(Mode::kernel), seq_cst);
    sending.unfinished.store(0, relaxed);
    return false;
  }
  TSSX_FAULT_POINT(cut_sent);
  sending.attempts = 0;
  sending.mode.store(word_of(Mode::ring), release);
  sending.unfinished.store(0, relaxed);
  TSSX_FAULT_POINT(cut_noted);
  return true;
}

// --- around calls by the kernel ---

Route Channel::before_kernel_send(int fd) noexcept {
  auto& sending = side_->sending;
  LockScope lock(sending.lock, is_exclusive());
  if (lock.hold() != Hold::nested || has_rest()) finish_sending(fd);
  if (sends_to_ring()) return Route::ring;
  if (const Route route = route_of_rest(); route != Route::kernel) return route;
  if (lock.hold() != Hold::nested && side_->state.plain.load(relaxed) == 0) {
    ++sending.calls;
    note_calm(fd);
    const bool due = sending.calls >= sending.next_attempt;
    if (role_ == Role::server && phase() == Phase::candidate && due &&
        (sending.calls >= kOfferAfterCalls || sending.kernel_bytes >= kOfferAfterBytes)) {
      make_offer(fd);
    } else if (phase() == Phase::offered) {
      const std::uint32_t answer = view_.page->answer.answer.load(acquire);
      if (answer == static_cast<std::uint32_t>(Answer::accepted)) {
        set_phase(Phase::established);
      } else if (++sending.calls_since_offer > kAnswerWithinCalls) {
        withdraw(Reason::unanswered);
      }
    }
    if (phase() == Phase::established && due && cut_to_ring(fd, Queue::draining)) {
      return Route::ring;
    }
  }
  TSSX_FAULT_POINT(kernel_send_counted);
  sending.kernel_senders.fetch_add(1, relaxed);
  return Route::kernel;
}

// A message with ancillary data, or MSG_OOB: by the kernel.
Route Channel::before_ancillary_send(int fd) noexcept {
  auto& sending = side_->sending;
  LockScope lock(sending.lock, is_exclusive());
  if (lock.hold() != Hold::nested || has_rest()) finish_sending(fd);
  if (sends_to_ring()) return Route::ring;
  if (const Route route = route_of_rest(); route != Route::kernel) return route;
  sending.calm = 0;
  sending.kernel_senders.fetch_add(1, relaxed);
  return Route::kernel;
}

// This direction stepped aside for a while (step_aside(), here or there), and the other one
// followed if the peer has sent anything since. When it has been calm for long enough they may come
// back, each with a cut of its own. Called with the sending lock.
void Channel::note_calm(int fd) noexcept {
  auto& sending = side_->sending;
  auto& receiving = side_->receiving;
  // Where a message of ours was unread when the direction left for good.
  if (phase() == Phase::retired && view_.page != nullptr) note_plain(fd);
  if (sending.left.load(relaxed) == 0 || phase() != Phase::established || sends_to_ring() ||
      has_rest()) {
    return;
  }
  if ((in().producer.flags.load(acquire) & kStays) != 0) {
    // The peer will not come back, so neither do we.
    stay_in_kernel(fd);
    return;
  }
  if (++sending.calm < kReturnAfterCalls << std::min(sending.returns, kMaxReturnDoublings)) return;
  // What we wrote to the ring last must have been read: a reset is told by it (is_own_reset()).
  // And our cut was: acquire, pairs with finish_cut().
  if (out().consumer.mode.load(acquire) == word_of(Mode::ring) ||
      out().consumer.tail.load(acquire) != sending.final.load(relaxed) ||
      sending.fin.load(relaxed) != 0 || receiving.shut.load(relaxed) != 0 ||
      side_->handovers.load(relaxed) != 0) {
    return;
  }
  ++sending.returns;
  sending.calm = 0;
  TSSX_FAULT_POINT(return_begun);
  sending.left.store(0, relaxed);
  if (!receives_from_ring()) receiving.cut.store(0, release);
  // Last: from here on the peer may cut its direction to the ring again.
  in().data_wait.word.fetch_and(~kWantKernel, seq_cst);
  TSSX_FAULT_POINT(return_told);
}

void Channel::after_kernel_send(long sent) noexcept {
  auto& sending = side_->sending;
  LockScope lock(sending.lock, is_exclusive());
  TSSX_FAULT_POINT(kernel_send_done);
  sending.kernel_senders.fetch_sub(1, relaxed);
  if (sent <= 0) return;
  sending.kernel_bytes += static_cast<std::uint64_t>(sent);
  offer_alone_ = false;
}

void Channel::note_receive(int fd) noexcept {
  const bool candidate = role_ == Role::server && phase() == Phase::candidate;
  auto& sending = side_->sending;
  if (!candidate && sending.left.load(relaxed) == 0) return;
  if (!sending.lock.try_acquire()) return;
  note_calm(fd);
  if (phase() == Phase::candidate && ++sending.calls >= kOfferAloneAfterCalls &&
      sending.calls >= sending.next_attempt) {
    make_offer(fd);
  }
  sending.lock.release();
}

// Bytes of the application's that came by the kernel: after so many no offer comes any more.
void Channel::count_received(int fd, std::size_t bytes) noexcept {
  auto& receiving = side_->receiving;
  receiving.kernel_bytes += bytes;
  if (role_ == Role::client && phase() == Phase::candidate &&
      receiving.kernel_bytes >= kOfferWindow + kOfferAfterBytes) {
    note_reason(Reason::no_offer);
    note_retired(fd);
  }
}

void Channel::look_for_offer(int fd) noexcept {
  if (role_ != Role::client || phase() != Phase::candidate) return;
  if (++writes_since_look_ % kLookForOfferEvery != 0) return;
  settle(fd);
}

}  // namespace tssx
