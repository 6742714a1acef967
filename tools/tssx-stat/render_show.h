// Everything about one connection, for people.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "tools/tssx-stat/render_text.h"
#include "tools/tssx-stat/report.h"

namespace tssx::stat_tool {

// The connection that `id` means: "00:01:1234" as in JSON, or "1234" as in the table. nullptr:
// none.
[[nodiscard]] const Connection* find_connection(const Report& report, std::string_view id);

[[nodiscard]] std::string render_show(const Connection& connection, TextStyle style);

}  // namespace tssx::stat_tool
