#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

// The terms in position >> 8 and >> 16 keep pages and 64 KiB blocks apart.
char pattern_byte(std::size_t position, unsigned seed) {
  const std::size_t value =
      position * 131 + (position >> 8U) * 17 + (position >> 16U) * 29 + seed * std::size_t{101};
  return static_cast<char>(static_cast<unsigned char>(value & 0xffU));
}

}  // namespace

std::string pattern(std::size_t offset, std::size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = pattern_byte(offset + i, seed);
  return bytes;
}

testing::AssertionResult matches_pattern(std::string_view bytes, std::size_t offset,
                                         unsigned seed) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != pattern_byte(offset + i, seed)) {
      return testing::AssertionFailure()
             << "byte " << i << " of " << bytes.size() << " (stream position " << offset + i
             << ") is " << static_cast<int>(static_cast<unsigned char>(bytes[i])) << ", expected "
             << static_cast<int>(static_cast<unsigned char>(pattern_byte(offset + i, seed)));
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace tssx_test
