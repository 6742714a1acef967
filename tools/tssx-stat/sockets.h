// The Unix stream sockets of this network namespace, and who holds them.
//
// Thread safety: none needed; reads sock_diag(7) and /proc, keeps no state.
//
// Invariant: nothing is opened but directories and files of /proc, and a socket of our own. Names
// are any bytes, since whoever made the socket chose them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace tssx::stat_tool {

struct UnixSocket {
  enum class State { listening, connected, other };
  std::uint32_t inode = 0;
  std::uint32_t peer = 0;  // inode; 0: none, or not accepted yet
  State state = State::other;
  std::string name;  // an abstract name starts with NUL; empty: none
};

// All stream sockets. nullopt, with errno, if the kernel does not tell (it needs unix_diag).
[[nodiscard]] std::optional<std::vector<UnixSocket>> list_unix_sockets();

struct Holder {
  pid_t pid;
  int fd;
};

// Who has which socket open, by inode. Processes that the caller may not look at are added to
// hidden.
using Holders = std::unordered_map<std::uint32_t, std::vector<Holder>>;
[[nodiscard]] Holders find_holders(int proc, std::unordered_set<pid_t>& hidden);

}  // namespace tssx::stat_tool
