// One connection as it is shown: a segment's snapshot joined with the processes that map it.
//
// Thread safety: pure functions.
//
// Invariants:
//  1. What a segment claims about processes is a claim. The program and user of a pid are shown
//     only if that process maps the segment, or if the caller may not look at it and so can't
//     know; a pid that is neither is shown as the bare number.
//  2. Numbers inside a segment are those of the writer's pid namespace; pids here are the caller's
//     wherever the process was found.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "tools/tssx-stat/processes.h"
#include "tools/tssx-stat/records.h"
#include "tools/tssx-stat/scan.h"
#include "tools/tssx-stat/snapshot.h"

namespace tssx::stat_tool {

enum class State {
  offered,    // the server proposed the ring, the client has not answered
  withdrawn,  // the proposal was taken back: the connection stays in the kernel
  handshake,  // accepted; the ring takes over with the next bytes of each direction
  ring,       // both directions on the ring
  mixed,      // one of them is in the kernel again, or on its way
  kernel,     // both are
  closing,    // one side is gone
  damaged,    // the header is sound, the words behind it are not
};
[[nodiscard]] std::string_view to_string(State state);
[[nodiscard]] std::string_view to_string(DirectionMode mode);

struct Party {
  pid_t pid = 0;        // 0: unknown
  std::string program;  // any bytes; empty: unknown
  std::string user;
  std::uint32_t holders = 0;
};

// Of one direction, between two looks.
struct Rate {
  double bytes = 0;  // per second
  double messages = 0;
};

struct Connection {
  SegmentId id;
  std::string path;  // any bytes, abstract names with @ in place of NUL
  State state = State::damaged;
  std::array<Party, 2> parties;                 // indexed by Role
  std::array<DirectionSnapshot, 2> directions;  // 0: to the client, 1: to the server
  double age_seconds = 0;
  std::vector<pid_t> mappers;
  NonceBytes nonce{};
  std::array<std::optional<Rate>, 2> rates;        // nullopt: looked at once only
  std::array<std::optional<EndSnapshot>, 2> ends;  // indexed by Role; nullopt: not found
};

// "negative", "kernel", or "unknown": how the server's program names the connection.
[[nodiscard]] std::string_view descriptors_of(const Connection& connection);

// The bytes of a name as they are shown: an abstract one with @ in place of NUL.
[[nodiscard]] std::string shown_path(std::string path);

// All that is known besides the segment itself.
struct Surroundings {
  const ProcessTable& processes;
  const std::unordered_set<pid_t>& hidden;
  bool complete;         // as Scan::complete
  std::uint64_t now_ns;  // CLOCK_REALTIME
};

// Index into segment.mappers of the process at each side, or -1. Indexed by Role.
[[nodiscard]] std::array<int, 2> match_sides(const FoundSegment& segment,
                                             const SegmentSnapshot& snapshot,
                                             const ProcessTable& processes);

[[nodiscard]] State state_of(const SegmentSnapshot& snapshot, bool side_missing);

[[nodiscard]] Connection describe(const FoundSegment& segment, const SegmentSnapshot& snapshot,
                                  const Surroundings& surroundings);

}  // namespace tssx::stat_tool
