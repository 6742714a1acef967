#include "core/channel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/single_threaded.h>

#include <cstring>

#include "core/ring.h"
#include "core/sys.h"

namespace tssx {
namespace {

// When a connection has proved worth a segment. A connection of one request never gets there.
constexpr std::uint32_t kOfferAfterCalls = 8;
constexpr std::uint64_t kOfferAfterBytes = 64U << 10U;
constexpr std::uint32_t kOfferAloneAfterCalls = 24;
// A server offers within its first megabyte or never, so a client need not look for ever.
constexpr std::uint64_t kOfferWindow = 1U << 20U;
constexpr std::uint32_t kAnswerWithinCalls = 64;
constexpr std::uint32_t kLookForOfferEvery = 16;
constexpr std::uint64_t kDefaultCapacity = 256U << 10U;
constexpr std::uint32_t kMaxHandovers = 16;
// Large transfers are published in steps, so that the other side copies while we do.
constexpr std::size_t kStep = 32U << 10U;
constexpr std::uint64_t kFarewellNs = 50'000'000;
constexpr std::uint64_t kHangUpCheckTicks = 100'000;  // of the TSC: some 30 to 50 us

constexpr int kPassPidfd = 76;  // SO_PASSPIDFD, newer than this libc's headers

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;
constexpr auto seq_cst = std::memory_order_seq_cst;

constexpr std::uint32_t word_of(Mode mode) noexcept { return static_cast<std::uint32_t>(mode); }

std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return sys::now_ns() * 2;
#endif
}

// A statistic: one writer at a time, read by tssx-stat.
template <class T>
void bump(std::atomic<T>& counter) noexcept {
  counter.store(counter.load(relaxed) + 1, relaxed);
}

struct Descriptors {
  int fds[kMaxDescriptors];
  std::size_t count = 0;
};

void collect(msghdr& message, Descriptors* found) noexcept {
  if (message.msg_control == nullptr) return;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count && found->count < kMaxDescriptors; ++i) {
      std::memcpy(&found->fds[found->count++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    }
  }
}

std::size_t room_of(const msghdr& message) noexcept {
  std::size_t room = 0;
  for (std::size_t i = 0; i < message.msg_iovlen; ++i) room += message.msg_iov[i].iov_len;
  return room;
}

void close_all(const Descriptors& found) noexcept {
  for (std::size_t i = 0; i < found.count; ++i) sys::close(found.fds[i]);
}

bool kernel_queue_is_empty(int fd) noexcept {
  int unread = 0;
  return sys::call(SYS_ioctl, fd, SIOCOUTQ, sys::word(&unread)) == 0 && unread == 0;
}

std::uint32_t peer_process(int fd) noexcept {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (sys::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return 0;
  return static_cast<std::uint32_t>(peer.pid);
}

// Options by which every message brings data of the kernel's own: a ring has none to give.
bool wants_ancillary_data(int fd) noexcept {
  for (const int option : {SO_PASSCRED, SO_PASSSEC, kPassPidfd}) {
    int on = 0;
    socklen_t length = sizeof on;
    if (sys::getsockopt(fd, SOL_SOCKET, option, &on, &length) == 0 && on != 0) return true;
  }
  return false;
}

std::uint64_t capacity_for(int fd) noexcept {
  int bytes = 0;
  socklen_t length = sizeof bytes;
  if (sys::getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length) != 0) return 0;
  std::uint64_t capacity = kDefaultCapacity;
  while (capacity < static_cast<std::uint64_t>(bytes)) capacity *= 2;
  return capacity;
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
  bells_owed_.store(0, relaxed);
  writes_since_look_ = 0;
  offer_alone_ = false;
  unread_before_cut_ = false;
  return true;
}

void Channel::abandon() noexcept {
  const std::uint32_t left = side_->holders.fetch_sub(1, std::memory_order_acq_rel) - 1;
  if (view_.page == nullptr) return;
  view_.page->side[static_cast<std::size_t>(role_)].holders.store(left, relaxed);
  if (left == 0) {
    // Hints: who looks at the ring knows to ask the control socket. release: after the last bytes.
    out().producer.flags.fetch_or(kGone, release);
    in().data_wait.word.fetch_or(kReaderGone, release);
  }
}

void Channel::close() noexcept {
  if (phase() == Phase::offered) withdraw();
  abandon();
  unmap_segment(view_);
  view_ = SegmentView{};
  release_side(side_);
  side_ = nullptr;
}

bool Channel::is_exclusive() const noexcept {
  return __libc_single_threaded != 0 && side_->holders.load(relaxed) == 1;
}

void Channel::note_plain() noexcept {
  if (phase() != Phase::retired || receives_from_ring() || sends_to_ring()) return;
  if (view_.page != nullptr && phase() == Phase::retired) {
    // Established once: plain when the peer's own cut has arrived too.
    if (side_->sending.left.load(relaxed) == 0 || side_->receiving.cut.load(relaxed) == 0) return;
  }
  side_->state.plain.store(1, release);
}

void Channel::mark_broken() noexcept { side_->state.broken.store(1, release); }

void Channel::prepare_fork() noexcept {
  // An answer after the fork would find two processes at this end: take the offer back, unless it
  // was accepted just now.
  if (phase() == Phase::offered) withdraw();
  side_->inherited.store(1, relaxed);
  const std::uint32_t holders = side_->holders.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (view_.page != nullptr) {
    view_.page->side[static_cast<std::size_t>(role_)].holders.store(holders, relaxed);
  }
}

void Channel::undo_fork() noexcept {
  const std::uint32_t holders = side_->holders.fetch_sub(1, std::memory_order_acq_rel) - 1;
  if (view_.page != nullptr) {
    view_.page->side[static_cast<std::size_t>(role_)].holders.store(holders, relaxed);
  }
}

void Channel::hand_over(int fd) noexcept {
  side_->user.store(process_id(), relaxed);
  if (view_.page == nullptr) return;
  view_.page->side[static_cast<std::size_t>(role_)].pid.store(process_id(), relaxed);
  // One process after another is fine. Two at a time could take each other's bells.
  const std::uint32_t handovers = side_->handovers.fetch_add(1, relaxed) + 1;
  if (handovers > kMaxHandovers || side_->state.sleepers.load(relaxed) != 0) leave_ring(fd);
}

// --- looking ---

bool Channel::readable_bytes(std::uint64_t tail, std::uint64_t* available) noexcept {
  // acquire: pairs with publish_head(); the bytes before head are visible.
  const std::uint64_t head = in().producer.head.load(acquire);
  *available = head - tail;
  if (*available <= view_.capacity) return true;
  mark_broken();
  return false;
}

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

bool Channel::due_for_hang_up_check() noexcept {
  const std::uint64_t now = ticks();
  // relaxed: readers and writers hold different locks; two looks instead of one do no harm.
  if (now - last_hang_up_check_.load(relaxed) < kHangUpCheckTicks) return false;
  last_hang_up_check_.store(now, relaxed);
  return true;
}

void Channel::poll_hang_up(int fd) noexcept {
  pollfd control{fd, 0, 0};
  const timespec now{0, 0};
  if (sys::poll(&control, 1, &now) == 1 && (control.revents & POLLHUP) != 0) {
    side_->state.hung_up.store(1, release);
  }
}

bool Channel::look_at_socket(int fd, bool force) noexcept {
  char bells[256];
  iovec part{bells, sizeof bells};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
  bells_owed_.store(0, relaxed);
  for (;;) {
    // Behind the cut there are data on the socket, not bells.
    if (!receives_from_ring() || side_->receiving.cut.load(relaxed) != 0) return true;
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const bool only_look = !force && side_->state.sleepers.load(seq_cst) != 0;
    const long got =
        sys::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (only_look ? MSG_PEEK : 0));
    if (got == -EAGAIN || got == -EINTR) return true;
    if (only_look && got > 0) {
      Descriptors clones;
      collect(message, &clones);
      close_all(clones);
      return false;
    }
    absorb(fd, got, message);
    if (got < static_cast<long>(sizeof bells)) return true;
  }
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
  msghdr copy = message;
  Descriptors found;
  collect(copy, &found);
  // In the ring nothing but a cut carries a descriptor; without a free number it is truncated.
  const bool cut = found.count != 0 || (message.msg_flags & MSG_CTRUNC) != 0;
  close_all(found);
  side_->state.bells_heard.fetch_add(static_cast<std::uint64_t>(received) - (cut ? 1U : 0U),
                                     relaxed);
  if (cut) note_cut(fd);
  if (on_bells != nullptr) on_bells(on_bells_context);
}

