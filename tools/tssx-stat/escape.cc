#include "tools/tssx-stat/escape.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>

namespace tssx::stat_tool {
namespace {

std::uint8_t byte_at(std::string_view bytes, std::size_t index) {
  return static_cast<std::uint8_t>(bytes[index]);
}

struct Decoded {
  std::uint32_t code = 0;
  std::size_t length = 0;  // 0: not UTF-8
};

// RFC 3629: shortest forms only, no surrogates, nothing above U+10FFFF.
Decoded decode(std::string_view bytes) {
  constexpr std::array<std::uint32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
  const std::uint8_t first = byte_at(bytes, 0);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || bytes.size() < length) return {};
  std::uint32_t code = first & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte_at(bytes, i) & 0xc0U) != 0x80) return {};
    code = code << 6U | (byte_at(bytes, i) & 0x3fU);
  }
  if (code < kSmallest[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return {};
  return {code, length};
}

struct Range {
  std::uint32_t first;
  std::uint32_t last;
};

// Beyond ASCII: C1 controls, and what draws nothing or reorders what is around it (category Cf of
// Unicode and its like), private use and non-characters.
constexpr std::array kUnprintable{
    Range{0x80, 0xa0},       Range{0xad, 0xad},       Range{0x34f, 0x34f},
    Range{0x600, 0x605},     Range{0x61c, 0x61c},     Range{0x6dd, 0x6dd},
    Range{0x70f, 0x70f},     Range{0x115f, 0x1160},   Range{0x17b4, 0x17b5},
    Range{0x180b, 0x180f},   Range{0x2000, 0x200f},   Range{0x2028, 0x202f},
    Range{0x205f, 0x206f},   Range{0x3000, 0x3000},   Range{0x3164, 0x3164},
    Range{0xe000, 0xf8ff},   Range{0xfdd0, 0xfdef},   Range{0xfe00, 0xfe0f},
    Range{0xfeff, 0xfeff},   Range{0xffa0, 0xffa0},   Range{0xfff0, 0xffff},
    Range{0x110bd, 0x110bd}, Range{0x1bca0, 0x1bca3}, Range{0x1d173, 0x1d17a},
    Range{0xe0000, 0x10ffff}};

bool is_printable(std::uint32_t code, EscapeStyle style) {
  if (code == ' ') return !style.spaces;
  if (code < 0x80) return code > 0x20 && code < 0x7f;
  return style.unicode &&
         std::none_of(kUnprintable.begin(), kUnprintable.end(),
                      [code](Range range) { return code >= range.first && code <= range.last; });
}

}  // namespace

std::string escape(std::string_view bytes, EscapeStyle style) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Decoded decoded = decode(bytes);
    const std::size_t length = std::max<std::size_t>(decoded.length, 1);
    if (decoded.length == 0 || !is_printable(decoded.code, style)) {
      for (std::size_t i = 0; i < length; ++i) {
        fmt::format_to(std::back_inserter(text), "\\x{:02x}", byte_at(bytes, i));
      }
    } else {
      if (decoded.code == '\\') text.push_back('\\');
      text.append(bytes.substr(0, length));
    }
    bytes.remove_prefix(length);
  }
  return text;
}

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<std::uint8_t>(c) & 0xc0U) != 0x80;
  }));
}

}  // namespace tssx::stat_tool
