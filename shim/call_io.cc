// read(2) and its family, write(2) and its family: thin fronts of stream_io.

#include <errno.h>

#include <algorithm>
#include <cstring>

#include "core/fault.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/exec.h"
#include "shim/mark.h"
#include "shim/real.h"
#include "shim/stream_io.h"
#include "shim/tell_address.h"

using namespace tssx;

namespace {

// Calls visit(EndpointRef&, where) for each endpoint in the message's control data; `where` is
// where its number stands.
template <class Visit>
void for_each_passed(msghdr message, Visit&& visit) noexcept {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_len < CMSG_LEN(0)) return;
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      unsigned char* at = CMSG_DATA(header) + i * sizeof(int);
      std::memcpy(&fd, at, sizeof fd);
      drop_mark(fd);
      if (EndpointRef endpoint(fd); endpoint) visit(endpoint, at);
    }
  }
}

// Endpoints that leave by SCM_RIGHTS: their next holder may know nothing of rings, so they go back
// to the kernel first. An ID goes as the kernel's descriptor behind it.
void give_up_passed(const msghdr* message) noexcept {
  // Faults are caught from the first endpoint on; before it there is nothing to give up.
  msghdr copy{};
  if (!faults_are_caught() || !get(&copy, message) || copy.msg_controllen == 0 ||
      !is_readable(copy.msg_control, copy.msg_controllen)) {
    return;
  }
  // In two steps, since both ends of one connection may be among them.
  for_each_passed(copy, [](EndpointRef& endpoint, unsigned char*) {
    endpoint.channel().note_reason(Reason::passed);
    endpoint.channel().freeze(endpoint.fd());
  });
  bool any = false;
  for_each_passed(copy, [&any](EndpointRef& endpoint, unsigned char* where) {
    endpoint.channel().leave_for_good(endpoint.fd());
    follow_mode(*endpoint);
    int fd = -1;
    std::memcpy(&fd, where, sizeof fd);
    const int kernel_fd = endpoint.fd();
    // Where that can't be written, the kernel refuses the ID.
    if (DescriptorTable::is_id(fd)) {
      static_cast<void>(copy_to_application(where, &kernel_fd, sizeof kernel_fd));
    }
    any = true;
  });
  if (any) follow_leavers();
}

// Descriptors that came by SCM_RIGHTS have numbers of which the table may know something stale.
void note_received(const msghdr& message) noexcept {
  if (table.size() == 0 || message.msg_controllen < sizeof(cmsghdr)) return;
  msghdr copy = message;
  for (cmsghdr* header = CMSG_FIRSTHDR(&copy); header != nullptr;
       header = CMSG_NXTHDR(&copy, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= header->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, reinterpret_cast<unsigned char*>(header) + at, sizeof fd);
      forget_stale(fd);
    }
  }
}

ssize_t receive_one(EndpointRef& endpoint, void* buffer, size_t size, int flags) {
  iovec part{buffer, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return receive_stream(endpoint, message, flags);
}

ssize_t send_one(EndpointRef& endpoint, const void* data, size_t size, int flags) {
  iovec part{const_cast<void*>(data), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return send_stream(endpoint, message, flags);
}

ssize_t do_read(int fd, void* buffer, size_t size) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    if (size == 0 || endpoint.channel().is_plain()) {
      return real::read(endpoint.fd(), buffer, size);
    }
    return receive_one(endpoint, buffer, size, 0);
  }
  return real::read(fd, buffer, size);
}

ssize_t do_write(int fd, const void* data, size_t size) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    if (endpoint.channel().is_plain()) return real::write(endpoint.fd(), data, size);
    return send_one(endpoint, data, size, 0);
  }
  return real::write(fd, data, size);
}

ssize_t do_recv(int fd, void* buffer, size_t size, int flags) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    if (endpoint.channel().is_plain()) return real::recv(endpoint.fd(), buffer, size, flags);
    return receive_one(endpoint, buffer, size, flags);
  }
  return real::recv(fd, buffer, size, flags);
}

ssize_t do_send(int fd, const void* data, size_t size, int flags) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    if (endpoint.channel().is_plain()) return real::send(endpoint.fd(), data, size, flags);
    return send_one(endpoint, data, size, flags);
  }
  return real::send(fd, data, size, flags);
}

