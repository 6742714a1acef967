// What an exec means for connections that stay open over it.
#pragma once

namespace tssx {

// Takes every endpoint that has a descriptor without FD_CLOEXEC back to the kernel, so that the new
// program, preloaded or not, goes on with the same byte stream. What the others still have to send
// goes, as they are closed.
void prepare_exec() noexcept;

// The same where a child executes the program, and this process lives on with all that it has.
void prepare_exec_by_child() noexcept;

// Ends of this process may have peers in this very process that have just left.
void follow_leavers() noexcept;

}  // namespace tssx
