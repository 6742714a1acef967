// Calls by which the kernel itself moves bytes through a socket: it must find them there.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "core/sys.h"
#include "shim/call_signal.h"
#include "shim/descriptor_table.h"
#include "shim/real.h"
#include "shim/status_flags.h"
#include "shim/stream_io.h"

using namespace tssx;

namespace {

constexpr size_t kBuffer = 16384;

// From a file into an endpoint, by way of a buffer: sendfile(2)'s own semantics of the offset.
ssize_t copy_file(EndpointRef& endpoint, int in, off_t* offset, size_t count) {
  char buffer[kBuffer];
  size_t done = 0;
  while (done < count) {
    const size_t want = count - done < sizeof buffer ? count - done : sizeof buffer;
    off_t position = offset != nullptr ? *offset : ::lseek(in, 0, SEEK_CUR);
    if (position < 0) {
      if (errno == ESPIPE) errno = EINVAL;  // splice_direct_to_actor() of the kernel
      return done != 0 ? static_cast<ssize_t>(done) : -1;
    }
    const ssize_t got = ::pread(in, buffer, want, position);
    if (got <= 0) return done != 0 || got == 0 ? static_cast<ssize_t>(done) : -1;
    iovec part{buffer, static_cast<size_t>(got)};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t sent = send_stream(endpoint, message, 0);
    if (sent < 0) return done != 0 ? static_cast<ssize_t>(done) : -1;
    position += sent;
    done += static_cast<size_t>(sent);
    if (offset != nullptr) {
      *offset = position;
    } else if (::lseek(in, position, SEEK_SET) < 0) {
      return static_cast<ssize_t>(done);
    }
    if (sent < got) break;
  }
  return static_cast<ssize_t>(done);
}

bool is_pipe(int fd) noexcept {
  struct stat status {};
  return real::fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

// poll(2) for one event. False with errno: EAGAIN if it may not wait, EINTR if a handler wants
// that.
bool wait_for(int fd, short event, bool patient) {
  for (;;) {
    pollfd look{fd, event, 0};
    const int ready = ::poll(&look, 1, patient ? -1 : 0);
    if (ready > 0) return true;
    if (ready == 0) errno = EAGAIN;
    if (ready == 0 || errno != EINTR || !every_handler_restarts()) return false;
  }
}

// Waits until the connection takes `size` bytes. Whether to wait is up to O_NONBLOCK,
// SPLICE_F_NONBLOCK is about the pipe (splice_to_socket() in the kernel's fs/splice.c). False with
// errno and, as that says, SIGPIPE: what is in the pipe stays there.
bool wait_for_room(EndpointRef& to, int number, size_t size) {
  constexpr int kLookMs = 100;  // a socket that is shut and full is not writable
  for (;;) {
    const msghdr nothing{};
    if (send_stream(to, nothing, MSG_DONTWAIT) < 0) return false;
    if (to.channel().has_room(to.fd(), size)) return true;
    if (is_nonblocking(to.channel(), to.fd())) {
      errno = EAGAIN;
      return false;
    }
    pollfd room{number, POLLOUT, 0};
    if (::poll(&room, 1, kLookMs) < 0 && (errno != EINTR || !every_handler_restarts())) {
      return false;
    }
  }
}

template <class Function>
ssize_t do_sendfile(Function function, int out, int in, off_t* offset, size_t count) {
  in = table.kernel_fd(in);
  if (EndpointRef endpoint(out); endpoint) {
    if (endpoint.channel().is_plain()) return function(endpoint.fd(), in, offset, count);
    return copy_file(endpoint, in, offset, count);
  }
  return function(out, in, offset, count);
}

}  // namespace

TSSX_INTERPOSED ssize_t sendfile(int out, int in, off_t* offset, size_t count) noexcept {
  real::ensure();
  return do_sendfile(real::sendfile, out, in, offset, count);
}

TSSX_INTERPOSED ssize_t sendfile64(int out, int in, off64_t* offset, size_t count) noexcept {
  real::ensure();
  return do_sendfile(real::sendfile64, out, in, offset, count);
}

TSSX_INTERPOSED ssize_t splice(int in, off64_t* in_offset, int out, off64_t* out_offset,
                               size_t size, unsigned flags) {
  real::ensure();
  EndpointRef from(in);
  EndpointRef to(out);
  const int kernel_in = from ? from.fd() : in;
  const int kernel_out = to ? to.fd() : out;
  // With no pipe at either end, the kernel refuses and moves nothing.
  if (size == 0 || ((!from || from.channel().is_plain() || !is_pipe(kernel_out)) &&
                    (!to || to.channel().is_plain() || !is_pipe(kernel_in)))) {
    return real::splice(kernel_in, in_offset, kernel_out, out_offset, size, flags);
  }
  // The other end is ours: copy.
  if (in_offset != nullptr || out_offset != nullptr) {
    errno = ESPIPE;
    return -1;
  }
  char buffer[kBuffer];
  const size_t want = size < sizeof buffer ? size : sizeof buffer;
  const int how = (flags & SPLICE_F_NONBLOCK) != 0 ? MSG_DONTWAIT : 0;
  iovec part{buffer, want};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (from) {
    pollfd pipe{out, POLLOUT, 0};
    if (real::poll(&pipe, 1, (flags & SPLICE_F_NONBLOCK) != 0 ? 0 : -1) == 0) {
      errno = EAGAIN;
      return -1;
    }
    // A writable pipe takes at least PIPE_BUF bytes at once (pipe(7)).
    part.iov_len = want < PIPE_BUF ? want : PIPE_BUF;
    const ssize_t got = receive_stream(from, message, how);
    if (got <= 0) return got;
    return real::write(out, buffer, static_cast<size_t>(got));
  }
  // What is out of the pipe has to be delivered, however long that takes (docs/limitations.md). So
  // nothing is taken before there is room for our buffer: only somebody else who writes at the same
  // time can use that up.
  const bool patient = (flags & SPLICE_F_NONBLOCK) == 0 && !is_nonblocking(in);
  if (!wait_for(in, POLLIN, patient)) return -1;
  int filled = 0;  // 0: the writers are gone
  if (real::ioctl(in, FIONREAD, &filled) == 0 && filled != 0 && !wait_for_room(to, out, want)) {
    return -1;
  }
  const ssize_t got = real::read(in, buffer, want);
  if (got <= 0) return got;
  size_t done = 0;
  while (done < static_cast<size_t>(got)) {
    part.iov_base = buffer + done;
    part.iov_len = static_cast<size_t>(got) - done;
    const ssize_t sent = send_stream(to, message, 0);
    if (sent < 0) {
      if (errno != EAGAIN) return -1;
      pollfd space{out, POLLOUT, 0};
      if (::poll(&space, 1, -1) < 0 && errno != EINTR) return -1;
      continue;
    }
    done += static_cast<size_t>(sent);
  }
  return got;
}
