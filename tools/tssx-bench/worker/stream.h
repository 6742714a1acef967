// One process writes as fast as it can, another reads; or both do both.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// size (of each write), place, seconds, socket, two-way (0 or 1).
[[nodiscard]] Scenario make_stream(const Job& job, Board& board);

}  // namespace tssx::bench
