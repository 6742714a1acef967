#include "tools/tssx-stat/segment_reader.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace tssx::stat_tool {
namespace {

// An address of another process, which is never dereferenced here.
void* remote(std::uint64_t address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

// Pages for one system call: what a call costs is little beside that, and half a megabyte is little
// memory.
constexpr std::size_t kBatch = 128;

// The first pages of mappings of one process. How many could be read before the first that could
// not; where the process itself can't be read, *all_fail.
std::size_t read_batch(std::span<const Mapper> mappings, std::span<Page> to, bool* all_fail) {
  std::array<iovec, kBatch> from{};
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    from[i] = {remote(mappings[i].address), sizeof(Page)};
  }
  const iovec local{to.data(), mappings.size() * sizeof(Page)};
  const ssize_t count =
      ::process_vm_readv(mappings.front().pid, &local, 1, from.data(), mappings.size(), 0);
  *all_fail = count < 0 && errno != EFAULT;
  return count < 0 ? 0 : static_cast<std::size_t>(count) / sizeof(Page);
}

}  // namespace

void read_pages(std::span<const Mapper> mappings,
                const std::function<void(std::size_t, const Page*)>& visit) {
  std::vector<Page> pages(std::min(kBatch, mappings.size()));
  for (std::size_t at = 0; at < mappings.size();) {
    std::size_t size = 1;
    while (size < kBatch && at + size < mappings.size() &&
           mappings[at + size].pid == mappings[at].pid) {
      ++size;
    }
    bool all_fail = false;
    const std::size_t read = read_batch(mappings.subspan(at, size), pages, &all_fail);
    for (std::size_t i = 0; i < read; ++i) visit(at + i, &pages[i]);
    // The kernel stops at the first that it can't read; behind it the next batch begins.
    const std::size_t failed = all_fail ? size : std::min(read + 1, size);
    for (std::size_t i = read; i < failed; ++i) visit(at + i, nullptr);
    at += failed;
  }
}

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
  std::vector<Mapper> firsts;
  for (const FoundSegment& found : scan.segments) firsts.push_back(found.mappers.front());
  Page alone{};
  read_pages(firsts, [&](std::size_t i, const Page* page) {
    const FoundSegment& found = scan.segments[i];
    if (page == nullptr) {
      if (read_header_page(found, alone, scan.hidden) != ReadOutcome::ok) return;
      page = &alone;
    }
    if (auto snapshot = parse_segment(*page)) {
      segments.all.push_back({&found, *std::move(snapshot)});
    } else {
      ++segments.unrecognized;
    }
  });
  return segments;
}

}  // namespace tssx::stat_tool
