#include "tools/tssx-bench/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <vector>

namespace tssx::bench {
namespace {

TEST(Histogram, HasNoPercentileWhenEmpty) {
  const auto histogram = std::make_unique<Histogram>();
  EXPECT_EQ(histogram->count(), 0U);
  EXPECT_EQ(histogram->percentile(50), 0);
}

TEST(Histogram, KnowsSmallValuesExactly) {
  for (std::uint64_t value = 0; value < 128; ++value) {
    const auto histogram = std::make_unique<Histogram>();
    histogram->record(value);
    EXPECT_EQ(histogram->percentile(50), static_cast<double>(value));
  }
}

TEST(Histogram, KnowsAnyValueToASixtyFourth) {
  for (unsigned bit = 7; bit < 42; ++bit) {
    const std::uint64_t power = std::uint64_t{1} << bit;
    for (const std::uint64_t value : {power - 1, power, power + 1, power + power / 2}) {
      if (value >> 42U != 0) continue;
      const auto histogram = std::make_unique<Histogram>();
      histogram->record(value);
      EXPECT_NEAR(histogram->percentile(50), static_cast<double>(value),
                  static_cast<double>(value) / 64);
    }
  }
}

TEST(Histogram, TakesValuesThatAreTooLongForTheLongest) {
  const auto histogram = std::make_unique<Histogram>();
  histogram->record(std::numeric_limits<std::uint64_t>::max());
  EXPECT_GT(histogram->percentile(100), 4e12);
}

TEST(Histogram, GivesThePercentilesOfASortedList) {
  std::mt19937_64 random(20240229);
  std::vector<double> values;
  const auto histogram = std::make_unique<Histogram>();
  for (int i = 0; i < 10001; ++i) {
    const std::uint64_t value = random() % 1'000'000 >> (random() % 16);
    histogram->record(value);
    values.push_back(static_cast<double>(value));
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {0.1, 1.0, 50.0, 99.0, 99.9, 100.0}) {
    const auto rank =
        static_cast<std::size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
    const double expected = values[std::max<std::size_t>(rank, 1) - 1];
    EXPECT_NEAR(histogram->percentile(percent), expected, expected / 64) << percent;
  }
}

TEST(Histogram, AddsWhatAnotherOneCounted) {
  const auto one = std::make_unique<Histogram>();
  const auto other = std::make_unique<Histogram>();
  one->record(10);
  other->record(20);
  other->record(30);
  one->add(*other);
  EXPECT_EQ(one->count(), 3U);
  EXPECT_EQ(one->percentile(50), 20);
  EXPECT_EQ(one->percentile(100), 30);
  one->clear();
  EXPECT_EQ(one->count(), 0U);
  EXPECT_EQ(one->percentile(100), 0);
}

}  // namespace
}  // namespace tssx::bench
