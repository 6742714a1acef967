// Requests and answers of the same size between pairs of processes; variants of one scenario.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// size, wait, place, seconds, socket; optional: pairs, hog (a process that takes a CPU beside the
// first pair's), pause (seconds from one request to the next), work (seconds the server computes).
[[nodiscard]] Scenario make_pingpong(const Job& job, Board& board);

}  // namespace tssx::bench
