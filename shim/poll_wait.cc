#include "shim/poll_wait.h"

#include <errno.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/fault_point.h"
#include "core/socket_look.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/epoll_set.h"
#include "shim/held_signals.h"
#include "shim/real.h"
#include "shim/stream_io.h"

namespace tssx {
namespace {

constexpr std::size_t kInline = 64;
constexpr std::uint64_t kKernelWhileWaitingNs = 10'000;
constexpr std::uint64_t kNapNs = 50'000;
constexpr int kMostInVain = 16;
constexpr std::uint64_t kSharedSleepNs = 200'000'000;

// One entry of the application's array.
struct Entry {
  EndpointRef endpoint;  // empty: the kernel answers for this descriptor
  EpollSetRef set;       // or, where not empty, for what is in this set
  bool established = false;
  bool sends_to_ring = false;
  std::uint8_t armed = 0;
};

// Memory for `count` of T: on the caller's stack where it is small, else mapped (no malloc:
// poll(2) is async-signal-safe).
template <class T>
class Scratch {
 public:
  explicit Scratch(std::size_t count) noexcept : count_(count) {
    if (count <= kInline) {
      data_ = reinterpret_cast<T*>(inline_);
    } else {
      data_ = static_cast<T*>(
          sys::mmap(count * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
    }
    if (data_ == nullptr) return;
    for (std::size_t i = 0; i < count; ++i) new (&data_[i]) T();
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (data_ == nullptr) return;
    for (std::size_t i = 0; i < count_; ++i) data_[i].~T();
    if (count_ > kInline) sys::munmap(data_, count_ * sizeof(T));
  }
  T& operator[](std::size_t i) noexcept { return data_[i]; }
  T* data() noexcept { return data_; }

 private:
  std::size_t count_;
  T* data_ = nullptr;
  alignas(T) unsigned char inline_[kInline * sizeof(T)];
};

// POLLOUT of a direction that went back to the kernel after the socket was asked.
short writable_now(int fd) noexcept {
  constexpr short kWritable = POLLOUT | POLLWRNORM | POLLWRBAND;
  return static_cast<short>(poll_now(fd, kWritable) & kWritable);
}

class Poll {
 public:
  Poll(pollfd* fds, std::size_t count) noexcept
      : fds_(fds), count_(count), entries_(count), kernel_(count) {}
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;
  ~Poll() { disarm(); }  // also when the thread is cancelled in its sleep

  bool has_memory() noexcept { return entries_.data() != nullptr && kernel_.data() != nullptr; }

  void prepare() noexcept {
    others_ = false;
    ours_ = false;
    for (std::size_t i = 0; i < count_; ++i) {
      Entry& entry = entries_[i];
      const int fd = fds_[i].fd;
      kernel_[i].events = fds_[i].events;
      kernel_[i].revents = 0;
      kernel_[i].fd = fd;
      if (fd < 0 && !DescriptorTable::is_id(fd)) continue;
      if (!entry.endpoint && !entry.set) {
        entry.endpoint = EndpointRef(fd);
        entry.set = EpollSetRef(fd);
      }
      if (!entry.endpoint) {
        others_ = true;
        if (entry.set && entry.set->has_members()) {
          ours_ = true;
          entry.set->look_for_other_users();
          entry.set->enter_front();
          if (entry.set->front() >= 0) kernel_[i].fd = entry.set->front();
        }
        if (DescriptorTable::is_id(fd)) kernel_[i].fd = 0x7fffffff;  // POLLNVAL, as for any bad one
        continue;
      }
      Channel& channel = entry.endpoint.channel();
      kernel_[i].fd = entry.endpoint.fd();
      entry.established = channel.is_established();
      entry.sends_to_ring = channel.sends_to_ring();
      if (!entry.established) {
        others_ = true;
        continue;
      }
      ours_ = true;
      if (first_ == nullptr) first_ = &channel;
      // Bells, a cut, the hang-up; and the urgent byte, which travels by the socket alone.
      // After shutdown(SHUT_RD) none of that can come, and the socket is readable for good.
      const bool shut = channel.side().receiving.shut.load(std::memory_order_relaxed) != 0;
      int events = (shut ? fds_[i].events & (POLLIN | POLLRDHUP) : POLLIN | POLLRDHUP) |
                   (fds_[i].events & POLLPRI);
      if (!channel.sends_to_ring() || channel.waits_for_socket()) {
        events |= fds_[i].events & (POLLOUT | POLLWRNORM | POLLWRBAND);
        if (channel.has_rest()) events |= POLLOUT;  // readiness() sends on
        others_ = true;
      }
      if (!channel.receives_from_ring()) {
        events |= fds_[i].events & (POLLRDNORM | POLLPRI);
        others_ = true;
      }
      kernel_[i].events = static_cast<short>(events);
    }
  }

  // Fills revents from what the kernel said (kernel_[i].revents) and from the rings.
  int tell() noexcept {
    int ready = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      Entry& entry = entries_[i];
      short events = kernel_[i].revents;
      if (entry.endpoint) {
        Channel& channel = entry.endpoint.channel();
        const int fd = entry.endpoint.fd();
        const bool readable = (events & (POLLIN | POLLRDNORM)) != 0;
        if (readable && !channel.is_plain() && !channel.receives_from_ring() &&
            (events & (POLLHUP | POLLRDHUP | POLLERR)) == 0 &&
            (!channel.settle(fd) || channel.receives_from_ring())) {
          // Nothing but a message of ours: the application need not wake for it.
          events = static_cast<short>(events & ~(POLLIN | POLLRDNORM));
        }
        if (entry.sends_to_ring && !channel.sends_to_ring()) {
          events = static_cast<short>(events | writable_now(fd));
        }
        if (!channel.is_plain() && channel.is_established()) {
          if (!entry.established) changed_ = true;
          events = channel.readiness(fd, events);
        }
        if (!channel.is_established()) {
          events =
              static_cast<short>(channel.without_own_reset(static_cast<std::uint32_t>(events)));
        }
        follow_mode(*entry.endpoint);
        events = static_cast<short>(events & (fds_[i].events | POLLERR | POLLHUP | POLLNVAL));
      } else if (fds_[i].fd < 0 && !DescriptorTable::is_id(fds_[i].fd)) {
        events = 0;
      } else if (entry.set && kernel_[i].fd == entry.set->front()) {
        events = 0;
        if (watches_set(i) && entry.set->is_ready_inside(nullptr)) {
          events = static_cast<short>(fds_[i].events & kReadableSet);
        }
      }
      fds_[i].revents = events;
      if (events != 0) ++ready;
    }
    return ready;
  }

  // The kernel's answer now, without waiting.
  int ask_kernel() noexcept {
    const timespec now{0, 0};
    return static_cast<int>(sys::poll(kernel_.data(), count_, &now));
  }

  bool may_be_ready() noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
      if (!entries_[i].established) continue;
      const Channel& channel = entries_[i].endpoint.channel();
      if ((fds_[i].events & (POLLIN | POLLRDNORM)) != 0 && channel.receives_from_ring() &&
          channel.may_receive()) {
        return true;
      }
      if ((fds_[i].events & (POLLOUT | POLLWRNORM | POLLWRBAND)) != 0 && channel.sends_to_ring() &&
          channel.may_send() && !channel.waits_for_socket()) {
        return true;
      }
    }
    return false;
  }

