// The table for people and for awk.
//
// Thread safety: pure functions.
//
// Invariant: one line per connection, and no byte that a terminal would act upon.
#pragma once

#include <cstdint>
#include <string>

#include "tools/tssx-stat/report.h"

namespace tssx::stat_tool {

struct TextStyle {
  bool human = false;    // units (1.5M, 2h05m) instead of raw numbers; spaces in names stay
  bool unicode = false;  // the output takes UTF-8
};

[[nodiscard]] std::string render_table(const Report& report, TextStyle style);

// What the table leaves out, one sentence a line; empty if it leaves out nothing.
[[nodiscard]] std::string render_remarks(const Report& report);

[[nodiscard]] std::string human_bytes(
    std::uint64_t bytes);  // 1023, 1.0K, 16K, 16.0E: powers of 1024
[[nodiscard]] std::string human_count(std::uint64_t count);  // 999, 1.0k, 16k: powers of 1000
[[nodiscard]] std::string human_duration(double seconds);    // 7s, 5m07s, 2h05m, 3d04h

}  // namespace tssx::stat_tool
