// tssx-stat: shows the connections of this machine that run over shared memory.
//
// The order is the security argument: options, then all of /proc that is needed, then user names,
// then the sandbox, and only then the memory that other users wrote.
#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <langinfo.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <exception>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "tools/tssx-stat/connection.h"
#include "tools/tssx-stat/proc_file.h"
#include "tools/tssx-stat/processes.h"
#include "tools/tssx-stat/render_json.h"
#include "tools/tssx-stat/render_text.h"
#include "tools/tssx-stat/report.h"
#include "tools/tssx-stat/sandbox.h"
#include "tools/tssx-stat/scan.h"
#include "tools/tssx-stat/segment_reader.h"

namespace tssx::stat_tool {
namespace {

constexpr const char* kVersion = "tssx-stat 0.1.0";
constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

struct Options {
  bool json = false;
  bool verbose = false;
  std::vector<pid_t> pids;
  std::vector<std::string> globs;
};

// nullopt: go on. Otherwise the exit code.
std::optional<int> parse_options(int argc, char** argv, Options& options) {
  CLI::App app("Shows the AF_UNIX connections of this machine that run over shared memory.");
  app.name("tssx-stat");
  app.set_version_flag("--version", kVersion);
  app.add_flag("--json", options.json, "Print JSON instead of a table");
  app.add_option("-p,--pid", options.pids, "Only connections that this process holds (repeatable)")
      ->check(CLI::Range(1, std::numeric_limits<pid_t>::max()))
      ->expected(1)
      ->take_all();
  app.add_option("--path", options.globs,
                 "Only connections whose listening socket's path matches this pattern, in which * "
                 "also matches /; abstract names start with @ (repeatable)")
      ->expected(1)
      ->take_all();
  app.add_flag("-v,--verbose", options.verbose, "Say on stderr what could not be done");
  app.footer(
      "WAITING is what lies unread in the ring, HOLDERS the reference counts of server and "
      "client.\n"
      "Exit status: 0 success, also if there is nothing to show; 1 /proc can't be read or the\n"
      "output can't be written; 2 usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return std::nullopt;
}

// write(2) only: after the sandbox stdio has no business here.
bool print(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

void complain(std::string_view text) {
  (void)print(STDERR_FILENO, fmt::format("tssx-stat: {}\n", text));
}

bool is_wanted(const Connection& connection, const Options& options) {
  const auto holds = [&](pid_t pid) {
    const auto is = [pid](const Party& party) { return party.pid == pid; };
    return std::any_of(connection.parties.begin(), connection.parties.end(), is) ||
           std::find(connection.mappers.begin(), connection.mappers.end(), pid) !=
               connection.mappers.end();
  };
  // Embedded NULs, which only hostile abstract names have, end the name for the pattern.
  const auto matches = [&](const std::string& glob) {
    return ::fnmatch(glob.c_str(), connection.path.c_str(), 0) == 0;
  };
  return (options.pids.empty() || std::any_of(options.pids.begin(), options.pids.end(), holds)) &&
         (options.globs.empty() ||
          std::any_of(options.globs.begin(), options.globs.end(), matches));
}

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
         static_cast<std::uint64_t>(now.tv_nsec);
}

struct Gathered {
  Scan scan;
  ProcessTable processes;
};

// All that comes from /proc. No descriptor stays open. nullopt, with errno, if there is no /proc.
std::optional<Gathered> gather() {
  const UniqueFd proc(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!proc) return std::nullopt;
  std::optional<Scan> scan = scan_processes(proc.get());
  if (!scan) return std::nullopt;
  ProcessTable processes = identify_processes(proc.get(), *scan);
  return Gathered{*std::move(scan), std::move(processes)};
}

struct Read {
  const FoundSegment* segment;
  SegmentSnapshot snapshot;
};

Report make_report(Scan& scan, const ProcessTable& processes, const Options& options) {
  Report report;
  std::vector<Read> reads;
  Page page{};
  for (const FoundSegment& segment : scan.segments) {
    if (read_header_page(segment, page, scan.hidden) != ReadOutcome::ok) continue;
    if (auto snapshot = parse_segment(page)) {
      reads.push_back({&segment, *std::move(snapshot)});
    } else {
      ++report.unrecognized;
    }
  }
  // Described only now: reading may have added to the hidden.
  const Surroundings surroundings{processes, scan.hidden, scan.complete, now_ns()};
  for (const Read& read : reads) {
    Connection connection = describe(*read.segment, read.snapshot, surroundings);
    if (is_wanted(connection, options)) report.connections.push_back(std::move(connection));
  }
  std::sort(report.connections.begin(), report.connections.end(),
            [](const Connection& a, const Connection& b) {
              return std::tie(a.path, b.age_seconds, a.id) < std::tie(b.path, a.age_seconds, b.id);
            });
  report.hidden_processes = scan.hidden.size();
  return report;
}

int run(const Options& options) {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  const bool unicode = std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;

  std::optional<Gathered> gathered = gather();
  if (!gathered) {
    complain(fmt::format("/proc: {}", std::strerror(errno)));
    return kExitFailure;
  }
  const std::string no_sandbox = enter_sandbox();
  if (options.verbose && !no_sandbox.empty()) complain("no seccomp sandbox: " + no_sandbox);

  const Report report = make_report(gathered->scan, gathered->processes, options);
  const std::string remarks = render_remarks(report);
  std::string text;
  if (options.json) {
    text = render_json(report);
  } else {
    text = render_table(report, {terminal, unicode});
    // A table that a program reads stays a table; somebody who is told "none" is told all.
    if (terminal || report.connections.empty()) {
      text += remarks;
    } else {
      (void)print(STDERR_FILENO, remarks);
    }
  }
  if (!print(STDOUT_FILENO, text)) {
    complain(fmt::format("writing: {}", std::strerror(errno)));
    return kExitFailure;
  }
  return kExitOk;
}

}  // namespace
}  // namespace tssx::stat_tool

int main(int argc, char** argv) try {
  std::setlocale(LC_CTYPE, "");
  tssx::stat_tool::Options options;
  if (const auto exit_code = tssx::stat_tool::parse_options(argc, argv, options)) {
    return *exit_code;
  }
  return tssx::stat_tool::run(options);
} catch (const std::exception& error) {  // out of memory, in practice
  tssx::stat_tool::complain(error.what());
  return tssx::stat_tool::kExitFailure;
}
