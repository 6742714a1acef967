#include "tools/tssx-stat/render_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

#include "tools/tssx-stat/escape.h"

namespace tssx::stat_tool {
namespace {

enum class Align { left, right };

struct Column {
  std::string_view title;
  Align align;
  int importance;  // on a narrow terminal the least important go first
};

// The path comes last: it is the longest, and may contain spaces.
constexpr std::array kColumns{
    Column{"ID", Align::left, 5},          Column{"STATE", Align::left, 20},
    Column{"AGE", Align::right, 8},        Column{"SERVER", Align::left, 19},
    Column{"CLIENT", Align::left, 18},     Column{"USERS", Align::left, 6},
    Column{"IDS", Align::left, 3},         Column{"HOLDERS", Align::left, 2},
    Column{"TO-CLIENT", Align::right, 17}, Column{"MSGS", Align::right, 10},
    Column{"B/S", Align::right, 14},       Column{"MSG/S", Align::right, 12},
    Column{"WAITING", Align::right, 7},    Column{"BELLS", Align::right, 1},
    Column{"TO-SERVER", Align::right, 16}, Column{"MSGS", Align::right, 9},
    Column{"B/S", Align::right, 13},       Column{"MSG/S", Align::right, 11},
    Column{"WAITING", Align::right, 7},    Column{"BELLS", Align::right, 1},
    Column{"CAPACITY", Align::right, 4},   Column{"PATH", Align::left, 20},
};
using Row = std::array<std::string, kColumns.size()>;
using Widths = std::array<std::size_t, kColumns.size()>;
constexpr std::size_t kStateColumn = 1;
constexpr std::size_t kPathColumn = kColumns.size() - 1;
constexpr std::size_t kGap = 2;
constexpr std::size_t kLeastPath = 40;  // columns that a narrow terminal leaves it

std::string scaled(std::uint64_t value, std::uint64_t base, std::string_view units) {
  if (value < base) return fmt::format("{}", value);
  auto scaled_value = static_cast<double>(value);
  std::size_t unit = 0;
  const auto step = static_cast<double>(base);
  // A value that would be rounded up to the next unit is shown in it.
  for (scaled_value /= step; scaled_value >= step - 0.5 && unit + 1 < units.size(); ++unit) {
    scaled_value /= step;
  }
  return scaled_value < 9.95 ? fmt::format("{:.1f}{}", scaled_value, units[unit])
                             : fmt::format("{:.0f}{}", scaled_value, units[unit]);
}

std::string bytes_text(std::uint64_t value, TextStyle style) {
  return style.human ? human_bytes(value) : fmt::format("{}", value);
}

std::string count_text(std::uint64_t value, TextStyle style) {
  return style.human ? human_count(value) : fmt::format("{}", value);
}

std::uint64_t rounded(double value) {
  return static_cast<std::uint64_t>(std::llround(std::clamp(value, 0.0, 9e18)));
}

std::string name_text(const std::string& name, TextStyle style) {
  const std::string text = escape(name, {style.unicode, true});
  return text.empty() ? "-" : text;
}

std::string users_text(const std::array<Party, 2>& parties, TextStyle style) {
  const std::string server = name_text(parties[0].user, style);
  const std::string client = name_text(parties[1].user, style);
  return server == client ? server : server + "," + client;
}

Row row_of(const Connection& connection, TextStyle style) {
  const auto& parties = connection.parties;
  Row row;
  std::size_t at = 0;
  const auto add = [&](std::string text) { row[at++] = std::move(text); };
  add(fmt::format("{}", connection.id.inode));
  add(std::string(to_string(connection.state)));
  add(style.human ? human_duration(connection.age_seconds)
                  : fmt::format("{:.3f}", connection.age_seconds));
  add(party_text(parties[0], style));
  add(party_text(parties[1], style));
  add(users_text(parties, style));
  const std::string_view descriptors = descriptors_of(connection);
  add(descriptors == "unknown" ? "-" : std::string(descriptors));
  add(fmt::format("{}+{}", parties[0].holders, parties[1].holders));
  for (std::size_t i = 0; i < connection.directions.size(); ++i) {
    const DirectionSnapshot& way = connection.directions[i];
    const std::optional<Rate>& rate = connection.rates[i];
    add(bytes_text(way.bytes, style));
    add(count_text(way.messages, style));
    add(rate ? bytes_text(rounded(rate->bytes), style) : "-");
    add(rate ? count_text(rounded(rate->messages), style) : "-");
    add(bytes_text(way.waiting, style));
    add(count_text(way.bells, style));
  }
  add(bytes_text(connection.directions[0].capacity, style));
  const std::string path = escape(connection.path, {style.unicode, false});
  add(path.empty() ? "-" : path);
  return row;
}

std::string_view colour_of(std::string_view state) {
  if (state == "ring") return "\x1b[32m";
  if (state == "damaged") return "\x1b[31m";
  if (state == "kernel" || state == "withdrawn" || state == "mixed") return "\x1b[33m";
  return "";
}

// Which columns are shown.
using Shown = std::array<bool, kColumns.size()>;

Shown choose(const Widths& widths, std::size_t width) {
  Shown shown;
  shown.fill(true);
  if (width == 0) return shown;
  for (;;) {
    std::size_t total = std::min(widths[kPathColumn], kLeastPath);
    std::size_t least = kPathColumn;
    for (std::size_t i = 0; i < kPathColumn; ++i) {
      if (!shown[i]) continue;
      total += widths[i] + kGap;
      if (kColumns[i].importance < kColumns[least].importance) least = i;
    }
    if (total <= width || least == kPathColumn) return shown;
    shown[least] = false;
  }
}

// The first `width` characters of printable UTF-8.
std::string_view cut(std::string_view text, std::size_t width) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins = (static_cast<std::uint8_t>(text[i]) & 0xc0U) != 0x80;
    if (begins && characters++ == width) return text.substr(0, i);
  }
  return text;
}

