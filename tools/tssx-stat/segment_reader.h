// Copies the header pages of segments out of processes that map them.
//
// Thread safety: no state. Works under the sandbox: one kind of system call, no descriptor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <unordered_set>
#include <vector>

#include "tools/tssx-stat/scan.h"
#include "tools/tssx-stat/snapshot.h"

namespace tssx::stat_tool {

enum class ReadOutcome {
  ok,
  vanished,  // unmapped, or its processes ended: no error
  denied,    // maps could be seen, memory can't (Yama, or a process that changed identity)
};

// Tries the mappers in turn until one yields the page. If none does and some were refused, those
// are added to hidden.
[[nodiscard]] ReadOutcome read_header_page(const FoundSegment& segment, Page& page,
                                           std::unordered_set<pid_t>& hidden);

struct ReadSegment {
  const FoundSegment* found;  // in the scan
  SegmentSnapshot snapshot;
};
struct ReadSegments {
  std::vector<ReadSegment> all;
  std::size_t unrecognized = 0;  // are none, or of another version
};
// All that the scan has found and that can be read. Who refuses is added to the scan's hidden ones.
[[nodiscard]] ReadSegments read_segments(Scan& scan);

// The first page of each of these mappings, in their order, many with one system call. nullptr for
// one that could not be read this way: it is unmapped, or its process is gone or refuses.
void read_pages(std::span<const Mapper> mappings,
                const std::function<void(std::size_t index, const Page* page)>& visit);

// The same for `size` bytes of a process at an address. Works for as long as it is mapped there.
[[nodiscard]] ReadOutcome read_memory(pid_t pid, std::uint64_t address, std::span<std::uint8_t> to);

}  // namespace tssx::stat_tool
