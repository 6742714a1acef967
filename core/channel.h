// One endpoint of a connection: two directions, each in the kernel or in a ring, and the way
// between the two.
//
// Its parts: channel.cc (set-up and end, processes), channel_hold.cc (processes that are gone),
// channel_rendezvous.cc (the way to the ring), channel_notices.cc (our messages among the bytes),
// channel_ring.cc (bytes), channel_wait.cc (bells and sleepers), channel_leave.cc (the way back),
// channel_end.cc (where a ring ends), channel_resume.cc (what a killed process had begun),
// channel_state.cc (answers to questions).
//
// A Channel never blocks. Its calls try once and say what happened; whoever wants to wait arms it,
// sleeps on the control socket, and tries again:
//
//     Outcome got = channel.receive(fd, parts, count, Peek::no);
//     if (got.status == Status::would_block && channel.arm_data()) -> sleep on fd, then retry
//
// Thread safety: any number of threads, and of processes of one fork family. open() and close()
// need the caller to be the only user.
// May be called from: signal handlers too (no malloc, no stdio, locks that know their own thread);
// in the child after fork, once forked() has run in both.
//
// Invariants:
//  1. Bytes on the control socket before a cut are data, after it they are bells.
//  2. Positions that matter live in the Side, which the peer can't write. What the peer does write
//     is read once, checked against the capacity, and ends the connection if it makes no sense.
//  3. sending.mode == kernel after it was ring implies kWantKernel on the other direction: a side
//     that can't send bells asks for none.
//  4. A producer sleeps only while more than half of the ring is in use, so a consumer need look
//     for sleepers only once per half ring (see publish_tail).
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "core/layout.h"
#include "core/rendezvous.h"
#include "core/segment.h"
#include "core/side.h"
#include "core/socket_sleep.h"
#include "core/wakeup.h"

namespace tssx {

enum class Status {
  done,         // `bytes` moved, > 0 unless the request was empty
  would_block,  // nothing to read, or no space
  end_of_file,  // the peer will send no more
  failed,       // `error`: ECONNRESET once, EPIPE, EFAULT
  kernel        // this direction runs over the control socket: use the system call
};

struct Outcome {
  Status status;
  std::size_t bytes = 0;
  int error = 0;
};

enum class Peek { no, yes };

// Where the next bytes of a sender go, that are not the ring's.
enum class Route {
  ring,    // this direction is in the ring
  kernel,  // by the system call
  wait,    // behind others, for which the socket has no room: POLLOUT tells when it has
  ended    // nowhere: EPIPE. shutdown(2) has yet to reach the socket, behind those others
};

struct ChannelOrigin {
  Role role;
  Nonce nonce;
  const char* path = nullptr;  // server: the listening socket's name
  std::uint32_t path_length = 0;
};

class Channel {
 public:
  // A candidate. False without memory: then the connection stays with the kernel.
  bool open(const ChannelOrigin& origin) noexcept;
  // This process's last descriptor for the endpoint is about to be closed. No other call follows.
  void close() noexcept;
  // Marks this process's hold as gone at exit, keeping the mappings for threads still at work.
  void abandon() noexcept;

