// fcntl(2), ioctl(2) and socket options.

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "core/fault.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/duplicate.h"
#include "shim/real.h"
#include "shim/status_flags.h"
#include "shim/stream_io.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef SO_INQ
#define SO_INQ 84
#endif
#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY (1024 + 3)
#endif

using namespace tssx;

namespace {

template <class Function>
int do_fcntl(Function function, int fd, int command, long argument) {
  if (table.size() == 0) return function(fd, command, argument);
  if (command == F_DUPFD_QUERY) argument = table.kernel_fd(static_cast<int>(argument));
  const Slot slot = table.find(fd);
  if (slot.kind() == Kind::unknown) {
    const int result = function(fd, command, argument);
    if (result >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC)) forget_stale(result);
    return result;
  }
  if (slot.kind() == Kind::hidden) {
    errno = EBADF;
    return -1;
  }
  const int kernel_fd = table.kernel_fd(fd);
  if (command == F_SETFL && (argument & O_ASYNC) != 0) {
    // SIGIO comes from the kernel's socket alone.
    if (EndpointRef endpoint(fd); endpoint) {
      endpoint.channel().note_reason(Reason::option);
      endpoint.channel().retire(kernel_fd);
    }
  }
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
    Duplication duplication(fd);
    const int made = function(kernel_fd, command, argument);
    if (made >= 0) forget_stale(made);
    duplication.note(made);
    return made;
  }
  const int result = function(kernel_fd, command, argument);
  if (command == F_SETFL) {
    if (EndpointRef endpoint(fd); endpoint) forget_status_flags(endpoint.channel());
  }
  return result;
}

// Does the option ask the kernel for something that it adds to each message?
bool needs_kernel(int level, int option) noexcept {
  if (level != SOL_SOCKET) return false;
  switch (option) {
    case SO_PASSCRED:
    case SO_PASSSEC:
    case SO_PASSPIDFD:
    case SO_PASSRIGHTS:
    case SO_INQ:
    case SO_PEEK_OFF:
    case SO_RCVLOWAT:
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
      return true;
    default:
      return false;
  }
}

}  // namespace

#define TSSX_FCNTL(name)                                \
  TSSX_INTERPOSED int name(int fd, int command, ...) {  \
    real::ensure();                                     \
    va_list arguments;                                  \
    va_start(arguments, command);                       \
    const long argument = va_arg(arguments, long);      \
    va_end(arguments);                                  \
    return do_fcntl(real::name, fd, command, argument); \
  }
TSSX_FCNTL(fcntl)
TSSX_FCNTL(__fcntl)
TSSX_FCNTL(fcntl64)
#undef TSSX_FCNTL

TSSX_INTERPOSED int ioctl(int fd, unsigned long request, ...) noexcept {
  real::ensure();
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  EndpointRef endpoint(fd);
  if (!endpoint) return real::ioctl(fd, request, argument);
  Channel& channel = endpoint.channel();
  if (!channel.is_plain()) {
    if (request == FIOASYNC) {
      channel.note_reason(Reason::option);
      channel.retire(endpoint.fd());
    }
    // An offer at the front is not the application's to count.
    if (request == FIONREAD && !channel.receives_from_ring()) channel.settle(endpoint.fd());
    // A peer that was killed says nothing, and what it had not read is gone.
    if (request == SIOCOUTQ && channel.sends_to_ring()) channel.poll_hang_up(endpoint.fd());
    if (request == FIONREAD || (request == SIOCOUTQ && channel.sends_to_ring())) {
      const auto bytes = static_cast<int>(request == FIONREAD ? channel.bytes_waiting(endpoint.fd())
                                                              : channel.bytes_unread());
      if (!put(static_cast<int*>(argument), bytes)) {
        errno = EFAULT;
        return -1;
      }
      return 0;
    }
  }
  if (request == SIOCOUTQ && !channel.is_plain()) channel.help_sending(endpoint.fd());
  const int result = real::ioctl(endpoint.fd(), request, argument);
  if (request == FIONBIO) forget_status_flags(channel);
  return result;
}

TSSX_INTERPOSED int getsockopt(int fd, int level, int option, void* value,
                               socklen_t* length) noexcept {
  real::ensure();
  EndpointRef endpoint(fd);
  if (!endpoint) return real::getsockopt(table.kernel_fd(fd), level, option, value, length);
  Channel& channel = endpoint.channel();
  const int result = real::getsockopt(endpoint.fd(), level, option, value, length);
  if (result != 0 || level != SOL_SOCKET || option != SO_ERROR || channel.is_plain() ||
      *length < sizeof(int)) {
    return result;
  }
  int& error = *static_cast<int*>(value);
  if (channel.is_established()) {
    channel.poll_hang_up(endpoint.fd());
    if (error == ECONNRESET || error == 0) error = channel.pending_error(true);
  } else if (error == ECONNRESET && channel.is_own_reset()) {
    error = 0;
  }
  return 0;
}

TSSX_INTERPOSED int setsockopt(int fd, int level, int option, const void* value,
                               socklen_t length) noexcept {
  real::ensure();
  if (table.size() == 0) return real::setsockopt(fd, level, option, value, length);
  const Slot slot = table.find(fd);
  if (needs_kernel(level, option)) {
    if (slot.kind() == Kind::fresh) {
      table.set(fd, Slot(Kind::ordinary, nullptr));
    } else if (EndpointRef endpoint(fd); endpoint) {
      endpoint.channel().note_reason(Reason::option);
      endpoint.channel().retire(endpoint.fd());
      follow_mode(*endpoint);
    }
  }
  const int result = real::setsockopt(table.kernel_fd(fd), level, option, value, length);
  if (result == 0 && level == SOL_SOCKET && slot.kind() == Kind::endpoint) {
    if (EndpointRef endpoint(fd); endpoint) {
      auto& state = endpoint.channel().side().state;
      if (option == SO_RCVTIMEO) state.receive_timeout_ns.store(kUnknownTimeout);
      if (option == SO_SNDTIMEO) state.send_timeout_ns.store(kUnknownTimeout);
    }
  }
  return result;
}
