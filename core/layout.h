// The bytes that the two peers of a connection share, and nothing else.
//
// A segment is one sealed memfd:
//
//   offset 0        +--------------------------------------------------+
//                   | SegmentHeader: written once by the creator       |
//   kAnswerOffset   | AnswerLine: the client's answer to the offer     |
//   kSideOffset     | SideLine[2]: who holds each end (for tssx-stat)  |
//   kDirectionOffset| Direction[2]: four cache lines each              |
//   kHeaderSize     +--------------------------------------------------+
//                   | data of direction 0, server -> client            |
//                   +--------------------------------------------------+
//                   | data of direction 1, client -> server            |
//                   +--------------------------------------------------+
//
// Invariants:
//  1. The layout depends on no compiler flag: fixed-width members, kCacheLine of our own.
//  2. head and tail only grow, but where the ring ends before them (kEndCut); byte p of a stream
//     lies at data[p & (capacity - 1)].
//  3. Every word has exactly one writing side, except the kWaiting bits, which the sleeper sets
//     and either side clears, and ConsumerLine::end, which changes by compare-and-swap alone.
//  4. Nothing here is trusted by the side that did not write it: no pointer, no lock.
//
// Thread safety: the atomics; who pairs with whom is said at each member.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tssx {

inline constexpr std::uint64_t kSegmentMagic = 0x31474553'58535354ULL;  // "TSSXSEG1"
inline constexpr std::uint64_t kTokenMagic = 0x314b4f54'58535354ULL;    // "TSSXTOK1"
inline constexpr std::uint32_t kProtocolVersion = 2;

// Two adjacent lines are fetched together on current x86, so "a cache line apart" is 128 bytes.
inline constexpr std::size_t kCacheLine = 128;
inline constexpr std::size_t kHeaderSize = 4096;
inline constexpr std::size_t kNonceSize = 16;
inline constexpr std::size_t kPathSize = 108;  // sun_path of unix(7)

inline constexpr std::uint64_t kMinCapacity = 4096;
inline constexpr std::uint64_t kMaxCapacity = 16U << 20U;

// The memfd's name, as /proc/PID/maps shows it: "/memfd:tssx-segment (deleted)".
inline constexpr char kSegmentName[] = "tssx-segment";
inline constexpr char kTokenName[] = "tssx-token";

// The server created the segment, the client mapped what it was offered.
enum class Role : std::uint32_t { server = 0, client = 1 };

// Which way the bytes of one direction travel at the moment.
enum class Mode : std::uint32_t { kernel = 0, ring = 1 };

struct SegmentHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_size;
  std::uint64_t size;              // of the whole memfd, bytes
  std::uint64_t capacity;          // of each direction, bytes, a power of two
  std::uint8_t nonce[kNonceSize];  // of the client's mark
  std::uint64_t created_ns;        // CLOCK_REALTIME
  std::uint32_t server_pid;        // as the creator sees them; for tssx-stat only
  std::uint32_t client_pid;
  std::uint32_t path_length;  // bytes of path in use; abstract names start with NUL
  std::uint32_t reserved;
  std::uint8_t path[kPathSize];  // of the listening socket
};

enum class Answer : std::uint32_t { none = 0, accepted = 1, withdrawn = 2 };

struct alignas(kCacheLine) AnswerLine {
  // Answer. Client: none -> accepted (release, after mapping); server: none -> withdrawn. Both by
  // compare-and-swap, so exactly one of them happens.
  std::atomic<std::uint32_t> answer;
};

// What one side says of itself. Informational: the other side derives nothing from it.
struct alignas(kCacheLine) SideLine {
  std::atomic<std::uint32_t> pid;      // process that used the endpoint last
  std::atomic<std::uint32_t> holders;  // copy of the side state's reference count
  // 1: these processes take part in cheap fences (core/remote_fence.h). A wrong value harms but the
  // side that says it.
  std::atomic<std::uint32_t> fenced;
};

// ProducerLine::flags
inline constexpr std::uint32_t kFin = 1;  // shutdown(SHUT_WR): no byte will follow head
inline constexpr std::uint32_t kGone =
    2;  // last holder closed: a hint, the control socket confirms
// This direction is with the kernel and will not move to the ring again.
inline constexpr std::uint32_t kStays = 4;

// Bits of WaitLine::word, where the producer looks after each publication
inline constexpr std::uint32_t kWaiting = 1;     // a sleeper needs a bell
inline constexpr std::uint32_t kWantKernel = 2;  // please cut this direction back to the kernel
inline constexpr std::uint32_t kFrozen =
    4;  // tail is final: resend what lies behind it by the kernel
inline constexpr std::uint32_t kShut = 8;         // shutdown(SHUT_RD): writes get EPIPE
inline constexpr std::uint32_t kReaderGone = 16;  // last holder closed: a hint

