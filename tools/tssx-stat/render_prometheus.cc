#include "tools/tssx-stat/render_prometheus.h"

#include <fmt/format.h>

#include <array>
#include <functional>
#include <iterator>
#include <map>
#include <string_view>

#include "tools/tssx-stat/escape.h"

namespace tssx::stat_tool {
namespace {

constexpr std::array kStates{State::offered, State::withdrawn, State::handshake, State::ring,
                             State::mixed,   State::kernel,    State::closing,   State::damaged};

class Metrics {
 public:
  void begin(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name,
                   type);
  }
  template <typename Value>
  void add(std::string_view labels, Value value) {
    if (labels.empty()) {
      fmt::format_to(std::back_inserter(text_), "{} {}\n", name_, value);
    } else {
      fmt::format_to(std::back_inserter(text_), "{}{{{}}} {}\n", name_, labels, value);
    }
  }
  std::string take() { return std::move(text_); }

 private:
  std::string_view name_;
  std::string text_;
};

std::string identity(const Connection& connection) {
  return fmt::format("id=\"{}\",path=\"{}\"", to_string(connection.id),
                     label_value(connection.path));
}

std::string info_labels(const Connection& connection) {
  const auto& [server, client] = connection.parties;
  return fmt::format(
      "{},state=\"{}\",server_pid=\"{}\",server_program=\"{}\",server_user=\"{}\","
      "client_pid=\"{}\",client_program=\"{}\",client_user=\"{}\",descriptors=\"{}\"",
      identity(connection), to_string(connection.state), server.pid, label_value(server.program),
      label_value(server.user), client.pid, label_value(client.program), label_value(client.user),
      descriptors_of(connection));
}

struct DirectionMetric {
  std::string_view name;
  std::string_view type;
  std::string_view help;
  std::uint64_t DirectionSnapshot::*member;
};

constexpr std::array kDirectionMetrics{
    DirectionMetric{"tssx_connection_bytes_total", "counter",
                    "Bytes that were written to the ring.", &DirectionSnapshot::bytes},
    DirectionMetric{"tssx_connection_messages_total", "counter",
                    "Calls that wrote bytes to the ring.", &DirectionSnapshot::messages},
    DirectionMetric{"tssx_connection_reads_total", "counter",
                    "Calls that read bytes from the ring.", &DirectionSnapshot::reads},
    DirectionMetric{"tssx_connection_bells_total", "counter",
                    "Doorbells that either end rang about the ring.", &DirectionSnapshot::bells},
    DirectionMetric{"tssx_connection_data_sleeps_total", "counter",
                    "Times a reader slept for bytes.", &DirectionSnapshot::data_sleeps},
    DirectionMetric{"tssx_connection_space_sleeps_total", "counter",
                    "Times a writer slept for room.", &DirectionSnapshot::space_sleeps},
    DirectionMetric{"tssx_connection_waiting_bytes", "gauge", "Bytes in the ring, not read yet.",
                    &DirectionSnapshot::waiting},
    DirectionMetric{"tssx_connection_capacity_bytes", "gauge", "Room of the ring.",
                    &DirectionSnapshot::capacity},
};

}  // namespace

std::string label_value(std::string_view bytes) {
  // What is not printable UTF-8 becomes \xNN, and a backslash two: only quotes are left, and the
  // backslashes, which the format doubles once more.
  std::string text;
  for (const char c : escape(bytes, {true, false})) {
    if (c == '\\' || c == '"') text.push_back('\\');
    text.push_back(c);
  }
  return text;
}

std::string render_prometheus(const Report& report) {
  Metrics metrics;
  metrics.begin("tssx_connections", "gauge", "Connections that have shared memory, by state.");
  for (const State state : kStates) {
    std::size_t count = 0;
    for (const Connection& connection : report.connections) count += connection.state == state;
    metrics.add(fmt::format("state=\"{}\"", to_string(state)), count);
  }

  metrics.begin("tssx_kernel_ends", "gauge",
                "Ends of connections without shared memory, in processes that have the library.");
  using Key = std::array<std::string_view, 3>;
  std::map<Key, std::size_t> ends;
  for (const KernelEnd& end : report.kernel_ends) {
    ++ends[{end.end.role == Role::server ? "server" : "client", to_string(end.end.stage),
            to_string(end.end.reason)}];
  }
  for (const auto& [key, count] : ends) {
    metrics.add(fmt::format("role=\"{}\",stage=\"{}\",reason=\"{}\"", key[0], key[1], key[2]),
                count);
  }

  metrics.begin("tssx_hidden_processes", "gauge", "Processes that could not be looked at.");
  metrics.add("", report.hidden_processes);
  metrics.begin("tssx_unrecognized_segments", "gauge",
                "Segments without a header that this version understands.");
  metrics.add("", report.unrecognized);
  metrics.begin("tssx_other_version_records", "gauge",
                "Records of another version of the library.");
  metrics.add("", report.other_versions);

  metrics.begin("tssx_connection_info", "gauge", "Always 1; the labels tell who is at both ends.");
  for (const Connection& connection : report.connections) metrics.add(info_labels(connection), 1);
  metrics.begin("tssx_connection_age_seconds", "gauge", "Time since the shared memory was made.");
  for (const Connection& connection : report.connections) {
    metrics.add(identity(connection), connection.age_seconds);
  }
  for (const DirectionMetric& metric : kDirectionMetrics) {
    metrics.begin(metric.name, metric.type, metric.help);
    for (const Connection& connection : report.connections) {
      for (std::size_t way = 0; way < connection.directions.size(); ++way) {
        metrics.add(fmt::format("{},direction=\"{}\"", identity(connection),
                                way == outgoing(Role::server) ? "to_client" : "to_server"),
                    connection.directions[way].*metric.member);
      }
    }
  }
  return metrics.take();
}

}  // namespace tssx::stat_tool
