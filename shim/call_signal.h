// The signals that the library needs for itself, shared with the application.
//
// Thread safety: any number of threads. May be called from: signal handlers too, as sigaction(2).
#pragma once

#include <signal.h>

namespace tssx {

// Installs our handler of SIGSEGV and SIGBUS, by which bad buffers become EFAULT. The application's
// own actions stay what they are to it: see call_signal.cc. Does nothing the second time.
void catch_faults() noexcept;

// Takes SIGSYS in the same way for `handler`, which returns false for what is not its own.
void catch_traps(bool (*handler)(const siginfo_t& info, void* context)) noexcept;

// No handler of the application's is installed without SA_RESTART, so no signal may end a sleep
// with EINTR but by a call that the kernel never restarts (signal(7)). Handlers installed by raw
// system calls are not seen.
bool every_handler_restarts() noexcept;

// In the child of a fork: another thread of the parent may have been in sigaction(2).
void reset_signals() noexcept;

}  // namespace tssx