  // False if something is ready after all.
  bool arm() noexcept {
    blind_ = false;
    for (std::size_t i = 0; i < count_; ++i) {
      Entry& entry = entries_[i];
      if (watches_set(i)) {
        entry.set->add_watcher();
        ++entry.armed;
        if (entry.set->is_ready_inside(nullptr)) return false;
      }
      if (!entry.established) continue;
      Channel& channel = entry.endpoint.channel();
      if ((fds_[i].events & (POLLIN | POLLRDNORM)) == 0 && (fds_[i].events & POLLRDHUP) != 0 &&
          channel.receives_from_ring() && channel.bytes_to_read() != 0) {
        blind_ = true;  // who waits for the end alone is not told of it while there are bytes
        continue;
      }
      if ((fds_[i].events & (POLLIN | POLLRDNORM | POLLRDHUP)) != 0) {
        if (!channel.arm_data()) return false;
        ++entry.armed;
      }
      if ((fds_[i].events & (POLLOUT | POLLWRNORM | POLLWRBAND)) != 0 &&
          !channel.waits_for_socket()) {
        if (!channel.arm_space()) return false;
        ++entry.armed;
      }
    }
    return true;
  }

  void disarm() noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
      Entry& entry = entries_[i];
      if (entry.armed == 0) continue;
      for (; entry.armed != 0; --entry.armed) {
        if (entry.set) {
          entry.set->drop_watcher();
        } else {
          entry.endpoint.channel().woken();
        }
      }
      // Of many that we slept for, one woke us; the others' next writes need not ring.
      if (entry.endpoint && entry.endpoint->members.load(std::memory_order_relaxed) == nullptr) {
        entry.endpoint.channel().take_back_bells(true, true);
      }
    }
  }

  // Bells that others still have to see would end the next sleep at once.
  bool clear_bells() noexcept {
    bool clear = true;
    for (std::size_t i = 0; i < count_; ++i) {
      Entry& entry = entries_[i];
      if (!entry.established || !entry.endpoint.channel().receives_from_ring()) continue;
      Channel& channel = entry.endpoint.channel();
      if ((kernel_[i].revents & POLLIN) == 0) continue;
      LockScope lock(channel.side().receiving.lock, channel.is_exclusive());
      if (lock.hold() == Hold::nested || !channel.receives_from_ring()) continue;
      clear =
          channel.look_at_socket(entry.endpoint.fd(), Channel::Notices::leave_for_a_while) && clear;
    }
    return clear;
  }

  // A channel moved to the ring while it was looked at: prepare() knows it otherwise.
  bool has_changed() noexcept { return std::exchange(changed_, false); }
  bool others() const noexcept { return others_; }
  bool is_all_kernel() const noexcept { return !ours_; }
  bool is_blind() const noexcept { return blind_; }
  bool has_rings() const noexcept { return first_ != nullptr; }
  Channel& first() noexcept { return *first_; }
  pollfd* kernel() noexcept { return kernel_.data(); }
  std::size_t count() const noexcept { return count_; }

 private:
  static constexpr int kReadableSet = POLLIN | POLLRDNORM;  // as ep_eventpoll_poll()

  bool watches_set(std::size_t i) noexcept {
    return entries_[i].set && kernel_[i].fd == entries_[i].set->front() &&
           (fds_[i].events & kReadableSet) != 0;
  }

  pollfd* fds_;
  std::size_t count_;
  Scratch<Entry> entries_;
  Scratch<pollfd> kernel_;
  Channel* first_ = nullptr;
  bool changed_ = false;
  bool blind_ = false;
  bool others_ = false;  // something that only the kernel can answer for
  bool ours_ = false;    // something that it can't
};

}  // namespace

