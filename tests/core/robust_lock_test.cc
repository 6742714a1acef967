#include "core/robust_lock.h"

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "tests/core/support/child.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

// Zeroed, and shared with children.
struct Shared {
  RobustLock lock;
  std::atomic<int> steps;
  std::uint64_t counter;  // guarded by lock
};

class Locks : public Watched {
 protected:
  Locks()
      : shared_(static_cast<Shared*>(::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                                            MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~Locks() override { ::munmap(static_cast<void*>(shared_), sizeof(Shared)); }

  void count(int times) {
    for (int i = 0; i < times; ++i) {
      const LockScope scope(shared_->lock, false);
      ASSERT_EQ(scope.hold(), Hold::fresh);
      ++shared_->counter;
    }
  }
  void wait_for_step(int step) const {
    while (shared_->steps.load() < step) ::usleep(100);
  }
  // Takes the lock and never returns.
  [[noreturn]] void hold_for_ever() {
    const LockScope scope(shared_->lock, false);
    shared_->steps.store(1);
    for (;;) ::pause();
  }

  Shared* shared_;
};

TEST_F(Locks, AreFreshWhenFree) {
  for (int i = 0; i < 3; ++i) {
    const LockScope scope(shared_->lock, i == 1);
    EXPECT_EQ(scope.hold(), Hold::fresh);
  }
}

TEST_F(Locks, ExcludeThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([this] { count(20'000); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shared_->counter, 80'000U);
}

TEST_F(Locks, ExcludeProcesses) {
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < 3; ++i) {
    children.push_back(std::make_unique<Child>([this] { count(20'000); }));
  }
  count(20'000);
  for (const auto& child : children) EXPECT_EQ(child->wait(), 0);
  EXPECT_EQ(shared_->counter, 80'000U);
}

TEST_F(Locks, AttemptFailsWhileAnotherThreadHasIt) {
  const LockScope scope(shared_->lock, false);
  std::thread([this] { EXPECT_FALSE(shared_->lock.try_acquire()); }).join();
  EXPECT_FALSE(shared_->lock.try_acquire()) << "nor further up the own stack";
}

TEST_F(Locks, AttemptSucceedsWhenFree) {
  ASSERT_TRUE(shared_->lock.try_acquire());
  {
    const LockScope scope(shared_->lock, false);
    EXPECT_EQ(scope.hold(), Hold::nested);
  }
  std::thread([this] { EXPECT_FALSE(shared_->lock.try_acquire()); }).join();
  shared_->lock.release();
  const LockScope scope(shared_->lock, false);
  EXPECT_EQ(scope.hold(), Hold::fresh);
}

TEST_F(Locks, AreRecoveredFromAZombie) {
  const Child child([this] { hold_for_ever(); });
  wait_for_step(1);
  child.kill();
  child.wait_for_death();  // not reaped: tgkill(2) still finds it
  const LockScope scope(shared_->lock, false);
  EXPECT_EQ(scope.hold(), Hold::recovered);
}

TEST_F(Locks, AreRecoveredFromAReapedProcess) {
  Child child([this] { hold_for_ever(); });
  wait_for_step(1);
  child.kill();
  child.wait();
  {
    const LockScope scope(shared_->lock, false);
    EXPECT_EQ(scope.hold(), Hold::recovered);
  }
  const LockScope scope(shared_->lock, false);
  EXPECT_EQ(scope.hold(), Hold::fresh);
}

TEST_F(Locks, AreRecoveredByAWaiterThatSleepsAlready) {
  Child child([this] { hold_for_ever(); });
  wait_for_step(1);
  std::thread waiter([this] {
    const LockScope scope(shared_->lock, false);
    EXPECT_EQ(scope.hold(), Hold::recovered);
  });
  ::usleep(20'000);
  child.kill();
  child.wait();
  waiter.join();
}

TEST_F(Locks, AreRecoveredByOneOfSeveral) {
  Child child([this] { hold_for_ever(); });
  wait_for_step(1);
  std::atomic<int> recovered{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) {
    waiters.emplace_back([&] {
      const LockScope scope(shared_->lock, false);
      if (scope.hold() == Hold::recovered) ++recovered;
      ++shared_->counter;
    });
  }
  child.kill();
  child.wait();
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(recovered.load(), 1);
  EXPECT_EQ(shared_->counter, 4U);
}

TEST_F(Locks, AreRecoveredFromAnEndedThread) {
  std::thread([this] { EXPECT_EQ(shared_->lock.acquire(false), Hold::fresh); }).join();
  EXPECT_EQ(shared_->lock.acquire(false), Hold::recovered);
  shared_->lock.release();
}

TEST_F(Locks, AreNotTakenFromTheLiving) {
  Child child([this] {
    const LockScope scope(shared_->lock, false);
    shared_->steps.store(1);
    ::usleep(50'000);  // many times the patience of a waiter
    ++shared_->counter;
  });
  wait_for_step(1);
  {
    const LockScope scope(shared_->lock, false);
    EXPECT_EQ(scope.hold(), Hold::fresh);
    EXPECT_EQ(shared_->counter, 1U);
  }
  EXPECT_EQ(child.wait(), 0);
}

// In a frame of its own, as a handler is: the lock tells by the place on the stack.
[[gnu::noinline]] void expect_nested(RobustLock& lock, int depth) {
  const LockScope scope(lock, depth % 2 == 0);
  EXPECT_EQ(scope.hold(), Hold::nested);
  if (depth != 0) expect_nested(lock, depth - 1);
}

TEST_F(Locks, AreNestedInTheSameThread) {
  const LockScope outer(shared_->lock, false);
  expect_nested(shared_->lock, 3);
  std::thread([this] { EXPECT_FALSE(shared_->lock.try_acquire()); }).join();
}

RobustLock* handler_lock = nullptr;
volatile sig_atomic_t handler_hold = -1;
sigjmp_buf escape;

void lock_in_handler(int) {
  const LockScope scope(*handler_lock, false);
  handler_hold = static_cast<int>(scope.hold());
}

[[gnu::noinline]] void raise_while_holding(RobustLock& lock) {
  const LockScope scope(lock, false);
  EXPECT_EQ(scope.hold(), Hold::fresh);
  ::raise(SIGUSR1);
}

TEST_F(Locks, AreNestedInAHandler) {
  handler_lock = &shared_->lock;
  ::signal(SIGUSR1, lock_in_handler);
  raise_while_holding(shared_->lock);
  EXPECT_EQ(handler_hold, static_cast<int>(Hold::nested));
  EXPECT_TRUE(shared_->lock.try_acquire());
}

void run_on_alternate_stack(void* memory, std::size_t size, RobustLock& lock) {
  stack_t stack{};
  stack.ss_sp = memory;
  stack.ss_size = size;
  ASSERT_EQ(::sigaltstack(&stack, nullptr), 0);
  handler_lock = &lock;
  handler_hold = -1;
  struct sigaction action {};
  action.sa_handler = lock_in_handler;
  action.sa_flags = SA_ONSTACK;
  ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
  raise_while_holding(lock);
  EXPECT_EQ(handler_hold, static_cast<int>(Hold::nested));
  stack.ss_flags = SS_DISABLE;
  ASSERT_EQ(::sigaltstack(&stack, nullptr), 0);
}

TEST_F(Locks, AreNestedInAHandlerOnAStackBelow) {
  constexpr std::size_t kSize = 256U << 10U;
  static unsigned char memory[kSize];  // below the main thread's stack
  run_on_alternate_stack(memory, kSize, shared_->lock);
}

TEST_F(Locks, AreNestedInAHandlerOnAStackAbove) {
  // The thread runs on the lower half of this memory, its handler on the upper one.
  constexpr std::size_t kSize = 8U << 20U;
  void* const memory =
      ::mmap(nullptr, 2 * kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstack(&attributes, memory, kSize);
  struct Work {
    void* stack;
    RobustLock* lock;
  } work{static_cast<char*>(memory) + kSize, &shared_->lock};
  pthread_t thread{};
  ASSERT_EQ(::pthread_create(
                &thread, &attributes,
                [](void* argument) -> void* {
                  auto* const mine = static_cast<Work*>(argument);
                  run_on_alternate_stack(mine->stack, kSize, *mine->lock);
                  return nullptr;
                },
                &work),
            0);
  ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attributes);
  ::munmap(memory, 2 * kSize);
}

void jump_away(int) { ::siglongjmp(escape, 1); }

TEST_F(Locks, LeftByAJumpAreNotNestedForEver) {
  ::signal(SIGUSR1, jump_away);
  if (sigsetjmp(escape, 1) == 0) {
    raise_while_holding(shared_->lock);
    FAIL() << "the handler jumps";
  }
  {
    const LockScope scope(shared_->lock, false);
    EXPECT_EQ(scope.hold(), Hold::recovered);
  }
  const LockScope scope(shared_->lock, false);
  EXPECT_EQ(scope.hold(), Hold::fresh);
}

TEST_F(Locks, BearAForkWhileTheyAreFree) {
  const std::uint64_t mine = thread_token();
  Child child([&] {
    EXPECT_NE(thread_token(), mine);
    EXPECT_EQ(process_id(), static_cast<std::uint32_t>(::getpid()));
    count(10);
  });
  EXPECT_EQ(child.wait(), 0);
  count(10);
  EXPECT_EQ(shared_->counter, 20U);
}

}  // namespace
}  // namespace tssx::test
