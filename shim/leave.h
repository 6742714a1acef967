// For calls that use a descriptor where we can't follow them.
#pragma once

namespace tssx {

// Takes `fd`'s connection, if it has one, back to the kernel for good. Returns the kernel's number.
int leave_to_kernel(int fd) noexcept;

}  // namespace tssx
