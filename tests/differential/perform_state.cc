// Steps that ask for or change the state of a descriptor; and delay.
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/differential/perform.h"

namespace differential {
namespace {

// Of a name only what is the same in every run: not the directory.
void add_name(Result& result, const sockaddr_un& name, socklen_t length) {
  result.add(length);
  if (length < sizeof(sa_family_t)) return;
  result.add(name.sun_family);
  if (length > sizeof(sa_family_t)) result.add(name.sun_path[0]);
}

}  // namespace

bool Performer::perform_state(const Step& step, Result& result) {
  switch (step.op) {
    case Op::fionread_:
    case Op::siocoutq_: {
      int count = -1;
      result =
          outcome(::ioctl(fd(step[0]), step.op == Op::fionread_ ? FIONREAD : SIOCOUTQ, &count));
      result.add(count);
      return true;
    }
    case Op::fionbio_: {
      int on = static_cast<int>(step[1]);
      result = outcome(::ioctl(fd(step[0]), FIONBIO, &on));
      return true;
    }
    case Op::getfl_:
      result = outcome(::fcntl(fd(step[0]), F_GETFL));
      return true;
    case Op::setfl_: {
      const int flags = ::fcntl(fd(step[0]), F_GETFL);
      result = outcome(
          ::fcntl(fd(step[0]), F_SETFL, step[1] != 0 ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
      return true;
    }
    case Op::getopt_: {
      const SocketOption& option = kSocketOptions[step[1]];
      timeval time{};
      int value = 0;
      socklen_t length = option.time ? sizeof time : sizeof value;
      void* into = option.time ? static_cast<void*>(&time) : &value;
      result = outcome(::getsockopt(fd(step[0]), SOL_SOCKET, option.value, into, &length));
      result.add(length);
      result.add(option.time ? time.tv_sec * 1000 + time.tv_usec / 1000 : value);
      return true;
    }
    case Op::setopt_: {
      const SocketOption& option = kSocketOptions[step[1]];
      const timeval time{step[2] / 1000, step[2] % 1000 * 1000};
      const int value = static_cast<int>(step[2]);
      result = outcome(
          option.time ? ::setsockopt(fd(step[0]), SOL_SOCKET, option.value, &time, sizeof time)
                      : ::setsockopt(fd(step[0]), SOL_SOCKET, option.value, &value, sizeof value));
      return true;
    }
    case Op::getsockname_:
    case Op::getpeername_: {
      sockaddr_un name{};
      socklen_t length = sizeof name;
      auto* address = reinterpret_cast<sockaddr*>(&name);
      result = outcome(step.op == Op::getsockname_ ? ::getsockname(fd(step[0]), address, &length)
                                                   : ::getpeername(fd(step[0]), address, &length));
      if (result.value == 0) add_name(result, name, length);
      return true;
    }
    case Op::delay_: {
      const timespec time{0, step[0] * 1000};
      ::nanosleep(&time, nullptr);
      return true;
    }
    default:
      return false;
  }
}

}  // namespace differential
