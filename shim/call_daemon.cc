// Calls that put other files on 0, 1 and 2 inside libc.

#include <errno.h>
#include <sys/sysmacros.h>

#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/real.h"
#include "shim/startup.h"

using namespace tssx;

namespace {

// What the table says of the standard streams is stale.
void forget_standard_streams() noexcept {
  const int saved = errno;
  for (int fd = 0; fd <= 2; ++fd) forget_stale(fd);
  errno = saved;
}

// The null device on the three standard streams, as daemon(3) of libc does it.
int detach_streams() noexcept {
  const int fd = ::open("/dev/null", O_RDWR);
  if (fd < 0) return -1;
  struct stat status {};
  int error = 0;
  if (::fstat(fd, &status) != 0) {
    error = errno;
  } else if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3)) {
    error = ENODEV;
  }
  if (error == 0) {
    for (int stream = 0; stream <= 2; ++stream) ::dup2(fd, stream);
    if (fd > 2) ::close(fd);
    return 0;
  }
  ::close(fd);
  errno = error;
  return -1;
}

}  // namespace

// libc's own would leave the parent by an _exit() of which nobody hears, and its connections with a
// holder too many: they could not move to the ring any more, or not sleep cheaply in it.
TSSX_INTERPOSED int daemon(int keep_folder, int keep_streams) noexcept {
  real::ensure();
  if (table.size() == 0) return real::daemon(keep_folder, keep_streams);
  const pid_t child = ::fork();
  if (child < 0) return -1;
  if (child > 0) {
    give_up_connections();
    ::_exit(0);
  }
  if (::setsid() == -1) return -1;
  if (keep_folder == 0 && ::chdir("/") != 0) {
    // libc's own does not look either.
  }
  return keep_streams == 0 ? detach_streams() : 0;
}

TSSX_INTERPOSED int login_tty(int fd) noexcept {
  real::ensure();
  const int result = real::login_tty(table.kernel_fd(fd));
  if (result == 0) {
    forget_standard_streams();
    forget_stale(fd);
  }
  return result;
}

TSSX_INTERPOSED int forkpty(int* master, char* name, const termios* settings,
                            const winsize* size) noexcept {
  real::ensure();
  const pid_t child = real::forkpty(master, name, settings, size);
  if (child == 0) forget_standard_streams();
  if (child > 0) forget_stale(*master);
  return child;
}