  // Nothing of ours will ever travel on this connection again: plain system calls do.
  bool is_plain() const noexcept { return side_->state.plain.load(std::memory_order_acquire) != 0; }
  bool receives_from_ring() const noexcept {
    return side_->receiving.mode.load(std::memory_order_acquire) ==
           static_cast<std::uint32_t>(Mode::ring);
  }
  // The peer's cut to the kernel: behind it the socket brings data. There may be bytes before it in
  // the ring.
  bool has_read_cut() const noexcept {
    return side_->receiving.cut.load(std::memory_order_relaxed) != 0;
  }
  bool sends_to_ring() const noexcept {
    return side_->sending.mode.load(std::memory_order_acquire) ==
           static_cast<std::uint32_t>(Mode::ring);
  }
  // Both ends have mapped the segment: readiness no longer follows from the control socket alone.
  bool is_established() const noexcept {
    return view_.page != nullptr &&
           (receives_from_ring() || sends_to_ring() || phase() == Phase::established || has_rest());
  }
  // This direction went back to the kernel, and what the peer had left in the ring is still on its
  // way there: the socket has no room. It goes before anything else that is sent, shutdown(2) too.
  // Each call on the endpoint sends on (help_sending()); who sleeps on the socket has to wait for
  // POLLOUT as well.
  bool has_rest() const noexcept {
    const std::uint32_t unfinished = side_->sending.unfinished.load(std::memory_order_acquire);
    return (unfinished == kSendingAgain || unfinished == kSendingPart) && !sends_to_ring();
  }
  // Stays with the kernel, and never was in the ring.
  bool is_retired() const noexcept {
    return phase() == Phase::retired && !receives_from_ring() && !sends_to_ring() &&
           side_->sending.left.load(std::memory_order_relaxed) == 0;
  }
  // Is to be back for good in both directions, some time.
  bool will_stay_in_kernel() const noexcept { return phase() == Phase::retired; }
  // Went back for good in both directions: what still comes of ours changes nothing.
  bool is_back() const noexcept {
    return phase() == Phase::retired && !receives_from_ring() && !sends_to_ring() &&
           side_->receiving.cut.load(std::memory_order_relaxed) != 0 && !has_rest();
  }
  // Somebody had to go by the kernel, and there was no room for the cut: only the socket says when
  // to try again, however much room there is in the ring.
  bool waits_for_socket() const noexcept {
    return side_->sending.unfinished.load(std::memory_order_relaxed) == kAwaitingRoom &&
           sends_to_ring();
  }
  Role role() const noexcept { return role_; }
  const Nonce& nonce() const noexcept { return nonce_; }
  Side& side() noexcept { return *side_; }
  const SegmentView& view() const noexcept { return view_; }
  // One thread in one process uses this endpoint, so sleeping may consume bells.
  bool is_exclusive() const noexcept;

  // --- bytes through the ring ---

  Outcome receive(int fd, const iovec* parts, std::size_t count, Peek peek) noexcept;
  // `is_told`: somebody else, such as an epoll set, is told by the kernel when the peer is killed.
  Outcome send(int fd, const iovec* parts, std::size_t count, std::size_t skip,
               bool is_told = false) noexcept;
  // For who found nothing to receive and is not going to wait, which would tell: was the peer
  // killed? Asks the socket now and then. True: receive again.
  bool look_for_end(int fd, bool is_told) noexcept;

  // --- bytes through the kernel, while notices may be among them ---

  // To be called with what recvmsg(2) returned (>= 0) and its control data: handles our notices.
  // Returns the application's bytes; *notice is true if the last byte was ours. Descriptors that
  // the notice carried are closed; the application's stay in the control data.
  // A peek needs one byte more room than the application asked for: a MSG_PEEK that fills its room
  // also reports the descriptors of later messages. Whatever lands in that byte is dropped.
  [[gnu::cold]] std::size_t inspect(int fd, msghdr& message, std::size_t received, Peek peek,
                                    bool* notice) noexcept;
  // The control socket's answer in kernel mode: is ECONNRESET the application's business?
  bool is_own_reset() const noexcept;
  // The control socket's poll(2) or epoll events of a connection that has not moved, without the
  // error of a reset that is none of the application's.
  std::uint32_t without_own_reset(std::uint32_t events) const noexcept {
    return (events & POLLERR) != 0 && is_own_reset() ? events & ~std::uint32_t{POLLERR} : events;
  }
  // Before a kernel send: offers, or cuts to the ring, when the time has come. With Route::kernel
  // the caller counts as a kernel sender until it says after_kernel_send().
  Route before_kernel_send(int fd) noexcept;
  void after_kernel_send(long sent) noexcept;
  // The same before a message that has to go by the kernel: one with ancillary data, or MSG_OOB.
  // Where the direction is in the ring: step_aside() or retire() first.
  [[gnu::cold]] Route before_ancillary_send(int fd) noexcept;
  // After a receive by the kernel that found the end, or ECONNRESET: a peer that was killed while
  // it left the ring may not have sent again all that was in it. True: this direction is in the
  // ring once more, and the end comes behind the rest.
  [[gnu::cold]] bool takes_rest_from_ring(int fd) noexcept;
  // After a receive by the kernel: a server that only reads offers by itself; a client that only
  // writes looks for an offer.
  [[gnu::cold]] void note_receive(int fd) noexcept;
  [[gnu::cold]] void look_for_offer(int fd) noexcept;
  // Is there anything on the socket but a notice? Consumes leading notices of a candidate.
  [[gnu::cold]] bool settle(int fd) noexcept;
  // The same with the receiving lock held. What is next on the socket now?
  enum class Front { nothing, notice, application };
  // What to do with a message of ours for which somebody else sleeps on the socket. Whoever sleeps
  // there has been woken by it, but may not have looked yet; once it is gone he would sleep on.
  enum class Notices {
    take_all,
    leave_to_sleepers,
    leave_for_a_while  // who has not looked after half a second was killed (has_sleepers())
  };
  Front settle_locked(int fd, Notices which) noexcept;
  // The same lock. May the peer's cut to the ring come with the next bytes? Then what is read is
  // to end before it, and settle_locked() takes it.
  bool expects_cut() const noexcept;
  // The same lock: does again what somebody had begun with it who was killed.
  [[gnu::cold]] void finish_receiving(int fd) noexcept;

