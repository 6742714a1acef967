// From /proc to a report: what is gathered before the sandbox, and what is read behind it.
//
// Thread safety: none needed.
#pragma once

#include <chrono>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tools/tssx-stat/processes.h"
#include "tools/tssx-stat/report.h"
#include "tools/tssx-stat/scan.h"

namespace tssx::stat_tool {

struct Gathered {
  Scan scan;
  ProcessTable processes;
};

// All that comes from /proc. No descriptor stays open. nullopt, with errno, if there is no /proc.
[[nodiscard]] std::optional<Gathered> gather();

// Reads the segments and records that were found. Needs process_vm_readv(2) alone. What vanished
// meanwhile is left out; who can't be read is added to the hidden.
[[nodiscard]] Report take_sample(Gathered& gathered);

// Gives the connections of `now` that are in `before` their rates. seconds: between the two.
void add_rates(Report& now, const Report& before, double seconds);

struct Settings {
  std::unordered_map<pid_t, ProcessSettings> known;  // of those with the library and a USE_TSSX
  std::unordered_set<pid_t> other_version;           // have records that this version can't read
};

[[nodiscard]] Settings read_settings(Gathered& gathered);

}  // namespace tssx::stat_tool
