// CPU time of two processes with many connections over which nothing goes.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// connections, seconds, socket.
[[nodiscard]] Scenario make_idle(const Job& job, Board& board);

}  // namespace tssx::bench
