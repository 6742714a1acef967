// Who sleeps in a set, and how others wake them.

#include "shim/epoll_stay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "core/fault_point.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/real.h"

namespace tssx {
namespace {

bool on_alternate_stack() noexcept {
  stack_t stack{};
  return sys::call(SYS_sigaltstack, 0, sys::word(&stack)) == 0 &&
         (stack.ss_flags & SS_ONSTACK) != 0;
}

}  // namespace

thread_local SetStay* SetStay::innermost = nullptr;
thread_local EpollSet* SetStay::innermost_set = nullptr;
thread_local std::uint64_t SetStay::innermost_cookie = 0;
thread_local bool SetStay::innermost_in_set = false;
thread_local bool SetStay::innermost_soon = false;
thread_local std::uint64_t SetStay::last_cookie = 0;

SetStay::SetStay(EpollSet& set, bool soon) noexcept
    : set_(set), cookie_(++last_cookie), soon_(soon) {
  // A stay that lies further down the stack than we do is gone: its thread jumped over its end.
  // On a signal handler's own stack nothing can be told, and it stays counted.
  while (innermost != nullptr && (innermost < this || innermost->cookie_ != innermost_cookie) &&
         !on_alternate_stack()) {
    innermost_set->sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    if (innermost_soon) innermost_set->soon_.fetch_sub(1, std::memory_order_seq_cst);
    if (innermost_in_set) innermost_set->set_sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    innermost = nullptr;
  }
  for (;;) {
    front_ = set.front_fd_.load(std::memory_order_seq_cst);
    if (front_ >= 0) break;
    // Either enter_front() sees us, or we its front. seq_cst on both sides.
    set.set_sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (set.front_fd_.load(std::memory_order_seq_cst) < 0) break;
    set.set_sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
  // Before `sleepers_`: who sees a sleeper sees of which kind it is.
  if (soon_) set.soon_.fetch_add(1, std::memory_order_seq_cst);
  set.sleepers_.fetch_add(1, std::memory_order_seq_cst);
  outer_ = innermost;
  outer_set_ = innermost_set;
  outer_cookie_ = innermost_cookie;
  outer_in_set_ = innermost_in_set;
  outer_soon_ = innermost_soon;
  innermost_set = &set;
  innermost_cookie = cookie_;
  innermost_in_set = front_ < 0;
  innermost_soon = soon_;
  innermost = this;
}

SetStay::~SetStay() {
  cookie_ = 0;
  innermost = outer_;
  innermost_set = outer_set_;
  innermost_cookie = outer_cookie_;
  innermost_in_set = outer_in_set_;
  innermost_soon = outer_soon_;
  if (soon_) set_.soon_.fetch_sub(1, std::memory_order_seq_cst);
  set_.sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  if (front_ >= 0) return;
  const bool last = set_.set_sleepers_.fetch_sub(1, std::memory_order_seq_cst) == 1;
  if (set_.front() >= 0) set_.call_in(last);
}

// --- waking each other ---

void EpollSet::prepare_kick() noexcept {
  if (kick_fd_ == 0) {
    const long made = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made < 0) return;
    kick_fd_ = move_out_of_the_way(static_cast<int>(made));
    table.hide(kick_fd_);
  }
  const int front = this->front();
  bool& there = front >= 0 ? kick_in_front_ : kick_in_set_;
  if (there) return;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // never read: every write is an edge
  event.data.u64 = tag_of(kKickIndex, 0);
  const int saved = errno;
  there = real::epoll_ctl(front >= 0 ? front : number(), EPOLL_CTL_ADD, kick_fd_, &event) == 0 ||
          errno == EEXIST;
  errno = saved;
}

// Another process has the eventfd of the set that this object was before: it is not to wake us for
// its own. The number stays (kick_fd_).
void EpollSet::renew_kick() noexcept {
  const int kick = kick_fd_.load(std::memory_order_relaxed);
  if (kick == 0) return;
  const long made = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (made < 0) return;  // it wakes for nothing, now and then
  sys::call(SYS_dup3, made, kick, O_CLOEXEC);
  sys::close(static_cast<int>(made));
}

void EpollSet::kick() noexcept {
  TSSX_FAULT_POINT(epoll_kicking);
  prepare_kick();
  nudge();
}

void EpollSet::nudge() noexcept {
  const int kick = kick_fd_.load(std::memory_order_relaxed);
  if (kick == 0) return;
  TSSX_FAULT_POINT(epoll_nudging);
  const std::uint64_t one = 1;
  sys::call(SYS_write, kick, sys::word(&one), sizeof one);
}

// A thread has come out of the set while there is a front: calls the next one in, and after the
// last one, takes the kick out of the set, which must be readable for the application's reasons
// alone.
void EpollSet::call_in(bool last) noexcept {
  LockScope lock(lock_, is_exclusive_process());
  if (last) {
    take_kick_out();
  } else {
    nudge();
  }
}

void EpollSet::take_kick_out() noexcept {
  if (!kick_in_set_) return;
  const int saved = errno;
  kick_in_set_ = false;
  real::epoll_ctl(number(), EPOLL_CTL_DEL, kick_fd_, nullptr);
  errno = saved;
}

// Threads that wait already, in the set or for it, must see what has become ready. Locked.
void EpollSet::wake_for_change() noexcept {
  if (hot_first_ == nullptr || (is_exclusive_process() && front() < 0)) return;
  if (!arm_all()) kick();
}

}  // namespace tssx
