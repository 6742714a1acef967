#include "tools/tssx-bench/render_text.h"

#include <fmt/format.h>

#include "tools/tssx-bench/placement.h"
#include "tools/tssx-bench/statistics.h"

namespace tssx::bench {
namespace {

std::string format_summary(const std::vector<double>& values) {
  if (values.empty()) return "-";
  const Summary summary = summarize(values);
  return fmt::format("{} ({} to {})", format_number(summary.median), format_number(summary.lowest),
                     format_number(summary.highest));
}

constexpr const char* kLine = "{:<38} {:<10} {:<5} {:<32} {:<32} {}\n";

}  // namespace

std::string format_number(double value) {
  if (value >= 1000) return fmt::format("{:.0f}", value);
  if (value >= 100) return fmt::format("{:.1f}", value);
  if (value >= 0.1 || value == 0) return fmt::format("{:.2f}", value);
  return fmt::format("{:.4f}", value);
}

std::string render_heading(const Plan& plan) {
  return fmt::format(kLine, "CELL", "METRIC", "UNIT", plan.base.name, plan.ours.name,
                     "TIMES BETTER");
}

std::string render_cell(const CellResult& result) {
  if (!result.error.empty()) return fmt::format("{:<38} error: {}\n", result.name, result.error);
  if (!result.skipped.empty()) {
    return fmt::format("{:<38} skipped: {}\n", result.name, result.skipped);
  }
  std::string text;
  for (const MetricResult& metric : result.metrics) {
    text += fmt::format(kLine, result.name, metric.kind.name, metric.kind.unit,
                        format_summary(metric.base), format_summary(metric.ours),
                        format_summary(times_better(metric.base, metric.ours, metric.kind.better)));
  }
  return text;
}

std::string render_best_placements(const std::vector<CellResult>& results) {
  std::string text;
  for (const BestPlacement& line : best_placements(results)) {
    text += fmt::format("{:<38} {:<10} {:<5} {:<32} {:<32} {}\n", line.name, line.metric, line.unit,
                        fmt::format("{} ({})", format_number(line.base), line.base_place),
                        format_number(line.ours), format_number(line.ratio));
  }
  if (text.empty()) return text;
  return "\nAgainst the best placement of the other side:\n" + text;
}

}  // namespace tssx::bench
