// The command line.
//
// Thread safety: none needed.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "tools/tssx-stat/sort.h"

namespace tssx::stat_tool {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotFound = 3;  // show, explain: there is no such thing

enum class Command { connections, show, listeners, explain };
enum class Format { table, json, prometheus, summary };

struct Options {
  Command command = Command::connections;
  Format format = Format::table;
  std::optional<SortKey> sort;  // path, or rate while watching, unless asked for
  bool verbose = false;
  double interval = 0.1;        // seconds between the two looks that rates need; 0: one look
  std::optional<double> watch;  // seconds between two screens
  std::vector<pid_t> pids;
  std::vector<std::string> globs;
  std::string target;  // of show and explain
};

// nullopt: go on. Otherwise the exit status; what there is to say has been printed.
[[nodiscard]] std::optional<int> parse_options(int argc, char** argv, Options& options);

}  // namespace tssx::stat_tool
