// Makes bytes that other users chose (paths, names of programs) safe to print.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tssx::stat_tool {

struct EscapeStyle {
  bool unicode = false;  // the output takes UTF-8; otherwise every byte above 0x7f is escaped
  bool spaces = false;   // escape spaces too, where they separate columns
};

// Printable text stays. Control characters, invalid UTF-8 and the invisible or direction-changing
// characters of Unicode become \xNN, byte by byte, and a backslash becomes \\, so that the original
// can be told from the result.
[[nodiscard]] std::string escape(std::string_view bytes, EscapeStyle style);

// Columns that printable UTF-8 takes, at one a character.
[[nodiscard]] std::size_t width_of(std::string_view text);

}  // namespace tssx::stat_tool
