// The report as metrics, in the text exposition format of Prometheus, version 0.0.4.
//
// Names, types and labels are listed in tssx-stat(1). They are stable as the members of --json are.
//
// Thread safety: pure function.
#pragma once

#include <string>

#include "tools/tssx-stat/report.h"

namespace tssx::stat_tool {

[[nodiscard]] std::string render_prometheus(const Report& report);

// A label's value: valid UTF-8, with \\, \" and \n escaped.
[[nodiscard]] std::string label_value(std::string_view bytes);

}  // namespace tssx::stat_tool
