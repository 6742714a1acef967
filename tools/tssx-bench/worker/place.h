// Which CPUs the processes of a measurement run on.
#pragma once

#include <string>
#include <vector>

namespace tssx::bench {

struct Place {
  int server = -1;  // -1: any CPU
  int client = -1;
};

// "free", "one-cpu" or "two-cpus". Two CPUs are of different cores where possible. Throws Skip if
// the process may not use two, std::invalid_argument for other names.
[[nodiscard]] Place place_of(const std::string& name);

// Binds the calling process to that CPU; to none if it is negative. Throws std::system_error.
void move_to(int cpu);

}  // namespace tssx::bench
