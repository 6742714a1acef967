// One thing that can be measured, and the list of all of them.
#pragma once

#include <string>
#include <vector>

#include "tools/tssx-bench/job.h"
#include "tools/tssx-bench/statistics.h"

namespace tssx::bench {

// A number that a measurement yields. The name is what the worker calls it.
struct MetricKind {
  std::string name;
  std::string unit;
  Better better = Better::lower;
};

struct Cell {
  // When it is measured without being asked for by name: by --quick too, by default, with --all.
  enum class Level { quick, usual, rare };
  enum class Sides {
    both_on_rings,  // refused unless the connections of the preloaded side are on rings
    both,           // connections too short to move, or none
    one,            // a floor: what this machine takes without any socket
  };

  std::string name;
  Job job;  // all but socket and seconds
  std::vector<MetricKind> metrics;
  Level level = Level::usual;
  Sides sides = Sides::both_on_rings;
  double length = 1;      // of the measurement, as a multiple of --seconds
  int most_rounds = 100;  // for measurements that take long
};

[[nodiscard]] std::vector<Cell> all_cells();

// Those whose names match one of the patterns, in which * also matches /; without patterns, those
// of that level and the levels before it.
[[nodiscard]] std::vector<Cell> select_cells(std::vector<Cell> cells,
                                             const std::vector<std::string>& globs,
                                             Cell::Level level);

}  // namespace tssx::bench
