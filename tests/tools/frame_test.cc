#include "tools/tssx-stat/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tools/tssx-stat/escape.h"

namespace tssx::stat_tool {
namespace {

Report many(std::size_t count) {
  Report report;
  for (std::size_t i = 0; i < count; ++i) {
    Connection connection;
    connection.id.inode = i;
    connection.path = "/run/x" + std::to_string(i);
    connection.state = State::ring;
    connection.rates[0] = Rate{100, 10};
    report.connections.push_back(connection);
  }
  return report;
}

TEST(Frame, FillsTheScreenAndNoMore) {
  for (const std::size_t rows : {1U, 2U, 5U, 6U, 24U, 100U}) {
    for (const std::size_t columns : {1U, 20U, 80U, 300U}) {
      Screen screen;
      screen.rows = rows;
      screen.columns = columns;
      const auto lines = make_frame(many(30), screen, {false, true, false, 0, false});
      EXPECT_EQ(lines.size(), rows);
      for (const std::string& line : lines) {
        if (columns >= 20) {
          EXPECT_LE(width_of(line), columns) << line;
        }
      }
    }
  }
}

TEST(Frame, TellsTotals) {
  Report report = many(2);
  report.connections[1].state = State::kernel;
  report.hidden_processes = 1;
  report.kernel_ends.resize(3);
  Screen screen;
  screen.columns = 200;
  const auto lines = make_frame(report, screen, {});
  EXPECT_EQ(lines[0],
            "tssx-stat: 2 connections (1 ring, 1 kernel)  B/s 200  msg/s 20  by rate, every 2s");
  EXPECT_EQ(lines[1], "3 ends in the kernel, 1 process hidden");
  EXPECT_EQ(lines.back(), "q quit   s order   arrows and page keys move");
}

TEST(Frame, SaysWhenThereIsNothing) {
  const auto lines = make_frame({}, {}, {});
  EXPECT_EQ(lines.size(), 24U);
  EXPECT_EQ(lines[3], "no accelerated connections");
}

TEST(Frame, BeginsWhereItWasMovedTo) {
  Screen screen;
  screen.rows = 10;  // room for five
  EXPECT_TRUE(take_keys(screen, "\x1b[B\x1b[B", 30));
  EXPECT_EQ(screen.first, 2U);
  EXPECT_NE(make_frame(many(30), screen, {})[4].find("/run/x2"), std::string::npos);
  EXPECT_TRUE(take_keys(screen, "\x1bOA", 30));
  EXPECT_EQ(screen.first, 1U);
  EXPECT_TRUE(take_keys(screen, "\x1b[6~", 30));
  EXPECT_EQ(screen.first, 6U);
  for (int i = 0; i < 20; ++i) take_keys(screen, "\x1b[6~", 30);
  EXPECT_EQ(screen.first, 25U) << "the last page is full";
  take_keys(screen, "\x1b[5~", 8);
  EXPECT_EQ(screen.first, 0U) << "the list has become shorter meanwhile";
  for (int i = 0; i < 3; ++i) take_keys(screen, "\x1b[A", 30);
  EXPECT_EQ(screen.first, 0U);
}

TEST(Frame, ChangesItsOrderAndEnds) {
  Screen screen;
  screen.sort = SortKey::path;
  EXPECT_TRUE(take_keys(screen, "s", 0));
  EXPECT_EQ(screen.sort, SortKey::age);
  EXPECT_TRUE(take_keys(screen, "\x1b[D\x1b[D", 0));
  EXPECT_EQ(screen.sort, SortKey::program) << "around the end";
  EXPECT_TRUE(take_keys(screen, "\x1b[C", 0));
  EXPECT_EQ(screen.sort, SortKey::path);
  EXPECT_FALSE(take_keys(screen, "x\x1b[99;9R\x1b", 0));
  EXPECT_FALSE(screen.quit);
  EXPECT_TRUE(take_keys(screen, "q", 0));
  EXPECT_TRUE(screen.quit);
}

}  // namespace
}  // namespace tssx::stat_tool
