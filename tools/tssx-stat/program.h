// Whether the library is, or could be, in a process: what /proc says of its program.
//
// Thread safety: none needed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

namespace tssx::stat_tool {

enum class ProgramKind {
  loadable,            // dynamically linked, for this machine and glibc
  statically_linked,   // nobody reads LD_PRELOAD
  other_architecture,  // 32 bits, or another processor's
  other_libc,          // its dynamic linker is not glibc's
  unknown,             // it can't be read
};

struct ProgramFacts {
  bool known = false;    // the caller may look at it
  bool library = false;  // a libtssx.so is mapped
  bool secure = false;   // set-user-ID or the like: the dynamic linker ignores LD_PRELOAD
  ProgramKind kind = ProgramKind::unknown;
};

// From the first bytes of an executable. Any bytes may be passed.
[[nodiscard]] ProgramKind kind_of_program(std::span<const std::uint8_t> start);

// From /proc/PID/auxv (proc(5)).
[[nodiscard]] bool is_secure(std::span<const std::uint8_t> auxv);

// What was read of a process, before the sandbox; looked at behind it.
struct ProgramBytes {
  bool known = false;
  bool library = false;
  std::vector<std::uint8_t> executable;
  std::vector<std::uint8_t> auxv;
};
[[nodiscard]] ProgramBytes read_program(int proc, pid_t pid);
[[nodiscard]] ProgramFacts facts_of(const ProgramBytes& bytes);

}  // namespace tssx::stat_tool
