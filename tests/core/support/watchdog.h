// Ends a test that hangs, by name, instead of letting the whole run wait for it.
//
// One per test, at its top. Children that the test forks need their own: alarm(2) is not inherited.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>

namespace tssx::test {

class Watchdog {
 public:
  explicit Watchdog(unsigned seconds = 10) {
    ::signal(SIGALRM, [](int) {
      constexpr char kText[] = "watchdog: this test did not end\n";
      [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, kText, sizeof kText - 1);
      ::_exit(124);
    });
    ::alarm(seconds);
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() { ::alarm(0); }
};

// A fixture for suites whose every case may block.
class Watched : public testing::Test {
 private:
  Watchdog watchdog_;
};

}  // namespace tssx::test
