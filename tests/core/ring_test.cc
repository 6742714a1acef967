#include "core/ring.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/core/support/stream.h"

namespace tssx::test {
namespace {

constexpr std::uint64_t kCapacity = 16;

TEST(Ring, CopiesAtEveryOffsetAndSize) {
  for (std::uint64_t position = 0; position < 3 * kCapacity; ++position) {
    for (std::size_t size = 0; size <= kCapacity; ++size) {
      // A frame around the ring: nothing may be written outside of it.
      std::vector<std::uint8_t> memory(kCapacity + 2, 0xee);
      std::uint8_t* const ring = memory.data() + 1;
      const std::string in = stream_bytes(position, size);
      ASSERT_TRUE(copy_into_ring(ring, kCapacity, position, in.data(), size));
      for (std::size_t i = 0; i < kCapacity; ++i) {
        const std::size_t distance = static_cast<std::size_t>((i - position) & (kCapacity - 1));
        const int expected = distance < size ? static_cast<unsigned char>(in[distance]) : 0xee;
        ASSERT_EQ(int{ring[i]}, expected) << position << " " << size << " " << i;
      }
      ASSERT_EQ(int{memory.front()}, 0xee);
      ASSERT_EQ(int{memory.back()}, 0xee);
      std::string out(size, '\0');
      ASSERT_TRUE(copy_from_ring(ring, kCapacity, position, out.data(), size));
      ASSERT_EQ(out, in) << position << " " << size;
    }
  }
}

TEST(Ring, CopiesWhereThePositionItselfWraps) {
  std::vector<std::uint8_t> ring(kCapacity);
  const std::uint64_t position = ~std::uint64_t{0} - 4;
  ASSERT_TRUE(copy_into_ring(ring.data(), kCapacity, position, "0123456789", 10));
  std::string out(10, '\0');
  ASSERT_TRUE(copy_from_ring(ring.data(), kCapacity, position, out.data(), 10));
  EXPECT_EQ(out, "0123456789");
}

// What a cursor yields if it is asked for at most `step` bytes at a time.
std::string walk(const std::vector<std::string>& parts, std::size_t skip, std::size_t step) {
  std::vector<iovec> list;
  for (const std::string& part : parts) {
    list.push_back({part.empty() ? nullptr : const_cast<char*>(part.data()), part.size()});
  }
  std::string all;
  for (PartCursor cursor(list.data(), list.size(), skip); !cursor.at_end();) {
    const std::size_t size = cursor.size(step);
    EXPECT_GT(size, 0U) << "a cursor that is not at its end has something";
    if (size == 0) break;
    all.append(static_cast<const char*>(cursor.address()), size);
    cursor.advance(size);
  }
  return all;
}

TEST(PartCursor, WalksPartsOfEverySize) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {""},
      {"", "", ""},
      {"abc"},
      {"", "abc"},
      {"abc", ""},
      {"a", "", "bc", "", "", "def", ""},
      {"", "", "a", "b", "", "c"},
  };
  for (const std::vector<std::string>& parts : cases) {
    std::string joined;
    for (const std::string& part : parts) joined += part;
    for (std::size_t skip = 0; skip <= joined.size(); ++skip) {
      for (std::size_t step = 1; step <= 4; ++step) {
        EXPECT_EQ(walk(parts, skip, step), joined.substr(skip)) << skip << " " << step;
      }
    }
  }
}

TEST(PartCursor, SkipBeyondTheEndIsTheEnd) { EXPECT_EQ(walk({"ab", "c"}, 17, 2), ""); }

TEST(BadAddress, IsWhereNoApplicationHasMemory) {
  char here = 0;
  EXPECT_FALSE(is_bad_address(&here, 1));
  EXPECT_TRUE(is_bad_address(nullptr, 1));
  EXPECT_TRUE(is_bad_address(reinterpret_cast<void*>(4095), 1));
  EXPECT_TRUE(is_bad_address(reinterpret_cast<void*>(~std::uintptr_t{0}), 1));
  EXPECT_TRUE(is_bad_address(&here, ~std::size_t{0}));
}

}  // namespace
}  // namespace tssx::test
