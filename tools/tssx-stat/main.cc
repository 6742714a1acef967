// tssx-stat: shows the connections of this machine that run over shared memory.
//
// The order is the security argument: options, then all of /proc that is needed, then user names,
// then the sandbox, and only then the memory that other users wrote.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cmath>
#include <cstring>
#include <ctime>
#include <exception>
#include <optional>
#include <string>

#include "tools/tssx-stat/filter.h"
#include "tools/tssx-stat/options.h"
#include "tools/tssx-stat/output.h"
#include "tools/tssx-stat/render_json.h"
#include "tools/tssx-stat/render_prometheus.h"
#include "tools/tssx-stat/render_show.h"
#include "tools/tssx-stat/render_summary.h"
#include "tools/tssx-stat/sample.h"
#include "tools/tssx-stat/sandbox.h"

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

int run(const Options& options) {
  const TextStyle style = style_of_output();
  std::optional<Gathered> gathered = gather();
  if (!gathered) {
    complain(fmt::format("/proc: {}", std::strerror(errno)));
    return kExitFailure;
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
