// The connections and listening sockets of this machine with all that is known of their ends: what
// `explain` and `listeners` look at.
//
// Thread safety: none needed.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/tssx-stat/explain.h"
#include "tools/tssx-stat/sample.h"
#include "tools/tssx-stat/sockets.h"

namespace tssx::stat_tool {

struct Link {
  LinkFacts facts;
  std::vector<Holder> server_holders;
  std::vector<Holder> client_holders;
};

struct ListeningSocket {
  std::string path;  // as shown
  EndFacts owner;    // the holder that would offer, if there is one
  std::vector<Holder> holders;
};

// What has to be read before the sandbox.
struct GatheredSockets {
  std::vector<UnixSocket> sockets;
  Holders holders;
  std::unordered_map<pid_t, ProgramBytes> programs;
};

// nullopt, with errno, if the kernel does not list its sockets. Adds to the hidden, and to the
// processes of `gathered` all that hold such sockets.
[[nodiscard]] std::optional<GatheredSockets> gather_sockets(Gathered& gathered);

struct Links {
  std::vector<Link> connections;
  std::vector<ListeningSocket> listeners;
};

// Behind the sandbox. `report`: of the same moment, without filters.
[[nodiscard]] Links assemble(Gathered& gathered, const GatheredSockets& sockets,
                             const Report& report);

}  // namespace tssx::stat_tool