// ProducerLine::asks, where the consumer looks after each new tail
// A sleeper needs a bell with whatever is read, not only when half of the ring becomes free.
inline constexpr std::uint32_t kTellReads = 1;
// The ring is about to end, maybe before what was read now: see ConsumerLine::end.
inline constexpr std::uint32_t kEnding = 2;

// Bits of ConsumerLine::end, below its position
inline constexpr std::uint64_t kEndCut = 1;     // the producer's cut to the kernel is coming
inline constexpr std::uint64_t kEndFrozen = 2;  // the consumer froze: no cut is to come any more
// A to_kernel message is coming in a direction that is the kernel's already (leave_for_good()).
inline constexpr std::uint64_t kEndCalled = 4;
inline constexpr unsigned kEndShift = 3;

constexpr std::uint64_t end_word(std::uint64_t position, std::uint64_t bits) noexcept {
  return position << kEndShift | bits;
}
constexpr std::uint64_t end_position(std::uint64_t word) noexcept { return word >> kEndShift; }
inline constexpr std::uint64_t kEndBits = kEndCut | kEndFrozen | kEndCalled;

struct alignas(kCacheLine) ProducerLine {
  std::atomic<std::uint64_t> head;   // release: publishes bytes; pairs with the consumer's acquire
  std::atomic<std::uint32_t> flags;  // kFin, kGone, kStays; release, after the last head
  std::atomic<std::uint32_t> mode;   // Mode, as the producer sees it (for tssx-stat)
  std::atomic<std::uint32_t> cpu;    // where the producer last ran; a hint for spinning
  // kTellReads, kEnding. Here and not among the waiting bits, as the consumer has this line anyway.
  std::atomic<std::uint32_t> asks;
  std::atomic<std::uint64_t> messages;  // write calls that moved bytes
  std::atomic<std::uint64_t> bells;     // doorbells rung for data
  std::atomic<std::uint64_t> sleeps;    // times a producer slept for space
};

struct alignas(kCacheLine) ConsumerLine {
  std::atomic<std::uint64_t> tail;  // release: frees space; pairs with the producer's acquire
  std::atomic<std::uint32_t> mode;  // Mode, as the consumer sees it (for tssx-stat)
  std::atomic<std::uint32_t> cpu;
  std::atomic<std::uint64_t> messages;  // read calls that moved bytes
  std::atomic<std::uint64_t> bells;     // doorbells rung for space
  std::atomic<std::uint64_t> sleeps;    // times a consumer slept for data
  // Where the ring ends, if a bit says so: the consumer reads up to there, and the producer sends
  // what lies behind it by the kernel. Until then the last position that the consumer has read up
  // to while the producer had set kEnding. Both sides decide by compare-and-swap (channel_end.cc).
  std::atomic<std::uint64_t> end;
  // Bytes before it were read, though `tail` does not say so yet: by a handler that interrupted a
  // read. Written only then, with a full fence.
  std::atomic<std::uint64_t> claim;
};

struct alignas(kCacheLine) WaitLine {
  std::atomic<std::uint32_t> word;
};

struct Direction {
  ProducerLine producer;
  ConsumerLine consumer;
  WaitLine data_wait;   // written by the consumer: kWaiting ... kReaderGone
  WaitLine space_wait;  // written by the producer: kWaiting alone
};

inline constexpr std::size_t kAnswerOffset = 512;
inline constexpr std::size_t kSideOffset = 640;
inline constexpr std::size_t kDirectionOffset = 1024;

// The whole header page as one object.
struct SegmentPage {
  SegmentHeader header;
  alignas(kCacheLine) std::uint8_t padding0[kAnswerOffset - 256];
  AnswerLine answer;
  SideLine side[2];                                  // indexed by Role
  alignas(kDirectionOffset) Direction direction[2];  // 0: server -> client, 1: client -> server
};

static_assert(sizeof(SegmentHeader) <= 256);
static_assert(sizeof(WaitLine) == kCacheLine && sizeof(Direction) == 4 * kCacheLine);
static_assert(offsetof(SegmentPage, answer) == kAnswerOffset);
static_assert(offsetof(SegmentPage, side) == kSideOffset);
static_assert(offsetof(SegmentPage, direction) == kDirectionOffset);
static_assert(sizeof(SegmentPage) <= kHeaderSize);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// The direction that a side produces into, and the one it consumes from.
constexpr std::size_t outgoing(Role role) noexcept { return role == Role::server ? 0 : 1; }
constexpr std::size_t incoming(Role role) noexcept { return role == Role::server ? 1 : 0; }

// What a small memfd says that travels with a one-byte message: the cut at which a direction moves
// to the ring or back.
enum class TokenKind : std::uint32_t { to_ring = 2, to_kernel = 3 };

struct Token {
  std::uint64_t magic;
  std::uint32_t version;
  TokenKind kind;
  std::uint8_t nonce[kNonceSize];
};
static_assert(sizeof(Token) == 32);

}  // namespace tssx
