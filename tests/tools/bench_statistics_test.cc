#include "tools/tssx-bench/statistics.h"

#include <gtest/gtest.h>

#include <vector>

namespace tssx::bench {
namespace {

TEST(Statistics, TakeTheMiddleOfAnOddNumber) {
  const Summary summary = summarize({9, 1, 5});
  EXPECT_EQ(summary.median, 5);
  EXPECT_EQ(summary.lowest, 1);
  EXPECT_EQ(summary.highest, 9);
}

TEST(Statistics, TakeTheMeanOfTheTwoInTheMiddle) {
  EXPECT_EQ(summarize({4, 1, 100, 2}).median, 3);
  EXPECT_EQ(summarize({7}).median, 7);
}

TEST(Statistics, SayHowManyTimesBetterOursIs) {
  EXPECT_EQ(times_better(30, 10, Better::lower), 3);
  EXPECT_EQ(times_better(10, 30, Better::lower), 10.0 / 30);
  EXPECT_EQ(times_better(10, 30, Better::higher), 3);
}

TEST(Statistics, KnowNoRatioOfNothing) {
  EXPECT_EQ(times_better(0, 10, Better::lower), 0);
  EXPECT_EQ(times_better(10, 0, Better::higher), 0);
  EXPECT_EQ(times_better(-1, 10, Better::lower), 0);
}

TEST(Statistics, CompareRoundByRound) {
  const std::vector<double> theirs{10, 100, 0};
  const std::vector<double> ours{5, 20, 1};
  EXPECT_EQ(times_better(theirs, ours, Better::lower), (std::vector<double>{2, 5}));
  EXPECT_TRUE(times_better(theirs, std::vector<double>{}, Better::lower).empty());
}

}  // namespace
}  // namespace tssx::bench
