// differential: runs the same programs of socket calls on the kernel's sockets and on ours, and
// compares everything that each call gives. docs/testing.md says how to use it.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <new>
#include <random>
#include <set>
#include <sstream>

#include "tests/differential/board.h"
#include "tests/differential/generate.h"
#include "tests/differential/model.h"
#include "tests/differential/oracle.h"
#include "tests/differential/server.h"
#include "tests/differential/shrink.h"

namespace differential {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string library;
  std::uint64_t seed = 0;
  std::uint64_t first = 0;
  std::uint64_t programs = 1'000'000;
  long seconds = 0;
  int jobs = 1;
  int differences = 1;
  std::string output;
};

// What the jobs count together.
struct Totals {
  std::atomic<std::uint64_t> next_batch;
  std::atomic<std::uint64_t> programs;
  std::atomic<long> differences;
  std::atomic<long> flaky;
  std::atomic<long> hung;
};

std::string read_file(const std::string& name) {
  std::ifstream file(name);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw std::runtime_error("cannot read " + name);
  return text.str();
}

// One write, so that the jobs' lines do not mix.
void say(const std::string& text) {
  [[maybe_unused]] const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
}

class Job {
 public:
  Job(const Options& options, Totals& totals)
      : options_(options), totals_(totals), oracle_(options.library) {}

  void run(Clock::time_point end) {
    while (totals_.differences + totals_.flaky < options_.differences) {
      if (options_.seconds != 0 && Clock::now() >= end) return;
      const std::uint64_t begin = totals_.next_batch.fetch_add(1) * kMaxBatch;
      if (begin >= options_.programs) return;
      const auto count =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(kMaxBatch, options_.programs - begin));
      const std::uint64_t first = options_.first + begin;
      std::vector<std::uint32_t> hung;
      const std::vector<std::uint32_t> differ = oracle_.run(options_.seed, first, count, hung);
      totals_.programs += count;
      for (const std::uint32_t i : hung) {
        ++totals_.hung;
        report("hung", first + i, print(generate(options_.seed, first + i)));
      }
      for (const std::uint32_t i : differ) {
        if (totals_.differences + totals_.flaky >= options_.differences) break;
        examine(first, count, i);
      }
    }
  }

 private:
  void examine(std::uint64_t first, std::uint32_t count, std::uint32_t i) {
    Program program = generate(options_.seed, first + i);
    std::optional<Difference> difference;
    for (int tries = 0; tries < 3 && !difference; ++tries) {
      difference = oracle_.play(program, kPatience);
    }
    if (!difference) {
      report_flaky(first, count, i, program);
      return;
    }
    program = shrink(oracle_, std::move(program), *difference);
    const std::string text = difference->print(program);
    if (!seen_.insert(print(program)).second) return;
    ++totals_.differences;
    report("difference", first + i, text);
  }

  // What a program gave in its batch and not alone: by chance, or by what came before it.
  void report_flaky(std::uint64_t first, std::uint32_t count, std::uint32_t i,
                    const Program& program) {
    ++totals_.flaky;
    std::vector<std::uint32_t> hung;
    int again = 0;
    for (int tries = 0; tries < 3; ++tries) {
      const std::vector<std::uint32_t> differ = oracle_.run(options_.seed, first, count, hung);
      again += std::find(differ.begin(), differ.end(), i) != differ.end();
    }
    report("flaky", first + i,
           "# alone it did not differ in 3 runs; its batch (--first " + std::to_string(first) +
               " --programs " + std::to_string(count) + ") differed again here in " +
               std::to_string(again) + " of 3 runs\n" + print(program));
  }

  void report(const std::string& kind, std::uint64_t index, const std::string& text) {
    const std::string name =
        kind + "-" + std::to_string(options_.seed) + "-" + std::to_string(index);
    const std::string all = "# " + kind + ": --seed " + std::to_string(options_.seed) +
                            " --first " + std::to_string(index) + " --programs 1\n" + text;
    say("\n" + all + "\n");
    if (options_.output.empty()) return;
    std::ofstream file(options_.output + "/" + name + ".txt");
    file << all;
  }

  const Options& options_;
  Totals& totals_;
  Oracle oracle_;
  std::set<std::string> seen_;
};

