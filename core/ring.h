// Copies between scattered application memory and a ring of bytes. Algorithm only: who may copy
// what, and who is told, is the channel's business.
//
// Byte p of the stream lies at data[p & (capacity - 1)].
// Thread safety: none of its own. May be called from: anywhere.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace tssx {

// Addresses that can't be the application's: the kernel answers EFAULT for them (access_ok(), and
// vm.mmap_min_addr keeps the first pages unmapped).
inline bool is_bad_address(const void* base, std::size_t size) noexcept {
  constexpr std::uintptr_t kFirst = 4096;
  constexpr std::uintptr_t kLast = 0x7ffffffff000;
  const auto address = reinterpret_cast<std::uintptr_t>(base);
  return address < kFirst || address > kLast || size > kLast - address;
}

inline void copy_into_ring(std::uint8_t* data, std::uint64_t capacity, std::uint64_t position,
                           const void* from, std::size_t size) noexcept {
  const std::uint64_t offset = position & (capacity - 1);
  const std::size_t first = std::min<std::size_t>(size, capacity - offset);
  std::memcpy(data + offset, from, first);
  if (first < size) {
    std::memcpy(data, static_cast<const std::uint8_t*>(from) + first, size - first);
  }
}

inline void copy_from_ring(const std::uint8_t* data, std::uint64_t capacity, std::uint64_t position,
                           void* to, std::size_t size) noexcept {
  const std::uint64_t offset = position & (capacity - 1);
  const std::size_t first = std::min<std::size_t>(size, capacity - offset);
  std::memcpy(to, data + offset, first);
  if (first < size) std::memcpy(static_cast<std::uint8_t*>(to) + first, data, size - first);
}

// Walks the parts of a readv(2)/writev(2), `skip` bytes in.
class PartCursor {
 public:
  PartCursor(const iovec* parts, std::size_t count, std::size_t skip) noexcept
      : part_(parts), end_(parts + count) {
    while (part_ != end_ && skip >= part_->iov_len) skip -= (part_++)->iov_len;
    offset_ = skip;
  }

  bool at_end() const noexcept { return part_ == end_; }
  void* address() const noexcept { return static_cast<std::uint8_t*>(part_->iov_base) + offset_; }
  // Bytes left in the current part, at most `limit`.
  std::size_t size(std::size_t limit) const noexcept {
    return std::min(part_->iov_len - offset_, limit);
  }
  void advance(std::size_t size) noexcept {
    offset_ += size;
    while (part_ != end_ && offset_ >= part_->iov_len) {
      offset_ -= part_->iov_len;
      ++part_;
    }
  }

 private:
  const iovec* part_;
  const iovec* end_;
  std::size_t offset_ = 0;
};

}  // namespace tssx
