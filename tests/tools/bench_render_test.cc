#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/tssx-bench/placement.h"
#include "tools/tssx-bench/render_json.h"
#include "tools/tssx-bench/render_text.h"

namespace tssx::bench {
namespace {

CellResult result(std::string name, std::vector<double> base, std::vector<double> ours) {
  return {
      std::move(name), {{{"p50", "ns", Better::lower}, std::move(base), std::move(ours)}}, {}, {}};
}

Plan plan() {
  Plan plan;
  plan.base = {"kernel", {}, {}};
  plan.ours = {"tssx", "/lib/libtssx.so", {}};
  plan.rounds = 3;
  return plan;
}

TEST(BenchText, RoundsToWhatMatters) {
  EXPECT_EQ(format_number(123456.7), "123457");
  EXPECT_EQ(format_number(123.46), "123.5");
  EXPECT_EQ(format_number(12.345), "12.35");
  EXPECT_EQ(format_number(0.01234), "0.0123");
  EXPECT_EQ(format_number(0), "0.00");
}

TEST(BenchText, ShowsMediansRangesAndRatios) {
  const std::string line = render_cell(result("cell/a", {3000, 2000, 4000}, {1000, 1000, 500}));
  EXPECT_NE(line.find("cell/a"), std::string::npos) << line;
  EXPECT_NE(line.find("3000 (2000 to 4000)"), std::string::npos) << line;
  EXPECT_NE(line.find("1000 (500.0 to 1000)"), std::string::npos) << line;
  EXPECT_NE(line.find("3.00 (2.00 to 8.00)"), std::string::npos) << line;
}

TEST(BenchText, ShowsADashForASideThatIsNotMeasured) {
  const std::string line = render_cell(result("floor/a", {7}, {}));
  EXPECT_NE(line.find("7.00 (7.00 to 7.00)"), std::string::npos) << line;
  EXPECT_NE(line.find(" - "), std::string::npos) << line;
}

TEST(BenchText, SaysWhyThereAreNoNumbers) {
  EXPECT_NE(render_cell({"cell/a", {}, "timed out", {}}).find("error: timed out"),
            std::string::npos);
  EXPECT_NE(render_cell({"cell/a", {}, {}, "only one CPU"}).find("skipped: only one CPU"),
            std::string::npos);
}

TEST(BestPlacement, ComparesEachPlacementWithTheBestOfTheOtherSide) {
  const auto lines =
      best_placements({result("x/two-cpus", {30}, {5}), result("x/one-cpu", {10}, {8}),
                       result("y/free", {10}, {5}), result("z", {1}, {1})});
  ASSERT_EQ(lines.size(), 2U) << "of one placement there is no best, and z has none";
  EXPECT_EQ(lines[0].name, "x/two-cpus");
  EXPECT_EQ(lines[0].base, 10);
  EXPECT_EQ(lines[0].base_place, "one-cpu");
  EXPECT_EQ(lines[0].ours, 5);
  EXPECT_EQ(lines[0].ratio, 2);
  EXPECT_EQ(lines[1].ratio, 10.0 / 8);
}

TEST(BestPlacement, LeavesOutWhatCouldNotBeMeasured) {
  EXPECT_TRUE(
      best_placements({result("x/two-cpus", {30}, {5}), {"x/one-cpu", {}, "error", {}}}).empty());
  EXPECT_TRUE(best_placements({result("floor/two-cpus", {3}, {}), result("floor/one-cpu", {3}, {})})
                  .empty());
}

TEST(BenchJson, HasEverythingTwiceParsed) {
  const std::string text = render_json({2, "Linux 6", "A \"quoted\" processor\xff"}, plan(),
                                       {result("cell/a", {30, 20, 40}, {10, 10, 5}),
                                        result("floor/a", {7}, {}),
                                        {"cell/b", {}, "timed out", {}},
                                        {"cell/c", {}, {}, "only one CPU"}});
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json.at("machine").at("cpus"), 2);
  EXPECT_EQ(json.at("base"), "kernel");
  EXPECT_EQ(json.at("ours"), "tssx");
  EXPECT_EQ(json.at("rounds"), 3);
  const auto& cells = json.at("cells");
  ASSERT_EQ(cells.size(), 4U);
  const auto& metric = cells[0].at("metrics").at(0);
  EXPECT_EQ(metric.at("name"), "p50");
  EXPECT_EQ(metric.at("unit"), "ns");
  EXPECT_EQ(metric.at("better"), "lower");
  EXPECT_EQ(metric.at("base").at("median"), 30);
  EXPECT_EQ(metric.at("base").at("rounds"), (std::vector<double>{30, 20, 40}));
  EXPECT_EQ(metric.at("ours").at("lowest"), 5);
  EXPECT_EQ(metric.at("times_better").at("highest"), 8);
  EXPECT_FALSE(cells[0].contains("error"));
  EXPECT_TRUE(cells[1].at("metrics").at(0).at("ours").is_null());
  EXPECT_TRUE(cells[1].at("metrics").at(0).at("times_better").is_null());
  EXPECT_EQ(cells[2].at("error"), "timed out");
  EXPECT_EQ(cells[3].at("skipped"), "only one CPU");
}

}  // namespace
}  // namespace tssx::bench
