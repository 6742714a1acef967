#include "tools/tssx-stat/processes.h"

#include <fmt/format.h>
#include <limits.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "tools/tssx-stat/proc_file.h"

namespace tssx::stat_tool {
namespace {

constexpr std::size_t kCommLimit = 15;

std::string_view first_field(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of("\t "), text.size());
  text.remove_prefix(begin);
  return text.substr(0, text.find_first_of("\t "));
}

std::string_view last_field(std::string_view text) {
  const std::size_t before = text.find_last_of("\t ");
  return before == std::string_view::npos ? text : text.substr(before + 1);
}

template <typename T>
void assign_number(std::string_view text, T& value) {
  std::from_chars(text.data(), text.data() + text.size(), value);
}

class UserNames {
 public:
  // Remembered for as long as the program runs: a sandbox may forbid to ask again.
  const std::string& of(uid_t uid) {
    static std::unordered_map<uid_t, std::string> names;
    const auto [position, is_new] = names.try_emplace(uid);
    if (is_new) {
      const passwd* entry = ::getpwuid(uid);
      position->second = entry != nullptr ? std::string(entry->pw_name) : fmt::format("{}", uid);
    }
    return position->second;
  }
};

std::string read_comm(int proc, pid_t pid) {
  // Not line by line: a name may contain newlines, the kernel adds the last one.
  std::string comm;
  LineReader reader(proc, fmt::format("{}/comm", pid).c_str());
  reader.read([&](std::string_view line) { comm.append(line).push_back('\n'); });
  if (!comm.empty()) comm.pop_back();
  return comm;
}

std::string read_executable(int proc, pid_t pid) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length =
      ::readlinkat(proc, fmt::format("{}/exe", pid).c_str(), target.data(), target.size());
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : std::string();
}

std::optional<Process> identify(int proc, pid_t pid, UserNames& names) {
  LineReader reader(proc, fmt::format("{}/status", pid).c_str());
  if (reader.error() != 0) return std::nullopt;
  Status status;
  reader.read([&](std::string_view line) { parse_status_line(line, status); });
  if (reader.error() != 0) return std::nullopt;
  const std::string comm = read_comm(proc, pid);
  const bool maybe_cut = comm.size() >= kCommLimit;
  return Process{status.parent, status.inner_pid != 0 ? status.inner_pid : pid,
                 program_name(comm, maybe_cut ? read_executable(proc, pid) : std::string()),
                 names.of(status.uid)};
}

}  // namespace

void parse_status_line(std::string_view line, Status& status) {
  const auto value_of = [&](std::string_view key) -> std::optional<std::string_view> {
    if (line.substr(0, key.size()) != key) return std::nullopt;
    return line.substr(key.size());
  };
  if (const auto value = value_of("PPid:")) {
    assign_number(first_field(*value), status.parent);
  } else if (const auto ids = value_of("Uid:")) {
    assign_number(first_field(*ids), status.uid);
  } else if (const auto pids = value_of("NSpid:")) {
    assign_number(last_field(*pids), status.inner_pid);
  }
}

std::string program_name(std::string_view comm, std::string_view executable) {
  constexpr std::string_view kDeleted = " (deleted)";
  if (executable.size() >= kDeleted.size() &&
      executable.substr(executable.size() - kDeleted.size()) == kDeleted) {
    executable.remove_suffix(kDeleted.size());
  }
  const std::string_view name = executable.substr(executable.rfind('/') + 1);
  const bool completes = comm.size() >= kCommLimit && name.substr(0, comm.size()) == comm;
  return std::string(completes ? name : comm);
}

void identify_more(int proc, const std::vector<pid_t>& pids, ProcessTable& table) {
  UserNames names;
  for (const pid_t pid : pids) {
    if (table.contains(pid)) continue;
    if (auto process = identify(proc, pid, names)) table.emplace(pid, *std::move(process));
  }
}

ProcessTable identify_processes(int proc, const Scan& scan) {
  ProcessTable table;
  if (scan.segments.empty() && scan.pages.empty()) return table;
  UserNames names;
  const auto add = [&](pid_t pid) {
    if (table.contains(pid)) return;
    if (auto process = identify(proc, pid, names)) table.emplace(pid, *std::move(process));
  };
  for (const FoundSegment& segment : scan.segments) {
    for (const Mapper& mapper : segment.mappers) add(mapper.pid);
  }
  for (const FoundPage& page : scan.pages) {
    for (const Mapper& mapper : page.mappers) add(mapper.pid);
  }
  for (const pid_t pid : scan.hidden) add(pid);
  return table;
}

}  // namespace tssx::stat_tool
