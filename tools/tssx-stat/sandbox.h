// Gives up every system call that parsing and printing do not need.
//
// Called between the last look at /proc and the first byte that another user wrote: whatever such
// bytes could make this process do, it can no longer open, write to, execute or signal anything.
//
// Thread safety: call it once, from the only thread. There is no way back.
#pragma once

#include <string>

namespace tssx::stat_tool {

// What stays: process_vm_readv, write to descriptors 1 and 2, memory (never executable), clocks,
// exit. Any other call fails with EPERM. Returns why there is no sandbox, or an empty string.
[[nodiscard]] std::string enter_sandbox();

}  // namespace tssx::stat_tool
