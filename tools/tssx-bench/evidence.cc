#include "tools/tssx-bench/evidence.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <map>
#include <string_view>
#include <unordered_set>

#include "tools/tssx-stat/proc_file.h"
#include "tools/tssx-stat/scan.h"
#include "tools/tssx-stat/segment_reader.h"
#include "tools/tssx-stat/snapshot.h"

namespace tssx::bench {

Evidence look_at(const std::vector<pid_t>& pids, const std::string& library,
                 const std::string& directory) {
  Evidence evidence;
  std::map<stat_tool::SegmentId, stat_tool::FoundSegment> segments;
  for (const pid_t pid : pids) {
    stat_tool::LineReader maps(AT_FDCWD, fmt::format("/proc/{}/maps", pid).c_str());
    maps.read([&](std::string_view line) {
      if (!library.empty() && line.ends_with(library)) evidence.library = true;
      const auto entry = stat_tool::parse_maps_line(line);
      if (!entry) return;
      stat_tool::FoundSegment& segment = segments[entry->id];
      segment.id = entry->id;
      segment.mappers.push_back({pid, entry->address});
    });
  }
  stat_tool::Page page{};
  std::unordered_set<pid_t> hidden;
  for (const auto& [id, segment] : segments) {
    if (read_header_page(segment, page, hidden) != stat_tool::ReadOutcome::ok) continue;
    const auto snapshot = stat_tool::parse_segment(page);
    if (!snapshot || !snapshot->path.starts_with(directory + "/")) continue;
    bool ring = true;
    for (const auto& direction : snapshot->directions) {
      if (direction.mode != stat_tool::DirectionMode::ring) ring = false;
      evidence.ring_bytes += direction.bytes;
    }
    if (ring) ++evidence.on_rings;
  }
  return evidence;
}

}  // namespace tssx::bench
