#include "shim/leave.h"

#include <errno.h>

#include "shim/descriptor_table.h"
#include "shim/stream_io.h"

namespace tssx {

int leave_to_kernel(int fd) noexcept {
  EndpointRef endpoint(fd);
  if (!endpoint) return table.kernel_fd(fd);
  const int saved = errno;
  endpoint.channel().leave_for_good(endpoint.fd());
  follow_mode(*endpoint);
  errno = saved;
  return endpoint.fd();
}

}  // namespace tssx
