// The results for programs. The schema is stable: members may be added, none changes or goes.
//
//   {"machine": {"cpus": 2, "system": "Linux 6.18.1", "processor": "..."},
//    "base": "kernel", "ours": "tssx", "rounds": 5, "seconds": 0.5,
//    "cells": [{
//      "name": "pingpong/64B/blocking/two-cpus",
//      "metrics": [{
//        "name": "p50", "unit": "ns", "better": "lower",    or "higher"
//        "base": {"median": 1, "lowest": 1, "highest": 1, "rounds": [1, ...]},
//        "ours": {... the same},                            null for floors
//        "times_better": {"median": 1, "lowest": 1, "highest": 1}   null where there is no ratio
//      }, ...],
//      "error": "...", "skipped": "..."                     only if so; then metrics is empty
//    }, ...]}
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include "tools/tssx-bench/measure.h"

namespace tssx::bench {

struct Machine {
  unsigned cpus = 0;
  std::string system;     // kernel's name and release
  std::string processor;  // as /proc/cpuinfo names it; empty if it doesn't
};
[[nodiscard]] Machine this_machine();

[[nodiscard]] std::string render_json(const Machine& machine, const Plan& plan,
                                      const std::vector<CellResult>& results);

}  // namespace tssx::bench
