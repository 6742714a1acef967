// Gives up every system call that parsing and printing do not need.
//
// Called between the last look at /proc and the first byte that another user wrote: whatever such
// bytes could make this process do, it can no longer open, write to, execute or signal anything.
//
// Thread safety: call it once, from the only thread. There is no way back.
#pragma once

#include <string>

namespace tssx::stat_tool {

enum class Sandbox {
  parsing,  // nothing is opened any more
  watching  // files are opened for reading, and the terminal is used
};

// What stays: process_vm_readv, write to descriptors 1 and 2, memory (never executable), clocks,
// exit; while watching also open and read of files, without creating any, the size and mode of the
// terminal on descriptors 0 and 1, ppoll, and signals to itself. Any other call fails with EPERM.
// Returns why there is no sandbox, or an empty string.
[[nodiscard]] std::string enter_sandbox(Sandbox sandbox = Sandbox::parsing);

}  // namespace tssx::stat_tool
