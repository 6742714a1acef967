// The first line of a script, as the kernel reads it.
//
// Thread safety: pure function.
//
// Source: load_script() of Linux fs/binfmt_script.c.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace tssx::run_tool {

// What the kernel looks at: BINPRM_BUF_SIZE of linux/binfmts.h.
constexpr std::size_t kScriptStart = 256;

struct ScriptLine {
  std::string interpreter;  // empty: the kernel refuses such a script
};

// start: the file's first kScriptStart bytes, or all of a shorter one. nullopt: no script.
[[nodiscard]] std::optional<ScriptLine> parse_script_line(std::string_view start);

}  // namespace tssx::run_tool
