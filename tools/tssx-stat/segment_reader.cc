#include "tools/tssx-stat/segment_reader.h"

#include <sys/uio.h>

#include <cerrno>
#include <utility>

namespace tssx::stat_tool {
namespace {

// An address of another process, which is never dereferenced here.
void* remote(std::uint64_t address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

}  // namespace

ReadOutcome read_memory(pid_t pid, std::uint64_t address, std::span<std::uint8_t> to) {
  const iovec local{to.data(), to.size()};
  const iovec from{remote(address), to.size()};
  const ssize_t count = ::process_vm_readv(pid, &local, 1, &from, 1, 0);
  if (count == static_cast<ssize_t>(to.size())) return ReadOutcome::ok;
  // ENOSYS: a kernel or a container that leaves the call out refuses every process alike.
  const bool denied = count < 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS);
  return denied ? ReadOutcome::denied : ReadOutcome::vanished;
}

ReadOutcome read_header_page(const FoundSegment& segment, Page& page,
                             std::unordered_set<pid_t>& hidden) {
  std::vector<pid_t> refused;
  for (const Mapper& mapper : segment.mappers) {
    const ReadOutcome outcome = read_memory(mapper.pid, mapper.address, page);
    if (outcome == ReadOutcome::ok) return outcome;
    if (outcome == ReadOutcome::denied) refused.push_back(mapper.pid);
  }
  hidden.insert(refused.begin(), refused.end());
  return refused.empty() ? ReadOutcome::vanished : ReadOutcome::denied;
}

ReadSegments read_segments(Scan& scan) {
  ReadSegments segments;
  Page page{};
  for (const FoundSegment& found : scan.segments) {
    if (read_header_page(found, page, scan.hidden) != ReadOutcome::ok) continue;
    if (auto snapshot = parse_segment(page)) {
      segments.all.push_back({&found, *std::move(snapshot)});
    } else {
      ++segments.unrecognized;
    }
  }
  return segments;
}

}  // namespace tssx::stat_tool
