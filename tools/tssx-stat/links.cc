#include "tools/tssx-stat/links.h"

#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <string_view>
#include <unordered_set>

#include "core/rendezvous.h"
#include "tools/tssx-stat/proc_file.h"

namespace tssx::stat_tool {
namespace {

struct ParsedMark {
  ClientMark mark = ClientMark::none;
  NonceBytes nonce{};
};

ParsedMark mark_of(const std::string& name) {
  ParsedMark parsed;
  if (name.empty()) return parsed;
  parsed.mark = ClientMark::own_name;
  sockaddr_un address{};
  if (name.size() > sizeof address.sun_path) return parsed;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), name.size());
  Nonce nonce{};
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  switch (parse_mark(address, length, &nonce)) {
    case Mark::none:
      break;
    case Mark::foreign_version:
      parsed.mark = ClientMark::foreign;
      break;
    case Mark::ours:
      parsed.mark = ClientMark::ours;
      std::copy(std::begin(nonce.bytes), std::end(nonce.bytes), parsed.nonce.begin());
      break;
  }
  return parsed;
}

bool is_mark(ClientMark mark) { return mark == ClientMark::ours || mark == ClientMark::foreign; }

class Assembler {
 public:
  Assembler(Gathered& gathered, const GatheredSockets& sockets, const Report& report)
      : gathered_(gathered), sockets_(sockets), settings_(read_settings(gathered)) {
    for (const UnixSocket& socket : sockets.sockets) {
      by_inode_.emplace(socket.inode, &socket);
      if (socket.state == UnixSocket::State::listening) listening_.insert(socket.name);
    }
    for (const Connection& connection : report.connections) {
      connections_.emplace(connection.nonce, &connection);
    }
    for (const KernelEnd& end : report.kernel_ends) ends_.emplace(end.end.nonce, &end);
  }

  Links run() {
    Links links;
    for (const UnixSocket& socket : sockets_.sockets) {
      if (socket.state == UnixSocket::State::listening) {
        links.listeners.push_back(listener(socket));
      } else if (socket.state == UnixSocket::State::connected) {
        const auto peer = by_inode_.find(socket.peer);
        // Each pair once, from its lower number.
        if (peer == by_inode_.end() || peer->second->inode < socket.inode) continue;
        links.connections.push_back(link(socket, *peer->second));
      }
    }
    return links;
  }

  EndFacts process(pid_t pid) const {
    EndFacts facts;
    facts.holders = {pid};
    facts.party.pid = pid;
    if (const auto known = gathered_.processes.find(pid); known != gathered_.processes.end()) {
      facts.party.program = known->second.program;
      facts.party.user = known->second.user;
    }
    if (const auto bytes = sockets_.programs.find(pid); bytes != sockets_.programs.end()) {
      facts.program = facts_of(bytes->second);
    }
    if (const auto found = settings_.known.find(pid); found != settings_.known.end()) {
      facts.settings = found->second;
      const auto process = gathered_.processes.find(pid);
      const pid_t inner = process != gathered_.processes.end() ? process->second.inner_pid : pid;
      const auto& filtered = found->second.filtered;
      facts.filtered = std::find(filtered.begin(), filtered.end(), inner) != filtered.end();
    }
    facts.other_version = settings_.other_version.contains(pid);
    return facts;
  }

 private:
  const std::vector<Holder>& holders_of(const UnixSocket& socket) const {
    static const std::vector<Holder> kNone;
    const auto found = sockets_.holders.find(socket.inode);
    return found == sockets_.holders.end() ? kNone : found->second;
  }

  // Of several holders, the one about whom `better` is true first.
  template <typename Better>
  EndFacts best(const UnixSocket& socket, Better&& better) const {
    EndFacts facts;
    bool found = false;
    for (const Holder& holder : holders_of(socket)) {
      EndFacts candidate = process(holder.pid);
      const bool is_better = better(candidate);
      if (facts.holders.empty() || (is_better && !found)) {
        const std::vector<pid_t> known = facts.holders;
        facts = std::move(candidate);
        facts.holders.insert(facts.holders.end(), known.begin(), known.end());
        found = is_better;
      } else {
        facts.holders.push_back(holder.pid);
      }
    }
    return facts;
  }

