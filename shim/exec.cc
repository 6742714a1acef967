#include "shim/exec.h"

#include <errno.h>

#include "core/sys.h"
#include "shim/descriptor_table.h"

namespace tssx {
namespace {

void leave_for_exec(int fd) noexcept {
  const long flags = sys::fcntl(table.kernel_fd(fd), F_GETFD);
  if (flags < 0 || (flags & FD_CLOEXEC) != 0) return;
  EndpointRef endpoint(fd);
  if (!endpoint) return;
  endpoint.channel().leave_for_good(endpoint.fd());
}

}  // namespace

void prepare_exec() noexcept {
  if (table.size() == 0) return;
  const int saved = errno;
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) {
    if (table.find(fd).kind() == Kind::endpoint) leave_for_exec(fd);
  }
  // An ID means nothing to the next program, which inherits the kernel's descriptor under a number
  // that it was never told: those connections can stay.
  errno = saved;
}

}  // namespace tssx
