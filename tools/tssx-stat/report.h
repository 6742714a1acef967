// What one run of tssx-stat has found, ready to be rendered.
#pragma once

#include <cstddef>
#include <vector>

#include "tools/tssx-stat/connection.h"

namespace tssx::stat_tool {

struct Report {
  std::vector<Connection> connections;  // in the order shown
  std::size_t hidden_processes = 0;     // that the caller may not look at
  std::size_t unrecognized = 0;         // mappings with the name of a segment and no header of one
};

}  // namespace tssx::stat_tool
