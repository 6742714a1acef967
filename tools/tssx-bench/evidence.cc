#include "tools/tssx-bench/evidence.h"

#include <algorithm>

#include "tools/tssx-stat/proc_file.h"
#include "tools/tssx-stat/scan.h"
#include "tools/tssx-stat/segment_reader.h"
#include "tools/tssx-stat/snapshot.h"

namespace tssx::bench {

Evidence look_at(const std::vector<pid_t>& pids, const std::string& library,
                 const std::string& directory) {
  Evidence evidence;
  const stat_tool::UniqueFd proc = stat_tool::open_proc();
  if (!proc) return evidence;
  evidence.library = !library.empty() && std::any_of(pids.begin(), pids.end(), [&](pid_t pid) {
    return stat_tool::maps_file(proc.get(), pid, library).value_or(false);
  });
  stat_tool::Scan scan = stat_tool::scan_processes(proc.get(), pids);
  for (const stat_tool::ReadSegment& read : read_segments(scan).all) {
    if (!read.snapshot.path.starts_with(directory + "/")) continue;
    for (const auto& direction : read.snapshot.directions) evidence.ring_bytes += direction.bytes;
    if (is_on_rings(read.snapshot)) ++evidence.on_rings;
  }
  return evidence;
}

}  // namespace tssx::bench
