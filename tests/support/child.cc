#include "tests/support/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

namespace tssx_test {
namespace {

constexpr unsigned kChildLifetime = 25;  // seconds; longer than the watchdog's patience

}  // namespace

Child::Child(const std::function<void()>& body) {
  std::fflush(nullptr);
  const bool in_main_thread = ::gettid() == ::getpid();
  pid_ = ::fork();
  if (pid_ == -1) {
    ADD_FAILURE() << "fork failed";
    return;
  }
  if (pid_ != 0) return;
  guard_child();
  // Follows a run that the watchdog ends, even when stopped. The signal comes when the forking
  // thread ends, so it is no use in others.
  if (in_main_thread) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  std::fflush(nullptr);
  ::_exit(testing::Test::HasFailure() ? 1 : 0);
}

Child::Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

Child& Child::operator=(Child&& other) noexcept {
  if (pid_ != -1) kill_and_wait();
  pid_ = std::exchange(other.pid_, -1);
  return *this;
}

Child::~Child() {
  if (pid_ != -1) kill_and_wait();
}

int Child::wait() { return wait_for_exit(std::exchange(pid_, -1)); }

void Child::kill(int signal) const {
  if (pid_ != -1) ::kill(pid_, signal);
}

void Child::kill_and_wait() {
  kill(SIGKILL);
  wait();
}

int wait_for_exit(pid_t pid) {
  if (pid == -1) return -1;
  int status = 0;
  pid_t got = 0;
  do {
    got = ::waitpid(pid, &status, 0);
  } while (got == -1 && errno == EINTR);
  if (got == -1) return -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void guard_child() {
  ::signal(SIGALRM, SIG_DFL);
  ::alarm(kChildLifetime);
}

}  // namespace tssx_test
