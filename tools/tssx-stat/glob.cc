#include "tools/tssx-stat/glob.h"

#include <cctype>
#include <cstddef>
#include <cstdint>

namespace tssx::stat_tool {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

std::uint8_t byte_at(std::string_view text, std::size_t index) {
  return static_cast<std::uint8_t>(text[index]);
}

// [:name:] of a bracket expression, in the C locale.
bool is_of_class(std::string_view name, std::uint8_t c) {
  const auto is = [&](std::string_view wanted, int (*test)(int)) {
    return name == wanted && test(c) != 0;
  };
  return is("alpha", std::isalpha) || is("digit", std::isdigit) || is("alnum", std::isalnum) ||
         is("upper", std::isupper) || is("lower", std::islower) || is("space", std::isspace) ||
         is("blank", std::isblank) || is("punct", std::ispunct) || is("print", std::isprint) ||
         is("graph", std::isgraph) || is("cntrl", std::iscntrl) || is("xdigit", std::isxdigit);
}

struct Bracket {
  std::size_t end;  // behind the closing bracket; kNone: it is not closed, and means itself
  bool matches;
};

// pattern[at] is the opening bracket.
Bracket bracket(std::string_view pattern, std::size_t at, std::uint8_t c) {
  ++at;
  const bool negated = at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^');
  if (negated) ++at;
  bool found = false;
  for (bool first = true; at < pattern.size(); first = false) {
    if (pattern[at] == ']' && !first) return {at + 1, found != negated};
    if (pattern[at] == '[' && at + 1 < pattern.size() && pattern[at + 1] == ':') {
      const std::size_t close = pattern.find(":]", at + 2);
      if (close != kNone) {
        found = found || is_of_class(pattern.substr(at + 2, close - at - 2), c);
        at = close + 2;
        continue;
      }
    }
    if (pattern[at] == '\\' && at + 1 < pattern.size()) ++at;
    const std::uint8_t low = byte_at(pattern, at++);
    std::uint8_t high = low;
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      ++at;
      if (pattern[at] == '\\' && at + 1 < pattern.size()) ++at;
      high = byte_at(pattern, at++);
    }
    found = found || (low <= c && c <= high);
  }
  return {kNone, false};
}

// Does the element at pattern[at], no star, match the byte? Sets *end behind the element.
bool element_matches(std::string_view pattern, std::size_t at, std::uint8_t c, std::size_t* end) {
  *end = at + 1;
  switch (pattern[at]) {
    case '?':
      return true;
    case '[': {
      const Bracket found = bracket(pattern, at, c);
      if (found.end == kNone) return c == '[';
      *end = found.end;
      return found.matches;
    }
    case '\\':
      if (at + 1 < pattern.size()) {
        *end = at + 2;
        return byte_at(pattern, at + 1) == c;
      }
      return c == '\\';
    default:
      return byte_at(pattern, at) == c;
  }
}

}  // namespace

bool matches(std::string_view pattern, std::string_view text) {
  std::size_t at = 0;
  std::size_t position = 0;
  // Where to go on if this fails: behind the last star, which then takes one byte more. Earlier
  // stars need not be tried again.
  std::size_t star = kNone;
  std::size_t star_position = 0;
  while (position < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = ++at;
      star_position = position;
      continue;
    }
    std::size_t end = 0;
    if (at < pattern.size() && element_matches(pattern, at, byte_at(text, position), &end)) {
      at = end;
      ++position;
      continue;
    }
    if (star == kNone) return false;
    at = star;
    position = ++star_position;
  }
  while (at < pattern.size() && pattern[at] == '*') ++at;
  return at == pattern.size();
}

}  // namespace tssx::stat_tool
