// What a worker's connections really run on, seen from outside: what tssx-stat would show.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tssx::bench {

struct Evidence {
  bool library = false;          // some of the processes map it
  std::size_t on_rings = 0;      // connections with both directions in shared memory
  std::uint64_t ring_bytes = 0;  // that went through them so far
};

// library: its path, or empty. directory: only connections to sockets in it count.
[[nodiscard]] Evidence look_at(const std::vector<pid_t>& pids, const std::string& library,
                               const std::string& directory);

}  // namespace tssx::bench
