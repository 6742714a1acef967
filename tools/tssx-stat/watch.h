// --watch: the connections again and again, on a screen of the terminal or one table after another.
//
// Thread safety: none needed.
#pragma once

#include "tools/tssx-stat/options.h"
#include "tools/tssx-stat/render_text.h"

namespace tssx::stat_tool {

// REQUIRES: options.watch. Until q is typed, a signal comes, or the output ends. Enters the sandbox
// for watching. Returns the exit status: 128 and the number of the signal that ended it, as a shell
// says it.
[[nodiscard]] int watch(const Options& options, TextStyle style);

}  // namespace tssx::stat_tool
