// The table for people and for awk.
//
// Thread safety: pure functions.
//
// Invariant: one line per connection, and no byte that a terminal would act upon but colours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/tssx-stat/report.h"

namespace tssx::stat_tool {

struct TextStyle {
  bool human = false;     // units (1.5M, 2h05m) instead of raw numbers; spaces in names stay
  bool unicode = false;   // the output takes UTF-8
  bool colour = false;    // states are coloured
  std::size_t width = 0;  // columns of the terminal: less important ones give way; 0: no limit
  bool cut = false;       // what is wider than that is cut, and does not wrap
};

[[nodiscard]] std::string render_table(const Report& report, TextStyle style);

// Its lines, the titles first.
[[nodiscard]] std::vector<std::string> table_lines(const Report& report, TextStyle style);

// What the table leaves out, one sentence a line; empty if it leaves out nothing.
[[nodiscard]] std::string render_remarks(const Report& report);

// "1 process", "2 processes".
[[nodiscard]] std::string plural(std::size_t count, std::string_view one, std::string_view many);

// "100/program", with a question mark or a dash for what is not known.
[[nodiscard]] std::string party_text(const Party& party, TextStyle style);

[[nodiscard]] std::string human_bytes(
    std::uint64_t bytes);  // 1023, 1.0K, 16K, 16.0E: powers of 1024
[[nodiscard]] std::string human_count(std::uint64_t count);  // 999, 1.0k, 16k: powers of 1000
[[nodiscard]] std::string human_duration(double seconds);    // 7s, 5m07s, 2h05m, 3d04h

}  // namespace tssx::stat_tool
