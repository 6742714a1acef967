// A forked child that runs a piece of a test. Its expectations print as usual, and fail wait().
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "core/robust_lock.h"
#include "core/side.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {

class Child {
 public:
  template <class Body>
  explicit Child(Body&& body) {
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    forget_thread();
    forget_kept_sides();
    const Watchdog watchdog(20);
    std::forward<Body>(body)();
    std::fflush(nullptr);
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    kill();
    wait();
  }

  // SIGKILL; the child stays a zombie until wait().
  void kill() const { ::kill(pid_, SIGKILL); }
  // Returns once the child is dead, without reaping it.
  void wait_for_death() const {
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  }
  // The exit status, or 128 + signal.
  int wait() {
    int status = 0;
    if (::waitpid(std::exchange(pid_, -1), &status, 0) < 0) return -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace tssx::test
