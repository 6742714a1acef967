#include "tools/tssx-stat/render_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "tools/tssx-stat/escape.h"

namespace tssx::stat_tool {
namespace {

enum class Align { left, right };

struct Column {
  std::string_view title;
  Align align;
};

// The path comes last: it is the longest, and may contain spaces.
constexpr std::array kColumns{
    Column{"STATE", Align::left},   Column{"AGE", Align::right},
    Column{"SERVER", Align::left},  Column{"CLIENT", Align::left},
    Column{"HOLDERS", Align::left}, Column{"TO-CLIENT", Align::right},
    Column{"MSGS", Align::right},   Column{"WAITING", Align::right},
    Column{"BELLS", Align::right},  Column{"TO-SERVER", Align::right},
    Column{"MSGS", Align::right},   Column{"WAITING", Align::right},
    Column{"BELLS", Align::right},  Column{"PATH", Align::left},
};
using Row = std::array<std::string, kColumns.size()>;

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

std::string party(const Party& party, TextStyle style) {
  const std::string pid = party.pid != 0 ? fmt::format("{}", party.pid) : "?";
  const std::string program = escape(party.program, {style.unicode, !style.human});
  return fmt::format("{}/{}", pid, program.empty() ? "-" : program);
}

Row row_of(const Connection& connection, TextStyle style) {
  const auto bytes = [&](std::uint64_t value) {
    return style.human ? human_bytes(value) : fmt::format("{}", value);
  };
  const auto count = [&](std::uint64_t value) {
    return style.human ? human_count(value) : fmt::format("{}", value);
  };
  const auto& parties = connection.parties;
  const auto& ways = connection.directions;
  const std::string path = escape(connection.path, {style.unicode, false});
  return {std::string(to_string(connection.state)),
          style.human ? human_duration(connection.age_seconds)
                      : fmt::format("{:.3f}", connection.age_seconds),
          party(parties[0], style),
          party(parties[1], style),
          fmt::format("{}+{}", parties[0].holders, parties[1].holders),
          bytes(ways[0].bytes),
          count(ways[0].messages),
          bytes(ways[0].waiting),
          count(ways[0].bells),
          bytes(ways[1].bytes),
          count(ways[1].messages),
          bytes(ways[1].waiting),
          count(ways[1].bells),
          path.empty() ? "-" : path};
}

void append_row(std::string& text, const Row& row,
                const std::array<std::size_t, kColumns.size()>& widths) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    const bool last = i + 1 == row.size();
    const std::string padding(widths[i] - width_of(row[i]), ' ');
    if (kColumns[i].align == Align::right) text += padding;
    text += row[i];
    if (kColumns[i].align == Align::left && !last) text += padding;
    text += last ? "\n" : "  ";
  }
}

std::string plural(std::size_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
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

std::string render_table(const Report& report, TextStyle style) {
  if (report.connections.empty()) return "no accelerated connections\n";
  std::vector<Row> rows(1);
  for (std::size_t i = 0; i < kColumns.size(); ++i) rows[0][i] = kColumns[i].title;
  for (const Connection& connection : report.connections) {
    rows.push_back(row_of(connection, style));
  }
  std::array<std::size_t, kColumns.size()> widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  for (const Row& row : rows) append_row(text, row, widths);
  return text;
}

std::string render_remarks(const Report& report) {
  std::string text;
  if (report.hidden_processes != 0) {
    text += plural(report.hidden_processes, "process", "processes") +
            " could not be looked at (only their user or root may)\n";
  }
  if (report.unrecognized != 0) {
    text += plural(report.unrecognized, "segment has", "segments have") +
            " no header that this version understands\n";
  }
  return text;
}

}  // namespace tssx::stat_tool
