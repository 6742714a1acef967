#include "core/channel.h"

#include <errno.h>

#include "core/channel_detail.h"

namespace tssx {

using namespace channel_detail;

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

constexpr int kPassPidfd = 76;  // SO_PASSPIDFD, newer than this libc's headers

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

// --- the offer ---

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

// --- the cut to the ring ---

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

// --- around calls by the kernel ---

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

// --- notices among the bytes ---

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

}  // namespace tssx
