// A value out of bytes that another process wrote, at any alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace tssx::stat_tool {

// REQUIRES: offset + sizeof(T) <= bytes.size().
template <typename T>
T load(std::span<const std::uint8_t> bytes, std::size_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

}  // namespace tssx::stat_tool
