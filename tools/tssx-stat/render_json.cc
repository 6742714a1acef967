#include "tools/tssx-stat/render_json.h"

#include <cstddef>
#include <nlohmann/json.hpp>

namespace tssx::stat_tool {
namespace {

using Json = nlohmann::ordered_json;

Json party_json(const Party& party) {
  return {{"pid", party.pid},
          {"program", party.program},
          {"user", party.user},
          {"holders", party.holders}};
}

Json direction_json(const DirectionSnapshot& direction) {
  return {{"bytes", direction.bytes},       {"messages", direction.messages},
          {"waiting", direction.waiting},   {"bells", direction.bells},
          {"capacity", direction.capacity}, {"mode", to_string(direction.mode)}};
}

Json connection_json(const Connection& connection) {
  return {{"id", to_string(connection.id)},
          {"path", connection.path},
          {"state", to_string(connection.state)},
          {"server", party_json(connection.parties[static_cast<std::size_t>(Role::server)])},
          {"client", party_json(connection.parties[static_cast<std::size_t>(Role::client)])},
          {"to_client", direction_json(connection.directions[outgoing(Role::server)])},
          {"to_server", direction_json(connection.directions[outgoing(Role::client)])},
          {"age_seconds", connection.age_seconds}};
}

}  // namespace

std::string render_json(const Report& report) {
  Json connections = Json::array();
  for (const Connection& connection : report.connections) {
    connections.push_back(connection_json(connection));
  }
  const Json document = {{"connections", std::move(connections)},
                         {"hidden_processes", report.hidden_processes},
                         {"unrecognized_segments", report.unrecognized}};
  return document.dump(2, ' ', true, Json::error_handler_t::replace) + "\n";
}

}  // namespace tssx::stat_tool
