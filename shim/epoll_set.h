// Epoll sets whose members may run over rings.
//
// A member that we know (a Unix stream socket, one of our endpoints, another set) is registered in
// the kernel with a tag of ours; the application's data is put back when an event is told. While
// its channel is plain kernel bytes, the kernel's answer is simply translated. Once the channel is
// established the kernel's registration becomes edge-triggered on the control socket (a bell, a
// hang-up), and the member is either
//
//   hot   on the set's check list: its ring is looked at by every epoll_wait, no bell is asked for
//   cold  armed: a bell will make it hot again
//
// so a call costs O(hot), and idle members nothing. Everything else in the set is the kernel's.
//
// A set that somebody waits for from outside (poll(), another set) gets a *front*: a kernel set of
// ours that holds our registrations and the application's set. So the application's set is
// readable for the application's reasons alone, and the front wakes for ours as well.
//
// Thread safety: a lock per set, one per owner's list of members (taken in the order owner, set,
// inner set); none is held asleep. Not to be called from signal handlers that interrupt an epoll
// call on the same set.
#pragma once

#include <signal.h>
#include <sys/epoll.h>
#include <sys/single_threaded.h>

#include <atomic>
#include <cstdint>

#include "core/robust_lock.h"
#include "core/wakeup.h"
#include "shim/endpoint.h"
#include "shim/epoll_member.h"
#include "shim/pool.h"

namespace tssx {

class Channel;

// What the kernel tells unasked.
inline constexpr std::uint32_t kAlways = EPOLLHUP | EPOLLERR;
inline constexpr std::uint32_t kEnds = EPOLLHUP | EPOLLRDHUP | EPOLLERR;
inline constexpr std::uint32_t kReadable = EPOLLIN | EPOLLRDNORM;
inline constexpr std::uint32_t kWritable = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;

// So many looks in a row after which nothing is expected to be written by other threads.
inline constexpr std::uint32_t kQuietForGood = 10;

inline bool is_exclusive_process() noexcept { return __libc_single_threaded != 0; }

class EpollSet {
 public:
  int control(int epfd, int operation, int fd, epoll_event* event) noexcept;
  // As epoll_pwait2(2); timeout in nanoseconds, kForever for none.
  int wait(epoll_event* events, int maximum, std::uint64_t timeout, const sigset_t* mask);
  // The same for a set without members of ours, which may get some meanwhile.
  int wait_unused(epoll_event* events, int maximum, std::uint64_t timeout, const sigset_t* mask);
  // May the kernel tell of tags of ours? Once true, for ever.
  bool has_members() const noexcept;
  // Will nobody but the caller put any into it before the caller's next call?
  bool stays_unused() const noexcept {
    return is_exclusive_process() && !has_members() && front() < 0 && custody_ == nullptr;
  }

  // --- for who waits for the set itself ---

  // Gives the set its front. Where that can't be had, its members go back to the kernel.
  void enter_front() noexcept;
  // What to sleep on instead of the set.
  int front() const noexcept { return front_fd_.load(std::memory_order_acquire); }
  // Would epoll_wait() tell something now? If not, whatever changes that makes front() readable.
  // `arrivals` moves with whatever may be news, for who reports edges.
  bool is_ready_inside(std::uint64_t* arrivals) noexcept;
  // Counts who is about to sleep on front(); is_ready_inside() comes after it.
  void add_watcher() noexcept { watchers_.fetch_add(1, std::memory_order_seq_cst); }
  void drop_watcher() noexcept { watchers_.fetch_sub(1, std::memory_order_seq_cst); }
  // Has another process used the set? Then its members are the kernel's from now on.
  void look_for_other_users() noexcept { is_kept_here(false); }

  static constexpr std::uint64_t kForever = ~std::uint64_t{0};

  std::atomic<std::uint32_t> taken;
  std::atomic<std::uint32_t> descriptors;

 private:
  friend class EpollSetRef;
  friend class SetStay;
  friend void detach_endpoint(Endpoint& endpoint) noexcept;
  friend void move_registrations(Endpoint& endpoint) noexcept;
  friend void move_registrations(int from, int to) noexcept;
  friend void adopt_registrations(int fd, Endpoint& endpoint) noexcept;
  friend void look_again(void* endpoint) noexcept;
  friend void note_shutdown(Endpoint& endpoint) noexcept;
  friend void tell_write(Endpoint& endpoint) noexcept;
  friend void push_poked(Member& member) noexcept;
  friend void poke(Member& member) noexcept;
  friend void poke_all() noexcept;
  friend EpollSet* open_set(int epfd) noexcept;
  friend void drop_set(EpollSet* set) noexcept;
  friend void keep_for_waiters(EpollSet& set, int epfd) noexcept;
  friend void lock_sets() noexcept;
  friend void unlock_sets() noexcept;
  friend void reset_sets() noexcept;

