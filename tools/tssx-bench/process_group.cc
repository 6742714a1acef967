#include "tools/tssx-bench/process_group.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <initializer_list>
#include <system_error>

namespace tssx::bench {

pid_t fork_group() {
  const pid_t self = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != self) ::_exit(1);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_DFL);
    return 0;
  }
  ::setpgid(child, child);  // by both, as either may come first
  return child;
}

void end_group(pid_t leader) noexcept {
  // The group lasts as long as any process of it does, ended or not, so the number is ours.
  ::kill(-leader, SIGKILL);
  while (::waitpid(-leader, nullptr, 0) > 0 || errno == EINTR) {
  }
}

}  // namespace tssx::bench