  // --- waiting ---

  // Asks the peer for a bell with the next byte, or with space; the caller looks again afterwards.
  void announce(bool for_data, bool for_space) noexcept;
  // After a sleep: takes back what announce() asked for and nobody rang for, so that the peer's
  // next write needs no system call. Only where this thread's sleep was the only one that relied on
  // it: the caller knows of no epoll set (but its own) that the endpoint is in. Does nothing where
  // more than this thread may use the endpoint.
  void take_back_bells(bool of_data, bool of_space) noexcept;
  // Asks it for a bell with whatever it reads next, also while half of the ring is free. It need
  // not make a fence there, so the caller looks again afterwards and once more after a while. Holds
  // until forget_reads() is called after a read.
  void ask_for_reads() noexcept;
  void forget_reads() noexcept;
  // So many bells may lie on the socket that it should be drained before it is full: a full one
  // takes no further bell, and an edge-triggered waiter would not notice.
  bool has_old_bells() const noexcept {
    return bells_owed_.load(std::memory_order_relaxed) >= kOldBells;
  }
  // The peer's cut to the kernel is on the socket, or about to be.
  bool peer_is_leaving() const noexcept;
  // Announces a sleeper. False if there is something to do already (then nothing is armed).
  bool arm_data() noexcept;
  bool arm_space() noexcept;
  // After the sleep, however it ended.
  void woken() noexcept;
  // Does anybody sleep on the socket who should see what lies there? Not counted are those that had
  // long enough to: they were killed in their sleep, or left it by siglongjmp.
  bool has_sleepers() noexcept;
  // Handles what a consuming recvmsg(2) in a sleep returned: bells, a cut, or the hang-up.
  void absorb(int fd, long received, const msghdr& message) noexcept;
  // Looks at the control socket without blocking: drains bells, notices a cut or a hang-up.
  // False if bells were left for other sleepers to see. Called with the receiving lock.
  bool look_at_socket(int fd, Notices which) noexcept;
  void poll_hang_up(int fd) noexcept;

  // Cheap looks for a waiting loop; they touch shared memory only.
  bool may_receive() const noexcept;
  bool may_send() const noexcept;
  std::uint32_t peer_cpu() const noexcept;
  // Would a message of so many bytes go whole, without waiting?
  bool has_room(int fd, std::size_t size) const noexcept;

  // POLLIN, POLLOUT, POLLRDHUP, POLLHUP, POLLERR as unix_poll() of the kernel would give, for the
  // directions that run in the ring; `socket_events` is the control socket's own answer, used for
  // the rest.
  short readiness(int fd, short socket_events) noexcept;

