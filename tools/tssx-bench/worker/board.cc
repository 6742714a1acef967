#include "tools/tssx-bench/worker/board.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>
#include <new>
#include <system_error>

namespace tssx::bench {
namespace {

static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, const timespec* timeout) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, timeout, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

Board& Board::make() {
  void* memory =
      ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  return *new (memory) Board{};
}

void Board::order(Action action) {
  arrived_.store(0, std::memory_order_relaxed);
  action_.store(action, std::memory_order_relaxed);
  // release: an actor that sees the new number sees the action and the count.
  orders_.fetch_add(1, std::memory_order_release);
  futex_wake(orders_);
}

bool Board::wait_for_all(std::uint32_t actors) {
  // acquire: pairs with arrive(), after which an actor's results are there.
  const std::uint32_t arrived = arrived_.load(std::memory_order_acquire);
  if (arrived >= actors || failed_.load(std::memory_order_acquire) == 2) return true;
  const timespec half_a_second{0, 500'000'000};
  futex_wait(arrived_, arrived, &half_a_second);
  return arrived_.load(std::memory_order_acquire) >= actors ||
         failed_.load(std::memory_order_acquire) == 2;
}

Action Board::arrive() {
  const std::uint32_t seen = orders_.load(std::memory_order_acquire);
  arrived_.fetch_add(1, std::memory_order_release);
  futex_wake(arrived_);
  while (orders_.load(std::memory_order_acquire) == seen) futex_wait(orders_, seen, nullptr);
  return action_.load(std::memory_order_relaxed);
}

void Board::fail(bool skip, std::string_view why) {
  std::uint32_t none = 0;
  if (!failed_.compare_exchange_strong(none, 1)) return;
  const std::size_t length = std::min(why.size(), kLongestFailure - 1);
  std::copy_n(why.begin(), length, failure_.begin());
  std::replace(failure_.begin(), failure_.end(), '\n', ' ');
  skipped_.store(skip ? 1 : 0, std::memory_order_relaxed);
  failed_.store(2, std::memory_order_release);
  // The number of arrivals does not matter any more; its change wakes the lead.
  arrived_.fetch_add(1, std::memory_order_release);
  futex_wake(arrived_);
}

std::string_view Board::failure() const {
  return failed_.load(std::memory_order_acquire) == 2 ? failure_.data() : std::string_view{};
}

}  // namespace tssx::bench
