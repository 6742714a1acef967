// Finds the segments that processes map, from /proc alone.
//
// Thread safety: none needed; reads the file system, keeps no state.
//
// Invariants:
//  1. Nothing is written, nothing is stopped. A process that ends meanwhile was never there.
//  2. A segment is its memfd's device and inode, whatever the mapping's name and address are; only
//     mappings on the device where the kernel keeps memfds count, so a file that borrows the name
//     on some other file system (one that could block its readers) is never touched.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace tssx::stat_tool {

struct SegmentId {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint64_t inode = 0;
  auto operator<=>(const SegmentId&) const = default;
};

// "00:01:1234", with the device in hexadecimal as /proc/PID/maps has it.
[[nodiscard]] std::string to_string(const SegmentId& id);

// A process that maps the segment's first page, and where.
struct Mapper {
  pid_t pid;
  std::uint64_t address;
};

struct FoundSegment {
  SegmentId id;
  std::vector<Mapper> mappers;  // each process once, in the order of /proc
};

// A small piece of shared anonymous memory, which may be a record of the library's (core/record.h):
// what it holds decides.
struct FoundPage {
  SegmentId id;
  std::uint64_t size;           // bytes that are mapped
  std::vector<Mapper> mappers;  // each process once, in the order of /proc
};

struct Scan {
  std::vector<FoundSegment> segments;
  std::vector<FoundPage> pages;
  std::unordered_set<pid_t> hidden;  // processes the caller may not look at
  bool complete = true;  // false: the caller's view of /proc may lack processes (hidepid)
};

struct MapsEntry {
  std::uint64_t address;
  std::uint64_t size;
  SegmentId id;
};

// One line of /proc/PID/maps; nullopt unless it is a shared, readable mapping of a segment's start.
[[nodiscard]] std::optional<MapsEntry> parse_maps_line(std::string_view line);

// The same for a small shared anonymous mapping.
[[nodiscard]] std::optional<MapsEntry> parse_page_line(std::string_view line);

// All processes. proc: a descriptor of /proc. nullopt, with errno, if it can't be listed.
[[nodiscard]] std::optional<Scan> scan_processes(int proc);

// These processes alone.
[[nodiscard]] Scan scan_processes(int proc, std::span<const pid_t> pids);

// Whether the process maps a file whose path ends like that, be it still there or not. nullopt: the
// process may not be looked at, or is gone.
[[nodiscard]] std::optional<bool> maps_file(int proc, pid_t pid, std::string_view name);

}  // namespace tssx::stat_tool
