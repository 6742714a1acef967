#include "tools/tssx-run/environment.h"

namespace tssx::run_tool {

std::string add_preload(std::string_view present, const std::string& library) {
  // ld.so(8): separated by spaces or colons, and there is no way to escape either.
  for (std::string_view rest = present; !rest.empty();) {
    const std::size_t end = rest.find_first_of(" :");
    if (rest.substr(0, end) == library) return std::string(present);
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  if (present.empty()) return library;
  return std::string(present) + ":" + library;
}

std::string list_patterns(const std::vector<std::string>& patterns) {
  std::string list;
  for (const std::string& pattern : patterns) {
    if (!list.empty()) list += ' ';
    for (std::size_t i = 0; i < pattern.size(); ++i) {
      if (pattern[i] == ' ') list += '\\';
      list += pattern[i];
      // An escaped byte is handed on as it is; a backslash at the very end stands for itself, and
      // must not escape the space behind the pattern.
      if (pattern[i] == '\\') list += i + 1 < pattern.size() ? pattern[++i] : '\\';
    }
  }
  return list;
}

}  // namespace tssx::run_tool
