#include "tools/tssx-bench/placement.h"

#include <map>
#include <string_view>
#include <utility>

#include "tools/tssx-bench/statistics.h"

namespace tssx::bench {
namespace {

// "pingpong/64B/poll", "one-cpu"; the second is empty if the name does not end in a placement.
std::pair<std::string, std::string> split(const std::string& name) {
  const std::size_t slash = name.rfind('/');
  if (slash == std::string::npos) return {name, {}};
  const std::string last = name.substr(slash + 1);
  if (last != "free" && last != "one-cpu" && last != "two-cpus") return {name, {}};
  return {name.substr(0, slash), last};
}

struct Best {
  int placements = 0;
  double value = 0;
  std::string place;
};

bool is_comparable(const CellResult& result) {
  return !result.metrics.empty() && !result.metrics.front().base.empty() &&
         !result.metrics.front().ours.empty();
}

}  // namespace

std::vector<BestPlacement> best_placements(const std::vector<CellResult>& results) {
  std::map<std::string, Best> best;
  for (const CellResult& result : results) {
    const auto [family, place] = split(result.name);
    if (place.empty() || !is_comparable(result)) continue;
    const MetricResult& metric = result.metrics.front();
    const double median = summarize(metric.base).median;
    Best& known = best[family];
    if (known.placements++ == 0 || times_better(known.value, median, metric.kind.better) > 1) {
      known.value = median;
      known.place = place;
    }
  }
  std::vector<BestPlacement> lines;
  for (const CellResult& result : results) {
    const auto [family, place] = split(result.name);
    if (place.empty() || !is_comparable(result) || best[family].placements < 2) continue;
    const MetricResult& metric = result.metrics.front();
    const Best& known = best[family];
    const double ours = summarize(metric.ours).median;
    lines.push_back({result.name, metric.kind.name, metric.kind.unit, known.value, known.place,
                     ours, times_better(known.value, ours, metric.kind.better)});
  }
  return lines;
}

}  // namespace tssx::bench
