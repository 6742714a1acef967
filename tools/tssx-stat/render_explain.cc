#include "tools/tssx-stat/render_explain.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/tssx-stat/escape.h"
#include "tools/tssx-stat/render_json.h"

namespace tssx::stat_tool {
namespace {

Json end_json(const EndFacts& facts, const std::vector<Holder>& holders) {
  Json fds = Json::array();
  for (const Holder& holder : holders) {
    if (holder.pid == facts.party.pid) fds.push_back(holder.fd);
  }
  return {{"pid", facts.party.pid},
          {"program", facts.party.program},
          {"user", facts.party.user},
          {"fds", std::move(fds)}};
}

std::string verdict_text(const Verdict& verdict) {
  if (verdict.accelerated) return "in shared memory";
  return fmt::format("in the kernel: {}: {}", verdict.code, verdict.text);
}

std::string path_text(const std::string& path, TextStyle style) {
  return path.empty() ? "-" : escape(path, {style.unicode, false});
}

}  // namespace

std::string explain_text(const Links& links, TextStyle style) {
  std::string text;
  for (const Link& link : links.connections) {
    text +=
        fmt::format("{}: server {}, client {}\n    {}\n", path_text(link.facts.path, style),
                    party_text(link.facts.server.party, style),
                    party_text(link.facts.client.party, style), verdict_text(explain(link.facts)));
  }
  for (const ListeningSocket& listener : links.listeners) {
    const auto no = obstacle(listener.owner, "server", listener.path);
    text += fmt::format(
        "{}: listening, {}\n    {}\n", path_text(listener.path, style),
        party_text(listener.owner.party, style),
        no ? fmt::format("would not offer: {}: {}", no->code, no->text) : "would offer");
  }
  return text;
}

std::string listeners_text(const std::vector<ListeningSocket>& listeners, TextStyle style) {
  if (listeners.empty()) return "no listening sockets\n";
  struct Line {
    std::string offers, reason, owner, user, path;
  };
  std::vector<Line> lines{{"OFFERS", "REASON", "PROCESS", "USER", "PATH"}};
  for (const ListeningSocket& listener : listeners) {
    const auto no = obstacle(listener.owner, "server", listener.path);
    const std::string user = escape(listener.owner.party.user, {style.unicode, true});
    lines.push_back({no ? "no" : "yes", no ? no->code : "-",
                     party_text(listener.owner.party, style), user.empty() ? "-" : user,
                     path_text(listener.path, style)});
  }
  std::size_t reason = 0;
  std::size_t owner = 0;
  std::size_t user = 0;
  for (const Line& line : lines) {
    reason = std::max(reason, width_of(line.reason));
    owner = std::max(owner, width_of(line.owner));
    user = std::max(user, width_of(line.user));
  }
  const auto pad = [](const std::string& text, std::size_t width) {
    return text + std::string(width - width_of(text) + 2, ' ');
  };
  std::string text;
  for (const Line& line : lines) {
    text += pad(line.offers, 6) + pad(line.reason, reason) + pad(line.owner, owner) +
            pad(line.user, user) + line.path + "\n";
  }
  return text;
}

std::string explain_json(const Links& links, std::size_t hidden_processes) {
  Json connections = Json::array();
  for (const Link& link : links.connections) {
    const Verdict verdict = explain(link.facts);
    connections.push_back({{"path", link.facts.path},
                           {"server", end_json(link.facts.server, link.server_holders)},
                           {"client", end_json(link.facts.client, link.client_holders)},
                           {"accelerated", verdict.accelerated},
                           {"code", verdict.code},
                           {"side", verdict.side},
                           {"text", verdict.text}});
  }
  Json listeners = Json::array();
  for (const ListeningSocket& listener : links.listeners) {
    const auto no = obstacle(listener.owner, "server", listener.path);
    listeners.push_back({{"path", listener.path},
                         {"pid", listener.owner.party.pid},
                         {"program", listener.owner.party.program},
                         {"user", listener.owner.party.user},
                         {"offers", !no.has_value()},
                         {"code", no ? no->code : ""},
                         {"text", no ? no->text : ""}});
  }
  return print_json({{"schema", kSchema},
                     {"connections", std::move(connections)},
                     {"listeners", std::move(listeners)},
                     {"hidden_processes", hidden_processes}});
}

}  // namespace tssx::stat_tool
