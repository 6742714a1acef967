// tssx-run: starts a program with libtssx.so preloaded.
//
// It finds the library, refuses where preloading can't work, sets the environment and becomes the
// program by execve(2): process ID, signals, descriptors and exit status are the program's own.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/preload/library.h"
#include "tools/tssx-run/environment.h"
#include "tools/tssx-run/obstacle.h"
#include "tools/tssx-run/options.h"
#include "tools/tssx-run/search.h"
#include "tools/tssx-run/watcher.h"

namespace tssx::run_tool {
namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

// stdio has no business here: its buffers would be gone with the exec.
void complain(std::string_view text) {
  const std::string line = fmt::format("tssx-run: {}\n", text);
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

void set_environment(const Options& options, const std::string& library) {
  ::setenv("LD_PRELOAD", add_preload(variable("LD_PRELOAD"), library).c_str(), 1);
  if (!options.patterns.empty()) {
    ::setenv("USE_TSSX", list_patterns(options.patterns).c_str(), 1);
  }
  if (!options.ids.empty()) ::setenv("TSSX_IDS", options.ids.c_str(), 1);
}

// What is wrong with the execution of this program, as an exit code.
int exit_code_of(int error) { return error == ENOENT ? kExitNotFound : kExitNotExecutable; }

int run(const Options& options) {
  const std::string& name = options.command.front();
  if (options.patterns.empty() && variable("USE_TSSX").empty()) {
    complain("no socket is listed: give its path with -s, or set USE_TSSX");
    return kExitRefused;
  }
  const std::string library = preload::find_library(std::string(variable("TSSX_LIB")));
  const Caller caller = this_caller();
  std::string obstacle = find_library_obstacle(library, caller);
  if (!obstacle.empty()) {
    complain(obstacle);
    return kExitRefused;
  }
  const Found program = find_program(name, std::getenv("PATH"));
  if (program.error != 0) {
    complain(fmt::format("{}: {}", name, std::strerror(program.error)));
    return exit_code_of(program.error);
  }
  obstacle = find_obstacle(program.path, caller);
  if (!obstacle.empty()) {
    complain(obstacle);
    return kExitRefused;
  }
  set_environment(options, library);

  std::optional<Watcher> watcher;
  if (options.verify_seconds > 0) try {
      watcher.emplace(name.substr(name.rfind('/') + 1), library, options.verify_seconds);
    } catch (const std::exception& error) {
      complain(fmt::format("--verify is not possible, see tssx-stat(1): {}", error.what()));
    }
  std::vector<char*> arguments;
  for (const std::string& word : options.command) {
    arguments.push_back(const_cast<char*>(word.c_str()));  // execv(3) takes them so for C's sake
  }
  arguments.push_back(nullptr);
  // The path has a slash, so nothing is searched; a script without #! goes to the shell.
  ::execvp(program.path.c_str(), arguments.data());
  const int error = errno;
  if (watcher) watcher->dismiss();
  complain(fmt::format("{}: {}", program.path, std::strerror(error)));
  return exit_code_of(error);
}

}  // namespace
}  // namespace tssx::run_tool

int main(int argc, char** argv) try {
  tssx::run_tool::Options options;
  if (const auto exit_code = tssx::run_tool::parse_options(argc, argv, options)) return *exit_code;
  return tssx::run_tool::run(options);
} catch (const std::exception& error) {
  tssx::run_tool::complain(error.what());
  return tssx::run_tool::kExitRefused;
}
