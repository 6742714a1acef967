// Totals of a report, for people.
//
// Thread safety: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/tssx-stat/render_text.h"
#include "tools/tssx-stat/report.h"

namespace tssx::stat_tool {

struct Totals {
  std::uint64_t bytes = 0;  // both ways; saturating, since others write what is added up
  std::uint64_t messages = 0;
  std::uint64_t bells = 0;
  double bytes_per_second = 0;
  double messages_per_second = 0;
  bool measured = false;        // at least one connection has rates
  std::size_t ring = 0;         // connections of which both directions are in shared memory
  std::uint64_t address_space;  // of all segments, each once; touched pages alone take memory
};

[[nodiscard]] Totals totals_of(const Report& report);

// "3 in the ring, 1 in the kernel": states that occur.
[[nodiscard]] std::string states_text(const Report& report);

[[nodiscard]] std::string render_summary(const Report& report, TextStyle style);

}  // namespace tssx::stat_tool
