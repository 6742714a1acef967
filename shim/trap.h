// The backstop of TSSX_SECCOMP=trap: system calls that bypass the symbol table.
//
// A seccomp filter raises SIGSYS for the calls in trap.cc when the descriptor they name lies in the
// range of our IDs. The handler carries the call out by the function that the program would have
// reached through the table, and puts its result where the kernel would have.
//
// Thread safety: any. May be called from: start-up; other threads may run already.
#pragma once

namespace tssx {

// Installs the handler, and the filter for all threads unless it was inherited over exec(2). The
// filter needs PR_SET_NO_NEW_PRIVS, and both last as long as the process and what it executes.
// False if the kernel refuses; then nothing is trapped.
bool catch_raw_calls() noexcept;

}  // namespace tssx
