// Why a library can't be preloaded into a program.
//
// Thread safety: reads the file system, keeps no state.
#pragma once

#include <sys/types.h>

#include <string>

#include "tools/tssx-run/elf_image.h"

namespace tssx::run_tool {

// Who is about to execute it.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  bool no_new_privs = false;  // prctl(2), PR_SET_NO_NEW_PRIVS: set-user-ID means nothing then
  Architecture architecture;
  std::string dynamic_linker;  // of this program, and so of the library's libc
};

// This process.
[[nodiscard]] Caller this_caller();

// A sentence without a full stop that begins with the path of the file at fault, or empty where
// nothing is in the way. Follows scripts to their interpreters. What can't be read isn't judged:
// the kernel executes it all the same.
[[nodiscard]] std::string find_obstacle(const std::string& path, const Caller& caller);

// The same for the library itself.
[[nodiscard]] std::string find_library_obstacle(const std::string& path, const Caller& caller);

}  // namespace tssx::run_tool
