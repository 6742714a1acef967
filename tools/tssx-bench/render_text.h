// The table, line by line as measurements end.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include "tools/tssx-bench/measure.h"

namespace tssx::bench {

// A number with about three digits that matter.
[[nodiscard]] std::string format_number(double value);

[[nodiscard]] std::string render_heading(const Plan& plan);
[[nodiscard]] std::string render_cell(const CellResult& result);

// For cells measured with several placements: ours in each against the kernel's in its best. Empty
// if there are none.
[[nodiscard]] std::string render_best_placements(const std::vector<CellResult>& results);

}  // namespace tssx::bench
