// The scheduler decides where processes run, and what is best for one side is not for the other.
// So each placement of ours is also compared with the other side's best one.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include "tools/tssx-bench/measure.h"

namespace tssx::bench {

struct BestPlacement {
  std::string name;  // the cell's
  std::string metric;
  std::string unit;
  double base = 0;         // median of the other side where it is best
  std::string base_place;  // "one-cpu", ...
  double ours = 0;         // our median in this cell
  double ratio = 0;        // times better
};

// For the first metric of each cell that was measured with more than one placement.
[[nodiscard]] std::vector<BestPlacement> best_placements(const std::vector<CellResult>& results);

}  // namespace tssx::bench
