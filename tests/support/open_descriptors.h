// What this process has open.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace tssx_test {

// Descriptors whose file begins with one of these, as /proc/self/fd has it ("socket:"); -1 if they
// can't be listed.
inline int count_open(std::initializer_list<std::string_view> kinds) {
  int count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return -1;
  while (const dirent* entry = ::readdir(directory)) {
    char target[64] = {};
    if (::readlinkat(::dirfd(directory), entry->d_name, target, sizeof target - 1) <= 0) continue;
    if (std::any_of(kinds.begin(), kinds.end(), [&target](std::string_view kind) {
          return std::string_view(target).starts_with(kind);
        })) {
      ++count;
    }
  }
  ::closedir(directory);
  return count;
}

}  // namespace tssx_test
