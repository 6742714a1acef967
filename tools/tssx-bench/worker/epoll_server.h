// One server with an epoll set, one client with as many connections as one likes.
#pragma once

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// busy (connections that always have a request under way), idle (connections that have none),
// place, seconds, socket. Measured with the busy ones alone, and with the idle ones besides if
// there are any.
[[nodiscard]] Scenario make_epoll_server(const Job& job, Board& board);

}  // namespace tssx::bench
