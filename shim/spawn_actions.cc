#include "shim/spawn_actions.h"

#include <cstring>

#include "shim/real.h"

namespace tssx {
namespace {

// struct __spawn_action of glibc (posix/spawn_int.h), as far as we look at it. <spawn.h> shows
// where the actions are and how many, not what they look like, so this is tried before it is
// believed.
struct Action {
  int tag;
  union {
    struct {
      int fd;
      int to;
    } duplicate;
    struct {
      int fd;
      char* path;
      int flags;
      mode_t mode;
    } open;
  };
};

constexpr int kUnknown = -1;

int find_tag() noexcept {
  constexpr int kFrom[] = {0x1234, 0x2345};
  constexpr int kTo[] = {0x345, 0x456};
  posix_spawn_file_actions_t trial;
  if (::posix_spawn_file_actions_init(&trial) != 0) return kUnknown;
  int tag = kUnknown;
  if (real::posix_spawn_file_actions_adddup2(&trial, kFrom[0], kTo[0]) == 0 &&
      real::posix_spawn_file_actions_addclose(&trial, kFrom[0]) == 0 &&
      real::posix_spawn_file_actions_adddup2(&trial, kFrom[1], kTo[1]) == 0 && trial.__used == 3) {
    Action seen[3];
    std::memcpy(seen, trial.__actions, sizeof seen);
    if (seen[0].tag == seen[2].tag && seen[1].tag != seen[0].tag && seen[0].tag >= 0 &&
        seen[0].duplicate.fd == kFrom[0] && seen[0].duplicate.to == kTo[0] &&
        seen[2].duplicate.fd == kFrom[1] && seen[2].duplicate.to == kTo[1]) {
      tag = seen[0].tag;
    }
  }
  ::posix_spawn_file_actions_destroy(&trial);
  return tag;
}

}  // namespace

bool for_each_duplicated(const posix_spawn_file_actions_t& actions,
                         void (*visit)(int fd)) noexcept {
  const int tag = find_tag();
  if (tag == kUnknown) return false;
  const auto* at = reinterpret_cast<const Action*>(actions.__actions);
  for (int i = 0; i < actions.__used; ++i) {
    if (at[i].tag == tag) visit(at[i].duplicate.fd);
  }
  return true;
}

}  // namespace tssx
