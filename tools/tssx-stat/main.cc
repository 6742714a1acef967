// tssx-stat: shows the connections of this machine that run over shared memory.
//
// The order is the security argument: options, then all of /proc that is needed, then user names,
// then the sandbox, and only then the memory that other users wrote.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <clocale>
#include <cmath>
#include <cstring>
#include <ctime>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "tools/tssx-stat/filter.h"
#include "tools/tssx-stat/glob.h"
#include "tools/tssx-stat/links.h"
#include "tools/tssx-stat/options.h"
#include "tools/tssx-stat/output.h"
#include "tools/tssx-stat/render_explain.h"
#include "tools/tssx-stat/render_json.h"
#include "tools/tssx-stat/render_prometheus.h"
#include "tools/tssx-stat/render_show.h"
#include "tools/tssx-stat/render_summary.h"
#include "tools/tssx-stat/sample.h"
#include "tools/tssx-stat/sandbox.h"
#include "tools/tssx-stat/watch.h"

namespace tssx::stat_tool {
namespace {

void pause_for(double seconds) {
  timespec left{static_cast<time_t>(seconds),
                static_cast<long>((seconds - std::floor(seconds)) * 1e9)};
  while (::clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
  }
}

double monotonic_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// One look, or two where rates are wanted.
Report measure(Gathered& gathered, double interval) {
  Report first = take_sample(gathered);
  if (interval <= 0 || first.connections.empty()) return first;
  const double start = monotonic_seconds();
  pause_for(interval);
  Report second = take_sample(gathered);
  add_rates(second, first, monotonic_seconds() - start);
  return second;
}

int finish(std::string_view text) {
  if (print(STDOUT_FILENO, text)) return kExitOk;
  complain(fmt::format("writing: {}", std::strerror(errno)));
  return kExitFailure;
}

int show(const Report& report, const Options& options, TextStyle style) {
  const Connection* connection = find_connection(report, options.target);
  if (connection == nullptr) {
    complain(fmt::format("no connection has the ID {}", options.target));
    (void)print(STDERR_FILENO, render_remarks(report));
    return kExitNotFound;
  }
  if (options.format == Format::json) return finish(print_json(connection_json(*connection)));
  return finish(render_show(*connection, style));
}

int list(const Report& report, const Options& options, TextStyle style) {
  const std::string remarks = render_remarks(report);
  std::string text;
  switch (options.format) {
    case Format::json:
      return finish(render_json(report));
    case Format::prometheus:
      return finish(render_prometheus(report));
    case Format::summary:
      text = render_summary(report, style) + remarks;
      return finish(text);
    case Format::table:
      break;
  }
  text = render_table(report, style);
  // A table that a program reads stays a table; somebody who is told "none" is told all.
  if (style.human || report.connections.empty()) {
    text += remarks;
  } else {
    (void)print(STDERR_FILENO, remarks);
  }
  return finish(text);
}

void enter(const Options& options) {
  const std::string no_sandbox = enter_sandbox();
  if (options.verbose && !no_sandbox.empty()) complain("no seccomp sandbox: " + no_sandbox);
}

std::optional<pid_t> pid_of(const std::string& target) {
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(target.data(), target.data() + target.size(), pid);
  const bool all = error == std::errc{} && end == target.data() + target.size();
  return all && pid > 0 ? std::optional(pid) : std::nullopt;
}

bool holds(const std::vector<Holder>& holders, pid_t pid) {
  return std::any_of(holders.begin(), holders.end(),
                     [pid](const Holder& holder) { return holder.pid == pid; });
}

// Leaves what is about the process, or a path.
void select(Links& links, const Options& options) {
  const std::optional<pid_t> pid = pid_of(options.target);
  std::erase_if(links.connections, [&](const Link& link) {
    return pid ? !holds(link.server_holders, *pid) && !holds(link.client_holders, *pid)
               : !matches(options.target, link.facts.path);
  });
  std::erase_if(links.listeners, [&](const ListeningSocket& listener) {
    return pid ? !holds(listener.holders, *pid) : !matches(options.target, listener.path);
  });
}

int explain_target(Links& links, const Options& options, std::size_t hidden, TextStyle style) {
  select(links, options);
  const bool found = !links.connections.empty() || !links.listeners.empty();
  if (!found) {
    complain(fmt::format("{}: no Unix stream socket of that {}", options.target,
                         pid_of(options.target) ? "process" : "path"));
  }
  const bool json = options.format == Format::json;
  const int status = finish(json ? explain_json(links, hidden) : explain_text(links, style));
  return status == kExitOk && !found ? kExitNotFound : status;
}

int list_listeners(Links& links, const Options& options, std::size_t hidden, TextStyle style) {
  links.connections.clear();
  std::erase_if(links.listeners, [&](const ListeningSocket& listener) {
    const auto holds_it = [&](pid_t pid) { return holds(listener.holders, pid); };
    const auto names_it = [&](const std::string& glob) { return matches(glob, listener.path); };
    return (!options.pids.empty() &&
            std::none_of(options.pids.begin(), options.pids.end(), holds_it)) ||
           (!options.globs.empty() &&
            std::none_of(options.globs.begin(), options.globs.end(), names_it));
  });
  std::sort(links.listeners.begin(), links.listeners.end(),
            [](const ListeningSocket& a, const ListeningSocket& b) { return a.path < b.path; });
  if (options.format == Format::json) return finish(explain_json(links, hidden));
  return finish(listeners_text(links.listeners, style));
}

// explain and listeners.
int run_on_sockets(Gathered& gathered, const Options& options, TextStyle style) {
  const std::optional<GatheredSockets> sockets = gather_sockets(gathered);
  if (!sockets) {
    complain(fmt::format("the kernel does not list its Unix sockets: {}", std::strerror(errno)));
    return kExitFailure;
  }
  enter(options);
  const Report report = take_sample(gathered);
  Links links = assemble(gathered, *sockets, report);
  const std::size_t hidden = gathered.scan.hidden.size();
  if (hidden != 0 && options.format != Format::json) {
    Report remarks;
    remarks.hidden_processes = hidden;
    (void)print(STDERR_FILENO, render_remarks(remarks));
  }
  return options.command == Command::explain ? explain_target(links, options, hidden, style)
                                             : list_listeners(links, options, hidden, style);
}

int run(const Options& options) {
  const TextStyle style = style_of_output();
  if (options.watch) return watch(options, style);
  std::optional<Gathered> gathered = gather();
  if (!gathered) {
    complain(fmt::format("/proc: {}", std::strerror(errno)));
    return kExitFailure;
  }
  if (options.command == Command::explain || options.command == Command::listeners) {
    return run_on_sockets(*gathered, options, style);
  }
  enter(options);
  Report report = measure(*gathered, options.interval);
  if (options.command == Command::show) return show(report, options, style);
  apply_filters(report, options);
  return list(report, options, style);
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