  ListeningSocket listener(const UnixSocket& socket) const {
    ListeningSocket result;
    result.path = shown_path(socket.name);
    result.holders = holders_of(socket);
    result.owner = best(socket, [&](const EndFacts& facts) {
      return !obstacle(facts, "server", result.path).has_value();
    });
    return result;
  }

  std::optional<EndSnapshot> end_of(const EndFacts& facts, const NonceBytes& nonce,
                                    Role role) const {
    const auto [first, last] = ends_.equal_range(nonce);
    for (auto at = first; at != last; ++at) {
      const KernelEnd& end = *at->second;
      if (end.end.role != role) continue;
      for (const pid_t owner : end.owners) {
        if (std::find(facts.holders.begin(), facts.holders.end(), owner) != facts.holders.end()) {
          return end.end;
        }
      }
    }
    return std::nullopt;
  }

  const Connection* connection_of(const LinkFacts& facts, const NonceBytes& nonce) const {
    const auto [first, last] = connections_.equal_range(nonce);
    for (auto at = first; at != last; ++at) {
      for (const pid_t mapper : at->second->mappers) {
        for (const EndFacts* end : {&facts.server, &facts.client}) {
          if (std::find(end->holders.begin(), end->holders.end(), mapper) != end->holders.end()) {
            return at->second;
          }
        }
      }
    }
    return nullptr;
  }

  Link link(const UnixSocket& one, const UnixSocket& other) const {
    // The server's end has the listening socket's name, the client's a mark or, mostly, none.
    const bool other_serves = one.name.empty() || is_mark(mark_of(one.name).mark) ||
                              (!listening_.contains(one.name) && listening_.contains(other.name));
    const UnixSocket& server = other_serves ? other : one;
    const UnixSocket& client = other_serves ? one : other;
    const ParsedMark mark = mark_of(client.name);

    Link link;
    link.server_holders = holders_of(server);
    link.client_holders = holders_of(client);
    LinkFacts& facts = link.facts;
    facts.path = shown_path(server.name);
    facts.mark = mark.mark;
    const auto has_library = [](const EndFacts& end) { return end.program.library; };
    facts.server = best(server, has_library);
    facts.client = best(client, has_library);
    if (mark.mark != ClientMark::ours) return link;
    facts.server.end = end_of(facts.server, mark.nonce, Role::server);
    facts.client.end = end_of(facts.client, mark.nonce, Role::client);
    if (const Connection* connection = connection_of(facts, mark.nonce)) {
      facts.connection = *connection;
      if (connection->ends[0]) facts.server.end = connection->ends[0];
      if (connection->ends[1]) facts.client.end = connection->ends[1];
    }
    return link;
  }

  const Gathered& gathered_;
  const GatheredSockets& sockets_;
  Settings settings_;
  std::unordered_map<std::uint32_t, const UnixSocket*> by_inode_;
  std::unordered_set<std::string_view> listening_;
  std::multimap<NonceBytes, const Connection*> connections_;
  std::multimap<NonceBytes, const KernelEnd*> ends_;
};

}  // namespace

std::optional<GatheredSockets> gather_sockets(Gathered& gathered) {
  const UniqueFd proc = open_proc();
  if (!proc) return std::nullopt;
  std::optional<std::vector<UnixSocket>> sockets = list_unix_sockets();
  if (!sockets) return std::nullopt;
  GatheredSockets result;
  result.holders = find_holders(proc.get(), gathered.scan.hidden);
  std::vector<pid_t> pids;
  for (const UnixSocket& socket : *sockets) {
    const auto found = result.holders.find(socket.inode);
    if (found == result.holders.end()) continue;
    for (const Holder& holder : found->second) {
      if (result.programs.try_emplace(holder.pid).second) pids.push_back(holder.pid);
    }
  }
  for (const pid_t pid : pids) result.programs[pid] = read_program(proc.get(), pid);
  identify_more(proc.get(), pids, gathered.processes);
  result.sockets = *std::move(sockets);
  return result;
}

Links assemble(Gathered& gathered, const GatheredSockets& sockets, const Report& report) {
  return Assembler(gathered, sockets, report).run();
}

}  // namespace tssx::stat_tool
