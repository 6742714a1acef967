#include "tests/fuzz/victim.h"

#include <errno.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cstring>

#include "tests/fuzz/stopped_clock.h"

namespace tssx::fuzz {
namespace {

// Enough to fill a ring; more only makes an input slow.
constexpr std::size_t kMostSent = std::size_t{3} << 18U;

// Of one victim at a time, as there is one thread.
GuardedBuffer* all_buffers() {
  static GuardedBuffer buffers[3];
  return buffers;
}

// While it lives, no descriptor can be had.
class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none{0, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

Victim::Victim(int fd, Role role, const Nonce& nonce, GuardedSegment& place)
    : place_(place), endpoint_(fd, role, nonce), buffers_(all_buffers()) {}

Victim::~Victim() {
  for (; sleepers_ > 0; --sleepers_) channel().woken();
  for (; extra_holders_ > 0; --extra_holders_) channel().undo_fork();
  endpoint_.close();
  place_.reserve_again();
}

void Victim::act(Input& script) {
  switch (script.byte() % 25) {
    case 0:
    case 1:
    case 2:
      receive(script, Peek::no);
      break;
    case 3:
      receive(script, Peek::yes);
      break;
    case 4:
    case 5:
    case 6:
      send(script);
      break;
    case 7:
      send_by_kernel(script);
      break;
    case 8:
      channel().settle(endpoint_.fd());
      break;
    case 9:
      if (channel().is_established()) endpoint_.events();
      break;
    case 10:
      endpoint_.look(static_cast<Channel::Notices>(script.byte() % 3));
      break;
    case 11:
    case 12:
      ask(script);
      break;
    case 13:
    case 14:
      sleep(script);
      break;
    case 15: {
      const std::uint8_t which = script.byte();
      if (!channel().is_established()) break;
      channel().announce((which & 1U) != 0, (which & 2U) != 0);
      break;
    }
    case 16:
      channel().ask_for_reads();
      break;
    case 17:
      if (channel().is_established()) channel().forget_reads();
      break;
    case 18:
      fork(script);
      break;
    case 19:
      leave(script);
      break;
    case 20:
      channel().follow_leaver(endpoint_.fd());
      break;
    case 21:
      channel().note_receive(endpoint_.fd());
      break;
    case 22:
      StoppedClock::advance(std::uint64_t{script.byte()} * 4'000'000);
      break;
    case 23:
      channel().note_user(endpoint_.fd());
      break;
    case 24: {
      const NoDescriptors none;
      receive(script, Peek::no);
      break;
    }
  }
  check_state();
}

void Victim::receive(Input& script, Peek peek) {
  // A receive of nothing is none: shim/stream_io.cc only looks.
  const std::size_t size = std::clamp<std::size_t>(script.size(), 1, GuardedBuffer::kMost);
  auto* const buffer = reinterpret_cast<char*>(buffers_[0].take(size));
  const Outcome got = endpoint_.try_receive(buffer, size, peek);
  check(got.bytes <= size, "more was received than there is room for");
  check(buffers_[0].is_intact(), "something was written before the buffer");
}

void Victim::send(Input& script) {
  iovec parts[3];
  const std::size_t count = 1 + script.byte() % 3U;
  std::size_t size = 0;
  for (std::size_t i = 0; i < count; ++i) {
    parts[i].iov_len = std::min({script.size(), GuardedBuffer::kMost, kMostSent - sent_ - size});
    parts[i].iov_base = buffers_[i].take(parts[i].iov_len);
    size += parts[i].iov_len;
  }
  const Outcome sent = endpoint_.try_send(parts, count);
  check(sent.bytes <= size, "more was sent than there is");
  sent_ += sent.bytes;
}

// A message with a descriptor, as shim/stream_io.cc sends it.
void Victim::send_by_kernel(Input& script) {
  const int fd = endpoint_.fd();
  Route route = channel().before_ancillary_send(endpoint_.fd());
  if (route == Route::ring) {
    channel().step_aside(fd);
    route = channel().before_ancillary_send(endpoint_.fd());
  }
  if (route != Route::kernel) return;
  const int failed = script.byte() % 2 != 0 ? send_with_descriptor(fd, fd) : -EAGAIN;
  channel().after_kernel_send(failed == 0 ? 1 : 0);
}

void Victim::ask(Input& script) {
  const int fd = endpoint_.fd();
  const std::uint8_t what = script.byte();
  // What an application asks of a connection that has not moved is the kernel's to answer.
  if (channel().view().page == nullptr) return;
  if (channel().is_established()) {
    check(channel().bytes_to_read() <= channel().view().capacity, "too much to read");
    check(channel().bytes_unread() <= channel().view().capacity, "too much unread");
    channel().bytes_waiting(fd);
    channel().has_room(fd, script.size());
    channel().head_seen();
    channel().tail_seen();
    channel().may_receive();
    channel().may_send();
    channel().peer_cpu();
    channel().peer_is_leaving();
  }
  channel().is_own_reset();
  channel().has_old_bells();
  const int error = channel().pending_error((what & 1U) != 0);
  check(error == 0 || error == ECONNRESET, "an error that can't be");
  if ((what & 2U) != 0) channel().keep_error();
}

void Victim::sleep(Input& script) {
  const std::uint8_t how = script.byte();
  if (sleepers_ != 0 && (how & 1U) != 0) {
    channel().woken();
    --sleepers_;
  }
  if ((how & 2U) == 0) {
    const bool armed = (how & 4U) != 0 ? channel().arm_data() : channel().arm_space();
    if (armed) ++sleepers_;
  } else if (channel().receives_from_ring() && sleepers_ == 0) {
    // The consuming sleep of a process that is alone.
    if (!channel().arm_data()) return;
    char bells[256];
    iovec part{bells, sizeof bells};
    alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const long got = sys::recvmsg(endpoint_.fd(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got != -EAGAIN) channel().absorb(endpoint_.fd(), got, message);
    channel().woken();
  }
}

void Victim::fork(Input& script) {
  if (extra_holders_ != 0 && script.byte() % 2 != 0) {
    channel().undo_fork();
    --extra_holders_;
  } else if (extra_holders_ < 3) {
    channel().prepare_fork();
    ++extra_holders_;
  }
}

void Victim::leave(Input& script) {
  const int fd = endpoint_.fd();
  const unsigned how = script.byte() % 9U;
  if (how < 3 && !channel().is_established()) return;
  switch (how) {
    case 0:
      channel().shutdown(fd, true, false);
      break;
    case 1:
      channel().shutdown(fd, false, true);
      break;
    case 2:
      channel().shutdown(fd, true, true);
      break;
    case 3:
      channel().leave_ring(fd);
      break;
    case 4:
      channel().step_aside(fd);
      break;
    case 5:
      channel().retire(fd);
      break;
    case 6:
      channel().freeze(fd);
      break;
    case 7:
      channel().leave_for_good(fd);
      break;
    case 8:
      channel().poll_hang_up(fd);
      break;
  }
}

void Victim::check_state() {
  settle_segment();
  const SegmentView& view = channel().view();
  if (view.page == nullptr) return;
  if (capacity_ == 0) capacity_ = view.capacity;
  check(view.capacity == capacity_ && view.size == kHeaderSize + 2 * capacity_,
        "the segment changed its size");
  check(channel().side().receiving.mode.load() <= 1 && channel().side().sending.mode.load() <= 1,
        "a mode that there is not");
}

}  // namespace tssx::fuzz
