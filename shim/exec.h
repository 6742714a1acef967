// What an exec means for connections that stay open over it.
#pragma once

namespace tssx {

// Takes every endpoint that has a descriptor without FD_CLOEXEC back to the kernel, so that the new
// program, preloaded or not, goes on with the same byte stream.
void prepare_exec() noexcept;

// Ends of this process may have peers in this very process that have just left.
void follow_leavers() noexcept;

}  // namespace tssx
