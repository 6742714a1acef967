// A lock in the side state that survives the death of its owner.
//
// Thread safety: that is what it is for; among threads and among the processes of one fork family.
// May be called from: signal handlers too. A handler that interrupts the owner on its own thread
// gets Hold::nested at once instead of waiting for itself; so does a thread that left its critical
// section by siglongjmp.
//
// Invariants:
//  1. owner_ is 0 or the token of the thread that holds the lock.
//  2. frame_ is the LockScope on that thread's stack, or null where the owner holds it without one.
//  3. abandoned_ is set where an owner was killed, or left by siglongjmp, until somebody has seen
//  to
//     what it had begun. Guarded by the lock itself.
//  4. Nobody sleeps in the kernel for anything but this lock while holding it, so waiting is short.
#pragma once

#include <atomic>
#include <cstdint>

namespace tssx {

// pid << 32 | tid of the calling thread. Cached per thread; forget_thread() after a fork.
std::uint64_t thread_token() noexcept;
std::uint32_t process_id() noexcept;
void forget_thread() noexcept;

enum class Hold {
  fresh,      // acquired
  recovered,  // acquired from a dead owner: finish or drop what it had begun
  nested      // this very thread holds it already, further up the stack
};

class LockScope;

class RobustLock {
 public:
  // exclusive: the caller knows that no other thread or process can contend, so plain stores do.
  Hold acquire(bool exclusive) noexcept {
    const std::uint64_t self = thread_token();
    if (exclusive && owner_.load(std::memory_order_relaxed) == 0) {
      owner_.store(self, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      return Hold::fresh;
    }
    std::uint64_t expected = 0;
    // acquire: pairs with the release in release(); sees all that the last owner wrote.
    if (owner_.compare_exchange_strong(expected, self, std::memory_order_acquire)) {
      return Hold::fresh;
    }
    return acquire_slowly(self);
  }

  // One attempt; false if another thread holds it (or this one, further up the stack).
  bool try_acquire() noexcept {
    std::uint64_t expected = 0;
    if (!owner_.compare_exchange_strong(expected, thread_token(), std::memory_order_acquire)) {
      return false;
    }
    frame_ = nullptr;
    return true;
  }

  // For the owner: was the lock taken over since this was last asked, by whomever?
  bool take_abandoned() noexcept {
    if (!abandoned_) return false;
    abandoned_ = false;
    return true;
  }

  void release() noexcept {
    // Before the owner changes: the next one may be interrupted before it has set its own.
    frame_ = nullptr;
    owner_.store(0, std::memory_order_release);
    // A waiter that announces itself after this load sees owner_ == 0 in its futex check, or times
    // out within kPatience: a lost wake-up costs a moment, never a hang.
    if (waiters_.load(std::memory_order_relaxed) != 0) wake();
  }

 private:
  friend class LockScope;
  Hold acquire_slowly(std::uint64_t self) noexcept;
  void wake() noexcept;

  std::atomic<std::uint64_t> owner_;
  std::atomic<std::uint32_t> waiters_;
  bool abandoned_ = false;
  const LockScope* frame_ = nullptr;
  std::uint64_t cookie_ = 0;
};

// Holds a RobustLock for a scope, unless the hold is nested.
//
// A thread that finds itself the owner was either interrupted (the outer scope still lives, and
// will go on) or left it by siglongjmp (the scope is gone). The outer scope lives if it lies
// further up the stack, or on the stack that a handler on an alternate one interrupted, and still
// bears the cookie that the lock remembers.
class LockScope {
 public:
  LockScope(RobustLock& lock, bool exclusive) noexcept
      : lock_(lock), cookie_(next_cookie()), hold_(lock.acquire(exclusive)) {
    if (hold_ == Hold::nested && !outer_lives()) {
      hold_ = Hold::recovered;
      lock_.abandoned_ = true;
    }
    if (hold_ == Hold::nested) return;
    lock_.frame_ = this;
    lock_.cookie_ = cookie_;
  }
  LockScope(const LockScope&) = delete;
  LockScope& operator=(const LockScope&) = delete;
  ~LockScope() {
    if (hold_ == Hold::nested) return;
    cookie_ = 0;
    lock_.release();
  }
  Hold hold() const noexcept { return hold_; }

 private:
  static std::uint64_t next_cookie() noexcept;
  static bool on_alternate_stack() noexcept;
  bool outer_lives() const noexcept {
    if (lock_.frame_ == nullptr) return true;
    return (lock_.frame_ > this || on_alternate_stack()) && lock_.frame_->cookie_ == lock_.cookie_;
  }

  RobustLock& lock_;
  volatile std::uint64_t cookie_;
  Hold hold_;
};

}  // namespace tssx
