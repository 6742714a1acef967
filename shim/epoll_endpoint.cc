// What happens to endpoints and to the process, as their sets see it.

#include <errno.h>

#include <new>

#include "core/channel.h"
#include "shim/endpoint.h"
#include "shim/epoll_set.h"
#include "shim/real.h"

namespace tssx {

std::atomic<std::uint64_t> attention{0};

void detach_endpoint(Endpoint& endpoint) noexcept {
  if (endpoint.members.load(std::memory_order_acquire) == nullptr) return;
  LockScope lock(endpoint.members_lock, is_exclusive_process());
  // Another process that holds the endpoint may share the set: its registration must stay.
  const bool last = endpoint.channel.side().holders.load(std::memory_order_acquire) == 1;
  while (Member* member = endpoint.members.load(std::memory_order_relaxed)) {
    EpollSet& set = *member->set;
    LockScope inner(set.lock_, is_exclusive_process());
    if (last) real::epoll_ctl(set.fd_, EPOLL_CTL_DEL, member->kernel_fd, nullptr);
    set.forget(*member);
  }
}

void move_registrations(Endpoint& endpoint) noexcept {
  const int saved = errno;
  LockScope lock(endpoint.members_lock, is_exclusive_process());
  const bool established = endpoint.channel.is_established();
  endpoint.managed.store(established, std::memory_order_relaxed);
  for (Member* at = endpoint.members.load(std::memory_order_relaxed); at != nullptr;
       at = at->next_of_endpoint) {
    EpollSet& set = *at->set;
    LockScope inner(set.lock_, is_exclusive_process());
    if (at->managed == established) continue;
    at->managed = established;
    at->fresh = true;
    set.register_in_kernel(EPOLL_CTL_MOD, *at);
    if (established && !at->disabled) {
      set.make_hot(*at);
      if (set.sleepers_.load(std::memory_order_seq_cst) != 0 || set.nested_) {
        if (!set.arm_all()) set.kick();
      }
    } else {
      set.make_cold(*at);
    }
  }
  errno = saved;
}

void adopt_registrations(int fd, Endpoint& endpoint) noexcept {
  sets.for_each([&](EpollSet& set) {
    if (!set.has_members()) return;
    LockScope outer(endpoint.members_lock, is_exclusive_process());
    LockScope lock(set.lock_, is_exclusive_process());
    for (Member* at = set.members_; at != nullptr; at = at->next_of_set) {
      if (at->fd != fd || at->endpoint != nullptr) continue;
      at->endpoint = &endpoint;
      at->next_of_endpoint = endpoint.members.load(std::memory_order_relaxed);
      endpoint.members.store(at, std::memory_order_release);
    }
  });
}

// Called with a channel's lock held, so it takes no lock of a set: it leaves word, and wakes who
// may have to read it.
void look_again(void* context) noexcept {
  auto* endpoint = static_cast<Endpoint*>(context);
  if (endpoint->members.load(std::memory_order_acquire) == nullptr) return;
  endpoint->rung.store(true, std::memory_order_relaxed);
  // seq_cst, between the word and the look for sleepers; pairs with those in wait().
  attention.fetch_add(1, std::memory_order_seq_cst);
  sets.for_each([](EpollSet& set) {
    if (set.sleepers_.load(std::memory_order_seq_cst) != 0 || set.nested_) set.nudge();
  });
}

// --- around fork ---

void lock_sets() noexcept {
  sets.for_each([](EpollSet& set) { set.lock_.acquire(is_exclusive_process()); });
}

void unlock_sets() noexcept {
  sets.for_each([](EpollSet& set) { set.lock_.release(); });
}

void reset_sets() noexcept {
  sets.for_each([](EpollSet& set) {
    new (&set.lock_) RobustLock();
    set.sleepers_.store(0, std::memory_order_relaxed);
  });
}

}  // namespace tssx
