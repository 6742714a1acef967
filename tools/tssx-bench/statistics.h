// The few numbers that stand for the rounds of a measurement.
//
// Thread safety: pure functions.
#pragma once

#include <string_view>
#include <vector>

namespace tssx::bench {

struct Summary {
  double median = 0;
  double lowest = 0;
  double highest = 0;
};

// REQUIRES: values is not empty. Of an even number of values the median is the mean of the two in
// the middle.
[[nodiscard]] Summary summarize(std::vector<double> values);

enum class Better { lower, higher };
[[nodiscard]] std::string_view to_string(Better better);

// How many times better ours is than theirs: theirs / ours where less is better, ours / theirs
// where more is. 0 if either is not positive, as then there is no such number.
[[nodiscard]] double times_better(double theirs, double ours, Better better);

// times_better() of each round, both having run at about the same time; rounds without such a
// number are left out.
[[nodiscard]] std::vector<double> times_better(const std::vector<double>& theirs,
                                               const std::vector<double>& ours, Better better);

}  // namespace tssx::bench
