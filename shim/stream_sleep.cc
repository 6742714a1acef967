#include "shim/stream_sleep.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "core/fault_point.h"
#include "shim/call_signal.h"
#include "shim/real.h"
#include "shim/status_flags.h"
#include "shim/stream_io.h"

namespace tssx {
namespace {

// A blocking receive gave up: by SO_RCVTIMEO, which is no business of a writer's (a reader's sleep
// has a deadline), or because somebody made the socket non-blocking meanwhile.
Wake after_timeout(Channel& channel, int fd) noexcept {
  return ask_nonblocking(channel, fd) ? Wake::timed_out : Wake::look_again;
}

}  // namespace

Wake after_signal(bool restartable) noexcept {
  return restartable && every_handler_restarts() ? Wake::look_again : Wake::interrupted;
}

Wake nap(std::uint64_t nanoseconds, bool restartable) {
  const timespec time = sys::timespec_of(nanoseconds);
  return real::ppoll(nullptr, 0, &time, nullptr) < 0 ? after_signal(restartable) : Wake::look_again;
}

int poll_until(int fd, short events, std::uint64_t deadline) {
  pollfd control{fd, events, 0};
  if (deadline == 0) return real::ppoll(&control, 1, nullptr, nullptr);
  const std::uint64_t now = sys::now_ns();
  if (now >= deadline) return 0;
  const timespec left = sys::timespec_of(deadline - now);
  return real::ppoll(&control, 1, &left, nullptr);
}

ssize_t receive_asleep(Channel& channel, int fd, msghdr& message, int flags, bool bells) {
  SocketSleep::Scope scope(channel.asleep, message);
  // Another holder, which is gone now, or this very thread while it cleared the socket, or a signal
  // handler of it, may have taken a cut: then data come here, and not bells, or the reverse.
  if (channel.receives_from_ring() != bells || (bells && channel.has_read_cut())) {
    errno = EMSGSIZE;
    return -1;
  }
  return real::recvmsg(fd, scope.message(), flags);
}

Wake sleep_on_socket(Channel& channel, int fd, std::uint64_t deadline, bool restartable) {
  Sleep sleep(channel);
  TSSX_FAULT_POINT(sleeping);
  if (deadline != 0 || !restartable) {
    const int ready = poll_until(fd, POLLIN, deadline);
    TSSX_FAULT_POINT(slept_to_deadline);
    if (ready < 0) return Wake::interrupted;
    return ready == 0 ? Wake::timed_out : Wake::look_again;
  }
  if (channel.is_exclusive()) {
    char bells[256];
    iovec part{bells, sizeof bells};
    alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = receive_asleep(channel, fd, message, MSG_CMSG_CLOEXEC, true);
    TSSX_FAULT_POINT(slept_alone);
    if (got < 0 && errno == EMSGSIZE) return Wake::look_again;
    if (got < 0 && errno == EINTR) return Wake::interrupted;
    if (got < 0 && errno == EAGAIN) return after_timeout(channel, fd);
    channel.absorb(fd, got < 0 ? -errno : got, message);
    return Wake::look_again;
  }
  // Others may sleep here too: leave the bell for them to see.
  char byte = 0;
  const ssize_t got = real::recv(fd, &byte, 1, MSG_PEEK);
  TSSX_FAULT_POINT(slept_with_others);
  if (got < 0 && errno == EINTR) return Wake::interrupted;
  if (got < 0 && errno == EAGAIN) return after_timeout(channel, fd);
  if (got <= 0) channel.poll_hang_up(fd);
  return Wake::look_again;
}

Wake clear_bells(Channel& channel, int fd, bool consuming, bool restartable) {
  if (consuming || !channel.receives_from_ring()) return Wake::look_again;
  for (;;) {
    {
      LockScope lock(channel.side().receiving.lock, channel.is_exclusive());
      if (lock.hold() == Hold::nested || !channel.receives_from_ring()) return Wake::look_again;
      if (channel.look_at_socket(fd, Channel::Notices::leave_for_a_while)) return Wake::look_again;
    }
    if (nap(kNapNs, restartable) == Wake::interrupted) return Wake::interrupted;
  }
}

}  // namespace tssx
