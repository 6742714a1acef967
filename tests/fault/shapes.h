// What the two ends of a connection do while the walk ends one of them: each shape comes by other
// parts of the library.
//
// Thread safety: one thread, unless a shape makes more.
#pragma once

#include <string>
#include <vector>

#include "tests/fault/ledger.h"

namespace fault {

struct Shape {
  const char* name;
  // What an end does from accept() or connect() on; `doer` is the end that does what is special.
  void (*run)(int fd, Role role, Role doer, Ledger& ledger);
  bool shares;    // the doer's end is held by several processes, of which any can go on
  bool has_doer;  // run twice: with the server and with the client as the doer
};

const std::vector<Shape>& shapes();

// In a process of its own: makes the connection at `path`, and takes one end of the shape, which
// may be "name", "name.server" or "name.client". Returns the process's exit status.
int act(const std::string& shape, Role role, const std::string& path, Ledger& ledger);
// Ends like act(), after an exec in the middle of a shape.
int act_after_exec(int fd, Role role, Ledger& ledger);

// Exit status of a process whose child was ended by a signal.
constexpr int kChildKilled = 3;

}  // namespace fault
