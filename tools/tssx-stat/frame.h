// What one screen of --watch shows, and what keys do to it.
//
// Thread safety: pure functions.
//
// Invariant: a frame has at most `rows` lines, of at most `columns` characters each.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tools/tssx-stat/render_text.h"
#include "tools/tssx-stat/report.h"
#include "tools/tssx-stat/sort.h"

namespace tssx::stat_tool {

struct Screen {
  std::size_t rows = 24;
  std::size_t columns = 80;
  SortKey sort = SortKey::rate;
  std::size_t first = 0;  // connection at the top
  bool quit = false;
  double interval = 2;  // seconds, for the title
};

// The connections are in the order of screen.sort.
[[nodiscard]] std::vector<std::string> make_frame(const Report& report, const Screen& screen,
                                                  TextStyle style);

// Takes in what was typed: q quits, s and the arrows to the sides change the order, the others and
// the page keys move through the list. True if the frame has to be drawn anew.
bool take_keys(Screen& screen, std::string_view keys, std::size_t connections);

}  // namespace tssx::stat_tool
