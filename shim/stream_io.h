// Reading and writing an endpoint as the kernel would: blocking or not, in whichever mode each
// direction is at the moment.
//
// Thread safety: as read(2) and write(2). Cancellation point where it sleeps. Not noexcept:
// pthread_cancel unwinds through it.
// Both return what the system call would, with errno set on -1.
#pragma once

#include <sys/socket.h>

#include "shim/descriptor_table.h"

namespace tssx {

// `message`: parts, and room for ancillary data if the caller gave any; its control length, flags
// and name are answered as recvmsg(2) does. `flags`: MSG_*.
ssize_t receive_stream(EndpointRef& endpoint, msghdr& message, int flags);

ssize_t send_stream(EndpointRef& endpoint, const msghdr& message, int flags);

// To be called when a direction may have changed its mode: moves epoll registrations along.
void follow_mode(Endpoint& endpoint) noexcept;

}  // namespace tssx
