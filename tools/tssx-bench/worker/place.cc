#include "tools/tssx-bench/worker/place.h"

#include <sched.h>

#include <cerrno>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {
namespace {

// The threads that share a core with this CPU, as the kernel writes them; empty if unknown.
std::string siblings_of(int cpu) {
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                     "/topology/thread_siblings_list");
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<int> usable_cpus() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) {
    throw std::system_error(errno, std::generic_category(), "sched_getaffinity");
  }
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<unsigned>(cpu), &set)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace

Place place_of(const std::string& name) {
  if (name == "free") return {};
  const std::vector<int> cpus = usable_cpus();
  if (name == "one-cpu") return {cpus.front(), cpus.front()};
  if (name != "two-cpus") throw std::invalid_argument("no such placement: " + name);
  if (cpus.size() < 2) throw Skip("only one CPU");
  const std::string siblings = siblings_of(cpus.front());
  for (const int cpu : cpus) {
    if (cpu != cpus.front() && siblings_of(cpu) != siblings) return {cpus.front(), cpu};
  }
  return {cpus[0], cpus[1]};
}

void move_to(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) {
    throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
  }
}

}  // namespace tssx::bench
