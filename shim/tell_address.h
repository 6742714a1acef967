// How a socket's name gets into the application's memory: move_addr_to_user() of the kernel.
#pragma once

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>

#include "core/fault.h"

namespace tssx {

// Writes as much of `name`, `size` bytes long, as the application has room for, and its length.
// 0, or -1 with errno set: EFAULT, EINVAL for a negative length.
template <class Name>
inline int tell_address(const Name& name, socklen_t size, sockaddr* address,
                        socklen_t* length) noexcept {
  socklen_t room = 0;
  if (!get(&room, length) || !put(length, size)) {
    errno = EFAULT;
    return -1;
  }
  if (static_cast<int>(room) < 0) {
    errno = EINVAL;
    return -1;
  }
  if (!copy_to_application(address, &name, std::min(room, size))) {
    errno = EFAULT;
    return -1;
  }
  return 0;
}

}  // namespace tssx
