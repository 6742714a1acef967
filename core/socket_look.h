// Questions to a socket that neither wait nor change anything.
//
// Thread safety: functions of their arguments. May be called from: anywhere; no malloc, no stdio.
#pragma once

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/sys.h"

namespace tssx {

// What poll(2) would tell of `events` now; 0 if it fails.
inline short poll_now(int fd, int events) noexcept {
  pollfd look{fd, static_cast<short>(events), 0};
  const timespec now{0, 0};
  return sys::poll(&look, 1, &now) == 1 ? look.revents : short{0};
}

// Not so if the peer has closed its end, or either end was shut for this direction. A message of no
// bytes goes nowhere, and costs half of what poll(2) does (unix_stream_sendmsg()).
inline bool can_be_written_to(int fd) noexcept {
  return sys::send(fd, nullptr, 0, MSG_DONTWAIT | MSG_NOSIGNAL) == 0;
}

// An option of SOL_SOCKET that is an int; `otherwise` if it can't be had.
inline int option_of(int fd, int option, int otherwise) noexcept {
  int value = otherwise;
  socklen_t length = sizeof value;
  return sys::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : otherwise;
}

// All that lies in the receiving queue, the urgent byte too; -1 if that can't be had.
inline int unread_bytes(int fd) noexcept {
  int unread = 0;
  return sys::call(SYS_ioctl, fd, SIOCINQ, sys::word(&unread)) == 0 ? unread : -1;
}

inline bool nothing_to_read(int fd) noexcept { return unread_bytes(fd) == 0; }

// Has the peer read everything that was sent?
inline bool kernel_queue_is_empty(int fd) noexcept {
  int unread = 0;
  return sys::call(SYS_ioctl, fd, SIOCOUTQ, sys::word(&unread)) == 0 && unread == 0;
}

// Is the next byte an urgent one?
inline bool is_at_mark(int fd) noexcept {
  int mark = 0;
  return sys::call(SYS_ioctl, fd, SIOCATMARK, sys::word(&mark)) == 0 && mark != 0;
}

// RCV_SHUTDOWN of the socket (unix_poll()): by our own shutdown(), or by the peer's.
inline bool is_shut_for_reading(int fd) noexcept {
  return (poll_now(fd, POLLRDHUP) & POLLRDHUP) != 0;
}

}  // namespace tssx
