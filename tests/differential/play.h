// Runs a program in this process: its actors are threads and forked children, and take turns.
#pragma once

#include "tests/differential/board.h"
#include "tests/differential/perform.h"
#include "tests/differential/program.h"

namespace differential {

// Leaves the results on the board. Returns when every actor has ended. `thorough` looks in
// /proc/self/maps for shared memory that was left mapped, which takes longer than many a program.
// REQUIRES: !refuse(program).
void play(const Program& program, Board& board, Performer& performer, bool thorough);

// A number that differs, as good as certainly, where results do.
std::uint64_t hash_of_results(const Board& board, std::size_t steps);

}  // namespace differential
