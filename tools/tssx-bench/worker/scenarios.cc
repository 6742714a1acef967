// The list of all kinds of measurements.
#include <array>
#include <utility>

#include "tools/tssx-bench/worker/calls.h"
#include "tools/tssx-bench/worker/epoll_server.h"
#include "tools/tssx-bench/worker/floors.h"
#include "tools/tssx-bench/worker/forks.h"
#include "tools/tssx-bench/worker/idle.h"
#include "tools/tssx-bench/worker/memory.h"
#include "tools/tssx-bench/worker/pingpong.h"
#include "tools/tssx-bench/worker/scenario.h"
#include "tools/tssx-bench/worker/short_connections.h"
#include "tools/tssx-bench/worker/stream.h"

namespace tssx::bench {

ScenarioMaker find_scenario(const std::string& kind) {
  static constexpr auto kKinds = std::to_array<std::pair<const char*, ScenarioMaker>>({
      {"pingpong", make_pingpong},
      {"stream", make_stream},
      {"epoll-server", make_epoll_server},
      {"short-connections", make_short_connections},
      {"forks", make_forks},
      {"idle", make_idle},
      {"memory", make_memory},
      {"calls", make_calls},
      {"bounce", make_bounce},
      {"yields", make_yields},
      {"copies", make_copies},
  });
  for (const auto& [name, maker] : kKinds) {
    if (kind == name) return maker;
  }
  return nullptr;
}

}  // namespace tssx::bench