int search(const Options& options) {
  void* memory =
      ::mmap(nullptr, sizeof(Totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("mmap");
  auto& totals = *new (memory) Totals{};
  const auto start = Clock::now();
  const auto end = start + std::chrono::seconds(options.seconds);
  say("seed " + std::to_string(options.seed) + ", up to " + std::to_string(options.programs) +
      " programs from " + std::to_string(options.first) + " on" +
      (options.seconds != 0 ? ", " + std::to_string(options.seconds) + " s at most" : "") + "\n");
  std::vector<pid_t> jobs;
  for (int i = 0; i < options.jobs; ++i) {
    const pid_t job = ::fork();
    if (job == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      try {
        Job(options, totals).run(end);
      } catch (const std::exception& error) {
        say(std::string("differential: ") + error.what() + "\n");
        ::_exit(1);
      }
      ::_exit(0);
    }
    jobs.push_back(job);
  }
  bool failed = false;
  for (const pid_t job : jobs) {
    int status = -1;
    ::waitpid(job, &status, 0);
    failed = failed || status != 0;
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::printf(
      "%llu programs in %.0f s (%.0f/s), %ld differences, %ld flaky, %ld hung on the kernel\n",
      static_cast<unsigned long long>(totals.programs), seconds,
      static_cast<double>(totals.programs) / seconds, totals.differences.load(),
      totals.flaky.load(), totals.hung.load());
  return failed || totals.differences != 0 || totals.flaky != 0 || totals.hung != 0 ? 1 : 0;
}

int replay(const Options& options, const std::vector<std::string>& files, bool show) {
  Oracle oracle(options.library);
  int differ = 0;
  for (const std::string& file : files) {
    const Program program = parse(read_file(file));
    if (const auto refusal = refuse(program)) {
      std::cout << file << ": not to be compared: " << *refusal << "\n";
      ++differ;
      continue;
    }
    std::optional<Difference> difference;
    for (std::uint64_t i = 0; i < std::max<std::uint64_t>(options.programs, 1) && !difference;
         ++i) {
      difference = oracle.play(program, kPatience);
    }
    if (!difference) {
      std::cout << file << ": the same\n";
      continue;
    }
    ++differ;
    std::cout << file << ": differs\n" << difference->print(program);
    if (!show) continue;
    Program small = shrink(oracle, program, *difference);
    std::cout << "shrunk:\n" << difference->print(small);
  }
  return differ == 0 ? 0 : 1;
}

int run(int argc, char** argv) {
  CLI::App app{"Compares the kernel's sockets with the library's on random programs"};
  Options options;
  std::vector<std::string> files;
  std::string directory;
  bool show = false, shrinks = false;
  app.add_option("--library", options.library, "The libtssx.so under test")->envname("TSSX_LIB");
  CLI::Option* seed = app.add_option("--seed", options.seed, "Default: a new one each time");
  app.add_option("--first", options.first, "Number of the first program, 0");
  CLI::Option* programs =
      app.add_option("--programs", options.programs, "How many; with --replay, how often each");
  app.add_option("--seconds", options.seconds,
                 "End after about that time; 0: not before the programs do");
  app.add_option("--jobs", options.jobs, "How many at a time, 1");
  app.add_option("--differences", options.differences, "End after that many, 1");
  app.add_option("--output", options.output, "A directory for the programs that differ");
  app.add_option("--replay", files, "Run these programs instead of random ones");
  app.add_flag("--shrink", shrinks, "With --replay: also make them smaller");
  app.add_flag("--print", show, "Print the programs instead of running them");
  app.add_option("--serve", directory, "For internal use")->group("");
  CLI11_PARSE(app, argc, argv);

  if (!directory.empty()) return serve(directory);
  if (seed->count() == 0) options.seed = std::random_device{}();
  if (show) {
    for (std::uint64_t i = 0; i < (programs->count() == 0 ? 1 : options.programs); ++i) {
      std::cout << "# " << options.first + i << "\n"
                << print(generate(options.seed, options.first + i)) << "\n";
    }
    return 0;
  }
  if (options.library.empty()) throw std::runtime_error("--library or TSSX_LIB is needed");
  if (::access(options.library.c_str(), R_OK) != 0)
    throw std::runtime_error("no " + options.library);
  if (!files.empty()) {
    if (programs->count() == 0) options.programs = 1;
    return replay(options, files, shrinks);
  }
  return search(options);
}

}  // namespace
}  // namespace differential

int main(int argc, char** argv) {
  // What a server that has gone leaves unread is told by the call.
  ::signal(SIGPIPE, SIG_IGN);
  try {
    return differential::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "differential: " << error.what() << "\n";
    return 2;
  }
}
