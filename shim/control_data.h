// Ancillary data of a received message on its way to the application.
//
// Thread safety: functions of their arguments. May be called from: signal handlers.
#pragma once

#include <sys/socket.h>

namespace tssx {

// Gives the application what fits of the control data that we received, and closes the rest, as
// put_cmsg() and scm_detach_fds() of the kernel (net/core/scm.c).
// `wanted` has the application's room, and is told how much of it is used; `flags` may get
// MSG_CTRUNC.
void deliver_control(const msghdr& received, msghdr& wanted, int& flags) noexcept;

}  // namespace tssx
