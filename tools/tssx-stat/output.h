// Where the output goes.
//
// Thread safety: none needed.
#pragma once

#include <string_view>

#include "tools/tssx-stat/render_text.h"

namespace tssx::stat_tool {

// write(2) only: behind the sandbox stdio has no business. False, with errno, if it fails.
[[nodiscard]] bool print(int fd, std::string_view text);

// "tssx-stat: text" on standard error.
void complain(std::string_view text);

// A table for people on a terminal, plain columns otherwise; colours on a terminal without NO_COLOR
// (no-color.org) only. To be called before the sandbox: it asks the terminal for its width.
[[nodiscard]] TextStyle style_of_output();

}  // namespace tssx::stat_tool
