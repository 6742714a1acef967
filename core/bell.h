// One byte on the control socket, if the direction is still in the ring when it goes.
//
// Once a direction has left the ring a bell would be a stray byte among the application's data. The
// look at the mode and the system call that follows must not be torn apart by a signal handler of
// this thread that takes the direction to the kernel. Blocking signals for that costs two system
// calls with every bell; a restartable sequence (rseq(2), kernel 4.18, registered by glibc 2.35)
// costs none: the kernel starts it again where it was interrupted before the system call.
//
// Thread safety: other threads are kept out by locks or cuts of the caller's. May be called from:
// anywhere.
#pragma once

#include <atomic>
#include <cstdint>

namespace tssx {

// True if the byte went. False if `mode` did not say Mode::ring any more, or the socket was full or
// gone: nobody needs it then. Never blocks, never raises SIGPIPE.
bool send_bell(int fd, const std::atomic<std::uint32_t>& mode) noexcept;

}  // namespace tssx
