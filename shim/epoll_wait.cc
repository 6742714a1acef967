// epoll_wait(2) and its kin: the kernel's part, the sleep, and who wakes whom.

#include <errno.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "core/channel.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/epoll_set.h"
#include "shim/real.h"

namespace tssx {
namespace {

constexpr int kBatch = 128;  // kernel events fetched at once
constexpr std::uint32_t kBusyCalls = 4;
constexpr std::uint64_t kSharedSleepNs = 200'000'000;
constexpr std::uint64_t kKernelEveryNs =
    50'000;  // kernel members are looked at this often at least
constexpr std::uint64_t kKernelWhileWaitingNs = 10'000;

int fail(int error) noexcept {
  errno = error;
  return -1;
}

}  // namespace

int EpollSet::collect(const epoll_event* found, int count, epoll_event* events) noexcept {
  int told = 0;
  int moving = 0;
  Endpoint* moved[kBatch];
  {
    LockScope lock(lock_, is_exclusive_process());
    for (int i = 0; i < count; ++i) {
      if (!is_tag(found[i].data.u64)) {
        events[told++] = found[i];
        continue;
      }
      if (index_of(found[i].data.u64) == kKickIndex) continue;
      Member* member = member_of(found[i].data.u64, this);
      if (member == nullptr) continue;
      if (member->managed) {
        member->socket_events |= found[i].events & kEnds;
        member->kernel_edge = true;
        make_hot(*member);
        continue;
      }
      std::uint32_t what = found[i].events;
      if (member->endpoint != nullptr) {
        Channel& channel = member->endpoint->channel;
        // A message of ours that comes by itself is no news to the application.
        if ((what & EPOLLIN) != 0 && !channel.is_plain() && (what & kEnds) == 0 &&
            (!channel.settle(member->kernel_fd) || channel.receives_from_ring())) {
          what &= ~kReadable;
        }
        if (channel.is_established()) {
          // It was the cut, or the answer to an offer: from here on the ring tells.
          member->endpoint->references.fetch_add(1, std::memory_order_acquire);
          moved[moving++] = member->endpoint;
          continue;
        }
        if ((what & (member->events | kAlways)) == 0) continue;
      }
      if ((member->events & EPOLLONESHOT) != 0) member->disabled = true;
      events[told].events = what;
      events[told++].data.u64 = member->data;
    }
  }
  for (int i = 0; i < moving; ++i) {
    move_registrations(*moved[i]);
    drop_reference(*moved[i]);
  }
  return told;
}

// Waits in the kernel, counted as a sleeper. -1 with errno set, or the number of events.
int EpollSet::sleep_in_kernel(int epfd, epoll_event* found, int room, std::uint64_t timeout,
                              const sigset_t* mask) {
  struct Awake {  // also when the thread is cancelled in its sleep
    std::atomic<std::uint32_t>& sleepers;
    ~Awake() { sleepers.fetch_sub(1, std::memory_order_seq_cst); }
  } awake{sleepers_};
  if (timeout == kForever || timeout % 1'000'000U == 0) {
    const std::uint64_t milliseconds = timeout / 1'000'000U;
    const int limit = timeout == kForever
                          ? -1
                          : static_cast<int>(std::min<std::uint64_t>(milliseconds, 0x7fffffff));
    return real::epoll_pwait(epfd, found, room, limit, mask);
  }
  const timespec limit{static_cast<time_t>(timeout / 1'000'000'000U),
                       static_cast<long>(timeout % 1'000'000'000U)};
  const int count = real::epoll_pwait2 != nullptr
                        ? real::epoll_pwait2(epfd, found, room, &limit, mask)
                        : fail(ENOSYS);
  if (count >= 0 || errno != ENOSYS) return count;
  // Kernels before 5.11: milliseconds, rounded up so as not to return early.
  return real::epoll_pwait(epfd, found, room, static_cast<int>((timeout + 999'999U) / 1'000'000U),
                           mask);
}

// What the kernel knows, without waiting unless `timeout` says so; then the caller has counted
// itself as a sleeper.
int EpollSet::ask_kernel(int epfd, epoll_event* events, int maximum, std::uint64_t timeout,
                         const sigset_t* mask) {
  epoll_event found[kBatch];
  const int room = std::min(maximum, kBatch);
  int count = 0;
  if (timeout != 0) {
    count = sleep_in_kernel(epfd, found, room, timeout, mask);
  } else if (mask != nullptr) {
    count = real::epoll_pwait(epfd, found, room, 0, mask);
  } else {
    // No cancellation point and no sleep: straight to the kernel.
    const long got = sys::call(SYS_epoll_pwait, epfd, sys::word(found), room, 0, 0, 8);
    count = got < 0 ? fail(static_cast<int>(-got)) : static_cast<int>(got);
  }
  if (count <= 0) return count;
  return collect(found, count, events);
}

void EpollSet::prepare_kick() noexcept {
  if (kick_fd_ >= 0) return;
  const long made = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (made < 0) return;
  long high = sys::fcntl(static_cast<int>(made), F_DUPFD_CLOEXEC, 700);
  if (high < 0) {
    high = made;
  } else {
    sys::close(static_cast<int>(made));
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // never read: every write is an edge
  event.data.u64 = tag_of(kKickIndex, 0);
  if (real::epoll_ctl(fd_, EPOLL_CTL_ADD, static_cast<int>(high), &event) != 0) {
    sys::close(static_cast<int>(high));
    return;
  }
  kick_fd_ = static_cast<int>(high);
  table.set(kick_fd_, Slot(Kind::hidden, nullptr));
  table.note_highest(kick_fd_);
}

void EpollSet::kick() noexcept {
  prepare_kick();
  nudge();
}

void EpollSet::nudge() noexcept {
  if (kick_fd_ < 0) return;
  const std::uint64_t one = 1;
  sys::call(SYS_write, kick_fd_, sys::word(&one), sizeof one);
}

// A thread leaves with events: what is hot is nobody's to look at until somebody comes back.
void EpollSet::leave() noexcept {
  const bool others = sleepers_.load(std::memory_order_seq_cst) != 0;
  if (!others && !nested_) return;
  LockScope lock(lock_, is_exclusive_process());
  if (hot_first_ == nullptr) return;
  if (!arm_all()) kick();
}

int EpollSet::wait(int epfd, epoll_event* events, int maximum, std::uint64_t timeout,
                   const sigset_t* mask) {
  act_on_cancellation();
  const std::uint64_t start = timeout != 0 && timeout != kForever ? sys::now_ns() : 0;
  std::uint64_t left = timeout;
  for (;;) {
    int count = 0;
    const std::uint64_t word = attention.load(std::memory_order_seq_cst);
    if (word != seen_attention_) heed(word);
    if (hot_count_.load(std::memory_order_relaxed) != 0) {
      // The kernel's members first when their turn has come: a busy ring must not starve them. As
      // long as they have something to tell, it comes with every call.
      const std::uint64_t now = sys::now_ns();
      if (busy_calls_ < kBusyCalls || now - last_kernel_look_ > kKernelEveryNs) {
        count = ask_kernel(epfd, events, maximum, 0, nullptr);
        if (count < 0) count = 0;
        last_kernel_look_ = now;
        if (count != 0) busy_calls_ = 0;
      }
      ++busy_calls_;
      if (count < maximum) {
        LockScope lock(lock_, is_exclusive_process());
        count += harvest(events + count, maximum - count);
      }
    }
    if (count != 0 || timeout == 0) {
      if (count == 0) {
        count = ask_kernel(epfd, events, maximum, 0, mask);
        if (count < 0) return count;
        if (count < maximum && hot_count_.load(std::memory_order_relaxed) != 0) {
          LockScope lock(lock_, is_exclusive_process());
          count += harvest(events + count, maximum - count);
        }
      }
      leave();
      return count;
    }

    // A caller's signal mask holds for the wait alone: then only the kernel may wait.
    if (hot_count_.load(std::memory_order_relaxed) != 0 && mask == nullptr) {
      std::uint32_t peer_cpu = ~0U;
      {
        LockScope lock(lock_, is_exclusive_process());
        if (hot_last_ != nullptr) peer_cpu = hot_last_->endpoint->channel.peer_cpu();
      }
      std::uint64_t next_kernel_look = sys::now_ns() + kKernelWhileWaitingNs;
      int looks = 0;
      const bool found = waiter_.wait(peer_cpu, [&] {
        if (hot_may_be_ready()) return true;
        if (++looks % 16 != 0) return false;
        const std::uint64_t now = sys::now_ns();
        if (now < next_kernel_look) return false;
        next_kernel_look = now + kKernelWhileWaitingNs;
        last_kernel_look_ = now;
        count = ask_kernel(epfd, events, maximum, 0, nullptr);
        return count != 0;
      });
      if (count < 0) return count;
      if (count > 0) {
        leave();
        return count;
      }
      if (found) continue;
    }

    {
      LockScope lock(lock_, is_exclusive_process());
      if (!arm_all()) continue;
      if (!is_exclusive_process()) prepare_kick();
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
    }
    if (attention.load(std::memory_order_seq_cst) != word) {
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
      continue;
    }
    if (start != 0) {
      const std::uint64_t gone = sys::now_ns() - start;
      left = gone < timeout ? timeout - gone : 0;
      // Whole milliseconds stay whole: never early, and by the older call.
      if (left != 0 && timeout % 1'000'000U == 0)
        left = (left + 999'999U) / 1'000'000U * 1'000'000U;
    }
    // Between threads of one process a member can move to the ring, or lose its bell to a reader,
    // at the very moment another thread falls asleep here. Whatever is missed is found after a
    // while.
    const bool bounded = !is_exclusive_process() && left > kSharedSleepNs;
    if (bounded) left = kSharedSleepNs;
    std::uint64_t slept = sys::now_ns();
    if (left == 0) sleepers_.fetch_sub(1, std::memory_order_seq_cst);  // too late to sleep
    count = ask_kernel(epfd, events, maximum, left, mask);
    slept = sys::now_ns() - slept;
    busy_calls_ = 0;
    waiter_.note_sleep(slept);
    if (count < 0) return count;
    if (bounded && count == 0) {
      left = timeout;
      look_at_all();
    }
    if (count > 0) {
      if (hot_count_.load(std::memory_order_relaxed) != 0 && count < maximum) {
        LockScope lock(lock_, is_exclusive_process());
        count += harvest(events + count, maximum - count);
      }
      leave();
      return count;
    }
    if (start != 0 && hot_count_.load(std::memory_order_relaxed) == 0 &&
        sys::now_ns() - start >= timeout) {
      return 0;
    }
    if (start != 0 && sys::now_ns() - start >= timeout) timeout = 0;  // one last look
  }
}

int EpollSet::translate(epoll_event* events, int count) noexcept {
  int told = 0;
  for (int at = 0; at < count; at += kBatch) {
    epoll_event found[kBatch];
    const int size = std::min(count - at, kBatch);
    std::copy_n(events + at, size, found);
    told += collect(found, size, events + told);
  }
  return told;
}

}  // namespace tssx
