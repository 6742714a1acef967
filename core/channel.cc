#include "core/channel.h"

#include <sys/single_threaded.h>

#include <algorithm>
#include <cstring>

#include "core/channel_detail.h"
#include "core/fault_point.h"

namespace tssx {

using namespace channel_detail;

namespace {

constexpr std::uint32_t kMaxHandovers = 16;

void write_record(SideRecord& record, const ChannelOrigin& origin) noexcept {
  record.version = kRecordVersion;
  record.size = sizeof(Side);
  record.role = static_cast<std::uint32_t>(origin.role);
  record.path_length = std::min<std::uint32_t>(origin.path_length, kPathSize);
  if (record.path_length != 0) std::memcpy(record.path, origin.path, record.path_length);
  std::memcpy(record.nonce, origin.nonce.bytes, kNonceSize);
  record.created_ns = sys::clock_ns(CLOCK_REALTIME);
  record.magic.store(kSideMagic, release);  // last: the rest is complete
}

}  // namespace

// --- set-up and end ---

bool Channel::open(const ChannelOrigin& origin) noexcept {
  side_ = acquire_side();
  if (side_ == nullptr) return false;
  role_ = origin.role;
  nonce_ = origin.nonce;
  path_length_ = std::min<std::uint32_t>(origin.path_length, kPathSize);
  if (path_length_ != 0) std::memcpy(path_, origin.path, path_length_);
  view_ = SegmentView{};
  seen_tail_ = 0;
  last_hang_up_check_ = 0;
  progress_seen_ = 0;
  bells_owed_.store(0, relaxed);
  hold_is_locked_.store(false, relaxed);
  asleep.forget();
  publishing_ = 0;
  writes_since_look_ = 0;
  offer_alone_ = false;
  unread_before_cut_ = false;
  losses_ = 0;
  awaited_in_vain_ = 0;
  given_up_.store(0, relaxed);
  notices_in_a_row_ = 0;
  tail_at_notice_ = 0;
  write_record(side_->record, origin);
  return true;
}

// For tssx-stat.
void Channel::tell_holders(std::uint32_t holders) noexcept {
  if (view_.page == nullptr) return;
  view_.page->side[static_cast<std::size_t>(role_)].holders.store(holders, relaxed);
}

void Channel::abandon() noexcept {
  TSSX_FAULT_POINT(leaving_hold);
  unlock_hold();
  const std::uint32_t left = side_->holders.fetch_sub(1, std::memory_order_acq_rel) - 1;
  tell_holders(left);
  TSSX_FAULT_POINT(hold_left);
  if (view_.page != nullptr && left == 0) {
    // Hints: who looks at the ring knows to ask the control socket. release: after the last bytes.
    out().producer.flags.fetch_or(kGone, release);
    in().data_wait.word.fetch_or(kReaderGone, release);
  }
}

void Channel::close() noexcept {
  if (phase() == Phase::offered) withdraw();
  abandon();
  TSSX_FAULT_POINT(close_told);
  unmap_segment(view_);
  view_ = SegmentView{};
  TSSX_FAULT_POINT(close_unmapped);
  release_side(side_);
  side_ = nullptr;
}

bool Channel::is_exclusive() const noexcept {
  return __libc_single_threaded != 0 && side_->holders.load(relaxed) == 1;
}

void Channel::note_plain(int fd) noexcept {
  if (phase() != Phase::retired || receives_from_ring() || sends_to_ring() || has_rest()) return;
  if (view_.page != nullptr) {
    // A client whose offer was withdrawn says nothing. Of one that was established, plain is who
    // knows that the peer's direction will not move (again) either.
    const bool withdrawn =
        view_.page->answer.answer.load(acquire) == static_cast<std::uint32_t>(Answer::withdrawn);
    const bool cut = side_->receiving.cut.load(relaxed) != 0;
    const bool peer_stays = cut || (in().producer.flags.load(acquire) & kStays) != 0;
    if (!withdrawn && (side_->sending.left.load(relaxed) == 0 || !peer_stays)) return;
    // Until all that was behind its cut has come, it may have to be taken from the ring
    // (takes_rest_from_ring()).
    if (!withdrawn && cut &&
        in().producer.head.load(acquire) != side_->receiving.final.load(relaxed)) {
      return;
    }
    // The peer's messages come before it says that it stays. Its cut is the last of them, unless it
    // froze (leave_for_good()).
    const bool frozen = (out().data_wait.word.load(acquire) & kFrozen) != 0;
    if (!withdrawn && (!cut || frozen) && !nothing_to_read(fd)) return;
    // Nor does a message of ours lie unread, of which the socket would tell a reset if the peer
    // closed. Queue first: a close shuts the socket down before it empties the queue.
    if (!kernel_queue_is_empty(fd)) return;
    poll_hang_up(fd);
    if (side_->state.hung_up.load(relaxed) != 0) return;
  }
  side_->state.plain.store(1, release);
}

// The connection stays, or goes back, where the kernel has it.
void Channel::note_retired(int fd) noexcept {
  set_phase(Phase::retired);
  note_plain(fd);
}

void Channel::note_reason(Reason reason, int detail) noexcept {
  SideRecord& record = side_->record;
  if (reason == Reason::none || record.reason.load(relaxed) != 0) return;
  record.detail.store(static_cast<std::uint32_t>(detail), relaxed);
  record.reason.store(static_cast<std::uint32_t>(reason), relaxed);
}

void Channel::note_aside() noexcept { bump(side_->record.asides); }

void Channel::mark_broken() noexcept { side_->state.broken.store(1, release); }

// --- processes ---

void Channel::prepare_fork() noexcept {
  // An answer after the fork would find two processes at this end: take the offer back, unless it
  // was accepted just now.
  if (phase() == Phase::offered) withdraw(Reason::forked);
  side_->inherited.store(1, relaxed);
  asleep.spoil();
  TSSX_FAULT_POINT(fork_counting);
  tell_holders(side_->holders.fetch_add(1, std::memory_order_acq_rel) + 1);
}

void Channel::undo_fork() noexcept {
  tell_holders(side_->holders.fetch_sub(1, std::memory_order_acq_rel) - 1);
}

void Channel::hand_over(int fd) noexcept {
  side_->user.store(process_id(), relaxed);
  if (view_.page == nullptr) return;
  view_.page->side[static_cast<std::size_t>(role_)].pid.store(process_id(), relaxed);
  TSSX_FAULT_POINT(handed_over);
  // One process after another is fine. Two at a time could take each other's bells.
  const std::uint32_t handovers = side_->handovers.fetch_add(1, relaxed) + 1;
  if (handovers > kMaxHandovers || side_->state.sleepers.load(relaxed) != 0) {
    note_reason(Reason::several_users);
    leave_ring(fd);
  }
}

}  // namespace tssx
