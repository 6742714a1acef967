// What posix_spawn(3)'s file actions will do with our descriptors.
#pragma once

#include <spawn.h>

namespace tssx {

// Calls visit(fd) for each number that an action of `actions` duplicates to another, or to itself
// (which takes its FD_CLOEXEC away). False if this libc keeps its actions in a way unknown to us.
bool for_each_duplicated(const posix_spawn_file_actions_t& actions, void (*visit)(int fd)) noexcept;

}  // namespace tssx
