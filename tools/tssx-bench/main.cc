// tssx-bench: measures the same sockets without and with libtssx.so, in turn.
//
// It starts itself again for each measurement, preloaded or not; what those processes do is in
// worker/.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "tools/preload/library.h"
#include "tools/tssx-bench/cell.h"
#include "tools/tssx-bench/interrupt.h"
#include "tools/tssx-bench/measure.h"
#include "tools/tssx-bench/options.h"
#include "tools/tssx-bench/render_json.h"
#include "tools/tssx-bench/render_text.h"
#include "tools/tssx-bench/scratch.h"
#include "tools/tssx-bench/worker/lead.h"
#include "tools/tssx-bench/worker_process.h"

namespace tssx::bench {
namespace {

std::vector<Cell> chosen_cells(const Options& options) {
  Cell::Level level = Cell::Level::usual;
  if (options.quick) level = Cell::Level::quick;
  if (options.all) level = Cell::Level::rare;
  return select_cells(all_cells(), options.globs, level);
}

Plan make_plan(const Options& options) {
  Plan plan;
  plan.base = {"kernel", {}, {}};
  if (!options.against.empty()) plan.base = {"against", preload::find_library(options.against), {}};
  plan.ours = {"tssx", preload::find_library(options.library), {}};
  if (!options.beside.empty()) {
    plan.base = {"alone", plan.ours.library, {}};
    plan.ours = {"beside", plan.ours.library, options.beside};
  }
  plan.rounds = options.rounds != 0 ? options.rounds : options.quick ? 3 : 5;
  plan.seconds = options.seconds > 0 ? options.seconds : options.quick ? 0.2 : 0.5;
  plan.patience = options.timeout;
  return plan;
}

// Each line as soon as it is known: a run may take long.
bool print(const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
         std::fflush(stdout) == 0;
}

int run(const Options& options) {
  const std::vector<Cell> cells = chosen_cells(options);
  if (cells.empty()) {
    fmt::print(stderr, "tssx-bench: no cell matches; see --list\n");
    return kExitUsage;
  }
  if (options.list) {
    bool printed = true;
    for (const Cell& cell : cells) printed = printed && print(cell.name + "\n");
    return printed ? kExitOk : kExitFailure;
  }
  const Plan plan = make_plan(options);
  catch_interruptions();
  adopt_orphans();
  std::vector<CellResult> results;
  bool failed = false;
  {
    const ScratchDirectory scratch;
    if (!options.json) failed = !print(render_heading(plan));
    for (const Cell& cell : cells) {
      CellResult result = measure(cell, plan, scratch);
      if (interrupted() != 0) break;
      if (!options.json && !print(render_cell(result))) failed = true;
      if (!result.error.empty()) failed = true;
      results.push_back(std::move(result));
    }
  }
  // Nothing is left behind by now, also when interrupted; what was measured is told.
  const std::string rest =
      options.json ? render_json(this_machine(), plan, results) : render_best_placements(results);
  if (!print(rest)) failed = true;
  if (const int signal = interrupted()) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
  }
  return failed ? kExitFailure : kExitOk;
}

}  // namespace
}  // namespace tssx::bench

int main(int argc, char** argv) try {
  using namespace tssx::bench;
  if (argc > 1 && std::strcmp(argv[1], "--worker") == 0) {
    return run_worker(std::vector<std::string>(argv + 2, argv + argc));
  }
  Options options;
  if (const auto exit_code = parse_options(argc, argv, options)) return *exit_code;
  return run(options);
} catch (const std::exception& error) {
  fmt::print(stderr, "tssx-bench: {}\n", error.what());
  return tssx::bench::kExitFailure;
}
