// epoll_wait(2) and its kin: the kernel's part, and the wait.

#include <errno.h>

#include <algorithm>

#include "core/channel.h"
#include "core/fault_point.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/epoll_set.h"
#include "shim/epoll_stay.h"
#include "shim/held_signals.h"
#include "shim/real.h"

namespace tssx {

namespace {

constexpr int kBatch = 128;        // kernel events fetched at once
constexpr int kLooksPerCall = 16;  // at the kernel's set, where it told of nothing but tags
constexpr int kRingLooks = 16;     // at the rings, for one at the clock
constexpr std::uint32_t kBusyCalls = 4;
constexpr std::uint64_t kSharedSleepNs = 200'000'000;
constexpr std::uint64_t kKernelEveryNs =
    50'000;  // kernel members are looked at this often at least
constexpr std::uint64_t kKernelWhileWaitingNs = 10'000;
constexpr std::uint64_t kMillisecond = 1'000'000;

int fail(int error) noexcept {
  errno = error;
  return -1;
}

// epoll_pwait2(2), by the older call where that says the same or the newer is not there.
int sleep_in(int fd, epoll_event* found, int room, std::uint64_t timeout, const sigset_t* mask) {
  if (timeout == EpollSet::kForever || timeout % kMillisecond == 0) {
    const std::uint64_t milliseconds = timeout / kMillisecond;
    const int limit = timeout == EpollSet::kForever
                          ? -1
                          : static_cast<int>(std::min<std::uint64_t>(milliseconds, 0x7fffffff));
    return real::epoll_pwait(fd, found, room, limit, mask);
  }
  const timespec limit = sys::timespec_of(timeout);
  const int count = real::epoll_pwait2 != nullptr
                        ? real::epoll_pwait2(fd, found, room, &limit, mask)
                        : fail(ENOSYS);
  if (count >= 0 || errno != ENOSYS) return count;
  // Kernels before 5.11: milliseconds, rounded up so as not to return early.
  return real::epoll_pwait(fd, found, room,
                           static_cast<int>((timeout + kMillisecond - 1) / kMillisecond), mask);
}

}  // namespace

// --- the kernel's part ---

// A tag of ours: makes its member hot.
void EpollSet::take_tag(const epoll_event& event) noexcept {
  const std::uint32_t index = index_of(event.data.u64);
  if (index == kKickIndex) return;
  if (index == kSetIndex) {
    ++arrivals_;
    return;
  }
  Member* member = member_of(event.data.u64, this);
  if (member == nullptr || !member->managed) return;
  ++arrivals_;
  member->socket_events |= event.events & (kEnds | EPOLLPRI);
  member->kernel_edge = true;
  if (!member->disabled) make_hot(*member);
}

// True if there was anything, a kick too.
bool EpollSet::drain_front() noexcept {
  const int front = this->front();
  if (front < 0) return false;
  bool any = false;
  constexpr int kSome = 32;
  epoll_event found[kSome];
  long count = 0;
  do {
    count = sys::call(SYS_epoll_pwait, front, sys::word(found), kSome, 0, 0, 8);
    for (long i = 0; i < count; ++i) {
      any = true;
      if (is_tag(found[i].data.u64)) take_tag(found[i]);
    }
  } while (count == kSome);
  if (any) tell_outside();
  return any;
}

// What was taken from the front makes it readable no more for the sets around: tell them.
void EpollSet::tell_outside() noexcept {
  if (memberships_.load(std::memory_order_acquire) == nullptr) return;
  if (!memberships_lock_.try_acquire()) {
    poke_all();
    return;
  }
  for (Member* at = memberships_.load(std::memory_order_relaxed); at != nullptr;
       at = at->next_of_owner) {
    poke(*at);
  }
  memberships_lock_.release();
}

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
      Member* member =
          index_of(found[i].data.u64) >= kSetIndex ? nullptr : member_of(found[i].data.u64, this);
      if (member == nullptr || member->managed) {
        take_tag(found[i]);
        continue;
      }
      std::uint32_t what = found[i].events;
      if (member->endpoint != nullptr) {
        Channel& channel = member->endpoint->channel;
        // A message of ours that comes by itself is no news to the application.
        if ((what & EPOLLIN) != 0 && !channel.is_plain() && (what & kEnds) == 0 &&
            (!channel.settle(socket_of(*member)) || channel.receives_from_ring())) {
          what &= ~kReadable;
        }
        if (channel.is_established()) {
          // It was the cut, or the answer to an offer: from here on the ring tells.
          member->endpoint->references.fetch_add(1, std::memory_order_acquire);
          moved[moving++] = member->endpoint;
          continue;
        }
        what = channel.without_own_reset(what);
        if ((what & (member->events | kAlways)) == 0) {
          // The kernel has spent it on a message of ours.
          if ((member->events & EPOLLONESHOT) != 0) register_again(*member);
          continue;
        }
      }
      if (member->disabled) continue;
      if ((member->events & EPOLLONESHOT) != 0) member->disabled = true;
      events[told].events = what;
      events[told++].data.u64 = member->data;
    }
  }
  for (int i = 0; i < moving; ++i) {
    move_registrations(*moved[i]);
    tssx::drop_reference(*moved[i]);
  }
  return told;
}

