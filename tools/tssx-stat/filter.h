// What of a report was asked for.
//
// Thread safety: pure function.
#pragma once

#include "tools/tssx-stat/options.h"
#include "tools/tssx-stat/report.h"

namespace tssx::stat_tool {

// Leaves what matches one of options.pids, if there are any, and one of options.globs likewise, in
// the order of options.sort.
void apply_filters(Report& report, const Options& options);

}  // namespace tssx::stat_tool
