// What one measurement consists of: some processes, what each does, and what comes out.
//
// The processes use the calls of an ordinary program. Nothing here knows whether the library is
// preloaded.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/tssx-bench/job.h"
#include "tools/tssx-bench/worker/board.h"

namespace tssx::bench {

// What one process does. Made in that process; the constructor sets up its connections.
class Role {
 public:
  Role() = default;
  Role(const Role&) = delete;
  Role& operator=(const Role&) = delete;
  virtual ~Role() = default;

  // Enough traffic for connections to move and caches to fill; may be called again.
  virtual void warm() {}
  virtual void measure() = 0;
};

struct Actor {
  int cpu;  // -1: any
  std::function<std::unique_ptr<Role>()> make;
};

struct Metric {
  std::string name;
  double value;
};

struct Scenario {
  std::vector<Actor> actors;
  std::size_t connections = 0;         // that should be on rings once warm
  std::size_t connections_at_end = 0;  // and at the end; 0: the same
  std::function<std::vector<Metric>(const Board&)> report;
};

// This machine can't do that measurement: no failure.
struct Skip : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Makes the scenario of one kind. All of them are listed in scenarios.cc.
using ScenarioMaker = Scenario (*)(const Job& job, Board& board);
[[nodiscard]] ScenarioMaker find_scenario(const std::string& kind);  // nullptr: no such kind

}  // namespace tssx::bench
