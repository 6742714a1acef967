#include "tools/tssx-bench/statistics.h"

#include <algorithm>
#include <cstddef>

namespace tssx::bench {

Summary summarize(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back()};
}

std::string_view to_string(Better better) { return better == Better::lower ? "lower" : "higher"; }

double times_better(double theirs, double ours, Better better) {
  if (theirs <= 0 || ours <= 0) return 0;
  return better == Better::lower ? theirs / ours : ours / theirs;
}

std::vector<double> times_better(const std::vector<double>& theirs, const std::vector<double>& ours,
                                 Better better) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(theirs.size(), ours.size()); ++i) {
    const double ratio = times_better(theirs[i], ours[i], better);
    if (ratio > 0) ratios.push_back(ratio);
  }
  return ratios;
}

}  // namespace tssx::bench
