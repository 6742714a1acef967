#include "tools/tssx-stat/render_json.h"

#include <cstddef>
#include <ctime>

namespace tssx::stat_tool {
namespace {

Json waits_json(const WaitSnapshot& waits) {
  return {{"spun", waits.spun}, {"yielded", waits.yielded}, {"slept", waits.slept}};
}

Json end_json(const std::optional<EndSnapshot>& end) {
  if (!end) return nullptr;
  Json sizes = Json::array();
  for (std::size_t i = 0; i < kSizeBuckets; ++i) {
    const Json below = i + 1 < kSizeBuckets ? Json(std::uint64_t{16} << i) : Json(nullptr);
    sizes.push_back({{"below", below}, {"messages", end->sent_sizes[i]}});
  }
  return {{"reason", to_string(end->reason)},
          {"errno", end->detail},
          {"postponed", to_string(end->postponed)},
          {"asides", end->asides},
          {"returns", end->returns},
          {"reading", waits_json(end->receiving)},
          {"writing", waits_json(end->sending)},
          {"sent_sizes", std::move(sizes)}};
}

Json party_json(const Party& party, const std::optional<EndSnapshot>& end) {
  return {{"pid", party.pid},
          {"program", party.program},
          {"user", party.user},
          {"holders", party.holders},
          {"end", end_json(end)}};
}

Json direction_json(const DirectionSnapshot& way, const std::optional<Rate>& rate) {
  return {{"bytes", way.bytes},
          {"messages", way.messages},
          {"reads", way.reads},
          {"waiting", way.waiting},
          {"bells", way.bells},
          {"data_sleeps", way.data_sleeps},
          {"space_sleeps", way.space_sleeps},
          {"capacity", way.capacity},
          {"bytes_per_second", rate ? Json(rate->bytes) : Json(nullptr)},
          {"messages_per_second", rate ? Json(rate->messages) : Json(nullptr)},
          {"mode", to_string(way.mode)}};
}

Json kernel_end_json(const KernelEnd& end) {
  return {{"pid", end.party.pid},
          {"program", end.party.program},
          {"user", end.party.user},
          {"role", end.end.role == Role::server ? "server" : "client"},
          {"path", end.end.path},
          {"stage", to_string(end.end.stage)},
          {"age_seconds", end.age_seconds},
          {"end", end_json(end.end)}};
}

}  // namespace

Json connection_json(const Connection& connection) {
  constexpr auto kServer = static_cast<std::size_t>(Role::server);
  constexpr auto kClient = static_cast<std::size_t>(Role::client);
  constexpr std::size_t kToClient = outgoing(Role::server);
  constexpr std::size_t kToServer = outgoing(Role::client);
  return {
      {"id", to_string(connection.id)},
      {"path", connection.path},
      {"state", to_string(connection.state)},
      {"server", party_json(connection.parties[kServer], connection.ends[kServer])},
      {"client", party_json(connection.parties[kClient], connection.ends[kClient])},
      {"to_client", direction_json(connection.directions[kToClient], connection.rates[kToClient])},
      {"to_server", direction_json(connection.directions[kToServer], connection.rates[kToServer])},
      {"descriptors", descriptors_of(connection)},
      {"age_seconds", connection.age_seconds}};
}

std::string print_json(const Json& document) {
  return document.dump(2, ' ', true, Json::error_handler_t::replace) + "\n";
}

std::string render_json(const Report& report) {
  Json connections = Json::array();
  for (const Connection& connection : report.connections) {
    connections.push_back(connection_json(connection));
  }
  Json ends = Json::array();
  for (const KernelEnd& end : report.kernel_ends) ends.push_back(kernel_end_json(end));
  return print_json({{"schema", kSchema},
                     {"connections", std::move(connections)},
                     {"kernel_ends", std::move(ends)},
                     {"hidden_processes", report.hidden_processes},
                     {"unrecognized_segments", report.unrecognized},
                     {"other_versions", report.other_versions}});
}

}  // namespace tssx::stat_tool
