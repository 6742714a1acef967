// Messages with descriptors and credentials.
#pragma once

#include <sys/socket.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/support/unique_fd.h"

namespace tssx_test {

// sendmsg() of `bytes` with `descriptors`; 0 or the errno.
int send_with(int fd, std::string bytes, const std::vector<int>& descriptors, int flags = 0);

struct Received {
  std::string bytes;
  std::vector<UniqueFd> descriptors;
  std::optional<ucred> credentials;
  int flags = 0;
};

// recvmsg() with room for `size` bytes and `control_size` (up to 512) of control data. Where it
// fails, `bytes` is the error's name in angle brackets.
Received receive(int fd, std::size_t size, int flags = 0, std::size_t control_size = 512);

}  // namespace tssx_test