ssize_t do_recvfrom(int fd, void* buffer, size_t size, int flags, sockaddr* address,
                    socklen_t* length) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    iovec part{buffer, size};
    sockaddr_un name{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_name = address != nullptr ? &name : nullptr;
    message.msg_namelen = address != nullptr ? sizeof name : 0;
    const ssize_t got = receive_stream(endpoint, message, flags);
    if (got < 0 || address == nullptr) return got;
    return tell_address(name, message.msg_namelen, address, length) == 0 ? got : -1;
  }
  return real::recvfrom(fd, buffer, size, flags, address, length);
}

size_t total(const iovec* parts, int count) noexcept {
  size_t sum = 0;
  for (int i = 0; i < count; ++i) sum += parts[i].iov_len;
  return sum;
}

// readv(2) and writev(2) check their own way: a bad count is EINVAL there.
bool is_vector(const iovec* parts, int count) noexcept {
  return count > 0 && count <= 1024 &&
         is_readable(parts, static_cast<size_t>(count) * sizeof(iovec));
}

// recvmsg(2) into a copy of the application's header, of which the kernel writes back these
// (____sys_recvmsg()).
ssize_t receive_message(EndpointRef& endpoint, msghdr* message, msghdr& copy, int flags) {
  const ssize_t got = receive_stream(endpoint, copy, flags);
  if (got < 0) return got;
  if ((copy.msg_name == nullptr || put(&message->msg_namelen, copy.msg_namelen)) &&
      put(&message->msg_flags, copy.msg_flags) &&
      put(&message->msg_controllen, copy.msg_controllen)) {
    return got;
  }
  errno = EFAULT;
  return -1;
}

}  // namespace

TSSX_INTERPOSED ssize_t read(int fd, void* buffer, size_t size) {
  return do_read(fd, buffer, size);
}
TSSX_INTERPOSED ssize_t __read(int fd, void* buffer, size_t size) {
  return do_read(fd, buffer, size);
}
TSSX_INTERPOSED ssize_t __read_chk(int fd, void* buffer, size_t size, size_t room) {
  real::ensure();
  if (size > room) return real::__read_chk(fd, buffer, size, room);  // aborts, as it should
  return do_read(fd, buffer, size);
}

TSSX_INTERPOSED ssize_t readv(int fd, const iovec* parts, int count) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    if (endpoint.channel().is_plain() || !is_vector(parts, count) || total(parts, count) == 0) {
      return real::readv(endpoint.fd(), parts, count);
    }
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts);
    message.msg_iovlen = static_cast<size_t>(count);
    return receive_stream(endpoint, message, 0);
  }
  return real::readv(fd, parts, count);
}

TSSX_INTERPOSED ssize_t recv(int fd, void* buffer, size_t size, int flags) {
  return do_recv(fd, buffer, size, flags);
}
TSSX_INTERPOSED ssize_t __recv_chk(int fd, void* buffer, size_t size, size_t room, int flags) {
  real::ensure();
  if (size > room) return real::__recv_chk(fd, buffer, size, room, flags);
  return do_recv(fd, buffer, size, flags);
}
TSSX_INTERPOSED ssize_t recvfrom(int fd, void* buffer, size_t size, int flags, sockaddr* address,
                                 socklen_t* length) {
  return do_recvfrom(fd, buffer, size, flags, address, length);
}
TSSX_INTERPOSED ssize_t __recvfrom_chk(int fd, void* buffer, size_t size, size_t room, int flags,
                                       sockaddr* address, socklen_t* length) {
  real::ensure();
  if (size > room) return real::__recvfrom_chk(fd, buffer, size, room, flags, address, length);
  return do_recvfrom(fd, buffer, size, flags, address, length);
}

TSSX_INTERPOSED ssize_t recvmsg(int fd, msghdr* message, int flags) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    msghdr copy;
    if (!get(&copy, message)) {
      return real::recvmsg(endpoint.fd(), message, flags);
    }
    const ssize_t got = receive_message(endpoint, message, copy, flags);
    if (got >= 0) note_received(*message);
    return got;
  }
  const ssize_t got = real::recvmsg(fd, message, flags);
  if (got >= 0) note_received(*message);
  return got;
}