void Channel::note_cut(int fd) noexcept {
  // The peer published its last head before it sent the cut, and the kernel's queue orders both.
  side_->receiving.final.store(in().producer.head.load(acquire), relaxed);
  side_->receiving.cut.store(1, release);
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

void Channel::finish_cut(int fd) noexcept {
  // The peer's next bytes would come by the kernel, which has to refuse them.
  if (side_->receiving.shut.load(relaxed) != 0) sys::call(SYS_shutdown, fd, SHUT_RD);
  side_->receiving.mode.store(word_of(Mode::kernel), release);
  in().consumer.mode.store(word_of(Mode::kernel), relaxed);
  // Our own direction follows with our next send, which sees kWantKernel.
  note_plain();
}

// --- receiving ---

Outcome Channel::end_or_reset() noexcept {
  const int error = pending_error(true);
  if (error != 0) return {Status::failed, 0, error};
  return {Status::end_of_file};
}

bool Channel::peer_took_everything() const noexcept {
  if (!sends_to_ring()) {
    // What we wrote before we left may still lie in the ring, unless it was sent again.
    return side_->sending.left.load(relaxed) == 0 ||
           (out().data_wait.word.load(relaxed) & kFrozen) != 0 ||
           out().consumer.tail.load(acquire) == side_->sending.head.load(relaxed);
  }
  if (out().consumer.mode.load(relaxed) != word_of(Mode::ring) && unread_before_cut_) return false;
  return out().consumer.tail.load(acquire) == side_->sending.head.load(relaxed);
}

int Channel::pending_error(bool consume) noexcept {
  // unix_release_sock(): the peer of a socket closed with unread data gets ECONNRESET, once.
  const bool broken = side_->state.broken.load(relaxed) != 0;
  const bool reset = side_->state.reset.load(relaxed) != 0;
  if (!broken && (side_->state.hung_up.load(acquire) == 0 || (!reset && peer_took_everything()))) {
    return 0;
  }
  if (side_->state.reset_reported.load(relaxed) != 0) return 0;
  if (consume) side_->state.reset_reported.store(1, relaxed);
  return ECONNRESET;
}

Outcome Channel::at_end_of_ring(int fd) noexcept {
  const std::uint64_t tail = side_->receiving.tail.load(relaxed);
  // acquire: pairs with the release of kFin, which follows the last head.
  const std::uint32_t flags = in().producer.flags.load(acquire);
  if ((flags & kFin) != 0 && in().producer.head.load(acquire) == tail) {
    // A reset comes before the end, as in unix_stream_read_generic().
    if ((flags & kGone) != 0 || due_for_hang_up_check()) poll_hang_up(fd);
    return end_or_reset();
  }
  if (side_->receiving.shut.load(relaxed) != 0) return {Status::end_of_file};
  if (side_->state.hung_up.load(acquire) != 0) {
    return in().producer.head.load(acquire) == tail ? end_or_reset() : Outcome{Status::done};
  }
  if ((flags & kGone) == 0 && !peer_is_leaving() && !has_old_bells() && !due_for_hang_up_check()) {
    return {Status::would_block};
  }
  look_at_socket(fd, false);
  const bool changed = side_->state.hung_up.load(relaxed) != 0 ||
                       side_->receiving.cut.load(relaxed) != 0 || !receives_from_ring() ||
                       in().producer.head.load(acquire) != tail;
  return {changed ? Status::done : Status::would_block};
}

void Channel::publish_tail(int fd, std::uint64_t tail, std::uint64_t head) noexcept {
  ConsumerLine& line = in().consumer;
  // A producer sleeps only if it saw more than half of the ring in use, and it saw at least the
  // tail that was last published with a fence. So unless that much has been in use since, nobody
  // sleeps, and neither the fence nor the look at the producer's line is needed.
  if (head - side_->receiving.fenced_tail <= view_.capacity / 2) {
    line.tail.store(tail, release);  // pairs with the acquire in send() and arm_space()
    return;
  }
  line.tail.exchange(tail, seq_cst);  // full fence; pairs with the one in arm_space()
  side_->receiving.fenced_tail = tail;
  if (head - tail <= view_.capacity / 2 && in().space_wait.word.load(seq_cst) != 0) {
    ring_for_space(fd);
  }
}

Outcome Channel::receive(int fd, const iovec* parts, std::size_t count, Peek peek) noexcept {
  auto& receiving = side_->receiving;
  LockScope lock(receiving.lock, is_exclusive());
  for (;;) {
    if (receiving.mode.load(relaxed) != word_of(Mode::ring)) return {Status::kernel};
    if (side_->state.broken.load(relaxed) != 0) return end_or_reset();
    const std::uint64_t start = receiving.tail.load(relaxed);
    std::uint64_t available = 0;
    if (!readable_bytes(start, &available)) continue;
    if (available == 0) {
      // A handler took bytes while its own thread held the lock for another purpose, or a reader
      // died between claim and publication: the producer has yet to learn of the space.
      if (lock.hold() != Hold::nested && in().consumer.tail.load(relaxed) != start) {
        publish_tail(fd, start, start);
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
          to.size(std::min<std::size_t>(kStep, static_cast<std::size_t>(head - position)));
      if (is_bad_address(to.address(), size)) {
        if (position == start) return {Status::failed, 0, EFAULT};
        break;
      }
      // Claim before copying: a handler that interrupts us here goes on behind these bytes.
      if (peek == Peek::no) receiving.tail.store(position + size, relaxed);
      std::atomic_signal_fence(seq_cst);
      copy_from_ring(in_data(), view_.capacity, position, to.address(), size);
      position += size;
      to.advance(size);
      std::atomic_signal_fence(seq_cst);
      if (peek == Peek::yes || lock.hold() == Hold::nested) continue;
      const std::uint64_t claimed = receiving.tail.load(relaxed);
      publish_tail(fd, claimed, std::max(head, claimed));
      if (claimed != position) break;  // a handler took the bytes that follow
    }
    if (peek == Peek::no && lock.hold() != Hold::nested) {
      bump(in().consumer.messages);
      in().consumer.cpu.store(current_cpu(), relaxed);
    }
    return {Status::done, static_cast<std::size_t>(position - start)};
  }
}

// --- sending ---

bool Channel::publish_head(int fd, std::uint64_t head) noexcept {
  auto& sending = side_->sending;
  // A handler that interrupted the copy may have moved this direction to the kernel: then these
  // bytes were never sent, and go the new way.
  if (sending.mode.load(relaxed) != word_of(Mode::ring)) return false;
  sending.head.store(head, relaxed);
  ProducerLine& line = out().producer;
  // Full fence between the bytes and the look for sleepers; pairs with the one in arm_data().
  line.head.exchange(head, seq_cst);
  if ((out().data_wait.word.load(seq_cst) & kWaiting) != 0) ring_for_data(fd);
  return true;
}

Outcome Channel::send(int fd, const iovec* parts, std::size_t count, std::size_t skip) noexcept {
  auto& sending = side_->sending;
  LockScope lock(sending.lock, is_exclusive());
  if (sending.mode.load(relaxed) != word_of(Mode::ring)) return {Status::kernel};
  if (lock.hold() == Hold::nested) {
    // We interrupted our own thread in the middle of a copy. What it copied is not published; what
    // we write goes by the kernel, and it will follow.
    return {leave_ring_locked(fd) ? Status::kernel : Status::would_block};
  }
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
      return {leave_ring_locked(fd) ? Status::kernel : Status::would_block};
    }
    if ((word & kReaderGone) != 0) poll_hang_up(fd);
  } else if (due_for_hang_up_check()) {
    poll_hang_up(fd);
  }
  if (side_->state.hung_up.load(relaxed) != 0) return {Status::failed, 0, EPIPE};
  // The kernel copies a message before it sends it: one bad part, and nothing goes.
  for (std::size_t i = 0; i < count; ++i) {
    if (parts[i].iov_len != 0 && is_bad_address(parts[i].iov_base, parts[i].iov_len)) {
      return {Status::failed, 0, EFAULT};
    }
  }

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
    for (std::size_t copied = 0; copied < step;) {
      const std::size_t size = from.size(step - copied);
      copy_into_ring(out_data(), view_.capacity, head + copied, from.address(), size);
      from.advance(size);
      copied += size;
    }
    head += step;
    left -= step;
    std::atomic_signal_fence(seq_cst);
    if (!publish_head(fd, head)) break;
  }
  head = sending.head.load(relaxed);
  if (head == start) {
    if (!sends_to_ring()) return {Status::kernel};
    if (side_->state.broken.load(relaxed) != 0) return {Status::failed, 0, EPIPE};
    return {from.at_end() ? Status::done : Status::would_block};
  }
  bump(out().producer.messages);
  const std::uint32_t cpu = current_cpu();
  if (out().producer.cpu.load(relaxed) != cpu) out().producer.cpu.store(cpu, relaxed);
  return {Status::done, static_cast<std::size_t>(head - start)};
}

