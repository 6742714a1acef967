#include "tools/tssx-bench/histogram.h"

#include <algorithm>
#include <cmath>

namespace tssx::bench {

void Histogram::clear() {
  count_ = 0;
  counts_.fill(0);
}

void Histogram::add(const Histogram& other) {
  count_ += other.count_;
  for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
}

double Histogram::percentile(double percent) const {
  if (count_ == 0) return 0;
  const auto wanted = std::max<std::uint64_t>(
      1, static_cast<std::uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_))));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i];
    if (seen >= wanted) return middle_of(i);
  }
  return middle_of(kBuckets - 1);
}

double Histogram::middle_of(std::size_t bucket) {
  if (bucket < 2 * kHalf) return static_cast<double>(bucket);
  const std::size_t shift = bucket / kHalf - 1;
  const std::size_t first = (bucket - shift * kHalf) << shift;
  const std::size_t width = std::size_t{1} << shift;
  return static_cast<double>(first) + static_cast<double>(width - 1) / 2;
}

}  // namespace tssx::bench