std::string line_of(const Row& row, const Widths& widths, const Shown& shown, TextStyle style) {
  std::string line;
  std::size_t used = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (!shown[i]) continue;
    if (i == kPathColumn) {
      line += !style.cut ? std::string_view(row[i])
                         : cut(row[i], style.width > used ? style.width - used : 0);
      break;
    }
    const std::string padding(widths[i] - width_of(row[i]), ' ');
    const std::string_view colour =
        style.colour && i == kStateColumn ? colour_of(row[i]) : std::string_view();
    if (kColumns[i].align == Align::right) line += padding;
    line += colour;
    line += row[i];
    if (!colour.empty()) line += "\x1b[0m";
    if (kColumns[i].align == Align::left) line += padding;
    line.append(kGap, ' ');
    used += widths[i] + kGap;
  }
  return line;
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) { return scaled(bytes, 1024, "KMGTPE"); }
std::string human_count(std::uint64_t count) { return scaled(count, 1000, "kMGTPE"); }

std::string human_duration(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::clamp(seconds, 0.0, 1e15));
  const std::uint64_t minutes = whole / 60;
  const std::uint64_t hours = minutes / 60;
  if (minutes == 0) return fmt::format("{}s", whole);
  if (hours == 0) return fmt::format("{}m{:02}s", minutes, whole % 60);
  if (hours < 24) return fmt::format("{}h{:02}m", hours, minutes % 60);
  return fmt::format("{}d{:02}h", hours / 24, hours % 24);
}

std::string plural(std::size_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string party_text(const Party& party, TextStyle style) {
  const std::string pid = party.pid != 0 ? fmt::format("{}", party.pid) : "?";
  const std::string program = escape(party.program, {style.unicode, !style.human});
  return fmt::format("{}/{}", pid, program.empty() ? "-" : program);
}

std::vector<std::string> table_lines(const Report& report, TextStyle style) {
  std::vector<Row> rows(1);
  for (std::size_t i = 0; i < kColumns.size(); ++i) rows[0][i] = kColumns[i].title;
  for (const Connection& connection : report.connections) {
    rows.push_back(row_of(connection, style));
  }
  Widths widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  const Shown shown = choose(widths, style.width);
  std::vector<std::string> lines;
  for (const Row& row : rows) lines.push_back(line_of(row, widths, shown, style));
  return lines;
}

std::string render_table(const Report& report, TextStyle style) {
  if (report.connections.empty()) return "no accelerated connections\n";
  std::string text;
  for (const std::string& line : table_lines(report, style)) text += line + "\n";
  return text;
}

std::string render_remarks(const Report& report) {
  std::string text;
  if (!report.kernel_ends.empty()) {
    const std::size_t count = report.kernel_ends.size();
    text += plural(count, "end of a connection is", "ends of connections are") +
            " in the kernel (tssx-stat explain says why)\n";
  }
  if (report.hidden_processes != 0) {
    text += plural(report.hidden_processes, "process", "processes") +
            " could not be looked at (only their user or root may)\n";
  }
  if (report.unrecognized != 0) {
    text += plural(report.unrecognized, "segment has", "segments have") +
            " no header that this version understands\n";
  }
  if (report.other_versions != 0) {
    text += plural(report.other_versions, "record is", "records are") +
            " of another version of the library\n";
  }
  return text;
}

}  // namespace tssx::stat_tool
