#include "core/robust_lock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "core/fault_point.h"
#include "core/sys.h"
#include "core/unique_fd.h"

namespace tssx {
namespace {

thread_local std::uint64_t cached_token = 0;
thread_local std::uint64_t last_cookie = 0;

constexpr int kSpins = 200;
constexpr long kPatienceNs = 2'000'000;  // between two looks at whether the owner still lives

// A process that was killed stays visible to tgkill until its parent waits for it; its pidfd
// polls readable from the moment of its death (pidfd_open(2)).
bool owner_is_dead(std::uint64_t owner) noexcept {
  const int pid = static_cast<int>(owner >> 32U);
  const int tid = static_cast<int>(owner & 0xffffffffU);
  if (sys::tgkill(pid, tid, 0) == -ESRCH) return true;
  const UniqueFd pidfd(static_cast<int>(sys::pidfd_open(pid)));
  if (!pidfd) return false;
  pollfd exited{pidfd.get(), POLLIN, 0};
  const timespec now{0, 0};
  return sys::poll(&exited, 1, &now) == 1;
}

}  // namespace

std::uint64_t thread_token() noexcept {
  if (cached_token == 0) {
    cached_token = static_cast<std::uint64_t>(sys::getpid()) << 32U |
                   static_cast<std::uint64_t>(sys::gettid());
  }
  return cached_token;
}

std::uint32_t process_id() noexcept { return static_cast<std::uint32_t>(thread_token() >> 32U); }

std::uint64_t LockScope::next_cookie() noexcept { return ++last_cookie; }

bool LockScope::on_alternate_stack() noexcept {
  stack_t stack{};
  return sys::call(SYS_sigaltstack, 0, sys::word(&stack)) == 0 &&
         (stack.ss_flags & SS_ONSTACK) != 0;
}

void forget_thread() noexcept { cached_token = 0; }

Hold RobustLock::acquire_slowly(std::uint64_t self) noexcept {
  for (int i = 0;; ++i) {
    std::uint64_t owner = owner_.load(std::memory_order_relaxed);
    if (owner == self) return Hold::nested;
    if (owner == 0) {
      if (owner_.compare_exchange_strong(owner, self, std::memory_order_acquire)) {
        return Hold::fresh;
      }
      continue;
    }
    if (i < kSpins) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
      continue;
    }
    waiters_.fetch_add(1, std::memory_order_seq_cst);
    const timespec patience{0, kPatienceNs};
    // The futex word is the owner's low half: the tid. Little-endian on every supported machine.
    const long woken = sys::futex_wait(&owner_, static_cast<std::uint32_t>(owner), &patience);
    TSSX_FAULT_POINT(lock_waited);
    waiters_.fetch_sub(1, std::memory_order_relaxed);
    if (woken == -ETIMEDOUT && owner_.load(std::memory_order_relaxed) == owner &&
        owner_is_dead(owner) &&
        owner_.compare_exchange_strong(owner, self, std::memory_order_acquire)) {
      abandoned_ = true;
      TSSX_FAULT_POINT(lock_recovered);
      return Hold::recovered;
    }
  }
}

void RobustLock::wake() noexcept { sys::futex_wake(&owner_, 1); }

}  // namespace tssx
