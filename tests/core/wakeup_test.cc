#include "core/wakeup.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <thread>

#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

constexpr std::uint64_t kDefaultLimit = 50'000;
constexpr std::uint32_t kNoCpu = ~0U;

class Waiters : public Watched {
 protected:
  ~Waiters() override { set_spin_limit(kDefaultLimit); }
};

TEST_F(Waiters, DoNotLookWithoutABudget) {
  set_spin_limit(0);
  Waiter waiter;
  int looks = 0;
  EXPECT_FALSE(waiter.wait(kNoCpu, [&] { return ++looks > 0; }));
  EXPECT_EQ(looks, 0);
}

TEST_F(Waiters, SucceedAtTheFirstLook) {
  Waiter waiter;
  EXPECT_TRUE(waiter.wait(kNoCpu, [] { return true; }));
}

TEST_F(Waiters, SucceedAtALaterLook) {
  set_spin_limit(1'000'000'000);
  Waiter waiter;
  int looks = 0;
  // May end before its time where the machine is busy; then sleeping is what follows.
  const bool seen = waiter.wait(kNoCpu, [&] { return ++looks == 20; });
  EXPECT_EQ(seen, looks == 20);
}

TEST_F(Waiters, GiveUp) {
  Waiter waiter;
  EXPECT_FALSE(waiter.wait(kNoCpu, [] { return false; }));
  EXPECT_FALSE(waiter.wait(current_cpu(), [] { return false; }));
}

TEST_F(Waiters, StopTryingWhenItDoesNotPay) {
  Waiter waiter;
  for (int i = 0; i < 100; ++i) waiter.note_sleep(500'000'000);
  int looks = 0;
  int waits = 0;
  for (int i = 0; i < 31; ++i) {
    const int before = looks;
    EXPECT_FALSE(waiter.wait(kNoCpu, [&] {
      ++looks;
      return false;
    }));
    if (looks != before) ++waits;
  }
  EXPECT_LE(waits, 1) << "but for a probe now and then";
}

TEST_F(Waiters, TryAgainWhenItPays) {
  Waiter waiter;
  for (int i = 0; i < 100; ++i) waiter.note_sleep(500'000'000);
  for (int i = 0; i < 100; ++i) waiter.note_sleep(0);
  bool looked = false;
  // A time of forbidden yielding may still run: then the budget is nothing whatever was earned.
  for (int i = 0; i < 10'000 && !looked; ++i) {
    waiter.wait(kNoCpu, [&] { return looked = true; });
    if (!looked) ::sched_yield();
  }
  EXPECT_TRUE(looked);
}

// One CPU, as long as this lives.
class OneCpu {
 public:
  OneCpu() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &one);
    ::sched_setaffinity(0, sizeof one, &one);
  }
  OneCpu(const OneCpu&) = delete;
  OneCpu& operator=(const OneCpu&) = delete;
  ~OneCpu() { ::sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

TEST_F(Waiters, SeldomTryWhereOthersTakeTheirTurnsAndNothingComes) {
  const OneCpu here;
  std::atomic<bool> done{false};
  std::thread other([&] {
    while (!done.load()) {
      const std::uint64_t until = sys::now_ns() + 5'000;
      while (sys::now_ns() < until) relax();
      ::sched_yield();
    }
  });
  Waiter waiter;
  int tried = 0;
  for (int i = 0; i < 96; ++i) {
    bool looked = false;
    waiter.wait(kNoCpu, [&] {
      looked = true;
      return false;
    });
    if (looked) ++tried;
  }
  EXPECT_GE(tried, 1);
  EXPECT_LE(tried, 12) << "after 1, 3, 7, 15 and 31 waits that sleep at once";
  done.store(true);
  other.join();
}

TEST_F(Waiters, SeeWhatAnotherThreadDoes) {
  set_spin_limit(1'000'000'000);
  std::atomic<bool> ready{false};
  std::thread other([&] { ready.store(true); });
  Waiter waiter;
  while (!waiter.wait(kNoCpu, [&] { return ready.load(); })) {
    if (ready.load()) break;
    ::sched_yield();
  }
  EXPECT_TRUE(ready.load());
  other.join();
}

TEST_F(Waiters, KnowTheirCpu) {
  const std::uint32_t cpu = current_cpu();
  if (cpu == kNoCpu) GTEST_SKIP() << "the C library registers no rseq area";
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(current_cpu(), cpu);
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
}

}  // namespace
}  // namespace tssx::test
