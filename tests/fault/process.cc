#include "tests/fault/process.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "tests/fault/ledger.h"

namespace fault {

Directory::Directory() {
  const char* parent = std::getenv("TMPDIR");
  path_ = std::string(parent == nullptr ? "/tmp" : parent) + "/tssx-fault-XXXXXX";
  if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp " + path_);
}

Directory::~Directory() {
  if (DIR* directory = ::opendir(path_.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      if (entry->d_name[0] != '.') ::unlink(path(entry->d_name).c_str());
    }
    ::closedir(directory);
  }
  ::rmdir(path_.c_str());
}

pid_t start(const std::vector<std::string>& arguments, const std::string& library,
            const std::vector<std::string>& environment) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child != 0) {
    ::setpgid(child, child);
    return child;
  }
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  ::unsetenv("LD_PRELOAD");
  ::unsetenv("USE_TSSX");
  ::unsetenv("TSSX_FAULT");
  ::unsetenv("TSSX_FAULT_COUNTS");
  if (!library.empty()) {
    ::setenv("LD_PRELOAD", library.c_str(), 1);
    ::setenv("USE_TSSX", "*", 1);
  }
  for (const std::string& one : environment) ::putenv(const_cast<char*>(one.c_str()));
  std::vector<char*> argv;
  for (const std::string& one : arguments) argv.push_back(const_cast<char*>(one.c_str()));
  argv.push_back(nullptr);
  ::execv("/proc/self/exe", argv.data());
  ::_exit(127);
}

void adopt_orphans() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

void end_groups(const std::vector<pid_t>& groups) {
  for (const pid_t group : groups) ::kill(-group, SIGKILL);
  while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
  }
}

void prepare_actor(const std::string& name, unsigned seconds) {
  name_process(name);
  ::signal(SIGPIPE, SIG_IGN);
  ::alarm(seconds);
}

double seconds_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status)) {
    return std::string("signal ") + std::to_string(WTERMSIG(status)) + " (" +
           ::strsignal(WTERMSIG(status)) + ")";
  }
  return "status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace fault
