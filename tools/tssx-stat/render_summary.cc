#include "tools/tssx-stat/render_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

namespace tssx::stat_tool {
namespace {

void add_to(std::uint64_t& sum, std::uint64_t value) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  sum = value > kMax - sum ? kMax : sum + value;
}

std::uint64_t rounded(double value) {
  return static_cast<std::uint64_t>(std::llround(std::clamp(value, 0.0, 9e18)));
}

std::string bytes_text(std::uint64_t value, TextStyle style) {
  return style.human ? human_bytes(value) : fmt::format("{}", value);
}
std::string count_text(std::uint64_t value, TextStyle style) {
  return style.human ? human_count(value) : fmt::format("{}", value);
}

}  // namespace

Totals totals_of(const Report& report) {
  Totals totals{};
  for (const Connection& connection : report.connections) {
    totals.ring += connection.state == State::ring ? 1U : 0U;
    for (std::size_t way = 0; way < connection.directions.size(); ++way) {
      const DirectionSnapshot& direction = connection.directions[way];
      add_to(totals.bytes, direction.bytes);
      add_to(totals.messages, direction.messages);
      add_to(totals.bells, direction.bells);
      add_to(totals.address_space, direction.capacity);
      if (const std::optional<Rate>& rate = connection.rates[way]) {
        totals.measured = true;
        totals.bytes_per_second += rate->bytes;
        totals.messages_per_second += rate->messages;
      }
    }
    add_to(totals.address_space, kHeaderSize);
  }
  return totals;
}

std::string states_text(const Report& report) {
  std::map<State, std::size_t> states;
  for (const Connection& connection : report.connections) ++states[connection.state];
  std::string text;
  for (const auto& [state, count] : states) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, to_string(state));
  }
  return text.empty() ? "none" : text;
}

std::string render_summary(const Report& report, TextStyle style) {
  const Totals totals = totals_of(report);
  std::string text;
  text += fmt::format("connections    {} ({})\n", report.connections.size(), states_text(report));
  text += fmt::format("bytes          {}\n", bytes_text(totals.bytes, style));
  text += fmt::format("messages       {}\n", count_text(totals.messages, style));
  text += fmt::format("bells          {}\n", count_text(totals.bells, style));
  if (totals.measured) {
    text += fmt::format("bytes/s        {}\n", bytes_text(rounded(totals.bytes_per_second), style));
    text +=
        fmt::format("messages/s     {}\n", count_text(rounded(totals.messages_per_second), style));
  }
  text +=
      fmt::format("segments       {} of address space\n", bytes_text(totals.address_space, style));

  std::map<std::pair<std::string_view, std::string_view>, std::size_t> reasons;
  for (const KernelEnd& end : report.kernel_ends) {
    const bool final = end.end.reason != Reason::none;
    ++reasons[{to_string(end.end.stage), final ? to_string(end.end.reason) : ""}];
  }
  for (const auto& [what, count] : reasons) {
    text += fmt::format("kernel ends    {} {}{}{}\n", count, what.first,
                        what.second.empty() ? "" : ": ", what.second);
  }
  return text;
}

}  // namespace tssx::stat_tool
