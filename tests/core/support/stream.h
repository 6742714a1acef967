// Bytes whose value follows from their position, so that a loss, a repetition or a swap is seen.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tssx::test {

// The shifted terms keep pages and 64 KiB blocks apart.
inline char stream_byte(std::uint64_t position, std::uint64_t seed) {
  const std::uint64_t value =
      position * 131 + (position >> 8U) * 17 + (position >> 16U) * 29 + seed * 101;
  return static_cast<char>(static_cast<unsigned char>(value & 0xffU));
}

inline std::string stream_bytes(std::uint64_t position, std::size_t size, std::uint64_t seed = 0) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = stream_byte(position + i, seed);
  return bytes;
}

inline testing::AssertionResult is_stream(std::string_view bytes, std::uint64_t position,
                                          std::uint64_t seed = 0) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == stream_byte(position + i, seed)) continue;
    return testing::AssertionFailure()
           << "byte " << i << " of " << bytes.size() << " (stream position " << position + i
           << ") is " << int{static_cast<unsigned char>(bytes[i])} << ", expected "
           << int{static_cast<unsigned char>(stream_byte(position + i, seed))};
  }
  return testing::AssertionSuccess();
}

// A small generator of its own: the same numbers everywhere, one word of state.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
  // In [low, high].
  std::size_t between(std::size_t low, std::size_t high) {
    state_ ^= state_ << 13U;
    state_ ^= state_ >> 7U;
    state_ ^= state_ << 17U;
    return low + static_cast<std::size_t>(state_ % (high - low + 1));
  }

 private:
  std::uint64_t state_;
};

}  // namespace tssx::test
