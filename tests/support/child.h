// A forked child that runs a piece of the test and reports by its exit status.
#pragma once

#include <sys/types.h>

#include <functional>

namespace tssx_test {

// In the child, `body` runs and the child leaves with 0, or with 1 if one of gtest's expectations
// failed in it (which prints as usual). A child that hangs is ended by its own alarm(), which
// also survives exec.
class Child {
 public:
  Child() = default;
  explicit Child(const std::function<void()>& body);
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  // Kills and reaps what was not waited for.
  ~Child();

  [[nodiscard]] pid_t pid() const { return pid_; }
  // The exit status, or 128 + signal.
  int wait();
  void kill(int signal) const;
  // SIGKILL, and gone when this returns.
  void kill_and_wait();

 private:
  pid_t pid_ = -1;
};

// Waits for a child made by other means; the exit status, or 128 + signal.
int wait_for_exit(pid_t pid);

// Called first in every child that a test makes by hand.
void guard_child();

}  // namespace tssx_test
