// Finds the libtssx.so that belongs to a tool.
//
// Thread safety: reads the file system, keeps no state.
#pragma once

#include <string>

namespace tssx::preload {

// The given one, or, if that is empty, the one beside this program or where it was installed. An
// absolute path without links, as /proc/PID/maps shows it. Throws std::runtime_error if there is
// none, and if LD_PRELOAD can't hold its path.
[[nodiscard]] std::string find_library(const std::string& given);

}  // namespace tssx::preload