  // FIONREAD: the ring's bytes, and those of the socket that are the application's.
  std::uint64_t bytes_waiting(int fd) noexcept;
  std::uint64_t bytes_to_read() const noexcept;  // in the ring
  std::uint64_t bytes_unread() const noexcept;   // SIOCOUTQ
  std::uint64_t head_seen() const noexcept;      // of the incoming ring: moves with every arrival
  std::uint64_t tail_seen() const noexcept;      // of the outgoing ring: moves with every departure
  int pending_error(bool consume) noexcept;      // SO_ERROR
  // What pending_error() consumed was not told after all.
  void keep_error() noexcept { side_->state.reset_reported.store(0, std::memory_order_relaxed); }
  // The control socket told the application of the reset.
  void note_reset_told() noexcept {
    side_->state.reset_reported.store(1, std::memory_order_relaxed);
  }

  // --- control ---

  void shutdown(int fd, bool reading, bool writing) noexcept;
  // The control socket is about to be shut down: the peer is to know that it isn't closed.
  void note_shutdown(bool reading, bool writing) noexcept;
  // Takes both directions back to the kernel, in order and without loss. False if the peer's queue
  // is full at the moment: try again.
  bool leave_ring(int fd) noexcept;
  // The same for a while: a message has to go by the kernel. The connection comes back to the ring
  // when no other such message has come for some time.
  [[gnu::cold]] void step_aside(int fd) noexcept;
  // Sends what has_rest() tells of, as far as the socket has room. Does nothing under a lock that
  // is this thread's own.
  void help_sending(int fd) noexcept;
  // Has the peer's end another holder, or is there a rest? Then whoever is about to close the last
  // descriptor calls the next one first.
  bool peer_has_left() const noexcept {
    return view_.page != nullptr && !is_plain() &&
           ((out().data_wait.word.load(std::memory_order_acquire) & kFrozen) != 0 || has_rest());
  }
  // Sends what the peer has left in the ring, and waits for room that long; what has not gone by
  // then is lost. Takes a last message of the peer's that nobody has read, of which its next holder
  // would be told as a reset.
  [[gnu::cold]] void finish_with_leaver(int fd, std::uint64_t nanoseconds) noexcept;
  // Another program takes over the descriptor: it must find nothing but data on the socket, also
  // what the peer has written to the ring already. Needs no answer from the peer. Who does it for
  // several endpoints, of which some may be the ends of one connection, freezes all of them first.
  void freeze(int fd) noexcept;
  void leave_for_good(int fd) noexcept;
  // If the peer has left for good, sends again what it left in the ring. Any call on the endpoint
  // does; but who waits for the new holder of the peer's end makes none, if both ends were its own.
  void follow_leaver(int fd) noexcept;
  // After leave_for_good(): plain calls alone, also where an offer may still come.
  void stop_looking() noexcept { side_->state.plain.store(1, std::memory_order_release); }
  // The application wants something a ring can't do: never move (or move back).
  [[gnu::cold]] void retire(int fd) noexcept;
  void prepare_fork() noexcept;  // counts the child as a holder
  void undo_fork() noexcept;
  // Around a fork, in both processes: makes this process's hold one that the kernel knows of, so
  // that the others learn of its end however it comes (exit, exec, a signal). See channel_hold.cc.
  void lock_hold(int fd) noexcept;
  void forget_lock() noexcept { hold_is_locked_.store(false, std::memory_order_relaxed); }
  // Before a descriptor of the endpoint is closed, which ends the lock, and maybe not the hold.
  void unlock_hold() noexcept {
    if (hold_is_locked_.load(std::memory_order_relaxed)) drop_lock();
  }
  // Called with every use: moves back to the kernel when processes use the endpoint in turn.
  void note_user(int fd) noexcept {
    if (side_->user.load(std::memory_order_relaxed) != process_id()) hand_over(fd);
  }

  // --- for tssx-stat ---

  // Why this side leaves the ring or stays out of it; the first reason is kept. `detail`: an errno.
  void note_reason(Reason reason, int detail = 0) noexcept;
  // A message is about to go by the kernel, and the direction with it.
  void note_aside() noexcept;
  void note_negative() noexcept { side_->record.negative.store(1, std::memory_order_relaxed); }
  SideCounts& counts() noexcept { return side_->counts; }

