#include "tools/tssx-stat/scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <map>
#include <memory>
#include <utility>

#include "core/layout.h"
#include "tools/tssx-stat/proc_file.h"

namespace tssx::stat_tool {
namespace {

constexpr std::string_view kDeleted = " (deleted)";
constexpr std::string_view kPageName = "/dev/zero (deleted)";
// A Side is one page; the environment's patterns may take a few.
constexpr std::uint64_t kLargestPage = std::uint64_t{256} << 10U;

const std::string& mapping_name() {
  static const std::string name = std::string("/memfd:") + kSegmentName + " (deleted)";
  return name;
}

// Takes a number off the front of text, up to and with the separator.
template <typename T>
bool take_number(std::string_view& text, T& value, int base, char separator) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  const auto used = static_cast<std::size_t>(end - text.data());
  if (error != std::errc{} || used >= text.size() || *end != separator) return false;
  text.remove_prefix(used + 1);
  return true;
}

// Every memfd lives on one internal mount of the kernel. Device of a memfd, or nullopt.
std::optional<dev_t> memfd_device() {
  const UniqueFd probe(::memfd_create("tssx-stat-probe", MFD_CLOEXEC));
  struct ::stat status {};
  if (!probe || ::fstat(probe.get(), &status) != 0) return std::nullopt;
  return status.st_dev;
}

class Scanner {
 public:
  // Asked for once: a sandbox may forbid it later.
  explicit Scanner(int proc) : proc_(proc) {
    static const std::optional<dev_t> device = memfd_device();
    device_ = device;
  }

  void visit(pid_t pid) {
    LineReader maps(proc_, fmt::format("{}/maps", pid).c_str());
    maps.read([&](std::string_view line) { visit_line(pid, line); }, kDeleted);
    if (maps.error() == EACCES || maps.error() == EPERM) scan_.hidden.insert(pid);
  }

  Scan finish() {
    struct ::stat status {};
    scan_.complete = ::fstatat(proc_, "1", &status, AT_SYMLINK_NOFOLLOW) == 0;
    return std::move(scan_);
  }

 private:
  void visit_line(pid_t pid, std::string_view line) {
    if (const auto entry = parse_maps_line(line)) {
      note(pid, *entry, scan_.segments, segment_index_, [&] {
        return FoundSegment{entry->id, {}};
      });
    } else if (const auto page = parse_page_line(line)) {
      note(pid, *page, scan_.pages, page_index_, [&] {
        return FoundPage{page->id, page->size, {}};
      });
    }
  }

  template <typename Found, typename Make>
  void note(pid_t pid, const MapsEntry& entry, std::vector<Found>& all,
            std::map<SegmentId, std::size_t>& index, Make&& make) {
    const SegmentId& id = entry.id;
    if (device_ && *device_ != ::makedev(id.major, id.minor)) return;
    const auto [position, is_new] = index.try_emplace(id, all.size());
    if (is_new) all.push_back(make());
    auto& mappers = all[position->second].mappers;
    if (mappers.empty() || mappers.back().pid != pid) mappers.push_back({pid, entry.address});
  }

  int proc_;
  std::optional<dev_t> device_;
  Scan scan_;
  std::map<SegmentId, std::size_t> segment_index_;
  std::map<SegmentId, std::size_t> page_index_;
};

}  // namespace

std::string to_string(const SegmentId& id) {
  return fmt::format("{:02x}:{:02x}:{}", id.major, id.minor, id.inode);
}

namespace {

// start-end perms offset major:minor inode    name
std::optional<MapsEntry> parse_line(std::string_view line, std::string_view name) {
  MapsEntry entry{};
  std::uint64_t end = 0;
  std::uint64_t offset = 0;
  if (!take_number(line, entry.address, 16, '-') || !take_number(line, end, 16, ' ')) {
    return std::nullopt;
  }
  if (line.size() < 5 || line[0] != 'r' || line[3] != 's' || line[4] != ' ') return std::nullopt;
  line.remove_prefix(5);
  if (!take_number(line, offset, 16, ' ') || !take_number(line, entry.id.major, 16, ':') ||
      !take_number(line, entry.id.minor, 16, ' ') || !take_number(line, entry.id.inode, 10, ' ')) {
    return std::nullopt;
  }
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  if (line != name || offset != 0 || end < entry.address) return std::nullopt;
  entry.size = end - entry.address;
  if (entry.size < kHeaderSize) return std::nullopt;
  return entry;
}

}  // namespace

std::optional<MapsEntry> parse_maps_line(std::string_view line) {
  return parse_line(line, mapping_name());
}

std::optional<MapsEntry> parse_page_line(std::string_view line) {
  const auto entry = parse_line(line, kPageName);
  return entry && entry->size <= kLargestPage ? entry : std::nullopt;
}

Scan scan_processes(int proc, std::span<const pid_t> pids) {
  Scanner scanner(proc);
  for (const pid_t pid : pids) scanner.visit(pid);
  return scanner.finish();
}

std::optional<bool> maps_file(int proc, pid_t pid, std::string_view name) {
  bool found = false;
  LineReader maps(proc, fmt::format("{}/maps", pid).c_str());
  maps.read(
      [&](std::string_view line) {
        if (line.ends_with(kDeleted)) line.remove_suffix(kDeleted.size());
        found = found || line.ends_with(name);
      },
      name);
  return maps.error() == 0 ? std::optional(found) : std::nullopt;
}

std::optional<Scan> scan_processes(int proc) {
  const int copy = ::openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return std::nullopt;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::fdopendir(copy), ::closedir);
  if (!listing) {
    ::close(copy);
    return std::nullopt;
  }
  Scanner scanner(proc);
  while (const dirent* entry = ::readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error == std::errc{} && end == name.data() + name.size() && pid > 0) scanner.visit(pid);
  }
  return scanner.finish();
}

}  // namespace tssx::stat_tool
