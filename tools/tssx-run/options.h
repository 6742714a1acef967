// The command line of tssx-run.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace tssx::run_tool {

// As env(1), nice(1) and their kin: what the program itself returns can be told apart.
constexpr int kExitOk = 0;
constexpr int kExitRefused = 125;        // wrong options, no library, can't be preloaded
constexpr int kExitNotExecutable = 126;  // there is such a file, and it can't be executed
constexpr int kExitNotFound = 127;

struct Options {
  std::vector<std::string> patterns;
  std::string ids;            // empty: as the environment says
  double verify_seconds = 0;  // 0: don't
  std::vector<std::string> command;
};

// nullopt: go on. Otherwise the exit code; the reason has been printed.
[[nodiscard]] std::optional<int> parse_options(int argc, const char* const* argv, Options& options);

}  // namespace tssx::run_tool
