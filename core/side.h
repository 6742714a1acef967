// What the processes of one side of a connection share, and the peer never sees.
//
// A Side is one page of MAP_SHARED|MAP_ANONYMOUS memory: fork() hands it on, and the kernel frees
// it with its last mapping, so a killed process leaks nothing and there is no table to run full.
//
// Thread safety: atomics; members grouped under a lock are written only by its holder.
// May be called from: anywhere; no malloc.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout.h"
#include "core/record.h"
#include "core/robust_lock.h"

namespace tssx {

enum class Phase : std::uint32_t {
  candidate,    // marked; plain kernel bytes so far
  offered,      // server: the segment exists and its descriptor is under way
  established,  // both have mapped it
  retired       // stays with, or is moving back to, the kernel
};

// What goes by the socket, and has to be done again if the process that does it is killed; see
// channel_resume.cc.
enum Unfinished : std::uint32_t {
  kCutting = 1,   // to the ring
  kLeaving,       // a cut to the kernel; no byte of the ring's has gone again
  kSendingAgain,  // what was unread in the ring: it has gone up to `sent_again`. Also while there
                  // is no room for the rest (Channel::has_rest())
  kSendingPart,   // the same, and the next part may have gone or not
  kFreezing,      // from the freeze on, until this direction is the kernel's
  kTakingCutToRing,
  kTakingCutToKernel,
  kAwaitingRoom  // nothing: a cut to the kernel had no room (Channel::waits_for_socket())
};

struct Side {
  SideRecord record;  // for tssx-stat

  std::atomic<std::uint32_t>
      holders;                       // processes that hold the endpoint (the founding notes' count)
  std::atomic<std::uint32_t> phase;  // Phase; release after what it announces
  std::atomic<std::uint32_t> user;   // pid that used the endpoint last
  std::atomic<std::uint32_t> handovers;
  std::atomic<std::uint32_t> inherited;  // 1 once a fork has shared this page
  std::atomic<std::uint32_t> locked;     // of the holders, those that Channel::lock_hold() counted

  struct alignas(kCacheLine) {
    RobustLock lock;
    std::atomic<std::uint64_t> tail;    // claimed; the page's tail follows when the copy is done
    std::atomic<std::uint64_t> final;   // where the ring ends, once `cut`
    std::atomic<std::uint32_t> mode;    // Mode
    std::atomic<std::uint32_t> cut;     // 1: the peer's to_kernel message was read
    std::atomic<std::uint32_t> shut;    // 1: shutdown(SHUT_RD)
    std::atomic<std::uint32_t> called;  // 1: a to_kernel message came that cut nothing
    std::uint64_t fenced_tail;          // see Channel::publish_tail
    std::uint64_t kernel_bytes;         // received by the kernel so far
    std::uint64_t bytes_at_cut;         // kernel_bytes when the ring had been read to its end
    std::uint64_t left_since;           // see Channel::leaves_to_sleepers; 0: nothing is left
    std::atomic<std::uint32_t> unfinished;  // Unfinished: what the lock's holder is at
  } receiving;

  struct alignas(kCacheLine) {
    RobustLock lock;
    std::atomic<std::uint64_t> head;
    std::atomic<std::uint64_t> final;           // where the ring ended, once `left`
    std::atomic<std::uint32_t> mode;            // Mode
    std::atomic<std::uint32_t> fin;             // 1: shutdown(SHUT_WR)
    std::atomic<std::uint32_t> left;            // 1: was in the ring and went back
    std::atomic<std::uint32_t> kernel_senders;  // calls inside a kernel send that may be partial
    std::uint32_t calls;                        // sends by the kernel, and a server's receives
    std::uint32_t next_attempt;                 // value of `calls` at which to offer or cut
    std::uint32_t attempts;                     // that failed in a row: they become rarer
    std::uint32_t calls_since_offer;
    std::uint32_t calm;                     // calls by the kernel since the direction stepped aside
    std::uint32_t returns;                  // times it came back to the ring
    std::uint64_t kernel_bytes;             // sent by the kernel so far
    std::uint64_t bytes_at_cut;             // kernel_bytes when the direction left the ring
    std::atomic<std::uint64_t> sent_again;  // see kSendingAgain
    std::atomic<std::uint32_t> unfinished;  // Unfinished: what the lock's holder is at
  } sending;

  struct alignas(kCacheLine) {
    std::atomic<std::uint32_t> hung_up;  // 1: the control socket confirmed that the peer is gone
    std::atomic<std::uint32_t> closed;   // 1: hung up before both directions were shut down
    std::atomic<std::uint32_t> reset;    // 1: the peer left bytes unread that came by the kernel
    std::atomic<std::uint32_t> reset_reported;      // 1: ECONNRESET was given to the application
    std::atomic<std::uint32_t> broken;              // 1: the peer wrote nonsense into the segment
    std::atomic<std::uint32_t> plain;               // 1: no message of ours will travel any more
    std::atomic<std::uint32_t> sleepers;            // threads believed asleep on the control socket
    std::atomic<std::uint64_t> receive_timeout_ns;  // SO_RCVTIMEO; kUnknownTimeout until asked
    std::atomic<std::uint64_t> send_timeout_ns;
    std::atomic<std::uint32_t> status_flags;  // see shim/status_flags.h
    // Bells asked for (waiting bits set), and those that came. Only leaving for good counts them.
    std::atomic<std::uint64_t> bells_asked;
    std::atomic<std::uint64_t> bells_heard;
  } state;

  SideCounts counts;  // for tssx-stat
};

inline constexpr std::uint64_t kUnknownTimeout = ~std::uint64_t{0};

static_assert(sizeof(Side) <= 4096);
static_assert(offsetof(Side, record) == 0);

// A fresh Side with one holder, or nullptr without memory.
Side* acquire_side() noexcept;

// Gives up this process's mapping; keeps it for the next acquire_side() if no other process has it.
void release_side(Side* side) noexcept;

// In the child of a fork: the kept pages are the parent's now.
void forget_kept_sides() noexcept;

}  // namespace tssx