// --- bells ---

bool Channel::send_bell(int fd) noexcept {
  const char bell = '\a';
  return sys::send(fd, &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

void Channel::ring_for_data(int fd) noexcept {
  // Claim the waiting bit: one bell for one sleeper, however many writers see it. A frozen consumer
  // left the socket to somebody who knows no bells.
  const std::uint32_t word = out().data_wait.word.fetch_and(~kWaiting, seq_cst);
  if ((word & kWaiting) == 0 || (word & kFrozen) != 0) return;
  if (send_bell(fd)) bump(out().producer.bells);
}

void Channel::ring_for_space(int fd) noexcept {
  if ((in().space_wait.word.fetch_and(~kWaiting, seq_cst) & kWaiting) == 0) return;
  if ((out().data_wait.word.load(seq_cst) & kFrozen) != 0) return;
  bool rung = false;
  // Under the lock: a bell must not overtake a cut that another thread is about to send. Locks are
  // always taken in this order, receiving before sending.
  LockScope lock(side_->sending.lock, is_exclusive());
  if (sends_to_ring()) {
    rung = send_bell(fd);
  } else if (side_->sending.left.load(relaxed) == 0 && lock.hold() != Hold::nested) {
    // Our direction is still plain data, where a bell would be a stray byte: cut first. The cut
    // wakes as well as a bell.
    rung = cut_to_ring(fd);
  }
  if (rung) bump(in().consumer.bells);
}

// A set waiting bit is never taken back: another thread or an epoll set may rely on it. The price
// is a bell too many when the wait ended by itself.
void Channel::announce(bool for_data, bool for_space) noexcept {
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

bool Channel::arm_data() noexcept {
  auto& receiving = side_->receiving;
  // Under the lock: nobody drains the bell that this announcement may already have caused.
  LockScope lock(receiving.lock, is_exclusive());
  if (side_->state.hung_up.load(relaxed) != 0) return false;
  if (receives_from_ring()) {
    announce(true, false);
    // kGone alone is a hint, and no reason to stay awake: the socket's own end wakes the sleeper.
    if (in().producer.head.load(acquire) != receiving.tail.load(relaxed) ||
        (in().producer.flags.load(acquire) & kFin) != 0 || receiving.cut.load(relaxed) != 0 ||
        receiving.shut.load(relaxed) != 0 || side_->state.broken.load(relaxed) != 0) {
      return false;
    }
    bump(in().consumer.sleeps);
  }
  side_->state.sleepers.fetch_add(1, seq_cst);
  return true;
}

bool Channel::arm_space() noexcept {
  LockScope lock(side_->receiving.lock, is_exclusive());
  if (side_->state.hung_up.load(relaxed) != 0) return false;
  if (sends_to_ring()) {
    announce(false, true);
    if (may_send()) return false;
    bump(out().producer.sleeps);
  }
  side_->state.sleepers.fetch_add(1, seq_cst);
  return true;
}

bool Channel::peer_is_leaving() const noexcept {
  return receives_from_ring() && in().producer.mode.load(relaxed) != word_of(Mode::ring);
}

void Channel::woken() noexcept { side_->state.sleepers.fetch_sub(1, seq_cst); }

// --- rendezvous ---

bool Channel::make_offer(int fd, bool alone) noexcept {
  auto& sending = side_->sending;
  if (side_->holders.load(acquire) != 1 || sending.kernel_senders.load(relaxed) != 0) return false;
  if (sending.kernel_bytes >= kOfferWindow) {
    set_phase(Phase::retired);
    return false;
  }
  if (alone && !kernel_queue_is_empty(fd)) return false;
  if (wants_ancillary_data(fd)) {
    set_phase(Phase::retired);
    return false;
  }
  const SegmentOrigin origin{nonce_, peer_process(fd), path_, path_length_};
  Result<NewSegment> made = create_segment(capacity_for(fd), origin);
  if (!made) {
    set_phase(Phase::retired);
    return false;
  }
  SegmentView view = made.value().view;
  SideLine& line = view.page->side[static_cast<std::size_t>(role_)];
  line.pid.store(process_id(), relaxed);
  line.holders.store(1, relaxed);
  if (send_with_descriptor(fd, made.value().fd.get()) != 0) {
    unmap_segment(view);
    sending.calls = 0;  // the queue is full or the peer gone: not now
    return false;
  }
  view_ = view;
  offer_alone_ = alone;
  sending.calls_since_offer = 0;
  set_phase(Phase::offered);
  return true;
}

void Channel::withdraw() noexcept {
  if (view_.page == nullptr) return;  // an uncounted child: its parent made the offer
  auto none = static_cast<std::uint32_t>(Answer::none);
  // Against the client's none -> accepted in accept_offer(): one of them wins.
  if (view_.page->answer.answer.compare_exchange_strong(
          none, static_cast<std::uint32_t>(Answer::withdrawn), std::memory_order_acq_rel)) {
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
  if (side_->holders.load(acquire) != 1 || side_->sending.fin.load(relaxed) != 0 ||
      wants_ancillary_data(fd)) {
    set_phase(Phase::retired);
    note_plain();
    return;
  }
  Result<SegmentView> mapped = map_segment(segment, nonce_);
  if (!mapped || mapped.value().capacity < capacity_for(fd)) {
    if (mapped) unmap_segment(mapped.value());
    set_phase(Phase::retired);
    note_plain();
    return;
  }
  SegmentPage* page = mapped.value().page;
  SideLine& line = page->side[static_cast<std::size_t>(role_)];
  line.pid.store(process_id(), relaxed);
  line.holders.store(1, relaxed);
  auto none = static_cast<std::uint32_t>(Answer::none);
  // release: what we wrote into the page; against the server's none -> withdrawn.
  if (!page->answer.answer.compare_exchange_strong(
          none, static_cast<std::uint32_t>(Answer::accepted), std::memory_order_acq_rel)) {
    unmap_segment(mapped.value());
    set_phase(Phase::retired);
    note_plain();
    return;
  }
  view_ = mapped.value();
  set_phase(Phase::established);
}

bool Channel::cut_to_ring(int fd) noexcept {
  auto& sending = side_->sending;
  // Another thread was faster: in the ring, a second descriptor would be the cut back.
  if (sends_to_ring()) return true;
  if (view_.page == nullptr || phase() != Phase::established || sending.left.load(relaxed) != 0 ||
      (out().data_wait.word.load(acquire) & (kWantKernel | kFrozen)) != 0 ||
      sending.kernel_senders.load(relaxed) != 0 || sending.fin.load(relaxed) != 0) {
    return false;
  }
  unread_before_cut_ = !kernel_queue_is_empty(fd);
  // Before the cut, so that its receiver never sees the ring without it (see peer_is_leaving()).
  out().producer.mode.store(word_of(Mode::ring), release);
  if (send_token(fd, TokenKind::to_ring, nonce_) != 0) {
    out().producer.mode.store(word_of(Mode::kernel), relaxed);
    return false;
  }
  sending.mode.store(word_of(Mode::ring), release);
  return true;
}

bool Channel::before_kernel_send(int fd) noexcept {
  auto& sending = side_->sending;
  LockScope lock(sending.lock, is_exclusive());
  if (sends_to_ring()) return true;
  if (lock.hold() != Hold::nested && side_->state.plain.load(relaxed) == 0) {
    ++sending.calls;
    if (role_ == Role::server && phase() == Phase::candidate &&
        (sending.calls >= kOfferAfterCalls || sending.kernel_bytes >= kOfferAfterBytes)) {
      make_offer(fd, false);
    } else if (phase() == Phase::offered) {
      const std::uint32_t answer = view_.page->answer.answer.load(acquire);
      if (answer == static_cast<std::uint32_t>(Answer::accepted)) {
        set_phase(Phase::established);
      } else if (++sending.calls_since_offer > kAnswerWithinCalls) {
        withdraw();
      }
    }
    if (phase() == Phase::established && cut_to_ring(fd)) return true;
  }
  sending.kernel_senders.fetch_add(1, relaxed);
  return false;
}

void Channel::after_kernel_send(long sent) noexcept {
  auto& sending = side_->sending;
  LockScope lock(sending.lock, is_exclusive());
  sending.kernel_senders.fetch_sub(1, relaxed);
  if (sent <= 0) return;
  sending.kernel_bytes += static_cast<std::uint64_t>(sent);
  offer_alone_ = false;
}

void Channel::note_receive(int fd) noexcept {
  if (role_ != Role::server || phase() != Phase::candidate) return;
  auto& sending = side_->sending;
  if (!sending.lock.try_acquire()) return;
  if (phase() == Phase::candidate && ++sending.calls >= kOfferAloneAfterCalls) {
    sending.calls -= kOfferAfterCalls;
    make_offer(fd, true);
  }
  sending.lock.release();
}

void Channel::look_for_offer(int fd) noexcept {
  if (role_ != Role::client || phase() != Phase::candidate) return;
  if (++writes_since_look_ % kLookForOfferEvery != 0) return;
  settle(fd);
}

bool Channel::settle(int fd) noexcept {
  LockScope lock(side_->receiving.lock, is_exclusive());
  if (lock.hold() == Hold::nested) return true;
  return settle_locked(fd);
}

bool Channel::settle_locked(int fd) noexcept {
  for (;;) {
    if (receives_from_ring()) return true;
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
    if (got < 0) return got != -EAGAIN;
    if (got == 0) return true;
    Descriptors clones;
    collect(message, &clones);
    const bool ours =
        got == 1 && clones.count == 1 && classify(clones.fds[0], nonce_) != Notice::foreign;
    close_all(clones);
    if (!ours) return true;
    part.iov_len = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    got = sys::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got != 1) return true;
    bool notice = false;
    inspect(fd, message, 1, Peek::no, &notice);
  }
}

std::size_t Channel::inspect(int fd, msghdr& message, std::size_t received, Peek peek,
                             bool* notice) noexcept {
  *notice = false;
  auto& receiving = side_->receiving;
  if (received != 0) {
    Descriptors found;
    collect(message, &found);
    // Our messages carry exactly one descriptor.
    const Notice kind = found.count == 1 ? classify(found.fds[0], nonce_) : Notice::foreign;
    if (kind != Notice::foreign && peek == Peek::yes && received >= room_of(message)) {
      // The peek filled its room and went on: whose descriptor this is can't be told. The caller's
      // spare byte makes it irrelevant.
      sys::close(found.fds[0]);
    } else if (kind != Notice::foreign) {
      *notice = true;
      --received;
      if (peek == Peek::no) {
        switch (kind) {
          case Notice::segment:
            accept_offer(fd, found.fds[0]);
            break;
          case Notice::decline:
            if (role_ == Role::server) {
              if (phase() == Phase::offered) withdraw();
              if (phase() == Phase::candidate) set_phase(Phase::retired);
            }
            break;
          case Notice::to_ring: {
            // Another thread may still be inside make_offer(): the client is that fast.
            LockScope offer(side_->sending.lock, is_exclusive());
            if (view_.page == nullptr || receiving.cut.load(relaxed) != 0) break;
            if (phase() == Phase::offered) set_phase(Phase::established);
            in().consumer.mode.store(word_of(Mode::ring), relaxed);
            receiving.mode.store(word_of(Mode::ring), release);
            break;
          }
          case Notice::to_kernel:
            receiving.cut.store(1, relaxed);
            break;
          case Notice::foreign:
            break;
        }
      }
      sys::close(found.fds[0]);
      if (peek == Peek::no && kind == Notice::segment) {
        LockScope lock(side_->sending.lock, is_exclusive());
        if (lock.hold() != Hold::nested) cut_to_ring(fd);
      }
      note_plain();
    }
  }
  if (peek == Peek::no) {
    receiving.kernel_bytes += received;
    if (role_ == Role::client && phase() == Phase::candidate &&
        receiving.kernel_bytes >= kOfferWindow + kOfferAfterBytes) {
      set_phase(Phase::retired);
      note_plain();
    }
  }
  return received;
}

bool Channel::is_own_reset() const noexcept {
  // The peer left something unread. If that can only be a message or a bell of ours, the
  // application never sent it, and the kernel's answer to it would have been a plain end.
  if (sends_to_ring()) {
    return !(out().consumer.mode.load(relaxed) != word_of(Mode::ring) && unread_before_cut_);
  }
  if (side_->sending.left.load(relaxed) != 0) {
    return side_->sending.kernel_bytes == side_->sending.bytes_at_cut;
  }
  return offer_alone_;
}

// --- back to the kernel ---

bool Channel::leave_ring_locked(int fd) noexcept {
  auto& sending = side_->sending;
  if (sending.left.load(relaxed) != 0) return true;
  if ((out().data_wait.word.load(acquire) & kFrozen) != 0) {
    resend_by_kernel(fd);
    return true;
  }
  // A receiver that does not read the socket while the ring keeps it busy sees it here.
  out().producer.mode.store(word_of(Mode::kernel), relaxed);
  // Before the cut: whoever finds our direction in the kernel knows that its own must follow.
  in().data_wait.word.fetch_or(kWantKernel, seq_cst);
  // Whether the cut will be the first unread thing on the socket that is not a bell.
  const bool own = sends_to_ring() || kernel_queue_is_empty(fd);
  int failed = send_token(fd, TokenKind::to_kernel, nonce_);
  if (sends_to_ring()) {
    // Without a token any open descriptor marks the cut: in the ring nothing else carries one.
    if (failed != 0 && failed != -EAGAIN) failed = send_with_descriptor(fd, fd);
    // Data must not follow a cut that was not sent; a peer that is gone reads neither.
    if (failed != 0 && failed != -EPIPE && failed != -ECONNRESET) return false;
  } else if (failed == -EAGAIN) {
    return false;
  }
  sending.bytes_at_cut = own ? sending.kernel_bytes : ~std::uint64_t{0};
  finish_leaving(fd);
  return true;
}

// The consumer's tail is final (kFrozen): what lies behind it goes by the socket, which from now on
// carries nothing but data. Called with the sending lock held.
void Channel::resend_by_kernel(int fd) noexcept {
  auto& sending = side_->sending;
  std::uint64_t position = out().consumer.tail.load(acquire);
  const std::uint64_t head = sending.head.load(relaxed);
  if (head - position > view_.capacity) position = head;  // nonsense: nothing can be told
  if (position != head) {
    // Room for all of it at once, whatever the socket was set to.
    int before = 0;
    socklen_t length = sizeof before;
    sys::getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &before, &length);
    const int room = static_cast<int>(view_.capacity) * 2;
    sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, sys::word(&room), sizeof room);
    while (position != head) {
      const std::uint64_t offset = position & (view_.capacity - 1);
      const std::uint64_t size = std::min(head - position, view_.capacity - offset);
      const long sent = sys::send(fd, out_data() + offset, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent > 0) {
        position += static_cast<std::uint64_t>(sent);
      } else if (sent == -EAGAIN) {
        // The new reader has a full queue before it. That can't last long unless it is hostile.
        pollfd space{fd, POLLOUT, 0};
        const timespec patience{1, 0};
        if (sys::poll(&space, 1, &patience) == 0) {
          mark_broken();
          break;
        }
      } else if (sent != -EINTR) {
        break;  // it is gone
      }
    }
    before /= 2;  // the kernel doubles what it is given (socket(7))
    sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, sys::word(&before), sizeof before);
  }
  in().data_wait.word.fetch_or(kWantKernel, seq_cst);
  out().producer.mode.store(word_of(Mode::kernel), relaxed);
  finish_leaving(fd);
}

