#include "tools/tssx-bench/companion.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <system_error>

namespace tssx::bench {

Companion::Companion(const std::string& command) {
  if (command.empty()) return;
  const pid_t self = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != self) ::_exit(1);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_DFL);
    const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(nothing, STDOUT_FILENO);
    ::unsetenv("LD_PRELOAD");
    ::unsetenv("USE_TSSX");
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  ::setpgid(pid_, pid_);  // by both, as either may come first
}

Companion::~Companion() {
  if (pid_ < 0) return;
  // The group lasts as long as any process of it does, ended or not, so the number is ours.
  ::kill(-pid_, SIGKILL);
  while (::waitpid(-pid_, nullptr, 0) > 0 || errno == EINTR) {
  }
}

void Companion::check() const {
  if (pid_ < 0) return;
  siginfo_t ended{};
  const int flags = WEXITED | WNOHANG | WNOWAIT;
  if (::waitid(P_PID, static_cast<id_t>(pid_), &ended, flags) != 0 || ended.si_pid != 0) {
    throw std::runtime_error("the command beside it has ended");
  }
}

}  // namespace tssx::bench
