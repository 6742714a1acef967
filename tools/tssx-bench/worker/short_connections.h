// Connections that end soon: what setting them up costs.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// place, seconds, socket, requests (0 or 1) of each connection before it is closed.
[[nodiscard]] Scenario make_short_connections(const Job& job, Board& board);

}  // namespace tssx::bench