// This direction runs by the kernel from here on; an end that was told in the ring is told there.
void Channel::finish_leaving(int fd) noexcept {
  auto& sending = side_->sending;
  sending.left.store(1, relaxed);
  sending.mode.store(word_of(Mode::kernel), release);
  if (sending.fin.load(relaxed) != 0) sys::call(SYS_shutdown, fd, SHUT_WR);
  set_phase(Phase::retired);
  note_plain();
}

void Channel::leave_for_good(int fd) noexcept {
  if (is_plain()) return;
  auto& receiving = side_->receiving;
  LockScope reading(receiving.lock, false);
  LockScope writing(side_->sending.lock, false);
  if (phase() == Phase::offered) withdraw();
  if (view_.page == nullptr ||
      (phase() != Phase::established && !receives_from_ring() && !sends_to_ring())) {
    if (phase() == Phase::candidate && role_ == Role::client) {
      // The offer may still come, and the next program would take it for data: refuse beforehand.
      send_token(fd, TokenKind::decline, nonce_);
    }
    settle_locked(fd);  // an offer or a refusal that is next in the queue
    set_phase(Phase::retired);
    return;
  }
  // The peer's cut to the ring, if it is next in the queue. Behind unread data it stays.
  if (!receives_from_ring()) settle_locked(fd);
  // Once frozen, the socket carries data. So every bell must have come before: take back what was
  // asked for, and wait for what the peer had claimed already.
  auto& state = side_->state;
  if ((in().data_wait.word.fetch_and(~kWaiting, seq_cst) & kWaiting) != 0) {
    state.bells_asked.fetch_sub(1, relaxed);
  }
  if ((out().space_wait.word.fetch_and(~kWaiting, seq_cst) & kWaiting) != 0) {
    state.bells_asked.fetch_sub(1, relaxed);
  }
  const std::uint64_t deadline = sys::now_ns() + kFarewellNs;
  while (receives_from_ring() && receiving.cut.load(relaxed) == 0) {
    look_at_socket(fd, true);
    if (state.bells_heard.load(relaxed) >= state.bells_asked.load(relaxed) ||
        state.hung_up.load(relaxed) != 0 || sys::now_ns() > deadline) {
      break;
    }
    sys::sched_yield();
  }
  in().data_wait.word.fetch_or(kWantKernel | kFrozen, seq_cst);
  if (sends_to_ring() && side_->sending.left.load(relaxed) == 0) leave_ring_locked(fd);
  receiving.cut.store(1, relaxed);
  receiving.mode.store(word_of(Mode::kernel), release);
  in().consumer.mode.store(word_of(Mode::kernel), relaxed);
  side_->sending.left.store(1, relaxed);
  side_->sending.mode.store(word_of(Mode::kernel), release);
  set_phase(Phase::retired);
  side_->state.plain.store(1, release);
}

