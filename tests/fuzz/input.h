// What a fuzzer gave, read from its front. At the end everything reads as zero.
//
// Thread safety: none; one input, one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tssx::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  [[nodiscard]] bool empty() const { return at_ == end_; }
  [[nodiscard]] std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  std::uint8_t byte() { return empty() ? std::uint8_t{0} : *at_++; }
  std::uint16_t half() { return static_cast<std::uint16_t>(byte() | byte() << 8U); }
  std::uint64_t word() { return take<std::uint64_t>(); }

  template <class T>
  T take() {
    T value{};
    const std::size_t size = std::min(sizeof value, left());
    std::memcpy(&value, at_, size);
    at_ += size;
    return value;
  }
  // The next `size` bytes, fewer at the end.
  Input split(std::size_t size) {
    size = std::min(size, left());
    const Input part(at_, size);
    at_ += size;
    return part;
  }
  // Over what there is, again and again; all zero if there is nothing.
  void fill(std::uint8_t* out, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) out[i] = byte();
  }

  // Sizes that matter: small ones, and those around powers of two.
  std::size_t size() {
    const std::uint8_t kind = byte();
    if (kind < 128) return kind;
    const std::size_t power = std::size_t{1} << (7 + kind % 12);  // up to 256 KiB
    const std::uint8_t offset = byte();
    return power + offset - 128;
  }

 private:
  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

}  // namespace tssx::fuzz