  // members (epoll_set.cc)
  struct Owner {  // what a number means: one of the two, or neither
    Endpoint* endpoint;
    EpollSet* inner;
  };
  static RobustLock* lock_of(const Owner& owner) noexcept;
  int control_locked(int epfd, int operation, int fd, const Owner& owner,
                     epoll_event* event) noexcept;
  int control_in_kernel(int epfd, int operation, int fd, epoll_event* event) noexcept;
  Member* find(int fd, const Owner& owner) noexcept;
  int add(int fd, const Owner& owner, epoll_event* event) noexcept;
  int modify(Member& member, epoll_event* event) noexcept;
  int remove(Member& member) noexcept;
  void link(Member& member) noexcept;
  void unlink_loose(Member& member) noexcept;
  void forget(Member& member) noexcept;
  void forget_all() noexcept;
  template <class Visit>
  void take_members(Visit&& visit) noexcept;
  void drop_reference() noexcept;
  int number() noexcept;

  // what the kernel knows of a member (epoll_register.cc)
  int register_first(Member& member) noexcept;
  int register_again(Member& member) noexcept;
  int unregister(Member& member) noexcept;
  void give_back(Member& member, bool reachable) noexcept;
  static bool is_reachable(const Member& member) noexcept;
  static int socket_of(Member& member) noexcept;
  bool should_manage(const Member& member) const noexcept;
  void settle_mode(Member& member) noexcept;
  void follow_number(int from, int to) noexcept;

  // readiness (epoll_ready.cc)
  void make_hot(Member& member) noexcept;
  void make_cold(Member& member) noexcept;
  void rest(Member& member) noexcept;
  void end_rest(Member& member) noexcept;
  void end_rests() noexcept;
  std::uint32_t look(Member& member, bool report) noexcept;
  std::uint32_t look_at_endpoint(Member& member, bool report) noexcept;
  std::uint32_t look_at_set(Member& member, bool report) noexcept;
  int harvest(epoll_event* events, int maximum) noexcept;
  bool has_nothing_to_tell(Member& member) noexcept;
  bool arm_all() noexcept;
  bool hot_may_be_ready() noexcept;
  void look_at_all() noexcept;
  void take_poked() noexcept;
  void heed(std::uint64_t word) noexcept;

  // edges of room (epoll_room.cc)
  static bool wants_room_edges(const Member& member) noexcept;
  void note_room(Member& member) noexcept;
  void drop_room(Member& member) noexcept;
  void look_after_room(bool all) noexcept;
  std::uint64_t room_bound() const noexcept;
  bool has_room_to_watch() const noexcept;
  static bool ask_for_room(Member& member) noexcept;

  // waiting (epoll_wait.cc)
  int collect(const epoll_event* found, int count, epoll_event* events) noexcept;
  void take_tag(const epoll_event& event) noexcept;
  int ask_kernel(epoll_event* events, int maximum, const sigset_t* mask);
  int take_turn(epoll_event* events, int maximum, std::uint64_t now) noexcept;
  bool spin(epoll_event* events, int maximum, bool turn, int* count) noexcept;
  int look_in_kernel(int fd, epoll_event* events, int maximum, const sigset_t* mask);
  int tell(const epoll_event* found, int count, epoll_event* events, int maximum) noexcept;
  bool drain_front() noexcept;
  void tell_outside() noexcept;
  bool is_readable_itself() noexcept;
  void prepare_kick() noexcept;
  void renew_kick() noexcept;
  void kick() noexcept;
  void nudge() noexcept;
  void call_in(bool last) noexcept;
  void take_kick_out() noexcept;
  void leave() noexcept;
  void wake_for_change() noexcept;

  // several processes (epoll_share.cc)
  bool is_keeper() const noexcept;
  bool is_kept_here(bool claim) noexcept;
  void surrender() noexcept;
  void share() noexcept;  // gives the set a word that the child of a fork will share
  void find_tags(int epfd) noexcept;

