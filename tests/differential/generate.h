// Makes programs.
#pragma once

#include <cstdint>

#include "tests/differential/program.h"

namespace differential {

// The same program for the same two numbers, in every process. Neighbours (kMaxBatch of them)
// are of one kind: one actor, forked processes, or threads.
Program generate(std::uint64_t seed, std::uint64_t index);

}  // namespace differential