  // Called whenever bells were consumed outside an epoll set, so that sets look again.
  void (*on_bells)(void* context) = nullptr;
  void* on_bells_context = nullptr;
  Waiter waiter;
  // Whoever sleeps in recvmsg(2) for bells, or for bytes by the kernel, and has the endpoint for
  // itself.
  SocketSleep asleep;

 private:
  friend struct ChannelTestAccess;

  Direction& in() const noexcept { return view_.page->direction[incoming(role_)]; }
  Direction& out() const noexcept { return view_.page->direction[outgoing(role_)]; }
  const std::uint8_t* in_data() const noexcept { return view_.data(incoming(role_)); }
  std::uint8_t* out_data() const noexcept { return view_.data(outgoing(role_)); }
  Phase phase() const noexcept {
    return static_cast<Phase>(side_->phase.load(std::memory_order_acquire));
  }
  void set_phase(Phase phase) noexcept {
    side_->phase.store(static_cast<std::uint32_t>(phase), std::memory_order_release);
  }
  void tell_holders(std::uint32_t holders) noexcept;
  void note_plain(int fd) noexcept;
  void note_retired(int fd) noexcept;
  bool readable_bytes(std::uint64_t tail, std::uint64_t* available) noexcept;
  [[gnu::cold]] Outcome at_end_of_ring(int fd) noexcept;
  // Tells the producer that what lies before `tail` was read. Returns `tail`, or where the ring has
  // ended before it (commit()).
  std::uint64_t publish_tail(int fd, std::uint64_t tail, std::uint64_t head) noexcept;
  [[gnu::cold]] std::uint64_t answer_producer(int fd, std::uint64_t tail) noexcept;
  std::uint64_t commit(std::uint64_t tail) noexcept;
  [[gnu::cold]] std::uint64_t commit_nested(std::uint64_t start, std::uint64_t tail) noexcept;
  [[gnu::cold]] Outcome lost(int fd, std::uint64_t start, std::uint64_t end) noexcept;
  [[gnu::cold]] bool await_cut(int fd) noexcept;
  bool ended_before(std::uint64_t tail) noexcept;
  bool publish_head(int fd, std::uint64_t head) noexcept;
  void ring_for_data(int fd) noexcept;
  void ring_for_space(int fd) noexcept;
  [[gnu::cold]] void finish_abandoned_sending(int fd) noexcept;
  [[gnu::cold]] void finish_abandoned_receiving(int fd) noexcept;
  // For as long as it takes, or for good? The last one waits for room, as this process may be gone
  // before the peer reads on.
  enum class Leave { aside, for_good, to_others };
  [[gnu::cold]] void finish_sending(int fd) noexcept;
  [[gnu::cold]] void send_rest(int fd) noexcept;
  [[gnu::cold]] void drop_rest(int fd) noexcept;
  [[gnu::cold]] void wait_to_hand_on(int fd) noexcept;
  [[gnu::cold]] Route route_of_rest() noexcept;
  void knock(int fd) noexcept;
  void repeat_cut(int fd) noexcept;
  void go_on_leaving(int fd) noexcept;
  int announce_cut(int fd) noexcept;
  void send_behind_cut(int fd, Leave how, std::uint64_t end, std::uint64_t position,
                       bool peer_is_gone) noexcept;
  void finish_resending(int fd, std::uint64_t position) noexcept;
  enum class Sent { all, part, nowhere };
  bool freeze_now(int fd, std::uint32_t word, bool nested) noexcept;
  bool is_in_front(int fd, Notice wanted) noexcept;
  bool take_bells_before_cut(int fd) noexcept;
  [[gnu::cold]] void note_cut(int fd) noexcept;
  Front look_at_front(int fd, Notices which) noexcept;
  void count_received(int fd, std::size_t bytes) noexcept;
  void answer_freeze(int fd) noexcept;
  bool shutdown_both(int fd) noexcept;
  void refuse(int fd) noexcept;
  [[gnu::cold]] void resend_by_kernel(int fd) noexcept;
  Sent send_again(int fd, std::uint64_t position, std::uint64_t head) noexcept;
  std::uint64_t unread_in_ring() const noexcept;
  bool end_ring(std::uint64_t most, std::uint64_t* end) noexcept;
  void go_on_with_ring() noexcept;
  bool begin_ring_again() noexcept;
  void freeze_end(int fd) noexcept;
  bool call_peer() noexcept;
  void enter_kernel(int fd, Leave how, std::uint64_t end, std::uint64_t position) noexcept;
  void finish_cut(int fd) noexcept;
  [[gnu::cold]] void accept_offer(int fd, int segment) noexcept;
  bool client_is_present(int fd) noexcept;
  bool make_offer(int fd) noexcept;
  void postpone(Reason why) noexcept;
  void note_calm(int fd) noexcept;
  void receive_from_ring_now() noexcept;
  bool inspect_truncated(int fd, const msghdr& message, std::size_t received) noexcept;
  // Messages of ours that came one after the other with nothing of the application's between: an
  // honest peer sends a few. Called with the receiving lock, or alone.
  void count_notice(bool alone) noexcept;
  bool has_too_many_notices() const noexcept { return notices_in_a_row_ > kMostNotices; }
  // What may lie on the socket before a cut to the ring: nothing; nothing, if need be after a
  // moment; anything, because a bell has to ring and can't without.
  enum class Queue { drained, draining, any };
  bool cut_to_ring(int fd, Queue queue) noexcept;
  bool leave_ring_locked(int fd, Leave how) noexcept;
  void stay_in_kernel(int fd) noexcept;
  void withdraw(Reason why = Reason::none) noexcept;
  [[gnu::cold]] void hand_over(int fd) noexcept;
  bool is_only_holder(int fd) noexcept;
  void drop_lock() noexcept;
  [[gnu::cold]] void mark_broken() noexcept;
  void announce_locked(bool for_data, bool for_space) noexcept;
  void count_sleeper() noexcept;
  bool leaves_to_sleepers(Notices which) noexcept;
  // Is it time to ask the socket whether the peer was killed? Less often where it has sent
  // something since the last time; with `is_told`, only where it has not.
  bool due_for_hang_up_check(bool is_told = false) noexcept;
  [[gnu::cold]] bool ask_for_end(int fd) noexcept;
  Outcome end_or_reset() noexcept;
  bool peer_took_everything() const noexcept;
  bool is_only_shut() const noexcept;

