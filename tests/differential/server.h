// A process that runs programs for the driver: one of these has the library preloaded, the other
// has not. Commands come and answers go by pipes:
//
//   run SEED FIRST COUNT            that many programs, made here, in one forked process after
//                                   the other: a line with a hash for each
//   play PATIENCE SIZE\n<program>   one program in a process of its own: SIZE\n<transcript>
//
// A program that makes no progress for PATIENCE milliseconds is ended, with all its processes.
//
// Thread safety: one thread.
#pragma once

#include <string>

#include "tests/differential/board.h"

namespace differential {

// How long a program of a batch may stand still. Far above what a busy machine does to a call.
constexpr int kPatience = 8000;  // milliseconds

// In place of a hash, for a program that hung or whose process died.
constexpr std::uint64_t kHung = 1;
constexpr std::uint64_t kDied = 2;
// After one that hung, the rest of the batch is not run: the next may hang as well.
constexpr std::uint64_t kNotRun = 3;

// With the files in it.
void remove_directory(const std::string& name);

// Serves until its input ends, also because the driver was killed. `directory` is for sockets, and
// is removed at the end.
int serve(const std::string& directory);

}  // namespace differential
