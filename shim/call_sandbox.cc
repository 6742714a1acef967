// prctl(2) and syscall(2), by which a program restricts its own system calls.
//
// A filter (seccomp(2)) that a program makes for itself allows what it calls by name. Our
// recvmsg(2) in a read(), or ppoll(2) in a sleep, may be forbidden there, at the price of its life.
// libc has no function for seccomp(2), so libseccomp and everybody else go by these two.

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/leave.h"
#include "shim/real.h"
#include "shim/status_flags.h"

using namespace tssx;

TSSX_INTERPOSED int prctl(int option, ...) noexcept {
  real::ensure();
  va_list arguments;
  va_start(arguments, option);
  unsigned long values[4];
  for (unsigned long& value : values) value = va_arg(arguments, unsigned long);
  va_end(arguments);
  if (option == PR_SET_SECCOMP) stay_in_kernel();
  return real::prctl(option, values[0], values[1], values[2], values[3]);
}

// Everything else goes past the table as ever. libc's own is not asked: allocators call this while
// dlsym() looks for it.
TSSX_INTERPOSED long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long values[6];
  for (long& value : values) value = va_arg(list, long);
  va_end(list);
  if (number == SYS_seccomp) {
    // Not for a question, nor for a call that tries whether there is seccomp(2) at all.
    const bool filters = values[0] == SECCOMP_SET_MODE_FILTER && values[2] != 0;
    const bool strict = values[0] == SECCOMP_SET_MODE_STRICT && values[1] == 0;
    if (filters || strict) stay_in_kernel();
  }
  const long result =
      sys::call(number, values[0], values[1], values[2], values[3], values[4], values[5]);
  const bool of_flags = number == SYS_fcntl && values[1] == F_SETFL;
  if (of_flags || (number == SYS_ioctl && values[1] == FIONBIO)) {
    if (EndpointRef endpoint(static_cast<int>(values[0])); endpoint) {
      forget_status_flags(endpoint.channel());
    }
  }
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}