  static constexpr std::uint32_t kOldBells = 32;
  static constexpr std::uint32_t kMostNotices = 64;

  Role role_{};
  Nonce nonce_{};
  std::uint32_t path_length_ = 0;
  char path_[kPathSize]{};
  Side* side_ = nullptr;
  SegmentView view_{};
  std::uint64_t seen_tail_ = 0;  // of the outgoing ring; a private, never too large, copy
  std::atomic<std::uint64_t> last_hang_up_check_{0};
  std::atomic<std::uint64_t> progress_seen_{0};
  std::atomic<std::uint32_t> bells_owed_{0};
  std::atomic<bool> hold_is_locked_{false};
  volatile std::uint64_t publishing_ = 0;  // the head that publish_head() is about to publish
  std::uint32_t writes_since_look_ = 0;
  bool offer_alone_ = false;  // the offer is the only thing the client may leave unread
  bool unread_before_cut_ = false;
  std::uint64_t resuming_ = 0;              // the thread that does so (finish_receiving())
  std::uint32_t losses_ = 0;                // of what was read, see await_cut(); receiving.lock
  std::uint32_t awaited_in_vain_ = 0;       // how often await_cut() did; receiving.lock
  std::atomic<std::uint32_t> given_up_{0};  // sleepers that will not wake any more
  std::uint64_t asked_tail_ = 0;            // when reads were last asked for; sending.lock
  std::uint32_t notices_in_a_row_ = 0;
  std::uint64_t tail_at_notice_ = 0;
};

}  // namespace tssx
