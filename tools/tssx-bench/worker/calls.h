// Single calls in one process: on descriptors that are none of the library's business, starting a
// program, and the null system call.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// call (a name in calls.cc), seconds.
[[nodiscard]] Scenario make_calls(const Job& job, Board& board);

}  // namespace tssx::bench
