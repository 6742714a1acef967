#include "tools/tssx-stat/frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/tssx-stat/render_summary.h"

namespace tssx::stat_tool {
namespace {

constexpr std::size_t kAbove = 4;  // two lines of totals, an empty one, the titles
constexpr std::size_t kBelow = 1;  // the keys

std::size_t room_of(const Screen& screen) {
  return screen.rows > kAbove + kBelow ? screen.rows - kAbove - kBelow : 0;
}

std::uint64_t rounded(double value) {
  return static_cast<std::uint64_t>(std::llround(std::clamp(value, 0.0, 9e18)));
}

std::string totals_line(const Report& report, const Screen& screen) {
  const Totals totals = totals_of(report);
  const std::string bytes =
      totals.measured ? human_bytes(rounded(totals.bytes_per_second)) : std::string("-");
  const std::string messages =
      totals.measured ? human_count(rounded(totals.messages_per_second)) : std::string("-");
  return fmt::format("tssx-stat: {} ({})  B/s {}  msg/s {}  by {}, every {:.4g}s",
                     plural(report.connections.size(), "connection", "connections"),
                     states_text(report), bytes, messages, to_string(screen.sort), screen.interval);
}

std::string others_line(const Report& report) {
  std::string text;
  const auto add = [&text](std::size_t count, std::string_view one, std::string_view many) {
    if (count == 0) return;
    if (!text.empty()) text += ", ";
    text += plural(count, one, many);
  };
  add(report.kernel_ends.size(), "end in the kernel", "ends in the kernel");
  add(report.hidden_processes, "process hidden", "processes hidden");
  add(report.unrecognized, "segment not understood", "segments not understood");
  add(report.other_versions, "record of another version", "records of another version");
  return text;
}

SortKey neighbour(SortKey key, std::size_t step) {
  const auto* at = std::find_if(kSortNames.begin(), kSortNames.end(),
                                [key](const SortName& name) { return name.key == key; });
  const auto index = static_cast<std::size_t>(at - kSortNames.begin());
  return kSortNames[(index + step) % kSortNames.size()].key;
}

// Takes a key off the front: a byte, or an escape sequence as terminals send it.
std::string_view take_key(std::string_view& keys) {
  std::size_t size = 1;
  if (keys[0] == '\x1b' && keys.size() > 2 && (keys[1] == '[' || keys[1] == 'O')) {
    size = 2;
    while (size < keys.size() && (keys[size] < '@' || keys[size] > '~')) ++size;
    size = std::min(size + 1, keys.size());
  }
  const std::string_view key = keys.substr(0, size);
  keys.remove_prefix(size);
  return key;
}

}  // namespace

std::vector<std::string> make_frame(const Report& report, const Screen& screen, TextStyle style) {
  style.human = true;
  style.width = screen.columns;
  style.cut = true;
  std::vector<std::string> lines{totals_line(report, screen), others_line(report), ""};
  const std::size_t room = room_of(screen);
  if (report.connections.empty()) {
    lines.emplace_back("no accelerated connections");
  } else {
    // All of them decide about the columns, so that these don't jump while the list moves.
    std::vector<std::string> table = table_lines(report, style);
    lines.push_back(std::move(table[0]));
    const std::size_t first = std::min(screen.first, report.connections.size() - 1);
    for (std::size_t i = first; i < report.connections.size() && i - first < room; ++i) {
      lines.push_back(std::move(table[i + 1]));
    }
  }
  while (lines.size() + kBelow < screen.rows) lines.emplace_back();
  lines.emplace_back("q quit   s order   arrows and page keys move");
  if (lines.size() > screen.rows) lines.resize(screen.rows);
  // Only lines of the table have colours, and those were cut already.
  for (std::string& line : lines) {
    if (line.size() > screen.columns && line.find('\x1b') == std::string::npos) {
      std::size_t characters = 0;
      std::size_t at = 0;
      for (; at < line.size(); ++at) {
        const bool begins = (static_cast<unsigned char>(line[at]) & 0xc0U) != 0x80;
        if (begins && characters++ == screen.columns) break;
      }
      line.resize(at);
    }
  }
  return lines;
}

bool take_keys(Screen& screen, std::string_view keys, std::size_t connections) {
  const std::size_t room = std::max<std::size_t>(room_of(screen), 1);
  const std::size_t last = connections > room ? connections - room : 0;
  const auto move = [&screen, last](std::size_t down, std::size_t up) {
    const std::size_t from = std::min(screen.first, last) + down;
    screen.first = std::min(from > up ? from - up : 0, last);
  };
  bool changed = false;
  while (!keys.empty()) {
    const std::string_view key = take_key(keys);
    changed = true;
    if (key == "q" || key == "Q") {
      screen.quit = true;
    } else if (key == "s" || key == "\x1b[C" || key == "\x1bOC") {
      screen.sort = neighbour(screen.sort, 1);
    } else if (key == "\x1b[D" || key == "\x1bOD") {
      screen.sort = neighbour(screen.sort, kSortNames.size() - 1);
    } else if (key == "\x1b[B" || key == "\x1bOB") {
      move(1, 0);
    } else if (key == "\x1b[A" || key == "\x1bOA") {
      move(0, 1);
    } else if (key == "\x1b[6~") {
      move(room, 0);
    } else if (key == "\x1b[5~") {
      move(0, room);
    } else {
      changed = false;
    }
  }
  return changed;
}

}  // namespace tssx::stat_tool