  RobustLock lock_;
  std::atomic<std::uint32_t> references_;  // 1 for all descriptors, 1 for each call under way
  std::atomic<bool> used_;
  std::atomic<std::uint32_t> hot_count_;
  std::atomic<std::uint32_t> sleepers_;      // threads inside the kernel's epoll_wait
  std::atomic<std::uint32_t> set_sleepers_;  // of them, those asleep in the set, not in its front
  std::atomic<std::uint32_t> watchers_;      // threads asleep in a poll() that holds the set
  Member* members_;
  Member* loose_;  // members that are sockets not connected yet; by next_of_owner
  Member* hot_first_;
  Member* hot_last_;
  Member* rest_first_;  // by next_hot
  std::atomic<Member*> poked_;
  std::atomic<Member*> room_first_;  // members to be looked at for room, by the time when
  Member* room_last_;
  std::atomic<bool> wrote_;                 // a cold member was written to since the last look
  std::atomic<std::uint32_t> quiet_looks_;  // in a row at which nothing had been written
  std::atomic<std::uint32_t> soon_;  // of the sleepers, those that wake by themselves before long
  int fd_;                           // a number of the set
  // An eventfd that wakes the set's sleepers; 0 until needed. It stays with this object when the
  // set is closed, so that whoever still means to write to it never hits another file.
  alignas(8) std::atomic<int> kick_fd_;
  bool kick_in_set_;
  bool kick_in_front_;
  alignas(8) std::atomic<int> front_fd_;
  // The set for calls that are under way when its last number is closed; -1 otherwise.
  alignas(8) std::atomic<int> kept_fd_;
  std::uint64_t arrivals_;  // moves with whatever may be news for who waits from outside
  // This set as a member of others; guarded by memberships_lock_.
  std::atomic<Member*> memberships_;
  RobustLock memberships_lock_;
  // Which process keeps the members, in memory that forked processes share; null before a fork.
  std::atomic<std::uint64_t>* custody_;
  std::atomic<bool> surrendered_;  // all members are the kernel's, for good
  EpollSet* next_locked_;          // in the list of the thread that forks
  std::atomic<std::uint64_t> seen_attention_;
  // Calls in a row that found something in the rings and nothing in the kernel. A few of them, and
  // the kernel is asked by the clock only.
  std::atomic<std::uint32_t> busy_calls_;
  std::atomic<bool> kernel_first_;  // the rings left no place for the kernel's events last time
  std::atomic<std::uint64_t> last_kernel_look_;
  Waiter waiter_;
};

// Keeps a set alive for the length of a call, also when another thread closes it.
class EpollSetRef {
 public:
  EpollSetRef() noexcept = default;
  explicit EpollSetRef(int epfd) noexcept;
  EpollSetRef(EpollSetRef&& other) noexcept : set_(other.set_) { other.set_ = nullptr; }
  EpollSetRef(const EpollSetRef&) = delete;
  EpollSetRef& operator=(const EpollSetRef&) = delete;
  EpollSetRef& operator=(EpollSetRef&& other) noexcept;
  ~EpollSetRef() { reset(); }

  explicit operator bool() const noexcept { return set_ != nullptr; }
  EpollSet* operator->() const noexcept { return set_; }
  EpollSet& operator*() const noexcept { return *set_; }

 private:
  void reset() noexcept;
  EpollSet* set_ = nullptr;
};

// Every set of the process, for those who visit them all.
extern Pool<EpollSet, 16, 1024> sets;

// Moves when bells were consumed whose members could not be told: see look_again().
extern std::atomic<std::uint64_t> attention;

EpollSet* open_set(int epfd) noexcept;
// The descriptor `epfd` of the set is about to be closed. If it is the last, and threads wait in
// the set, they go on waiting, as in the kernel, where a call holds the file: keeps a hidden
// duplicate until the last of them is done.
void keep_for_waiters(EpollSet& set, int epfd) noexcept;
// One of its descriptors is going.
void drop_set(EpollSet* set) noexcept;

// Lists a member whose bell, or whose set's front, was emptied by somebody else.
void poke(Member& member) noexcept;
// The same, without waking anybody for it.
void push_poked(Member& member) noexcept;
// The same where it can't be told which members are concerned.
void poke_all() noexcept;

// The endpoint's last descriptor in this process is going.
void detach_endpoint(Endpoint& endpoint) noexcept;
// shutdown(2) of this end: an edge to every registration (unix_shutdown(): sk_state_change()).
void note_shutdown(Endpoint& endpoint) noexcept;
// The channel became established, or plain again.
void move_registrations(Endpoint& endpoint) noexcept;
// A hidden descriptor has a second number, and loses the first: so do its registrations.
void move_registrations(int from, int to) noexcept;
// As for one endpoint, for every one of which a look found that out under a lock of a set.
extern std::atomic<bool> moves_pending;
void move_pending_registrations() noexcept;
// connect() made an endpoint of a socket that may be in sets already.
void adopt_registrations(int fd, Endpoint& endpoint) noexcept;
// Bells of this Endpoint were consumed by a read or a poll.
void look_again(void* endpoint) noexcept;

// Bytes went into the ring of an endpoint. Who waits for edges of room will have to look at it.
void tell_write(Endpoint& endpoint) noexcept;
inline void note_write(Endpoint& endpoint) noexcept {
  // seq_cst: against note_room(), which looks at the ring after it has set the flag.
  if (endpoint.tells_writes.load(std::memory_order_seq_cst)) tell_write(endpoint);
}

// Around fork().
void lock_sets() noexcept;
void unlock_sets() noexcept;
void reset_sets() noexcept;
void forget_shared_words() noexcept;

}  // namespace tssx
