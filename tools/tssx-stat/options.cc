#include "tools/tssx-stat/options.h"

#include <CLI/CLI.hpp>
#include <limits>
#include <string>
#include <vector>

namespace tssx::stat_tool {
namespace {

constexpr const char* kVersion = "tssx-stat 0.1.0";

constexpr const char* kFooter =
    "On a terminal numbers are rounded and colours show the states, unless NO_COLOR is set.\n"
    "Exit status: 0 success, also if there is nothing to show; 1 /proc can't be read or the\n"
    "output can't be written; 2 usage; 3 show or explain found nothing by that name.";

// What only makes sense for some commands; empty: all right.
std::string contradiction(const Options& options) {
  const bool lists = options.command == Command::connections;
  if (options.watch && !lists) return "--watch shows connections only";
  if (options.watch && options.format != Format::table) {
    return "--watch shows a screen, and no other format";
  }
  if (!lists && (options.format == Format::prometheus || options.format == Format::summary)) {
    return "--prometheus and --summary are about all connections";
  }
  return {};
}

}  // namespace

std::optional<int> parse_options(int argc, char** argv, Options& options) {
  CLI::App app("Shows the AF_UNIX connections of this machine that run over shared memory.");
  app.name("tssx-stat");
  app.set_version_flag("--version", kVersion);
  app.fallthrough();
  app.require_subcommand(0, 1);

  bool json = false;
  bool prometheus = false;
  bool summary = false;
  double watch = 2;
  CLI::Option* json_option = app.add_flag("--json", json, "Print JSON instead of a table");
  CLI::Option* prometheus_option =
      app.add_flag("--prometheus", prometheus, "Print metrics in the text format of Prometheus")
          ->excludes(json_option);
  app.add_flag("--summary", summary, "Print totals only")
      ->excludes(json_option)
      ->excludes(prometheus_option);
  CLI::Option* watch_option =
      app.add_option("--watch", watch,
                     "Show a live screen, anew every so many seconds (default 2, at least 0.1); "
                     "q quits, s and the arrows choose the order and what is seen")
          ->check(CLI::Range(0.1, 3600.0))
          ->expected(0, 1);
  app.add_option("-p,--pid", options.pids, "Only connections that this process holds (repeatable)")
      ->check(CLI::Range(1, std::numeric_limits<pid_t>::max()))
      ->expected(1)
      ->allow_extra_args(false)  // what follows the value is no second one
      ->take_all();
  app.add_option("--path", options.globs,
                 "Only connections whose listening socket's path matches this pattern, in which * "
                 "also matches /; abstract names start with @ (repeatable)")
      ->expected(1)
      ->allow_extra_args(false)  // what follows the value is no second one
      ->take_all();
  std::string sort;
  std::vector<std::string> keys;
  for (const SortName& name : kSortNames) keys.emplace_back(name.name);
  app.add_option("--sort", sort,
                 "Order: path, age, bytes, messages, rate, waiting, state, pid or program")
      ->check(CLI::IsMember(keys))
      ->type_name("KEY");
  app.add_option("--interval", options.interval,
                 "Seconds between the two looks that rates are measured by (default 0.1); 0: no "
                 "rates")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_flag("-v,--verbose", options.verbose, "Say on stderr what could not be done");
  app.footer(kFooter);

  CLI::App* show = app.add_subcommand("show", "Everything about one connection");
  show->add_option("ID", options.target, "Its ID as the table has it")->required();
  CLI::App* listeners =
      app.add_subcommand("listeners", "Listening sockets, and which of them would offer");
  CLI::App* explain = app.add_subcommand(
      "explain", "Why the connections of a process, or to a path, are not in shared memory");
  explain->add_option("PID|PATH", options.target, "A process ID, or a pattern of paths")
      ->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  for (const SortName& name : kSortNames) {
    if (name.name == sort) options.sort = name.key;
  }
  if (show->parsed()) options.command = Command::show;
  if (listeners->parsed()) options.command = Command::listeners;
  if (explain->parsed()) options.command = Command::explain;
  if (json) options.format = Format::json;
  if (prometheus) options.format = Format::prometheus;
  if (summary) options.format = Format::summary;
  if (watch_option->count() != 0) options.watch = watch;
  if (const std::string problem = contradiction(options); !problem.empty()) {
    return app.exit(CLI::ValidationError(problem)) == 0 ? kExitOk : kExitUsage;
  }
  return std::nullopt;
}

}  // namespace tssx::stat_tool
