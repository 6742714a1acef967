// What happens to endpoints and to the process, as their sets see it.

#include <errno.h>

#include <new>

#include "core/channel.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/endpoint_pool.h"
#include "shim/epoll_set.h"
#include "shim/pool.h"
#include "shim/real.h"

namespace tssx {

std::atomic<std::uint64_t> attention{0};
std::atomic<bool> moves_pending{false};

void detach_endpoint(Endpoint& endpoint) noexcept {
  if (endpoint.members.load(std::memory_order_acquire) == nullptr) return;
  const int saved = errno;
  LockScope lock(endpoint.members_lock, is_exclusive_process());
  const bool last = endpoint.channel.side().holders.load(std::memory_order_acquire) == 1;
  while (Member* member = endpoint.members.load(std::memory_order_relaxed)) {
    EpollSet& set = *member->set;
    LockScope inner(set.lock_, is_exclusive_process());
    if (is_socket_of(endpoint.channel, member->kernel_fd)) {
      if (last) {
        set.unregister(*member);
      } else if (set.is_keeper()) {
        // Another process has the connection open, so the kernel would go on telling its events, by
        // the application's own data.
        set.give_back(*member, true);
      }
    }
    set.forget(*member);
  }
  errno = saved;
}

void note_shutdown(Endpoint& endpoint) noexcept {
  if (endpoint.members.load(std::memory_order_acquire) == nullptr) return;
  const int saved = errno;
  LockScope lock(endpoint.members_lock, is_exclusive_process());
  for (Member* at = endpoint.members.load(std::memory_order_relaxed); at != nullptr;
       at = at->next_of_owner) {
    LockScope inner(at->set->lock_, is_exclusive_process());
    if (!at->managed) continue;
    at->fresh = true;
    poke(*at);
  }
  errno = saved;
}

void move_registrations(Endpoint& endpoint) noexcept {
  const int saved = errno;
  LockScope lock(endpoint.members_lock, is_exclusive_process());
  // Until the incoming direction has moved as well, every call on the endpoint comes here: a member
  // that is cold because its socket tells, must be hot once the ring does.
  endpoint.managed.store(endpoint.channel.is_established() && endpoint.channel.receives_from_ring(),
                         std::memory_order_relaxed);
  for (Member* at = endpoint.members.load(std::memory_order_relaxed); at != nullptr;
       at = at->next_of_owner) {
    EpollSet& set = *at->set;
    LockScope inner(set.lock_, is_exclusive_process());
    set.settle_mode(*at);
    set.wake_for_change();
  }
  errno = saved;
}

void move_pending_registrations() noexcept {
  if (!moves_pending.exchange(false, std::memory_order_acq_rel)) return;
  endpoints.for_each([](Endpoint& endpoint) {
    if (endpoint.members.load(std::memory_order_acquire) == nullptr) return;
    if (!take_reference(endpoint.references)) return;
    if (endpoint.managed.load(std::memory_order_relaxed) != endpoint.channel.is_established()) {
      move_registrations(endpoint);
    }
    drop_reference(endpoint);
  });
}

void adopt_registrations(int fd, Endpoint& endpoint) noexcept {
  const int saved = errno;
  sets.for_each([&](EpollSet& set) {
    if (set.loose_ == nullptr) return;
    LockScope outer(endpoint.members_lock, is_exclusive_process());
    LockScope lock(set.lock_, is_exclusive_process());
    for (Member* at = set.loose_; at != nullptr;) {
      Member* member = at;
      at = at->next_of_owner;
      if (member->fd != fd) continue;
      // Of this very socket, or left behind by an earlier one of the same number? The kernel knows.
      if (set.register_again(*member) != 0) {
        set.forget(*member);
        continue;
      }
      set.unlink_loose(*member);
      member->endpoint = &endpoint;
      member->next_of_owner = endpoint.members.load(std::memory_order_relaxed);
      endpoint.members.store(member, std::memory_order_release);
      set.settle_mode(*member);
    }
  });
  errno = saved;
}

// Both leave word, and wake who may have to read it. seq_cst, between the word and the look for
// sleepers; pairs with SetStay and the last look in wait(). They wait for no lock, as they are
// called under a channel's or a set's.

void push_poked(Member& member) noexcept {
  EpollSet& set = *member.set;
  if (!member.poked.exchange(true, std::memory_order_acq_rel)) {
    Member* first = set.poked_.load(std::memory_order_relaxed);
    do {
      member.next_poked = first;
    } while (!set.poked_.compare_exchange_weak(first, &member, std::memory_order_seq_cst));
  }
}

void poke(Member& member) noexcept {
  push_poked(member);
  EpollSet& set = *member.set;
  if (set.sleepers_.load(std::memory_order_seq_cst) != 0 || set.front() >= 0) set.nudge();
}

void poke_all() noexcept {
  attention.fetch_add(1, std::memory_order_seq_cst);
  sets.for_each([](EpollSet& set) {
    if (set.sleepers_.load(std::memory_order_seq_cst) != 0 || set.front() >= 0) set.nudge();
  });
}

void look_again(void* context) noexcept {
  auto* endpoint = static_cast<Endpoint*>(context);
  if (endpoint->members.load(std::memory_order_acquire) == nullptr) return;
  if (endpoint->members_lock.try_acquire()) {
    for (Member* at = endpoint->members.load(std::memory_order_relaxed); at != nullptr;
         at = at->next_of_owner) {
      poke(*at);
    }
    endpoint->members_lock.release();
    return;
  }
  // Somebody is changing the list; it may be ourselves, further up the stack.
  endpoint->rung.store(true, std::memory_order_relaxed);
  poke_all();
}

// --- around fork ---

namespace {

// The sets that this thread has locked, by next_locked_. A list of its own, as a set that another
// thread closes meanwhile is not among those in use any more.
thread_local EpollSet* locked_sets = nullptr;

}  // namespace

// No set's list may be half changed in the child. Several locks at once, in no order that others
// keep: so none is waited for while others are held.
void lock_sets() noexcept {
  constexpr int kPatience = 100'000;
  for (int turn = 0; turn < kPatience; ++turn) {
    bool all = true;
    sets.for_each([&all](EpollSet& set) {
      if (!all) return;
      all = set.lock_.try_acquire();
      if (!all) return;
      set.next_locked_ = locked_sets;
      locked_sets = &set;
    });
    if (all) break;
    unlock_sets();
    sys::sched_yield();
  }
  for (EpollSet* set = locked_sets; set != nullptr; set = set->next_locked_) set->share();
}

void unlock_sets() noexcept {
  while (EpollSet* set = locked_sets) {
    locked_sets = set->next_locked_;
    set->lock_.release();
  }
}

void reset_sets() noexcept {
  unlock_sets();
  forget_shared_words();
  sets.for_each([](EpollSet& set) {
    new (&set.lock_) RobustLock();
    new (&set.memberships_lock_) RobustLock();
    // Only the forking thread lives on.
    set.sleepers_.store(0, std::memory_order_relaxed);
    set.set_sleepers_.store(0, std::memory_order_relaxed);
    set.soon_.store(0, std::memory_order_relaxed);
    set.watchers_.store(0, std::memory_order_relaxed);
    set.references_.store(1, std::memory_order_relaxed);
    // Nor does anybody else wait in a set that is closed.
    if (set.descriptors.load(std::memory_order_relaxed) == 0) close_hidden(set.kept_fd_, -1);
  });
}

}  // namespace tssx