// What is in the kernel's set now. Tags of ours must not take the application's places.
int EpollSet::look_in_kernel(int fd, epoll_event* events, int maximum, const sigset_t* mask) {
  epoll_event found[kBatch];
  const int room = std::min(maximum, kBatch);
  for (int looks = 1;; ++looks) {
    int count = 0;
    if (mask != nullptr) {
      count = real::epoll_pwait(fd, found, room, 0, mask);
    } else {
      // No cancellation point and no sleep: straight to the kernel.
      const long got = sys::call(SYS_epoll_pwait, fd, sys::word(found), room, 0, 0, 8);
      count = got < 0 ? fail(static_cast<int>(-got)) : static_cast<int>(got);
    }
    if (count <= 0) return count;
    const int told = collect(found, count, events);
    if (told != 0 || count < room || looks == kLooksPerCall) return told;
  }
}

// What the kernel knows, without waiting.
int EpollSet::ask_kernel(epoll_event* events, int maximum, const sigset_t* mask) {
  if (front() >= 0) {
    LockScope lock(lock_, is_exclusive_process());
    drain_front();
  }
  const int set = number();
  return set < 0 ? fail(EBADF) : look_in_kernel(set, events, maximum, mask);
}

// What a sleep in the set, or in its front, brought.
int EpollSet::tell(const epoll_event* found, int count, epoll_event* events, int maximum) noexcept {
  const int told = count > 0 ? collect(found, count, events) : 0;
  if (front() < 0) return told;
  if (count > 0) tell_outside();
  if (told == maximum) return told;
  // The front says only that there is something in the set.
  const int more = ask_kernel(events + told, maximum - told, nullptr);
  return more > 0 ? told + more : told;
}

// --- leaving ---

// A thread leaves with events: what is hot is nobody's to look at until somebody comes back.
void EpollSet::leave() noexcept {
  const bool others = sleepers_.load(std::memory_order_seq_cst) != 0;
  if (!others && front() < 0) return;
  LockScope lock(lock_, is_exclusive_process());
  bool more = hot_first_ != nullptr && !arm_all();
  // The front tells of a change in the set once, not of what is left there.
  if (!more && others && front() >= 0) more = is_readable_itself();
  // Nor does anybody look for room any more, if all the others sleep without end.
  if (!more && others && soon_.load(std::memory_order_seq_cst) == 0) more = has_room_to_watch();
  if (more) kick();
}

// --- the wait ---

