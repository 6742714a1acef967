// Memory between pages that fault, so that the first byte too far ends a fuzzer: neither the
// address sanitizer nor the kernel's packed mappings would show it, as core copies by instructions
// of its own.
//
// Thread safety: none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/channel.h"

namespace tssx::fuzz {

// A buffer of the application's. Its pages stay for good: for static objects.
class GuardedBuffer {
 public:
  static constexpr std::size_t kMost = std::size_t{1} << 19U;

  GuardedBuffer();
  // The last `size` bytes before the guard, at most kMost. What lies before them is watched.
  std::uint8_t* take(std::size_t size);
  // False if something wrote to the bytes before the buffer that was taken last.
  [[nodiscard]] bool is_intact() const;

 private:
  std::uint8_t* end_;
  std::uint8_t* begin_ = nullptr;
};

// Where a Channel's segment is put, once it has one.
class GuardedSegment {
 public:
  GuardedSegment();
  // Moves the mapping here if it is not here yet.
  void adopt(Channel& channel);
  // After the channel has unmapped it.
  void reserve_again();
  // The bytes that are shared words, not data.
  [[nodiscard]] bool is_page(const void* address) const {
    return static_cast<const std::uint8_t*>(address) - base_ < std::ptrdiff_t{kHeaderSize} &&
           address >= base_;
  }

 private:
  std::uint8_t* base_;
  std::size_t used_ = 0;
};

// Prints what is wrong, and ends the process in the way that a fuzzer reports.
[[noreturn]] void fail(const char* what);
inline void check(bool good, const char* what) {
  if (!good) fail(what);
}

}  // namespace tssx::fuzz
