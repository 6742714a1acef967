// Processes that end with us.
#pragma once

#include <sys/types.h>

namespace tssx::bench {

// fork(2) into a process group of its own, which the child leads, with the default action of the
// signals that end us. The child is killed when this process ends. 0 in the child.
// Throws std::system_error.
pid_t fork_group();

// Kills and reaps a whole group of fork_group()'s.
void end_group(pid_t leader) noexcept;

}  // namespace tssx::bench
