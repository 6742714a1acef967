#include "shim/exec.h"

#include <errno.h>

#include "core/fault_point.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/leave.h"
#include "shim/mark.h"
#include "shim/stream_io.h"

namespace tssx {
namespace {

// Will the next program find it open? An ID means nothing to that: it inherits the kernel's
// descriptor under a number that it was never told, so those connections can stay.
bool is_inherited(int number) noexcept {
  if (DescriptorTable::is_id(number)) return false;
  const long flags = sys::fcntl(number, F_GETFD);
  return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

}  // namespace

void follow_leavers() noexcept {
  for_each_endpoint([](EndpointRef& endpoint, int) {
    endpoint.channel().follow_leaver(endpoint.fd());
    follow_mode(*endpoint);
  });
}

void prepare_exec_by_child() noexcept {
  if (table.size() == 0) return;
  const int saved = errno;
  TSSX_FAULT_POINT(exec_begun);
  drop_marks();
  // In two steps, since both ends of one connection may be among them.
  for_each_endpoint([](EndpointRef& endpoint, int number) {
    if (!is_inherited(number)) return;
    endpoint.channel().note_reason(Reason::executed);
    endpoint.channel().freeze(endpoint.fd());
  });
  for_each_endpoint([](EndpointRef& endpoint, int number) {
    TSSX_FAULT_POINT(exec_frozen);
    if (is_inherited(number)) endpoint.channel().leave_for_good(endpoint.fd());
  });
  TSSX_FAULT_POINT(exec_left);
  follow_leavers();
  errno = saved;
}

void prepare_exec() noexcept {
  prepare_exec_by_child();
  if (table.size() == 0) return;
  for_each_endpoint([](EndpointRef& endpoint, int) { finish_before_close(endpoint, true); });
}

}  // namespace tssx
