#include "tools/tssx-bench/companion.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "tools/tssx-bench/process_group.h"

namespace tssx::bench {

Companion::Companion(const std::string& command) {
  if (command.empty()) return;
  pid_ = fork_group();
  if (pid_ == 0) {
    const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(nothing, STDOUT_FILENO);
    ::unsetenv("LD_PRELOAD");
    ::unsetenv("USE_TSSX");
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
}

Companion::~Companion() {
  if (pid_ < 0) return;
  end_group(pid_);
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
