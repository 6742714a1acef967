#include "tools/tssx-run/script_line.h"

namespace tssx::run_tool {

std::optional<ScriptLine> parse_script_line(std::string_view start) {
  if (!start.starts_with("#!")) return std::nullopt;
  constexpr std::string_view kBlank = " \t";
  const bool cut = start.size() >= kScriptStart && start.find('\n') == std::string_view::npos;
  std::string_view line = start.substr(2, start.find('\n') - 2);
  line = line.substr(0, line.find('\0'));
  const std::size_t begin = line.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return ScriptLine{};
  const std::size_t end = line.find_first_of(kBlank, begin);
  // A name that may go on behind what the kernel looks at is refused.
  if (cut && end == std::string_view::npos) return ScriptLine{};
  return ScriptLine{std::string(line.substr(begin, end - begin))};
}

}  // namespace tssx::run_tool
