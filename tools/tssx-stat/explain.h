// Why is this connection not in shared memory? And why would this listening socket not offer it?
//
// Thread safety: pure functions.
//
// Invariant: what is told of one end comes from the processes that hold that end, or from the
// kernel; a record elsewhere that claims the same connection counts for nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/tssx-stat/connection.h"
#include "tools/tssx-stat/program.h"
#include "tools/tssx-stat/records.h"

namespace tssx::stat_tool {

// One end of a connection, or a listening socket.
struct EndFacts {
  std::vector<pid_t> holders;  // empty: nobody that the caller may look at
  Party party;                 // one of them
  ProgramFacts program;
  std::optional<ProcessSettings> settings;
  bool other_version = false;      // has records of another version of the library
  bool filtered = false;           // restricted its own system calls
  std::optional<EndSnapshot> end;  // its own record of this connection
};

enum class ClientMark {
  none,     // its socket has no name
  ours,     // a mark of this version
  foreign,  // a mark of another version
  own_name  // bound by the application
};

struct LinkFacts {
  std::string path;  // of the listening socket, as shown; empty: made by socketpair(2)
  ClientMark mark = ClientMark::none;
  EndFacts server;
  EndFacts client;
  std::optional<Connection> connection;  // its shared memory, if it has any
};

struct Verdict {
  bool accelerated = false;
  std::string code;  // short and stable; listed in tssx-stat(1)
  std::string side;  // "server", "client", or "" where it is about both
  std::string text;  // a sentence
};

[[nodiscard]] Verdict explain(const LinkFacts& link);

// Why this process takes no part in connections to `path`. nullopt: nothing is in the way. An empty
// path leaves the patterns aside.
[[nodiscard]] std::optional<Verdict> obstacle(const EndFacts& end, std::string_view side,
                                              std::string_view path);

}  // namespace tssx::stat_tool
