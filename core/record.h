// What the library leaves in the memory of its own processes for tssx-stat to read from outside.
//
// Two kinds of shared anonymous pages, which /proc/PID/maps shows as "/dev/zero (deleted)":
//
//   ProcessRecord  one for each fork family, from its start on: what its environment asked for
//   SideRecord     at the start of each Side, so one for each side of a connection, also of one
//                  that never moves: where it is, and why
//
// Neither costs a descriptor, and neither is visible to the peer. Nothing in the library reads
// them.
//
// Thread safety: atomics with one writer at a time; everything else is written once, before magic.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout.h"

namespace tssx {

inline constexpr std::uint64_t kSideMagic = 0x31444953'58535354ULL;     // "TSSXSID1"
inline constexpr std::uint64_t kProcessMagic = 0x31435250'58535354ULL;  // "TSSXPRC1"
// Of both records, and of the Side behind the first one. Goes up with every change of those.
inline constexpr std::uint32_t kRecordVersion = 1;
inline constexpr char kLibraryVersion[] = "0.1.0";

// Why a connection is not in the ring. The numbers are for all versions; new ones are added behind.
enum class Reason : std::uint32_t {
  none = 0,
  // Not yet: it is tried again.
  shared = 1,  // more than one process holds the endpoint
  unread = 2,  // the peer has not read what was sent, and a message of ours must not lie behind it
  busy = 3,    // another thread was in the middle of a send, or of a fork
  no_queue = 4,  // the offer could not be sent
  // It stays in the kernel, as far as this side knows.
  option = 16,         // the socket has an option or a mode that only the kernel can honour
  too_late = 17,       // 8 MiB were sent before there was a moment to offer
  peer_absent = 18,    // the client's end may be with another program: it was not offered
  no_segment = 19,     // no segment could be created or mapped; detail is an errno
  small_segment = 20,  // the client's send buffer asks for more than the server's segment has
  unanswered = 21,     // the client did not answer the offer
  forked = 22,         // the offer was out when the process forked
  no_descriptor = 23,  // no number was free for the descriptor of a message of ours
  no_offer = 24,       // the client has seen so many bytes that none will come
  // It went back.
  executed = 32,      // another program inherited the descriptor
  passed = 33,        // the descriptor was sent to another process
  urgent = 34,        // MSG_OOB
  shut_down = 35,     // shutdown() of reading, or of anything before the move
  libc_inside = 36,   // libc uses the descriptor where nobody can stand in front (stdio, aio)
  own_filter = 37,    // the program restricts its own system calls by seccomp
  epoll_set = 38,     // a set that has it as a member can't be followed
  several_users = 39  // processes used it in turn too often, or while one slept
};

// Sizes of the calls that moved bytes: bucket 0 is below 16 bytes, each next one twice as far, and
// the last has no end.
inline constexpr std::size_t kSizeBuckets = 16;

constexpr std::size_t bucket_of(std::uint64_t size) noexcept {
  if (size < 16) return 0;
  const auto bit = static_cast<std::size_t>(63 - __builtin_clzll(size));  // 16 -> 4
  return bit - 3 < kSizeBuckets ? bit - 3 : kSizeBuckets - 1;
}

// Waits of read(2) and write(2) and their like that did not end with the first look. Waits in
// poll(2), select(2) and epoll_wait(2) belong to no single connection, and are not counted.
struct WaitCounts {
  std::atomic<std::uint64_t> spun;     // ended while looking at the ring
  std::atomic<std::uint64_t> yielded;  // ended after giving up the CPU at least once
  std::atomic<std::uint64_t> slept;    // the kernel had to wake it
};

struct SideRecord {
  std::atomic<std::uint64_t> magic;  // 0 while the page belongs to no connection
  std::uint32_t version;
  std::uint32_t size;  // of the Side
  std::uint32_t role;  // Role
  std::uint32_t path_length;
  std::uint8_t nonce[kNonceSize];
  std::uint64_t created_ns;              // CLOCK_REALTIME: of connect() or accept()
  std::atomic<std::uint32_t> reason;     // Reason: the first one for good
  std::atomic<std::uint32_t> detail;     // an errno, where the reason has one
  std::atomic<std::uint32_t> postponed;  // Reason: why the last attempt was put off
  std::atomic<std::uint32_t> negative;   // 1: the program knows the endpoint by a negative ID
  std::atomic<std::uint32_t> asides;     // times this side sent something by the kernel in between
  std::uint32_t reserved;
  std::uint8_t path[kPathSize];  // server: of the listening socket; abstract names start with NUL
};

// Counts of one side; one writer at a time, on lines that the peer never touches.
struct SideCounts {
  alignas(kCacheLine) std::atomic<std::uint64_t> sent_sizes[kSizeBuckets];  // under sending.lock
  alignas(kCacheLine) WaitCounts receiving;
  WaitCounts sending;
};

struct ProcessRecord {
  static constexpr std::size_t kFilterSlots = 16;

  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t protocol;       // kProtocolVersion
  std::uint32_t size;           // of the record and its text
  std::uint32_t pattern_count;  // of USE_TSSX
  std::uint32_t negative_ids;   // 1: accept() hands out negative IDs
  std::uint32_t reserved;
  char library[16];  // version of the library, ended by NUL
  // Processes of the family that restricted their own system calls: what they connect or accept
  // from then on stays in the kernel. The first ones; 0 ends the list.
  std::atomic<std::uint32_t> filtered[kFilterSlots];
  // The patterns follow, each ended by NUL.
};
static_assert(sizeof(ProcessRecord) == 112);
static_assert(offsetof(SideRecord, path) == 72 && sizeof(SideRecord) <= 256);

}  // namespace tssx