// Waits actively for the rings. True if one may be ready; *count, if not 0, is what the kernel's
// members told meanwhile.
// `turn`: the kernel has not been asked for some time.
bool EpollSet::spin(epoll_event* events, int maximum, bool turn, int* count) noexcept {
  std::uint32_t peer_cpu = ~0U;
  {
    LockScope lock(lock_, is_exclusive_process());
    if (hot_last_ != nullptr && hot_last_->endpoint != nullptr) {
      peer_cpu = hot_last_->endpoint->channel.peer_cpu();
    }
  }
  std::uint64_t next_kernel_look = turn ? 0 : sys::now_ns() + kKernelWhileWaitingNs;
  int looks = turn ? kRingLooks - 1 : 0;
  return waiter_.wait(peer_cpu, [&] {
    if (hot_may_be_ready()) return true;
    if (++looks % kRingLooks != 0) return false;
    const std::uint64_t now = sys::now_ns();
    if (now < next_kernel_look) return false;
    next_kernel_look = now + kKernelWhileWaitingNs;
    last_kernel_look_.store(now, std::memory_order_relaxed);
    *count = ask_kernel(events, maximum, nullptr);
    if (*count > 0) busy_calls_.store(0, std::memory_order_relaxed);
    return *count != 0;
  });
}

// The kernel's members, whose turn has come. Returns how many events there were; an error is left
// to the next sleep.
int EpollSet::take_turn(epoll_event* events, int maximum, std::uint64_t now) noexcept {
  const int found = ask_kernel(events, maximum, nullptr);
  last_kernel_look_.store(now, std::memory_order_relaxed);
  if (found > 0) busy_calls_.store(0, std::memory_order_relaxed);
  return std::max(found, 0);
}

