// What tssx-stat reads of strangers: the header page of a segment, and lines of /proc/PID/maps, in
// which file names of others stand.
#include <cstdint>
#include <cstring>
#include <string_view>

#include "tests/fuzz/guard.h"
#include "tests/fuzz/input.h"
#include "tools/tssx-stat/escape.h"
#include "tools/tssx-stat/scan.h"
#include "tools/tssx-stat/snapshot.h"

using namespace tssx;
using namespace tssx::fuzz;

namespace {

void parse_page(Input& script, bool with_header) {
  // Behind a guard, so that a byte too far is seen; and of any length.
  static GuardedBuffer buffer;
  const std::size_t size = script.byte() == 1 ? script.half() % (kHeaderSize + 1) : kHeaderSize;
  std::uint8_t* const bytes = buffer.take(size);
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.version = kProtocolVersion;
  header.header_size = kHeaderSize;
  header.capacity = std::uint64_t{1} << (12 + script.byte() % 14);
  header.size = kHeaderSize + 2 * header.capacity;
  header.path_length = script.byte();
  std::memset(bytes, 0, size);
  if (with_header) std::memcpy(bytes, &header, std::min(size, sizeof header));
  // Patches: where, how long, what.
  while (!script.empty()) {
    const std::size_t at = script.half() % kHeaderSize;
    const std::size_t length = script.byte() % 64;
    for (std::size_t i = at; i < at + length && i < size; ++i) bytes[i] = script.byte();
  }
  const auto parsed = stat_tool::parse_segment({bytes, size});
  if (!parsed) return;
  check(parsed->path.size() <= kPathSize, "a path that is too long");
  for (const auto& direction : parsed->directions) {
    check(direction.waiting <= direction.capacity, "more waits than a ring can hold");
  }
  const std::string shown = stat_tool::escape(parsed->path, {true, false});
  check(stat_tool::width_of(shown) <= shown.size(), "a width that can't be");
  for (const char c : shown) {
    check(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f, "a control character is shown");
  }
}

void parse_line(Input& script) {
  static GuardedBuffer buffer;
  const std::size_t size = script.left();
  std::uint8_t* const bytes = buffer.take(size);
  script.fill(bytes, size);
  const std::string_view line(reinterpret_cast<const char*>(bytes), size);
  const auto entry = stat_tool::parse_maps_line(line);
  if (entry) check(line.find("/memfd:tssx-segment") != line.npos, "no segment's line");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input script(data, size);
  switch (script.byte() % 4) {
    case 0:
      parse_line(script);
      break;
    case 1:
      parse_page(script, false);
      break;
    default:
      parse_page(script, true);
      break;
  }
  return 0;
}
