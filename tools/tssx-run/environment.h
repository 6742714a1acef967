// The values of LD_PRELOAD and USE_TSSX that a program is started with.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tssx::run_tool {

// What is there already stays, in front, so that what was preloaded first still is; a library that
// is among it is not added again. present: $LD_PRELOAD, empty if it is not set.
[[nodiscard]] std::string add_preload(std::string_view present, const std::string& library);

// One pattern for each path. In USE_TSSX a space ends a pattern, so those inside get a backslash
// if they have none yet; everything else is handed on as it is. REQUIRES: none is empty.
[[nodiscard]] std::string list_patterns(const std::vector<std::string>& patterns);

}  // namespace tssx::run_tool
