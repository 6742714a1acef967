// What two processes can do at best on this machine, without any socket: nothing that carries bytes
// from one to the other can beat these.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// A cache line that goes from one CPU to another and back. seconds.
[[nodiscard]] Scenario make_bounce(const Job& job, Board& board);

// Two processes on one CPU that give it to each other: there and back. seconds.
[[nodiscard]] Scenario make_yields(const Job& job, Board& board);

// One process copies into a small buffer, another out of it. size (of each copy), seconds.
[[nodiscard]] Scenario make_copies(const Job& job, Board& board);

}  // namespace tssx::bench
