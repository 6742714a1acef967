// core/fork_gate.h: a set-up and a fork do not overlap.
#include "core/fork_gate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

class ForkGate : public Watched {};

TEST_F(ForkGate, IsOpen) {
  const SetUpScope first;
  EXPECT_TRUE(first.entered());
  const SetUpScope nested;
  EXPECT_TRUE(nested.entered());
}

TEST_F(ForkGate, LetsNobodyInWhileItIsClosed) {
  close_fork_gate();
  EXPECT_FALSE(SetUpScope().entered());
  open_fork_gate(false);
  EXPECT_TRUE(SetUpScope().entered());
}

TEST_F(ForkGate, WaitsForWhoIsInside) {
  std::atomic<bool> closed{false};
  std::optional<SetUpScope> inside;
  inside.emplace();
  std::thread forker([&] {
    close_fork_gate();
    closed = true;
    open_fork_gate(false);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(closed);
  inside.reset();
  forker.join();
  EXPECT_TRUE(closed);
}

TEST_F(ForkGate, DoesNotWaitForItsOwnThread) {
  // A signal handler that forks while its thread is inside.
  const SetUpScope inside;
  close_fork_gate();
  open_fork_gate(false);
}

TEST_F(ForkGate, ForgetsOtherThreadsInTheChild) {
  std::atomic<bool> entered{false};
  std::atomic<bool> done{false};
  std::thread other([&] {
    const SetUpScope inside;
    entered = true;
    while (!done) std::this_thread::yield();
  });
  while (!entered) std::this_thread::yield();
  // As after a fork in this thread: the other one does not exist here.
  open_fork_gate(true);
  close_fork_gate();
  open_fork_gate(false);
  done = true;
  other.join();
  open_fork_gate(true);
}

}  // namespace
}  // namespace tssx::test
