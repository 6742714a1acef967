#include "core/wakeup.h"

#include "core/rseq_area.h"

namespace tssx {
namespace {

constexpr std::uint64_t kWorthWaitingNs = 60'000;  // about what two wake-ups on another CPU cost
constexpr std::uint64_t kWakeUpNs = 30'000;        // what a sleep adds to the wait it measures
constexpr std::uint32_t kProbeEvery = 32;
constexpr std::uint32_t kMostFailures = 5;
constexpr std::uint64_t kTurnNs = 1'000;  // a yield to nobody takes less than half of it
constexpr std::uint64_t kShortestBudgetNs = 8'000;
constexpr std::uint64_t kLostSliceNs =
    500'000;  // a yield this long gave a whole slice to a stranger
constexpr std::uint64_t kFirstPenaltyNs = 1'000'000;
constexpr std::uint64_t kLongestPenaltyNs = 100'000'000;

std::atomic<std::uint64_t> spin_limit_ns{50'000};

// Shared by all endpoints of the process: a busy CPU is busy for each of them.
std::atomic<std::uint64_t> no_yield_until{0};
std::atomic<std::uint64_t> penalty_ns{kFirstPenaltyNs};
// How many of the recent yields gave somebody a turn, in 1/256.
std::atomic<std::uint32_t> company{0};

}  // namespace

std::uint32_t current_cpu() noexcept {
  const volatile struct rseq* area = rseq_area();
  return area != nullptr ? area->cpu_id : ~0U;
}

void set_spin_limit(std::uint64_t nanoseconds) noexcept {
  spin_limit_ns.store(nanoseconds, std::memory_order_relaxed);
}

std::uint64_t Waiter::budget() noexcept {
  const std::uint64_t limit = spin_limit_ns.load(std::memory_order_relaxed);
  if (limit == 0) return 0;
  const std::uint64_t blocked = no_yield_until.load(std::memory_order_relaxed);
  if (blocked != 0 && sys::now_ns() < blocked) return 0;
  if (const std::uint32_t skips = skips_.load(std::memory_order_relaxed); skips != 0) {
    skips_.store(skips - 1, std::memory_order_relaxed);
    return 0;
  }
  const std::uint64_t average = average_ns_.load(std::memory_order_relaxed);
  if (average < kWorthWaitingNs) {
    const std::uint64_t wanted = 3 * average;
    const std::uint64_t least = wanted < kShortestBudgetNs ? kShortestBudgetNs : wanted;
    return least < limit ? least : limit;
  }
  if (has_company()) return kShortestBudgetNs;
  const std::uint32_t skipped = skipped_.load(std::memory_order_relaxed) + 1;
  skipped_.store(skipped, std::memory_order_relaxed);
  return skipped % kProbeEvery == 0 ? limit : 0;
}

bool Waiter::succeed(std::uint64_t start) noexcept {
  const std::uint64_t waited = sys::now_ns() - start;
  if (const std::uint32_t failed = failed_.load(std::memory_order_relaxed); failed != 0) {
    failed_.store(failed - 1, std::memory_order_relaxed);
  }
  const std::uint32_t average = average_ns_.load(std::memory_order_relaxed);
  const auto capped = static_cast<std::uint32_t>(waited < 1'000'000 ? waited : 1'000'000);
  average_ns_.store(average - average / 4 + capped / 4, std::memory_order_relaxed);
  return true;
}

void Waiter::fail() noexcept {
  const std::uint32_t failed = failed_.load(std::memory_order_relaxed);
  skips_.store((1U << failed) - 1, std::memory_order_relaxed);
  if (failed < kMostFailures) failed_.store(failed + 1, std::memory_order_relaxed);
}

void Waiter::note_sleep(std::uint64_t nanoseconds) noexcept {
  const std::uint64_t awake = nanoseconds > kWakeUpNs ? nanoseconds - kWakeUpNs : 0;
  const auto capped = static_cast<std::uint32_t>(awake < 1'000'000 ? awake : 1'000'000);
  const std::uint32_t average = average_ns_.load(std::memory_order_relaxed);
  average_ns_.store(average - average / 4 + capped / 4, std::memory_order_relaxed);
}

bool Waiter::may_yield(std::uint64_t now) noexcept {
  return now >= no_yield_until.load(std::memory_order_relaxed);
}

bool Waiter::has_company() noexcept { return company.load(std::memory_order_relaxed) >= 128; }

bool Waiter::note_yield(std::uint64_t before, std::uint64_t after) noexcept {
  const std::uint64_t took = after - before;
  const bool gave = took > kTurnNs;
  const std::uint32_t average = company.load(std::memory_order_relaxed);
  const std::uint32_t now = average - average / 8 + (gave ? 32 : 0);
  if (now != average) company.store(now, std::memory_order_relaxed);
  if (took > kLostSliceNs) {
    const std::uint64_t penalty = penalty_ns.load(std::memory_order_relaxed);
    no_yield_until.store(after + penalty, std::memory_order_relaxed);
    penalty_ns.store(penalty * 2 < kLongestPenaltyNs ? penalty * 2 : kLongestPenaltyNs,
                     std::memory_order_relaxed);
  } else {
    const std::uint64_t penalty = penalty_ns.load(std::memory_order_relaxed);
    if (penalty > kFirstPenaltyNs) {
      penalty_ns.store(penalty - penalty / 8, std::memory_order_relaxed);
    }
  }
  return gave;
}

}  // namespace tssx
