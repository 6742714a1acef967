// For calls that use a descriptor where we can't follow them.
#pragma once

#include "core/record.h"

namespace tssx {

class EndpointRef;

// Takes `fd`'s connection, if it has one, back to the kernel for good. Returns the kernel's number.
// `why` is for tssx-stat.
int leave_to_kernel(int fd, Reason why = Reason::libc_inside) noexcept;

// A descriptor of it is about to be closed, or with `process` all that this process has: if nobody
// else is left who could send it, waits a while until what the peer left in the ring has gone by
// the socket. To the kernel those bytes are in the peer's queue already.
void finish_before_close(EndpointRef& endpoint, bool process) noexcept;

// The program is about to restrict its own system calls, and knows nothing of ours: every
// connection goes back for good, so that from then on only the program's own calls are made on it,
// and none that it makes later moves.
void stay_in_kernel() noexcept;
bool stays_in_kernel() noexcept;

}  // namespace tssx
