#include "tests/differential/byte_pattern.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

namespace differential {
namespace {

// A prime, so that no size of a buffer divides it.
constexpr std::size_t kPeriod = 524287;

const std::vector<char>& table() {
  static const std::vector<char> bytes = [] {
    std::vector<char> made(kPeriod + kMaxTransfer);
    std::uint32_t state = 2463534242U;
    for (std::size_t i = 0; i < made.size(); ++i) {
      if (i >= kPeriod) {
        made[i] = made[i - kPeriod];
        continue;
      }
      state ^= state << 13;  // Marsaglia's xorshift32
      state ^= state >> 17;
      state ^= state << 5;
      made[i] = static_cast<char>(state % 255 + 1);
    }
    return made;
  }();
  return bytes;
}

}  // namespace

long pattern_file_offset(int stream, long position) {
  return (static_cast<long>(stream) * 77773 + position) % static_cast<long>(kPeriod);
}

const char* stream_bytes(int stream, long position) {
  return table().data() + pattern_file_offset(stream, position);
}

int pattern_file() {
  static const int file = [] {
    const int made = ::memfd_create("pattern", MFD_CLOEXEC);
    if (made == -1 || ::ftruncate(made, static_cast<off_t>(table().size())) == -1 ||
        ::pwrite(made, table().data(), table().size(), 0) != static_cast<ssize_t>(table().size())) {
      std::abort();
    }
    return made;
  }();
  return file;
}

}  // namespace differential
