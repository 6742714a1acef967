// Memory for each connection: of one that has carried little, and of one that has carried much.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// connections, socket.
[[nodiscard]] Scenario make_memory(const Job& job, Board& board);

}  // namespace tssx::bench
