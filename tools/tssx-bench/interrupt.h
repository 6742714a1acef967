// SIGINT, SIGTERM and SIGHUP become a flag, so that everything is cleaned up on the way out.
#pragma once

#include <csignal>

namespace tssx::bench {

// Waits that are under way return EINTR.
void catch_interruptions();

// The signal that came, or 0.
[[nodiscard]] int interrupted();

// The set of those signals, for ppoll(2).
[[nodiscard]] sigset_t interruptions();

}  // namespace tssx::bench
