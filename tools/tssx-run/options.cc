#include "tools/tssx-run/options.h"

#include <CLI/CLI.hpp>
#include <memory>

namespace tssx::run_tool {
namespace {

// The program is no option of ours that CLI11 would know of.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
    return "Usage: tssx-run [OPTIONS] [--] PROGRAM [ARGUMENT...]\n";
  }
  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    if (option->check_lname("verify")) return "--verify[=SECONDS]";
    return CLI::Formatter::make_option_name(option, positional);
  }
};

}  // namespace

std::optional<int> parse_options(int argc, const char* const* argv, Options& options) {
  CLI::App app("Starts a program whose listed AF_UNIX connections run over shared memory.");
  app.name("tssx-run");
  app.set_version_flag("--version", "tssx-run " TSSX_VERSION);
  app.formatter(std::make_shared<HelpFormatter>());
  app.prefix_command();  // what follows the first word that is no option is the program's
  app.add_option("-s,--socket", options.patterns,
                 "Path of a listening socket, or a pattern of paths as in USE_TSSX (repeatable); "
                 "without any, USE_TSSX stays as it is")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("PATH")
      ->check([](const std::string& path) {
        return path.empty() ? std::string("an empty path") : std::string();
      });
  app.add_option("--ids", options.ids, "What accept() returns, as TSSX_IDS says it")
      ->type_name("MODE")
      ->check(CLI::IsMember({"auto", "negative", "kernel"}));
  std::string seconds;  // CLI11 takes a flag's value for a number as an integer
  app.add_flag("--verify{2}", seconds,
               "Say on stderr after 2 seconds, or as many as given, or when the program has ended, "
               "which of its connections run over shared memory");
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("tssx-run: ") + error.what() + "; see tssx-run --help\n";
  });
  app.footer(
      "The program keeps this process: its ID, exit status, signals and standard streams.\n"
      "Exit status: that of the program; 125 options, no library, or nothing can be preloaded\n"
      "into that program; 126 it can't be executed; 127 there is no such program.");
  try {
    app.parse(argc, argv);
    if (app.count("--verify") != 0) {
      if (!CLI::detail::lexical_cast(seconds, options.verify_seconds) ||
          !(options.verify_seconds >= 0.01 && options.verify_seconds <= 3600)) {
        throw CLI::ValidationError("--verify", "a number of seconds from 0.01 to 3600");
      }
    }
    options.command = app.remaining();
    // An unknown option would be taken for the program.
    const bool separated = !options.command.empty() && options.command.front() == "--";
    if (separated) options.command.erase(options.command.begin());
    if (options.command.empty()) throw CLI::RequiredError("PROGRAM");
    if (!separated && options.command.front().starts_with("-")) {
      throw CLI::ExtrasError({options.command.front()});
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitRefused;
  }
  return std::nullopt;
}

}  // namespace tssx::run_tool
