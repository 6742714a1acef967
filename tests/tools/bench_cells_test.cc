#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/tssx-bench/cell.h"
#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {
namespace {

using Level = Cell::Level;

std::set<std::string> names_of(const std::vector<Cell>& cells) {
  std::set<std::string> names;
  for (const Cell& cell : cells) names.insert(cell.name);
  return names;
}

TEST(Cells, HaveNamesOfTheirOwnWithoutSpaces) {
  const std::vector<Cell> cells = all_cells();
  EXPECT_EQ(names_of(cells).size(), cells.size());
  for (const Cell& cell : cells) {
    EXPECT_EQ(cell.name.find_first_of(" *?[\n"), std::string::npos) << cell.name;
    EXPECT_FALSE(cell.metrics.empty()) << cell.name;
  }
}

TEST(Cells, AreMeasuredByScenariosThatExist) {
  for (const Cell& cell : all_cells()) {
    EXPECT_NE(find_scenario(cell.job.kind()), nullptr) << cell.name;
  }
  EXPECT_EQ(find_scenario("no-such-scenario"), nullptr);
}

// As a worker does it, but without any process: all that a scenario asks of its job is there, and
// it reports what the cell promises.
TEST(Cells, MakeScenariosThatReportTheirMetrics) {
  for (const Cell& cell : all_cells()) {
    std::vector<std::string> words = cell.job.words();
    words.insert(words.end(), {"seconds=0.01", "socket=/nowhere"});
    const Job job = Job::from_words(words);
    Board& board = Board::make();
    try {
      const Scenario scenario = find_scenario(job.kind())(job, board);
      EXPECT_FALSE(scenario.actors.empty()) << cell.name;
      EXPECT_EQ(scenario.connections > 0, cell.sides == Cell::Sides::both_on_rings) << cell.name;
      std::set<std::string> reported;
      for (const Metric& metric : scenario.report(board)) reported.insert(metric.name);
      for (const MetricKind& kind : cell.metrics) {
        EXPECT_TRUE(reported.contains(kind.name)) << cell.name << ' ' << kind.name;
      }
    } catch (const Skip&) {
      // On a machine with one CPU.
    }
  }
}

TEST(Cells, AreChosenByLevelOrByPattern) {
  const std::size_t all = all_cells().size();
  const std::size_t quick = select_cells(all_cells(), {}, Level::quick).size();
  const std::size_t usual = select_cells(all_cells(), {}, Level::usual).size();
  EXPECT_GT(quick, 0U);
  EXPECT_LT(quick, usual);
  EXPECT_LT(usual, all);
  EXPECT_EQ(select_cells(all_cells(), {}, Level::rare).size(), all);
  EXPECT_EQ(names_of(select_cells(all_cells(), {"pingpong/1B/poll/*"}, Level::quick)),
            (std::set<std::string>{"pingpong/1B/poll/free", "pingpong/1B/poll/two-cpus",
                                   "pingpong/1B/poll/one-cpu"}));
  EXPECT_EQ(names_of(select_cells(all_cells(), {"hog/one-cpu", "fork/*"}, Level::quick)),
            (std::set<std::string>{"hog/one-cpu", "fork/1000"}));
  EXPECT_TRUE(select_cells(all_cells(), {"pingpong"}, Level::rare).empty());
}

TEST(Job, IsTheSameAfterItsWayOverACommandLine) {
  const Job job =
      Job::from_words(Job("kind").set("a", "1.5").set("b", "x=y").set("c", "7").words());
  EXPECT_EQ(job.kind(), "kind");
  EXPECT_EQ(job.number("a"), 1.5);
  EXPECT_EQ(job.text("b"), "x=y");
  EXPECT_EQ(job.count("c"), 7U);
}

TEST(Job, RefusesWhatIsMissingOrNoNumber) {
  const Job job = Job("kind").set("word", "12x");
  EXPECT_THROW((void)job.text("none"), std::invalid_argument);
  EXPECT_THROW((void)job.number("word"), std::invalid_argument);
  EXPECT_THROW((void)job.count("word"), std::invalid_argument);
  EXPECT_THROW(Job::from_words({}), std::invalid_argument);
  EXPECT_THROW(Job::from_words({"kind", "nothing"}), std::invalid_argument);
}

}  // namespace
}  // namespace tssx::bench
