// FILEs whose functions are ours.
//
// Thread safety: as stdio's own calls on one FILE.
#pragma once

#include <stdio.h>

namespace tssx {

// Did our fdopen(3) make it over an endpoint?
bool is_endpoint_file(FILE* file) noexcept;

// Takes its connection back to the kernel for good and gives it libc's own functions, buffers as
// they are. False without memory. REQUIRES: is_endpoint_file(file).
bool become_libc_file(FILE* file) noexcept;

// A FILE of libc's own stands over `fd`, or will: a connection there has to be the kernel's.
void claim_number(int fd) noexcept;

}  // namespace tssx
