// Runs a cell: each round on every side, in alternating order, each in processes of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tools/tssx-bench/cell.h"
#include "tools/tssx-bench/scratch.h"
#include "tools/tssx-bench/worker_process.h"

namespace tssx::bench {

struct Plan {
  Side base;  // the kernel, or another build of the library
  Side ours;
  int rounds = 5;
  double seconds = 0.5;
  double patience = 30;  // seconds that a measurement may take on top of its length
};

struct MetricResult {
  MetricKind kind;
  std::vector<double> base;  // one for each round
  std::vector<double> ours;  // the same; none for floors
};

struct CellResult {
  std::string name;
  std::vector<MetricResult> metrics;
  std::string error;    // what went wrong; then there are no metrics
  std::string skipped;  // why it can't be measured here; the same
};

// Never throws for what happens in a worker. Returns early when interrupted().
[[nodiscard]] CellResult measure(const Cell& cell, const Plan& plan,
                                 const ScratchDirectory& scratch);

}  // namespace tssx::bench
