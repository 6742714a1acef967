// Epoll sets whose members may run over rings.
//
// A member that we know (a Unix stream socket or one of our endpoints) is registered in the kernel
// with a tag of ours; the application's data is put back when an event is told. While its channel
// is plain kernel bytes, the kernel's answer is simply translated. Once the channel is established
// the kernel's registration becomes edge-triggered on the control socket (a bell, a hang-up), and
// the member is either
//
//   hot   on the set's check list: its ring is looked at by every epoll_wait, no bell is asked for
//   cold  armed: a bell will make it hot again
//
// so a call costs O(hot), and idle members nothing. Everything else in the set is the kernel's.
//
// Thread safety: a lock per set, one per endpoint's list of members (taken in the order endpoint,
// set); neither is held asleep. Not to be called from signal handlers that interrupt an epoll call.
#pragma once

#include <signal.h>
#include <sys/epoll.h>
#include <sys/single_threaded.h>

#include <atomic>
#include <cstdint>

#include "core/robust_lock.h"
#include "core/wakeup.h"
#include "shim/epoll_member.h"
#include "shim/pool.h"

namespace tssx {

// What the kernel tells unasked.
inline constexpr std::uint32_t kAlways = EPOLLHUP | EPOLLERR;
inline constexpr std::uint32_t kEnds = EPOLLHUP | EPOLLRDHUP | EPOLLERR;
inline constexpr std::uint32_t kReadable = EPOLLIN | EPOLLRDNORM;
inline constexpr std::uint32_t kWritable = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;

inline bool is_exclusive_process() noexcept { return __libc_single_threaded != 0; }

class EpollSet {
 public:
  int control(int epfd, int operation, int fd, epoll_event* event) noexcept;
  // As epoll_pwait2(2); timeout in nanoseconds, kForever for none.
  int wait(int epfd, epoll_event* events, int maximum, std::uint64_t timeout, const sigset_t* mask);
  // The kernel answered a wait that began before the set had members of ours: translates that in
  // place. 0 if nothing of it was for the application.
  int translate(epoll_event* events, int count) noexcept;
  // Has the set ever had a member of ours? From then on the kernel may tell of our tags.
  bool has_members() const noexcept { return used_.load(std::memory_order_acquire); }
  // Somebody waits for the set itself (poll, another set): is it ready? If not, all is armed.
  bool prepare_foreign_wait() noexcept;
  void set_nested() noexcept { nested_ = true; }

  static constexpr std::uint64_t kForever = ~std::uint64_t{0};

  std::atomic<std::uint32_t> taken;
  std::atomic<std::uint32_t> descriptors;

 private:
  friend void detach_endpoint(Endpoint& endpoint) noexcept;
  friend void move_registrations(Endpoint& endpoint) noexcept;
  friend void adopt_registrations(int fd, Endpoint& endpoint) noexcept;
  friend void look_again(void* endpoint) noexcept;
  friend EpollSet* open_set(int epfd) noexcept;
  friend void drop_set(EpollSet* set) noexcept;
  friend void lock_sets() noexcept;
  friend void unlock_sets() noexcept;
  friend void reset_sets() noexcept;

  Member* find(int fd) noexcept;
  int add(int epfd, int fd, epoll_event* event) noexcept;
  int modify(Member& member, epoll_event* event) noexcept;
  int remove(int epfd, Member& member) noexcept;
  void forget(Member& member) noexcept;
  int register_in_kernel(int operation, Member& member) noexcept;
  void make_hot(Member& member) noexcept;
  void make_cold(Member& member) noexcept;
  std::uint32_t look(Member& member, bool report) noexcept;
  int harvest(epoll_event* events, int maximum) noexcept;
  bool arm_all() noexcept;
  bool hot_may_be_ready() noexcept;
  int collect(const epoll_event* found, int count, epoll_event* events) noexcept;
  int ask_kernel(int epfd, epoll_event* events, int maximum, std::uint64_t timeout,
                 const sigset_t* mask);
  int sleep_in_kernel(int epfd, epoll_event* found, int room, std::uint64_t timeout,
                      const sigset_t* mask);
  void leave() noexcept;
  int control_locked(int epfd, int operation, int fd, epoll_event* event) noexcept;
  void prepare_kick() noexcept;
  void kick() noexcept;
  void nudge() noexcept;
  void heed(std::uint64_t word) noexcept;
  void look_at_all() noexcept;

  RobustLock lock_;
  std::atomic<bool> used_;
  std::atomic<std::uint32_t> hot_count_;
  std::atomic<std::uint32_t> sleepers_;  // threads inside the kernel's epoll_wait
  Member* members_;
  Member* hot_first_;
  Member* hot_last_;
  int fd_;       // of the set
  int kick_fd_;  // an eventfd in the set that wakes its sleepers; -1 until needed
  bool nested_;
  // Calls in a row that found something in the rings and nothing in the kernel. A few of them, and
  // the kernel is asked by the clock only.
  std::uint64_t seen_attention_;
  std::uint32_t busy_calls_;
  std::uint64_t last_kernel_look_;
  Waiter waiter_;
};

// Every set of the process, for those who visit them all.
extern Pool<EpollSet, 16, 1024> sets;

// Moves whenever bells were consumed outside of the sets: see look_again().
extern std::atomic<std::uint64_t> attention;

EpollSet* open_set(int epfd) noexcept;
void drop_set(EpollSet* set) noexcept;

// The endpoint's last descriptor in this process is going.
void detach_endpoint(Endpoint& endpoint) noexcept;
// The channel became established, or plain again.
void move_registrations(Endpoint& endpoint) noexcept;
// connect() made an endpoint of a socket that may be in sets already.
void adopt_registrations(int fd, Endpoint& endpoint) noexcept;
// Bells of this Endpoint were consumed by a read or a poll.
void look_again(void* endpoint) noexcept;

// Around fork().
void lock_sets() noexcept;
void unlock_sets() noexcept;
void reset_sets() noexcept;

}  // namespace tssx