TSSX_INTERPOSED int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags,
                             timespec* timeout) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    if (endpoint.channel().is_plain() && endpoint.channel().role() == Role::client) {
      return real::recvmmsg(endpoint.fd(), messages, count, flags, timeout);
    }
    timespec time{};
    if (timeout != nullptr && (!get(&time, timeout) || time.tv_sec < 0 || time.tv_nsec < 0 ||
                               time.tv_nsec >= 1'000'000'000)) {
      return real::recvmmsg(endpoint.fd(), messages, 0, flags, timeout);  // the kernel's own error
    }
    // do_recvmmsg() of the kernel: the timeout is looked at between messages only, and an error
    // after the first message is told by the next call.
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error != 0) {
      errno = error;
      return -1;
    }
    const std::uint64_t start = sys::now_ns();
    const std::uint64_t limit = timeout == nullptr ? ~std::uint64_t{0} : sys::nanoseconds_of(time);
    int done = 0;
    int how = flags & ~MSG_WAITFORONE;
    while (done < static_cast<int>(count)) {
      msghdr copy;
      ssize_t got = -1;
      if (!get(&copy, &messages[done].msg_hdr)) {
        errno = EFAULT;
      } else {
        got = receive_message(endpoint, &messages[done].msg_hdr, copy, how);
      }
      if (got >= 0 && !put(&messages[done].msg_len, static_cast<unsigned>(got))) {
        errno = EFAULT;
        got = -1;
      }
      if (got < 0) return done != 0 ? done : -1;
      note_received(messages[done].msg_hdr);
      ++done;
      if ((flags & MSG_WAITFORONE) != 0) how |= MSG_DONTWAIT;
      // do_recvmmsg(): "Out of band data, return right away".
      if ((copy.msg_flags & MSG_OOB) != 0 || sys::now_ns() - start >= limit) break;
    }
    if (timeout != nullptr) {
      const std::uint64_t gone = sys::now_ns() - start;
      const std::uint64_t left = gone < limit ? limit - gone : 0;
      if (!put(timeout, sys::timespec_of(left))) {
        errno = EFAULT;
        return -1;
      }
    }
    return done;
  }
  const int got = real::recvmmsg(fd, messages, count, flags, timeout);
  for (int i = 0; i < got; ++i) note_received(messages[i].msg_hdr);
  return got;
}

TSSX_INTERPOSED ssize_t write(int fd, const void* data, size_t size) {
  return do_write(fd, data, size);
}
TSSX_INTERPOSED ssize_t __write(int fd, const void* data, size_t size) {
  return do_write(fd, data, size);
}

TSSX_INTERPOSED ssize_t writev(int fd, const iovec* parts, int count) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    if (endpoint.channel().is_plain() || !is_vector(parts, count) || total(parts, count) == 0) {
      return real::writev(endpoint.fd(), parts, count);
    }
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts);
    message.msg_iovlen = static_cast<size_t>(count);
    return send_stream(endpoint, message, 0);
  }
  return real::writev(fd, parts, count);
}

TSSX_INTERPOSED ssize_t send(int fd, const void* data, size_t size, int flags) {
  return do_send(fd, data, size, flags);
}
TSSX_INTERPOSED ssize_t __send(int fd, const void* data, size_t size, int flags) {
  return do_send(fd, data, size, flags);
}

TSSX_INTERPOSED ssize_t sendto(int fd, const void* data, size_t size, int flags,
                               const sockaddr* address, socklen_t length) {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    if (endpoint.channel().is_plain() || (address != nullptr && length != 0)) {
      // A connected stream refuses a destination (EISCONN) and sends nothing.
      return real::sendto(endpoint.fd(), data, size, flags, address, length);
    }
    return send_one(endpoint, data, size, flags);
  }
  return real::sendto(fd, data, size, flags, address, length);
}

TSSX_INTERPOSED ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  real::ensure();
  give_up_passed(message);
  if (EndpointRef endpoint(fd); endpoint) {
    msghdr copy;
    if (endpoint.channel().is_plain() || !get(&copy, message)) {
      return real::sendmsg(endpoint.fd(), message, flags);
    }
    return send_stream(endpoint, copy, flags);
  }
  return real::sendmsg(fd, message, flags);
}

TSSX_INTERPOSED int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  real::ensure();
  for (unsigned i = 0; i < std::min(count, 1024U); ++i) give_up_passed(&messages[i].msg_hdr);
  if (EndpointRef endpoint(fd); endpoint) {
    if (endpoint.channel().is_plain()) {
      return real::sendmmsg(endpoint.fd(), messages, count, flags);
    }
    int done = 0;
    while (done < static_cast<int>(count)) {
      msghdr copy;
      ssize_t sent = -1;
      if (!get(&copy, &messages[done].msg_hdr)) {
        errno = EFAULT;
      } else {
        sent = send_stream(endpoint, copy, flags);
      }
      if (sent >= 0 && !put(&messages[done].msg_len, static_cast<unsigned>(sent))) {
        errno = EFAULT;
        sent = -1;
      }
      if (sent < 0) return done != 0 ? done : -1;
      ++done;
    }
    return done;
  }
  return real::sendmmsg(fd, messages, count, flags);
}