bool Channel::leave_ring(int fd) noexcept {
  LockScope lock(side_->sending.lock, is_exclusive());
  if (view_.page == nullptr) return true;
  if (phase() == Phase::offered) withdraw();
  if (phase() != Phase::established) return true;
  return leave_ring_locked(fd);
}

void Channel::retire(int fd) noexcept {
  LockScope lock(side_->sending.lock, is_exclusive());
  if (phase() == Phase::established) {
    leave_ring_locked(fd);
    return;
  }
  if (phase() == Phase::offered) withdraw();
  if (phase() == Phase::established) {
    leave_ring_locked(fd);
  } else {
    // Not plain yet: a client has to drop the offer that may be under way, a server the refusal.
    set_phase(Phase::retired);
  }
}

void Channel::shutdown(int fd, bool reading, bool writing) noexcept {
  if (writing) {
    LockScope lock(side_->sending.lock, is_exclusive());
    if (sends_to_ring() && (out().data_wait.word.load(acquire) & kFrozen) != 0) {
      resend_by_kernel(fd);
    }
    if (!sends_to_ring() && !cut_to_ring(fd)) sys::call(SYS_shutdown, fd, SHUT_WR);
    side_->sending.fin.store(1, relaxed);
    // release: after the last head; then as after any publication, tell a sleeper.
    out().producer.flags.fetch_or(kFin, seq_cst);
    if ((out().data_wait.word.load(relaxed) & kWaiting) != 0) ring_for_data(fd);
  }
  if (reading) {
    {
      LockScope lock(side_->receiving.lock, is_exclusive());
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

// --- answers to questions ---

short Channel::readiness(int fd, short socket_events) noexcept {
  if ((socket_events & POLLHUP) != 0) side_->state.hung_up.store(1, release);
  auto& receiving = side_->receiving;
  const bool in_ring = receives_from_ring();
  if (in_ring && (socket_events & (POLLIN | POLLHUP)) != 0) {
    LockScope lock(receiving.lock, is_exclusive());
    if (lock.hold() != Hold::nested && receives_from_ring()) look_at_socket(fd, false);
  }
  if (side_->state.hung_up.load(relaxed) == 0 &&
      ((in().producer.flags.load(relaxed) & kGone) != 0 ||
       (out().data_wait.word.load(relaxed) & kReaderGone) != 0)) {
    poll_hang_up(fd);
  }
  constexpr int kReadable = POLLIN | POLLRDNORM;
  constexpr int kWritable = POLLOUT | POLLWRNORM | POLLWRBAND;
  int events = 0;
  const bool broken = side_->state.broken.load(relaxed) != 0;
  const bool hung_up = side_->state.hung_up.load(acquire) != 0 || broken;
  const std::uint32_t flags = in().producer.flags.load(acquire);
  const bool receive_ends =
      hung_up || (receives_from_ring() && (flags & kFin) != 0) || receiving.shut.load(relaxed) != 0;
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
      pollfd control{fd, POLLIN | POLLRDHUP | POLLPRI, 0};
      const timespec now{0, 0};
      socket_events = sys::poll(&control, 1, &now) == 1 ? control.revents : short{0};
    }
    events |= socket_events & (kReadable | POLLRDHUP);
  }
  events |= socket_events & POLLPRI;
  if (receive_ends) events |= kReadable | POLLRDHUP;
  if (!sends_to_ring()) {
    events |= socket_events & kWritable;
  } else if (hung_up || side_->sending.head.load(relaxed) - out().consumer.tail.load(relaxed) <=
                            view_.capacity / 2) {
    events |= kWritable;
  }
  if (receive_ends && send_ends) events |= POLLHUP;
  if (pending_error(false) != 0 ||
      ((socket_events & POLLERR) != 0 && !sends_to_ring() && !is_own_reset())) {
    events |= POLLERR;
  }
  return static_cast<short>(events);
}

std::uint64_t Channel::bytes_to_read() const noexcept {
  const std::uint64_t available =
      in().producer.head.load(acquire) - side_->receiving.tail.load(relaxed);
  return available <= view_.capacity ? available : 0;
}

std::uint64_t Channel::bytes_unread() const noexcept {
  const std::uint64_t used = side_->sending.head.load(relaxed) - out().consumer.tail.load(acquire);
  return used <= view_.capacity ? used : 0;
}

std::uint64_t Channel::head_seen() const noexcept { return in().producer.head.load(relaxed); }
std::uint64_t Channel::tail_seen() const noexcept { return out().consumer.tail.load(relaxed); }

}  // namespace tssx
