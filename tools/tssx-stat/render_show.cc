#include "tools/tssx-stat/render_show.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

#include "tools/tssx-stat/escape.h"

namespace tssx::stat_tool {
namespace {

constexpr std::size_t kBarWidth = 40;

class Sheet {
 public:
  void title(std::string_view text) { text_ += fmt::format("{}\n", text); }
  void line(std::string_view name, std::string_view value) {
    text_ += fmt::format("  {:<22}{}\n", name, value);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string share(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.1f}%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

// How the reads that took bytes, or the writes, got there. Those that did not wait are what is
// left.
void waits(Sheet& page, std::string_view what, const WaitSnapshot& waits, std::uint64_t calls) {
  const std::uint64_t waited = waits.spun + waits.yielded + waits.slept;
  const std::uint64_t at_once = calls > waited ? calls - waited : 0;
  const std::uint64_t all = at_once + waited;
  page.line(fmt::format("{}: at once", what), fmt::format("{} ({})", at_once, share(at_once, all)));
  page.line(fmt::format("{}: spun", what),
            fmt::format("{} ({})", waits.spun, share(waits.spun, all)));
  page.line(fmt::format("{}: yielded", what),
            fmt::format("{} ({})", waits.yielded, share(waits.yielded, all)));
  page.line(fmt::format("{}: slept", what),
            fmt::format("{} ({})", waits.slept, share(waits.slept, all)));
}

std::string bucket_name(std::size_t bucket) {
  const auto size = [](std::size_t i) { return human_bytes(std::uint64_t{16} << i); };
  if (bucket + 1 == kSizeBuckets) return "from " + size(bucket - 1);
  return "below " + size(bucket);
}

void histogram(Sheet& page, const EndSnapshot& end) {
  const std::uint64_t most = *std::max_element(end.sent_sizes.begin(), end.sent_sizes.end());
  if (most == 0) return;
  for (std::size_t i = 0; i < kSizeBuckets; ++i) {
    const std::uint64_t count = end.sent_sizes[i];
    if (count == 0) continue;
    const double part = static_cast<double>(count) / static_cast<double>(most);
    const auto length = static_cast<std::size_t>(part * kBarWidth);
    page.line(fmt::format("size: {}", bucket_name(i)),
              fmt::format("{:>12}  {}", count, std::string(std::max<std::size_t>(length, 1), '#')));
  }
}

// What one side writes, and its peer reads.
void direction(Sheet& page, const Connection& connection, Role writer) {
  const std::size_t way = outgoing(writer);
  const DirectionSnapshot& direction = connection.directions[way];
  page.line("mode", to_string(direction.mode));
  page.line("bytes", fmt::format("{}", direction.bytes));
  page.line("messages", fmt::format("{}", direction.messages));
  if (const auto& rate = connection.rates[way]) {
    page.line("bytes/s", fmt::format("{:.0f}", rate->bytes));
    page.line("messages/s", fmt::format("{:.0f}", rate->messages));
  }
  page.line("reads", fmt::format("{}", direction.reads));
  page.line("waiting", fmt::format("{} of {} bytes ({})", direction.waiting, direction.capacity,
                                   share(direction.waiting, direction.capacity)));
  page.line("bells", fmt::format("{}", direction.bells));
  page.line("sleeps for data", fmt::format("{}", direction.data_sleeps));
  page.line("sleeps for room", fmt::format("{}", direction.space_sleeps));
  const auto& writing = connection.ends[static_cast<std::size_t>(writer)];
  const auto& reading =
      connection
          .ends[static_cast<std::size_t>(writer == Role::server ? Role::client : Role::server)];
  if (reading) waits(page, "reads", reading->receiving, direction.reads);
  if (writing) waits(page, "writes", writing->sending, direction.messages);
  if (writing) histogram(page, *writing);
}

void side(Sheet& page, const Connection& connection, Role role, TextStyle style) {
  const Party& party = connection.parties[static_cast<std::size_t>(role)];
  page.line("process", party_text(party, {true, style.unicode, false, 0, false}));
  page.line("user", party.user.empty() ? "-" : escape(party.user, {style.unicode, false}));
  page.line("holders", fmt::format("{}", party.holders));
  const auto& end = connection.ends[static_cast<std::size_t>(role)];
  if (!end) {
    page.line("fall-backs", "not known: the process could not be looked at, or is gone");
    return;
  }
  page.line("by the kernel before",
            fmt::format("{} bytes sent, {} received", end->kernel_bytes_sent,
                        end->kernel_bytes_received));
  page.line("aside for a message",
            fmt::format("{} times, back {} times", end->asides, end->returns));
  if (end->reason != Reason::none) {
    const std::string error =
        end->detail != 0 ? fmt::format(" ({})", std::strerror(static_cast<int>(end->detail))) : "";
    page.line("back in the kernel",
              fmt::format("{}: {}{}", to_string(end->reason), sentence_of(end->reason), error));
  }
}

}  // namespace

const Connection* find_connection(const Report& report, std::string_view id) {
  const auto found = std::find_if(
      report.connections.begin(), report.connections.end(), [&](const Connection& one) {
        return to_string(one.id) == id || fmt::format("{}", one.id.inode) == id;
      });
  return found == report.connections.end() ? nullptr : &*found;
}

std::string render_show(const Connection& connection, TextStyle style) {
  Sheet page;
  page.title("connection");
  page.line("id", to_string(connection.id));
  page.line("path", escape(connection.path, {style.unicode, false}));
  page.line("state", to_string(connection.state));
  page.line("age", fmt::format("{:.3f} s", connection.age_seconds));
  page.line("descriptors", descriptors_of(connection));
  std::string mappers;
  for (const pid_t pid : connection.mappers) mappers += fmt::format("{} ", pid);
  page.line("mapped by", mappers);
  page.title("server");
  side(page, connection, Role::server, style);
  page.title("client");
  side(page, connection, Role::client, style);
  page.title("to the client");
  direction(page, connection, Role::server);
  page.title("to the server");
  direction(page, connection, Role::client);
  return page.take();
}

}  // namespace tssx::stat_tool
