// What one run of tssx-stat has found, ready to be rendered.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tools/tssx-stat/connection.h"

namespace tssx::stat_tool {

// An end of a connection without shared memory: one that has not moved, or whose offer came to
// nothing.
struct KernelEnd {
  Party party;                // who has it; holders is not known
  std::vector<pid_t> owners;  // all processes that share it
  EndSnapshot end;
  double age_seconds = 0;
};

struct Report {
  std::vector<Connection> connections;  // in the order shown
  std::size_t hidden_processes = 0;     // that the caller may not look at
  std::size_t unrecognized = 0;         // mappings with the name of a segment and no header of one
  std::vector<KernelEnd> kernel_ends;
  std::size_t other_versions = 0;  // records of another version of the library
};

}  // namespace tssx::stat_tool
