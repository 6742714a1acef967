// What the header page of one segment says, parsed strictly and without a single system call.
//
// The page is a copy of memory that other users write: each word is read once, from the copy, and
// every value is checked or clamped before anybody computes with it.
//
// Thread safety: pure functions over the caller's bytes.
//
// Invariants:
//  1. Any byte string may be passed: the result is nullopt or a snapshot, never undefined
//  behaviour.
//  2. waiting <= capacity, path.size() <= kPathSize.
//  3. A header that makes no sense yields nullopt: that memory is not a segment of ours, or one of
//     another version. A sound header with senseless words behind it yields a snapshot with
//     `damaged` set, so that a connection never hides by being corrupt.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/layout.h"

namespace tssx::stat_tool {

using Page = std::array<std::uint8_t, kHeaderSize>;

// Both ends of a direction say where they are; while one has passed the cut and the other has not
// come to it yet, the direction is moving.
enum class DirectionMode { kernel, ring, moving, unknown };

struct DirectionSnapshot {
  std::uint64_t bytes = 0;         // through the ring since the connection began
  std::uint64_t messages = 0;      // write calls that moved them
  std::uint64_t reads = 0;         // read calls that took them
  std::uint64_t data_sleeps = 0;   // of readers
  std::uint64_t space_sleeps = 0;  // of writers
  std::uint64_t waiting = 0;       // in the ring, not read yet
  std::uint64_t bells = 0;         // rung by either end, saturating
  std::uint64_t capacity = 0;
  DirectionMode mode = DirectionMode::kernel;
  bool left_ring = false;  // it was on the ring and is back in the kernel, or on its way
  bool gone = false;       // one of its ends was closed for good
  bool stays = false;      // its producer says that it will not move to the ring again
};

struct SideSnapshot {
  std::uint32_t pid = 0;  // who used the endpoint last, in its own pid namespace
  std::uint32_t original_pid =
      0;  // who made the connection, as the creator saw it; 0: it could not
  std::uint32_t holders = 0;
};

using NonceBytes = std::array<std::uint8_t, kNonceSize>;

struct SegmentSnapshot {
  NonceBytes nonce{};
  std::string path;  // any bytes; an abstract name starts with NUL
  std::uint64_t created_ns = 0;
  Answer answer = Answer::none;
  std::array<SideSnapshot, 2> sides;            // indexed by Role
  std::array<DirectionSnapshot, 2> directions;  // 0: to the client, 1: to the server
  bool damaged = false;
};

// Both directions are in shared memory, and nothing is wrong with it.
[[nodiscard]] bool is_on_rings(const SegmentSnapshot& snapshot);

[[nodiscard]] std::optional<SegmentSnapshot> parse_segment(std::span<const std::uint8_t> page);

}  // namespace tssx::stat_tool
