// How long fork(), _exit() in the child and waiting for it take with many connections open.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// connections, seconds, socket.
[[nodiscard]] Scenario make_forks(const Job& job, Board& board);

}  // namespace tssx::bench
