#include "tools/tssx-bench/options.h"

#include <CLI/CLI.hpp>

namespace tssx::bench {
namespace {

constexpr const char* kVersion = "tssx-bench 0.1.0";

}  // namespace

std::optional<int> parse_options(int argc, const char* const* argv, Options& options) {
  CLI::App app("Measures AF_UNIX connections over the kernel and over shared memory in turn.");
  app.name("tssx-bench");
  app.set_version_flag("--version", kVersion);
  app.add_option("--filter", options.globs,
                 "Measure the cells whose names match this pattern, in which * also matches / "
                 "(repeatable)")
      ->expected(1)
      ->allow_extra_args(false)  // what follows the value is no second one
      ->take_all();
  app.add_flag("--list", options.list, "Print the names of the chosen cells, and measure nothing");
  auto* quick = app.add_flag("--quick", options.quick, "A choice of cells, and less time for each");
  app.add_flag("--all", options.all, "All cells")->excludes(quick);
  app.add_option("--rounds", options.rounds, "Times each side is measured (5; --quick: 3)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--seconds", options.seconds, "Length of each measurement (0.5; --quick: 0.2)")
      ->check(CLI::Range(0.001, 3600.0));
  app.add_option("--timeout", options.timeout,
                 "Seconds that a measurement may take beyond its length (30)")
      ->check(CLI::Range(0.1, 3600.0));
  app.add_option("--lib", options.library, "The libtssx.so to measure");
  CLI::Option* against = app.add_option("--against", options.against,
                                        "Compare with this libtssx.so in place of the kernel");
  app.add_option("--beside", options.beside,
                 "Measure the library on both sides, and on the second one while this command runs")
      ->type_name("COMMAND")
      ->excludes(against);
  app.add_flag("--json", options.json, "Print JSON instead of a table");
  app.footer(
      "Each line has the median of the rounds, the lowest and the highest. TIMES BETTER compares\n"
      "the sides round by round.\n"
      "Exit status: 0 success; 1 a cell could not be measured; 2 usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return std::nullopt;
}

}  // namespace tssx::bench
