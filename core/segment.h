// The shared memory of one connection: creating it, and mapping one that a peer offers.
//
// Thread safety: the functions share nothing. May be called from: anywhere; no malloc, no stdio.
//
// Invariants:
//  1. A mapped segment can't shrink: its seals are checked before it is mapped, so touching it
//     never raises SIGBUS.
//  2. The descriptor is not kept: a connection costs none beyond the application's own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/layout.h"
#include "core/result.h"
#include "core/unique_fd.h"

namespace tssx {

struct Nonce {
  std::uint8_t bytes[kNonceSize];
  bool operator==(const Nonce& other) const noexcept;
};

struct SegmentView {
  SegmentPage* page = nullptr;
  std::uint64_t capacity =
      0;                 // of each direction; the checked copy, never read again from the page
  std::size_t size = 0;  // of the mapping

  std::uint8_t* data(std::size_t direction) const noexcept {
    return reinterpret_cast<std::uint8_t*>(page) + kHeaderSize + direction * capacity;
  }
};

struct SegmentOrigin {
  Nonce nonce;
  std::uint32_t client_pid;
  const char* path;           // of the listening socket as bound; may start with NUL
  std::uint32_t path_length;  // <= kPathSize
};

struct NewSegment {
  SegmentView view;
  UniqueFd fd;  // to be sent, then dropped
};

// Creates, maps and seals a segment with `capacity` bytes for each direction.
// Errors: EINVAL for a capacity that is no power of two in [kMinCapacity, kMaxCapacity]; EFBIG
// where RLIMIT_FSIZE forbids the size (ftruncate would raise SIGXFSZ); else the kernel's.
Result<NewSegment> create_segment(std::uint64_t capacity, const SegmentOrigin& origin) noexcept;

// Maps what `fd` refers to if it is a segment for `nonce` and safe to map.
// Errors: EBADMSG if it is not a segment of ours at all; EPROTO if it is one that can't be used.
Result<SegmentView> map_segment(int fd, const Nonce& nonce) noexcept;

void unmap_segment(const SegmentView& view) noexcept;

// Reads `size` bytes at the start of `fd` if it is a regular file on tmpfs, as every memfd is.
// Anything else (FIFO, device, a file on FUSE) is left alone, since reading it could block.
bool read_memfd_start(int fd, void* buffer, std::size_t size, std::uint64_t* file_size) noexcept;

}  // namespace tssx
