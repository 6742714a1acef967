// The command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace tssx::bench {

struct Options {
  bool json = false;
  bool list = false;
  bool quick = false;
  bool all = false;
  std::vector<std::string> globs;
  int rounds = 0;      // 0: not given
  double seconds = 0;  // 0: not given
  double timeout = 30;
  std::string library;
  std::string against;
  std::string beside;
};

// nullopt: go on. Otherwise the exit code, after the help or a complaint was printed.
[[nodiscard]] std::optional<int> parse_options(int argc, const char* const* argv, Options& options);

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

}  // namespace tssx::bench
