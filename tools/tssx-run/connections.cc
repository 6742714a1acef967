#include "tools/tssx-run/connections.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "tools/tssx-stat/escape.h"
#include "tools/tssx-stat/proc_file.h"
#include "tools/tssx-stat/segment_reader.h"
#include "tools/tssx-stat/snapshot.h"

namespace tssx::run_tool {
namespace {

// A program may make processes faster than they can be followed.
constexpr std::size_t kMaxProcesses = 10'000;

// The children of all its threads. Empty where the kernel has no CONFIG_PROC_CHILDREN.
std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  std::error_code gone;
  const std::filesystem::directory_iterator threads(fmt::format("/proc/{}/task", pid), gone);
  if (gone) return children;
  for (auto at = begin(threads); at != end(threads); at.increment(gone)) {
    stat_tool::LineReader list(AT_FDCWD, (at->path() / "children").c_str());
    list.read([&](std::string_view line) {
      while (!line.empty()) {
        const std::size_t length = std::min(line.find(' '), line.size());
        pid_t child = 0;
        std::from_chars(line.data(), line.data() + length, child);
        if (child > 0) children.push_back(child);
        line.remove_prefix(std::min(length + 1, line.size()));
      }
    });
    if (gone) break;
  }
  return children;
}

}  // namespace

void Connections::look(pid_t program) {
  const stat_tool::UniqueFd proc = stat_tool::open_proc();
  if (!proc) return;
  if (stat_tool::maps_file(proc.get(), program, library_).value_or(false)) loaded_ = true;
  std::vector<pid_t> found{program};
  for (std::size_t i = 0; i < found.size() && i < kMaxProcesses; ++i) {
    const std::vector<pid_t> children = children_of(found[i]);
    found.insert(found.end(), children.begin(), children.end());
  }
  stat_tool::Scan scan = stat_tool::scan_processes(proc.get(), found);
  for (const stat_tool::ReadSegment& read : read_segments(scan).all) {
    if (is_on_rings(read.snapshot)) on_rings_.emplace(read.found->id, read.snapshot.path);
  }
  if (!scan.hidden.empty()) denied_ = true;
}

std::string Connections::report(const std::string& speaker, const std::string& after) const {
  if (on_rings_.empty()) {
    const char* reason = "";
    if (denied_) {
      reason = "; it may not be looked at";
    } else if (!loaded_) {
      reason = "; it was not seen to load the library";
    }
    return fmt::format("{}no connection over shared memory {}{}\n", speaker, after, reason);
  }
  std::map<std::string, std::size_t> counts;
  for (const auto& [id, path] : on_rings_) ++counts[path];
  std::string text;
  for (const auto& [path, count] : counts) {
    std::string shown = path;
    if (shown.starts_with('\0')) shown.front() = '@';
    text += fmt::format("{}{} connection{} over shared memory {}: {}\n", speaker, count,
                        count == 1 ? "" : "s", after, stat_tool::escape(shown, {}));
  }
  return text;
}

}  // namespace tssx::run_tool