int EpollSet::wait(epoll_event* events, int maximum, std::uint64_t timeout, const sigset_t* mask) {
  act_on_cancellation();
  const std::uint64_t start = timeout != 0 && timeout != kForever ? sys::now_ns() : 0;
  HeldSignals signals;
  bool asked = false;  // the kernel, this very moment
  for (;;) {
    int count = 0;
    is_kept_here(false);
    const std::uint64_t word = attention.load(std::memory_order_seq_cst);
    if (word != seen_attention_.load(std::memory_order_relaxed) ||
        poked_.load(std::memory_order_seq_cst) != nullptr) {
      LockScope lock(lock_, is_exclusive_process());
      take_poked();
      heed(word);
    }
    look_after_room(timeout == 0);
    // The kernel is asked in its turn, also while there is always something in the rings; as long
    // as it has something to tell, with every call. Where the rings filled all places, it comes
    // first the next time.
    bool turn = false;
    if (hot_count_.load(std::memory_order_relaxed) != 0) {
      const std::uint64_t now = sys::now_ns();
      turn = !asked && (busy_calls_.load(std::memory_order_relaxed) < kBusyCalls ||
                        now - last_kernel_look_.load(std::memory_order_relaxed) > kKernelEveryNs);
      asked = false;
      const bool kernel_first = turn && kernel_first_.exchange(false, std::memory_order_relaxed);
      if (kernel_first) count = take_turn(events, maximum, now);
      if (count < maximum) {
        LockScope lock(lock_, is_exclusive_process());
        count += harvest(events + count, maximum - count);
      }
      // If there is nothing in the rings, whatever comes next asks the kernel: spinning or sleep.
      if (turn && !kernel_first && count == maximum) {
        kernel_first_.store(true, std::memory_order_relaxed);
      } else if (turn && !kernel_first && count != 0 &&
                 !moves_pending.load(std::memory_order_relaxed)) {
        // Not where a member has just gone back: the kernel would tell it a second time.
        count += take_turn(events + count, maximum - count, now);
      }
      busy_calls_.fetch_add(1, std::memory_order_relaxed);
    }
    if (moves_pending.load(std::memory_order_acquire)) move_pending_registrations();
    if (count == 0 && timeout == 0) {
      count = ask_kernel(events, maximum, mask);
      if (count < 0) return count;
      if (count < maximum && hot_count_.load(std::memory_order_relaxed) != 0) {
        LockScope lock(lock_, is_exclusive_process());
        count += harvest(events + count, maximum - count);
      }
      leave();
      return count;
    }
    if (count != 0) {
      leave();
      return count;
    }

    // A caller's signal mask holds for the wait alone: then only the kernel may wait.
    if (hot_count_.load(std::memory_order_relaxed) != 0 && mask == nullptr) {
      const bool found = spin(events, maximum, turn, &count);
      if (count != 0) {
        leave();
        return count;
      }
      if (found) continue;
    }

    signals.hold(mask);
    epoll_event found[kBatch];
    const int room = std::min(maximum, kBatch);
    std::uint64_t left = timeout;
    bool bounded = false;
    std::uint64_t room_within = kForever;
    const std::uint64_t asleep = sys::now_ns();
    {
      bool armed = false;
      {
        LockScope lock(lock_, is_exclusive_process());
        take_poked();
        armed = arm_all();
        if (armed && !is_exclusive_process()) prepare_kick();
        // Without the means to wake us, whatever is missed is found after a while.
        bounded = armed && !is_exclusive_process() && kick_fd_ == 0;
        room_within = room_bound();
      }
      if (!armed) continue;
      // From here on whoever makes a member hot, or takes its bell, sees a sleeper and kicks; what
      // came before is seen by this look. seq_cst, in SetStay and in look_again().
      const SetStay stay(*this, room_within != kForever);
      TSSX_FAULT_POINT(epoll_stays);
      if (hot_count_.load(std::memory_order_seq_cst) != 0 ||
          poked_.load(std::memory_order_seq_cst) != nullptr ||
          attention.load(std::memory_order_seq_cst) != word) {
        continue;
      }
      if (start != 0) {
        const std::uint64_t gone = sys::now_ns() - start;
        left = gone < timeout ? timeout - gone : 0;
        // Whole milliseconds stay whole: never early, and by the older call.
        if (left != 0 && timeout % kMillisecond == 0) {
          left = (left + kMillisecond - 1) / kMillisecond * kMillisecond;
        }
      }
      left = std::min(left, room_within);
      bounded = bounded && left > kSharedSleepNs;
      if (bounded) left = kSharedSleepNs;
      // What is left in the set does not make its front fire again.
      if (stay.front() >= 0 && is_readable_itself()) left = 0;
      const int fd = stay.front() >= 0 ? stay.front() : number();
      count = fd < 0 ? fail(EBADF) : sleep_in(fd, found, room, left, mask);
    }
    TSSX_FAULT_POINT(epoll_slept);
    const std::uint64_t awake = sys::now_ns();
    waiter_.note_sleep(awake - asleep);
    if (count < 0) {
      leave();
      return count;
    }
    last_kernel_look_.store(awake, std::memory_order_relaxed);
    asked = count < room;
    if (count == 0 && room_within != kForever) quiet_looks_.fetch_add(1, std::memory_order_relaxed);
    if (bounded && count == 0) look_at_all();
    const bool any = count > 0;
    count = tell(found, count, events, maximum);
    if (any && is_exclusive_process() && rest_first_ != nullptr) {
      LockScope lock(lock_, is_exclusive_process());
      end_rests();
    }
    if (count > 0) {
      busy_calls_.store(0, std::memory_order_relaxed);
      if (hot_count_.load(std::memory_order_relaxed) != 0 && count < maximum) {
        LockScope lock(lock_, is_exclusive_process());
        count += harvest(events + count, maximum - count);
      }
      leave();
      return count;
    }
    if (start != 0 && sys::now_ns() - start >= timeout) {
      if (hot_count_.load(std::memory_order_relaxed) == 0 && !has_room_to_watch()) return 0;
      timeout = 0;  // one last look
    }
  }
}

int EpollSet::wait_unused(epoll_event* events, int maximum, std::uint64_t timeout,
                          const sigset_t* mask) {
  const std::uint64_t start = timeout != 0 && timeout != kForever ? sys::now_ns() : 0;
  const int room = std::min(maximum, kBatch);
  epoll_event found[kBatch];
  int count = 0;
  {
    const SetStay stay(*this);
    const int fd = stay.front() >= 0 ? stay.front() : number();
    count = fd < 0 ? fail(EBADF) : sleep_in(fd, found, room, timeout, mask);
  }
  if (count < 0 || (!has_members() && front() < 0)) {
    std::copy_n(found, std::max(count, 0), events);
    return count;
  }
  const int told = tell(found, count, events, maximum);
  if (told != 0 || timeout == 0) return told;
  const std::uint64_t gone = start != 0 ? sys::now_ns() - start : 0;
  if (start != 0 && gone >= timeout) return 0;
  return wait(events, maximum, start != 0 ? timeout - gone : timeout, mask);
}

}  // namespace tssx
