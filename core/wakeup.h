// Waiting before sleeping: look, spin, yield, and know when each of them pays.
//
// A wake-up through the kernel costs tens of microseconds on another CPU, a look at a cache line a
// tenth of one; but whoever spins while somebody else has work keeps that work from being done. So
// a Waiter remembers what waiting has earned on its endpoint lately, and the whole process
// remembers (in Contention) that a sched_yield() took long: then the machine is busy, and the only
// polite way to wait is to sleep.
//
// Thread safety: a Waiter is used by one thread at a time as far as it matters; its members are
// atomics, so a race costs a wrong guess. May be called from: anywhere.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/sys.h"

namespace tssx {

// The CPU this thread runs on, from the rseq area that glibc registers; no system call.
std::uint32_t current_cpu() noexcept;

// Upper bound of one waiting phase in nanoseconds; 0 forbids spinning and yielding altogether.
void set_spin_limit(std::uint64_t nanoseconds) noexcept;

inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Waiter {
 public:
  // Calls look() until it returns true, or until waiting longer is not worth it. `peer_cpu` is
  // where the peer last ran: on our own CPU it can't progress while we spin, so yield at once.
  template <class Look>
  bool wait(std::uint32_t peer_cpu, Look&& look) noexcept {
    const std::uint64_t budget = this->budget();
    if (budget == 0) return false;
    const std::uint64_t start = sys::now_ns();
    std::uint64_t deadline = start + budget;
    std::uint64_t next_yield = start + kFirstYieldNs;
    const bool yield_at_once = peer_cpu == current_cpu() || has_company();
    int turns = 0;  // that others had
    for (;;) {
      if (!yield_at_once) {
        for (int i = 0; i < kLooksPerRound; ++i) {
          if (look()) return succeed(start);
          relax();
        }
      } else if (look()) {
        return succeed(start);
      }
      std::uint64_t now = sys::now_ns();
      if (now >= deadline) break;
      if (yield_at_once || now >= next_yield) {
        if (!may_yield(now)) break;
        sys::sched_yield();
        yielded_.store(true, std::memory_order_relaxed);
        const std::uint64_t after = sys::now_ns();
        const bool earned = look();
        const bool company = note_yield(now, after);
        if (earned) return succeed(start);
        if (company) {
          // Others have used that time, so it is not waste; but a sleep costs as much as a few
          // turns.
          if (++turns == kMostTurns) break;
          deadline += after - now;
        }
        next_yield = after + kYieldEveryNs;
      }
    }
    if (turns != 0) fail();
    return false;
  }

  // After a sleep: how long the whole wait took, wake-up included.
  void note_sleep(std::uint64_t nanoseconds) noexcept;

  // Has a wait yielded since the last call? For tssx-stat.
  bool take_yielded() noexcept {
    if (!yielded_.load(std::memory_order_relaxed)) return false;
    yielded_.store(false, std::memory_order_relaxed);
    return true;
  }

 private:
  static constexpr int kLooksPerRound = 24;
  static constexpr std::uint64_t kFirstYieldNs = 4'000;
  static constexpr std::uint64_t kYieldEveryNs = 6'000;
  static constexpr int kMostTurns = 4;

  std::uint64_t budget() noexcept;
  bool succeed(std::uint64_t start) noexcept;
  void fail() noexcept;
  static bool has_company() noexcept;
  static bool may_yield(std::uint64_t now) noexcept;
  static bool note_yield(std::uint64_t before, std::uint64_t after) noexcept;

  std::atomic<std::uint32_t> average_ns_{20'000};  // of recent waits
  std::atomic<bool> yielded_{false};
  std::atomic<std::uint32_t> skipped_{0};  // waits since the last probe
  // Waits in which others had their turns and that brought nothing, less those that did; and how
  // many waits are to sleep at once for it.
  std::atomic<std::uint32_t> failed_{0};
  std::atomic<std::uint32_t> skips_{0};
};

}  // namespace tssx