bool needs_rings(const pollfd* fds, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    const Slot slot = table.find(fds[i].fd);
    if (slot.kind() == Kind::endpoint) {
      if (DescriptorTable::is_id(fds[i].fd)) return true;
      const Endpoint& endpoint = *slot.as<Endpoint>();
      if (!endpoint.channel.is_plain()) return true;
    } else if (slot.kind() == Kind::epoll) {
      if (slot.as<EpollSet>()->has_members()) return true;
    }
  }
  return false;
}

int wait_for_events(pollfd* fds, std::size_t count, std::uint64_t timeout, const sigset_t* mask) {
  act_on_cancellation();
  Poll poll(fds, count);
  if (!poll.has_memory()) {
    errno = ENOMEM;
    return -1;
  }
  const std::uint64_t start = timeout != 0 && timeout != kWaitForever ? sys::now_ns() : 0;
  int naps = 0;
  int in_vain = 0;  // rounds that told nothing and slept next to nothing
  HeldSignals signals;
  for (;;) {
    poll.prepare();
    // First look. What only the kernel knows costs a call, like any poll(2) of one's own; where it
    // knows all of it, the sleep below is that call.
    if (timeout == 0 || !poll.is_all_kernel()) {
      if (timeout == 0 || poll.others() || naps != 0) {
        if (poll.ask_kernel() < 0) {
          errno = EINVAL;  // more descriptors than RLIMIT_NOFILE
          return -1;
        }
      }
      const int found_ready = poll.tell();
      if (moves_pending.load(std::memory_order_acquire)) move_pending_registrations();
      if (found_ready != 0) return found_ready;
      if (timeout == 0) {
        // do_poll() looks for signals also where it does not sleep.
        const timespec now{0, 0};
        return mask != nullptr ? real::ppoll(nullptr, 0, &now, mask) : 0;
      }
      if (poll.has_changed()) continue;
    }
    if (++in_vain > kMostInVain) {
      // What wakes us is nothing that was asked for, and stays.
      if (start != 0 && sys::now_ns() - start >= timeout) return 0;
      const timespec moment{0, kNapNs};
      signals.hold(mask);
      if (real::ppoll(nullptr, 0, &moment, mask) < 0) return -1;
    }

    bool found = false;
    if (poll.has_rings() && mask == nullptr) {
      std::uint64_t next_kernel_look = sys::now_ns() + kKernelWhileWaitingNs;
      int looks = 0;
      found = poll.first().waiter.wait(poll.first().peer_cpu(), [&] {
        if (poll.may_be_ready()) return true;
        if (!poll.others() || ++looks % 16 != 0) return false;
        const std::uint64_t now = sys::now_ns();
        if (now < next_kernel_look) return false;
        next_kernel_look = now + kKernelWhileWaitingNs;
        return poll.ask_kernel() > 0;
      });
      if (found && poll.may_be_ready()) continue;
      if (found) {
        if (const int ready = poll.tell(); ready != 0) return ready;
      }
    }

    // Sleep. Old bells first, so that it lasts.
    signals.hold(mask);
    if (naps != 0 && !poll.clear_bells()) {
      const timespec moment{0, kNapNs};
      if (real::ppoll(nullptr, 0, &moment, mask) < 0) return -1;
      ++naps;
      continue;
    }
    if (!poll.arm()) {
      poll.disarm();
      continue;
    }
    TSSX_FAULT_POINT(poll_armed);
    std::uint64_t rest = kWaitForever;
    if (start != 0) {
      const std::uint64_t gone = sys::now_ns() - start;
      rest = gone < timeout ? timeout - gone : 0;
    }
    // Another thread can take the cut to the ring, or a bell, off a socket that we sleep on.
    if (__libc_single_threaded == 0) rest = std::min(rest, kSharedSleepNs);
    if (poll.is_blind()) rest = std::min(rest, 20 * kNapNs);
    const timespec left = sys::timespec_of(rest);
    // Nobody asks how long the kernel's own wait was, unless it ends again and again for nothing.
    const bool timed = !poll.is_all_kernel() || naps != 0;
    const std::uint64_t asleep = timed ? sys::now_ns() : 0;
    const int woken =
        real::ppoll(poll.kernel(), poll.count(), rest != kWaitForever ? &left : nullptr, mask);
    TSSX_FAULT_POINT(poll_slept);
    poll.disarm();
    const std::uint64_t slept = timed ? sys::now_ns() - asleep : 0;
    if (poll.has_rings()) poll.first().waiter.note_sleep(slept);
    if (slept > 20 * kNapNs) in_vain = 0;
    if (woken < 0) return -1;
    const int ready = poll.tell();
    if (moves_pending.load(std::memory_order_acquire)) move_pending_registrations();
    if (ready != 0) return ready;
    if (start != 0 && sys::now_ns() - start >= timeout) return 0;
    ++naps;
  }
}

}  // namespace tssx
