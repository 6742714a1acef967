// poll(2) over descriptors of which some run over rings; select(2) is turned into it.
//
// Thread safety: as ppoll(2). Cancellation point where it sleeps.
#pragma once

#include <poll.h>
#include <signal.h>

#include <cstddef>
#include <cstdint>

namespace tssx {

inline constexpr std::uint64_t kWaitForever = ~std::uint64_t{0};

// Is any of them ours, so that the kernel's answer alone would not do?
bool needs_rings(const pollfd* fds, std::size_t count) noexcept;

// As ppoll(2); `timeout` in nanoseconds, kWaitForever for none.
int wait_for_events(pollfd* fds, std::size_t count, std::uint64_t timeout, const sigset_t* mask);

}  // namespace tssx
