#include "tools/preload/library.h"

#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace tssx::preload {

namespace fs = std::filesystem;

std::string find_library(const std::string& given) {
  const fs::path directory = fs::read_symlink("/proc/self/exe").parent_path();
  std::vector<fs::path> candidates{given};
  if (given.empty()) {
    // An absolute libdir stays what it is.
    candidates = {directory / "libtssx.so", directory / ".." / TSSX_LIBDIR / "libtssx.so"};
  }
  for (const fs::path& candidate : candidates) {
    std::error_code error;
    const fs::path found = fs::canonical(candidate, error);
    if (error) continue;
    if (found.string().find_first_of(" :\n") != std::string::npos) {
      throw std::runtime_error("LD_PRELOAD can't hold this path: " + found.string());
    }
    return found;
  }
  throw std::runtime_error(given.empty()
                               ? "no libtssx.so beside this program, and none in " TSSX_LIBDIR
                               : "no such library: " + given);
}

}  // namespace tssx::preload
