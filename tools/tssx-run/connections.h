// Which connections of a program run over shared memory, seen from outside: what tssx-stat shows.
//
// Thread safety: each object belongs to one thread.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "tools/tssx-stat/scan.h"

namespace tssx::run_tool {

class Connections {
 public:
  explicit Connections(std::string library) : library_(std::move(library)) {}

  // Looks at the program and at the processes it has made. What was seen before stays known, for a
  // connection may be gone by the end.
  void look(pid_t program);

  // Lines for people, each beginning with `speaker` and ended by a newline. after: when this is,
  // as in "after 2 s".
  [[nodiscard]] std::string report(const std::string& speaker, const std::string& after) const;

 private:
  std::string library_;
  bool loaded_ = false;                                   // the program maps the library
  bool denied_ = false;                                   // something could not be looked at
  std::map<stat_tool::SegmentId, std::string> on_rings_;  // with the listening socket's path
};

}  // namespace tssx::run_tool
