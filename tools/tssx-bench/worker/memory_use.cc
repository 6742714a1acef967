#include "tools/tssx-bench/worker/memory_use.h"

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace tssx::bench {
namespace {

// The number behind "Name:" in a file of such lines.
double value_in(const char* file, const std::string& name) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name + ":")) continue;
    double value = 0;
    if (std::istringstream(line.substr(name.size() + 1)) >> value) return value;
  }
  throw std::runtime_error(std::string(file) + " without " + name);
}

}  // namespace

MemoryUse my_memory() {
  return {value_in("/proc/self/smaps_rollup", "Rss"), value_in("/proc/self/smaps_rollup", "Pss"),
          value_in("/proc/self/status", "RssShmem")};
}

double kernel_slab() { return value_in("/proc/meminfo", "Slab"); }

}  // namespace tssx::bench
