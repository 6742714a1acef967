// Copies between scattered application memory and a ring of bytes. Algorithm only: who may copy
// what, and who is told, is the channel's business.
//
// Byte p of the stream lies at data[p & (capacity - 1)].
// Thread safety: none of its own. May be called from: anywhere.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>

#include "core/fault.h"
#include "core/fault_point.h"

namespace tssx {

// False if the application's memory faults: then nothing of the ring is to be published or taken.
[[nodiscard]] inline bool copy_into_ring(std::uint8_t* data, std::uint64_t capacity,
                                         std::uint64_t position, const void* from,
                                         std::size_t size) noexcept {
  const std::uint64_t offset = position & (capacity - 1);
  const std::size_t first = std::min<std::size_t>(size, capacity - offset);
  return copy_from_application(data + offset, from, first) &&
         (first == size || copy_from_application(
                               data, static_cast<const std::uint8_t*>(from) + first, size - first));
}

[[nodiscard]] inline bool copy_from_ring(const std::uint8_t* data, std::uint64_t capacity,
                                         std::uint64_t position, void* to,
                                         std::size_t size) noexcept {
  const std::uint64_t offset = position & (capacity - 1);
  const std::size_t first = std::min<std::size_t>(size, capacity - offset);
  return copy_to_application(to, data + offset, first) &&
         (first == size ||
          copy_to_application(static_cast<std::uint8_t*>(to) + first, data, size - first));
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
  // Bytes left in all parts, at most `limit`.
  std::size_t total(std::size_t limit) const noexcept {
    if (part_ == end_) return 0;
    std::size_t sum = std::min(part_->iov_len - offset_, limit);
    for (const iovec* at = part_ + 1; at != end_ && sum < limit; ++at) {
      sum += std::min(at->iov_len, limit - sum);
    }
    return sum;
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

// The next `size` bytes of the parts, which have that many, into the ring or out of it. False if
// one of them faults; the cursor is of no use then.
[[nodiscard]] inline bool gather_into_ring(std::uint8_t* data, std::uint64_t capacity,
                                           std::uint64_t position, PartCursor& from,
                                           std::size_t size) noexcept {
  while (size != 0) {
    const std::size_t piece = from.size(size);
    if (!copy_into_ring(data, capacity, position, from.address(), piece)) return false;
    TSSX_FAULT_POINT(copy_in);
    from.advance(piece);
    position += piece;
    size -= piece;
  }
  return true;
}

[[nodiscard]] inline bool scatter_from_ring(const std::uint8_t* data, std::uint64_t capacity,
                                            std::uint64_t position, PartCursor& to,
                                            std::size_t size) noexcept {
  while (size != 0) {
    const std::size_t piece = to.size(size);
    if (!copy_from_ring(data, capacity, position, to.address(), piece)) return false;
    TSSX_FAULT_POINT(copy_out);
    to.advance(piece);
    position += piece;
    size -= piece;
  }
  return true;
}

}  // namespace tssx
