// Finds a program as execvp(3) does.
//
// Thread safety: reads the environment and the file system, keeps no state.
#pragma once

#include <string>

namespace tssx::run_tool {

struct Found {
  std::string path;  // contains a slash; empty: there is no such program
  int error = 0;     // errno: ENOENT, or EACCES if there is only one that may not be executed
};

// name: as the user gave it. search_path: $PATH, or null where it is not set.
[[nodiscard]] Found find_program(const std::string& name, const char* search_path);

}  // namespace tssx::run_tool
