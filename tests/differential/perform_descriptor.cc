// Steps that make, copy, pass and close descriptors.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "tests/differential/perform.h"

namespace differential {
namespace {

struct Address {
  sockaddr_un storage{};
  socklen_t length;
  explicit Address(const std::string& path)
      : length(static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1)) {
    storage.sun_family = AF_UNIX;
    std::memcpy(storage.sun_path, path.data(), std::min(path.size(), sizeof storage.sun_path - 1));
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

void close_keeping_errno(int descriptor) {
  const int error = errno;
  ::close(descriptor);
  errno = error;
}

int connect_to(const std::string& path) {
  const Address address(path);
  const int made = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (made == -1) return -1;
  if (::connect(made, address.get(), address.length) == -1) {
    close_keeping_errno(made);
    return -1;
  }
  return made;
}

int listen_on(const std::string& path) {
  const Address address(path);
  const int made = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (made == -1) return -1;
  ::unlink(path.c_str());
  if (::bind(made, address.get(), address.length) == -1 || ::listen(made, 16) == -1) {
    close_keeping_errno(made);
    return -1;
  }
  return made;
}

union Control {
  cmsghdr header;
  char bytes[CMSG_SPACE(4 * sizeof(int))];
};

}  // namespace

bool Performer::perform_descriptor(const Step& step, const Route& route, Result& result) {
  switch (step.op) {
    case Op::pair_: {
      result = named(connect_to(path_), step[0]);
      if (result.value == 0) result = named(::accept(listener_, nullptr, nullptr), step[1]);
      return true;
    }
    case Op::listen_:
      result = named(listen_on(directory_ + "/l" + std::to_string(step[0])), step[0]);
      return true;
    case Op::connect_: {
      // The listener knows its own path.
      sockaddr_un name{};
      socklen_t length = sizeof name;
      if (::getsockname(fd(step[1]), reinterpret_cast<sockaddr*>(&name), &length) == -1) {
        result = outcome(-1);
      } else {
        result = named(connect_to(name.sun_path), step[0]);
      }
      return true;
    }
    case Op::accept_:
      result = named(::accept4(fd(step[1]), nullptr, nullptr, step[2] != 0 ? SOCK_NONBLOCK : 0),
                     step[0]);
      return true;
    case Op::close_:
      result = outcome(::close(fd(step[0])));
      slot(step[0]) = -1;
      return true;
    case Op::shutdown_:
      result = outcome(::shutdown(fd(step[0]), static_cast<int>(step[1])));
      return true;
    case Op::dup_:
      result = named(::dup(fd(step[0])), step[1]);
      return true;
    case Op::dupfd_:
      result = named(::fcntl(fd(step[0]), F_DUPFD, 100), step[1]);
      return true;
    case Op::dup2_:
    case Op::dup3_: {
      const int onto = fd(step[1]);
      const int made =
          step.op == Op::dup2_ ? ::dup2(fd(step[0]), onto) : ::dup3(fd(step[0]), onto, O_CLOEXEC);
      result = outcome(made);
      if (made == onto) result.value = 0;
      return true;
    }
    case Op::pipe_: {
      int ends[2] = {-1, -1};
      result = outcome(::pipe(ends));
      slot(step[0]) = ends[0];
      slot(step[1]) = ends[1];
      return true;
    }
    case Op::sendfd_: {
      const Outgoing out{board_, std::max(route[0].out, 0)};
      iovec part{const_cast<char*>(out.bytes()), static_cast<std::size_t>(step[2])};
      Control control{};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = &control;
      message.msg_controllen = CMSG_SPACE(sizeof(int));
      control.header.cmsg_level = SOL_SOCKET;
      control.header.cmsg_type = SCM_RIGHTS;
      control.header.cmsg_len = CMSG_LEN(sizeof(int));
      const int sent = fd(step[1]);
      std::memcpy(CMSG_DATA(&control.header), &sent, sizeof sent);
      result = outcome(::sendmsg(fd(step[0]), &message, MSG_NOSIGNAL));
      out.sent(result.value);
      return true;
    }
    case Op::recvfd_: {
      const Incoming in{board_, std::max(route[0].in, 0)};
      iovec part{scratch(), static_cast<std::size_t>(step[3])};
      Control control{};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = &control;
      message.msg_controllen = sizeof control;
      result = outcome(::recvmsg(fd(step[0]), &message, static_cast<int>(step[4])));
      if (result.value == -1) return true;
      result.add(message.msg_flags);
      result.add(static_cast<long>(message.msg_controllen));
      for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr;
           one = CMSG_NXTHDR(&message, one)) {
        result.add(one->cmsg_type);
        if (one->cmsg_type != SCM_RIGHTS) continue;
        int received = -1;
        std::memcpy(&received, CMSG_DATA(one), sizeof received);
        slot(step[1]) = received;
      }
      in.check(result, scratch(), result.value, (step[4] & MSG_PEEK) != 0);
      return true;
    }
    default:
      return false;
  }
}

}  // namespace differential
