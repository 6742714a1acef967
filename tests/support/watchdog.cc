// Ends the run when one test hangs, and fails a test that leaves something behind.
//
// Two POSIX timers per test: after kPatience a real-time signal whose handler names the test and
// prints a stack, and shortly after SIGKILL for the case that the first is blocked or the handler
// hangs. No thread and no process of its own, so tests see nothing of it. Children that a test
// forks have their own limit (child.h).
//
// Registers itself before main, so the tests link with gtest_main.
#include <execinfo.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/support/connection.h"
#include "tests/support/open_descriptors.h"

namespace tssx_test {
namespace {

constexpr time_t kPatience = 20;  // seconds

char current_test[256];

int watchdog_signal() { return SIGRTMAX; }

void print(const char* text) {
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, text, std::strlen(text));
}

void end_the_run(int /*signal*/) {
  print("\nwatchdog: this test did not end: ");
  print(current_test);
  print("\n");
  void* frames[64];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDERR_FILENO);
  ::kill(::getpid(), SIGKILL);
}

timer_t create_timer(int signal) {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = signal;
  timer_t timer{};
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
    std::perror("watchdog: timer_create");
    std::abort();
  }
  return timer;
}

void arm(timer_t timer, time_t seconds) {
  itimerspec when{};
  when.it_value.tv_sec = seconds;
  ::timer_settime(timer, 0, &when, nullptr);
}

// What the test itself opened: the shim may keep descriptors of other kinds for later.
int open_sockets_and_pipes() { return count_open({"socket:", "pipe:"}); }

class Watchdog : public testing::EmptyTestEventListener {
 public:
  void OnTestProgramStart(const testing::UnitTest& /*unit_test*/) override {
    void* frame = nullptr;
    ::backtrace(&frame, 1);  // loads what it needs now, not in the handler
    struct sigaction action {};
    action.sa_flags = SA_RESTART;  // it ends the test, and must not disturb one that goes on
    action.sa_handler = end_the_run;
    ::sigaction(watchdog_signal(), &action, nullptr);
    speaking_ = create_timer(watchdog_signal());
    killing_ = create_timer(SIGKILL);
    // The first connection of a process may cost it a descriptor that stays.
    const Listener listener;
    const UniqueFd client = listener.connect();
  }

  void OnTestStart(const testing::TestInfo& info) override {
    std::snprintf(current_test, sizeof current_test, "%s.%s", info.test_suite_name(), info.name());
    open_before_ = open_sockets_and_pipes();
    arm(speaking_, kPatience);
    arm(killing_, kPatience + 3);
  }

  void OnTestEnd(const testing::TestInfo& /*info*/) override {
    arm(speaking_, 0);
    arm(killing_, 0);
    EXPECT_EQ(open_sockets_and_pipes(), open_before_) << "the test left descriptors";
    const pid_t left = ::waitpid(-1, nullptr, WNOHANG);
    EXPECT_TRUE(left == -1 && errno == ECHILD) << "the test left a child: " << left;
  }

 private:
  timer_t speaking_{};
  timer_t killing_{};
  int open_before_ = 0;
};

[[maybe_unused]] const bool registered = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new Watchdog);  // gtest deletes it
  return true;
}();

}  // namespace
}  // namespace tssx_test
