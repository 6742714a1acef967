#include "shim/exec.h"

#include <errno.h>

#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/mark.h"
#include "shim/stream_io.h"

namespace tssx {
namespace {

// Calls visit(EndpointRef&) for each endpoint that the next program will find open.
template <class Visit>
void for_each_inherited(Visit&& visit) noexcept {
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) {
    if (table.find(fd).kind() != Kind::endpoint) continue;
    const long flags = sys::fcntl(fd, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC) != 0) continue;
    if (EndpointRef endpoint(fd); endpoint) visit(endpoint);
  }
}

}  // namespace

void follow_leavers() noexcept {
  const auto follow = [](int fd) {
    if (table.find(fd).kind() != Kind::endpoint) return;
    if (EndpointRef endpoint(fd); endpoint) {
      endpoint.channel().follow_leaver(endpoint.fd());
      follow_mode(*endpoint);
    }
  };
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) follow(fd);
  const int ids = table.ids_in_use();
  for (int i = 0; i < ids; ++i) follow(DescriptorTable::kFirstId - i);
}

void prepare_exec() noexcept {
  if (table.size() == 0) return;
  const int saved = errno;
  drop_marks();
  // In two steps, since both ends of one connection may be among them.
  for_each_inherited([](EndpointRef& endpoint) { endpoint.channel().freeze(endpoint.fd()); });
  for_each_inherited(
      [](EndpointRef& endpoint) { endpoint.channel().leave_for_good(endpoint.fd()); });
  follow_leavers();
  // An ID means nothing to the next program, which inherits the kernel's descriptor under a number
  // that it was never told: those connections can stay.
  errno = saved;
}

}  // namespace tssx
