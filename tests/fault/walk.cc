// fault_walk: ends a process at each labelled point of the library in turn (core/fault_point.h), at
// the server's end and at the client's, and sees that the others live with it: they get all that
// was written, then the end as from a kernel's socket, soon; whoever shares the end goes on.
// docs/testing.md.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <new>
#include <regex>
#include <set>

#include "tests/fault/ledger.h"
#include "tests/fault/process.h"
#include "tests/fault/shapes.h"

namespace fault {
namespace {

constexpr double kPatience = 10;    // seconds that a run may take: far more than it needs
constexpr unsigned kLifetime = 30;  // of an actor, if this program is ended meanwhile
constexpr const char* kRoles[] = {"server", "client"};

struct FaultCount {
  std::uint64_t count;
  char label[56];
};

struct Options {
  std::string library;
  std::string source;
  std::string only_label;
  std::string only_shape;
  std::string action;
  int part = 0;
  int parts = 1;
  bool more = false;
  bool list = false;
  bool verbose = false;
};

std::vector<std::string> find_labels(const std::string& source) {
  std::set<std::string> labels;
  const std::regex point("^ *TSSX_FAULT_POINT\\(([a-z_]+)\\);");
  for (const char* folder : {"core", "shim"}) {
    for (const auto& file : std::filesystem::directory_iterator(source + "/" + folder)) {
      if (file.path().filename() == "fault_point.h") continue;
      std::ifstream text(file.path());
      for (std::string line; std::getline(text, line);) {
        std::smatch match;
        if (std::regex_search(line, match, point)) labels.insert(match[1]);
      }
    }
  }
  return {labels.begin(), labels.end()};
}

std::vector<std::string> all_shapes(const std::string& only) {
  std::vector<std::string> names;
  for (const Shape& shape : shapes()) {
    const std::string name = shape.name;
    if (shape.has_doer) {
      names.push_back(name + ".server");
      names.push_back(name + ".client");
    } else {
      names.push_back(name);
    }
  }
  if (!only.empty()) std::erase_if(names, [&](const std::string& name) { return name != only; });
  return names;
}

// --- one run ---

struct Outcome {
  bool died = false;    // a process was ended at the point
  std::string problem;  // empty: all is well
  double seconds = 0;   // from the death to the end of the last one
};

// What a process that hangs is at.
void show(pid_t process) {
  for (const char* what : {"stack", "syscall", "cmdline"}) {
    std::ifstream file("/proc/" + std::to_string(process) + "/" + what);
    for (std::string line; std::getline(file, line);) {
      std::replace(line.begin(), line.end(), '\0', ' ');
      std::fprintf(stderr, "    %d %s: %s\n", process, what, line.c_str());
    }
  }
}

class Run {
 public:
  Run(const Options& options, const std::string& shape) : options_(options), shape_(shape) {
    ledger_ = map_ledger(directory_.path("ledger"), true);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    end_groups(groups_);
    ::munmap(ledger_, sizeof(Ledger));
  }

  // `wish` is TSSX_FAULT of the victim's; `counts` a file for TSSX_FAULT_COUNTS of its.
  Outcome go(Role victim, const std::string& wish, const std::string& counts) {
    Outcome outcome;
    for (const Role role : {server, client}) {
      std::vector<std::string> environment = {"FAULT_LEDGER=" + directory_.path("ledger")};
      if (role == victim && !wish.empty()) environment.push_back("TSSX_FAULT=" + wish);
      if (role == victim && !counts.empty()) environment.push_back("TSSX_FAULT_COUNTS=" + counts);
      groups_.push_back(start({"fault_walk", "--act", shape_, kRoles[role],
                               directory_.path("socket"), directory_.path("ledger")},
                              options_.library, environment));
    }
    wait(outcome);
    return outcome;
  }

 private:
  void note_death(Outcome& outcome) {
    if (!outcome.died) death_ = seconds_now();
    outcome.died = true;
    ledger_->stop = 1;
  }

  void wait(Outcome& outcome) {
    const double deadline = seconds_now() + kPatience;
    for (;;) {
      int status = 0;
      const pid_t gone = ::waitpid(-1, &status, WNOHANG);
      if (gone < 0) break;  // none is left
      if (gone == 0) {
        if (seconds_now() > deadline) {
          outcome.problem = "hangs";
          for (const pid_t group : groups_) show_group(group);
          return;
        }
        ::usleep(500);
        continue;
      }
      if (WIFSIGNALED(status) || WEXITSTATUS(status) == kChildKilled) {
        const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : SIGKILL;
        if (signal != SIGKILL && signal != SIGABRT && signal != SIGSEGV) {
          outcome.problem = describe_status(status);
        }
        note_death(outcome);
      } else if (WEXITSTATUS(status) != 0) {
        outcome.problem = "a process found something wrong: " + describe_status(status);
        note_death(outcome);
      }
    }
    if (outcome.died) outcome.seconds = seconds_now() - death_;
  }

  void show_group(pid_t group) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      const pid_t process = std::stoi(name);
      if (::getpgid(process) == group) show(process);
    }
  }

  const Options& options_;
  std::string shape_;
  Directory directory_;
  Ledger* ledger_;
  std::vector<pid_t> groups_;
  double death_ = 0;
};

// --- what is reached where ---

using Hits = std::map<std::string, std::map<std::string, std::uint64_t>>;  // label, shape: times

class CountsFile {
 public:
  explicit CountsFile(const std::vector<std::string>& labels) : size_(labels.size()) {
    const int fd = ::open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(size_ * sizeof(FaultCount))) != 0) {
      blame("cannot make %s", path().c_str());
    }
    counts_ = static_cast<FaultCount*>(
        ::mmap(nullptr, size_ * sizeof(FaultCount), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    ::close(fd);
    for (std::size_t i = 0; i < size_; ++i) {
      labels[i].copy(counts_[i].label, sizeof counts_[i].label - 1);
    }
  }
  CountsFile(const CountsFile&) = delete;
  CountsFile& operator=(const CountsFile&) = delete;
  ~CountsFile() { ::munmap(counts_, size_ * sizeof(FaultCount)); }

  std::string path() const { return directory_.path("counts"); }
  void add_to(Hits& hits, const std::string& shape) const {
    for (std::size_t i = 0; i < size_; ++i) {
      if (counts_[i].count != 0) hits[counts_[i].label][shape] = counts_[i].count;
    }
  }

 private:
  Directory directory_;
  std::size_t size_;
  FaultCount* counts_;
};

// Labels to which one comes only when another process has died: where that is to happen first.
const std::map<std::string, std::string>& before() {
  static const std::map<std::string, std::string> wishes = {
      {"lock_recovered", "receive_locked:50:kill"}};
  return wishes;
}

// Which end comes to a label? Most are for both.
bool is_reached_by(const std::string& label, Role role) {
  static const std::set<std::string> servers = {
      "offer_begun",     "offer_made",     "offer_sent",     "offer_noted",
      "offer_withdrawn", "segment_sealed", "segment_mapped", "accepted"};
  static const std::set<std::string> clients = {
      "offer_read", "answer_begun", "answer_mapped",  "answered",
      "marked",     "connected",    "presence_bound", "presence_revoked"};
  return role == server ? !clients.contains(label) : !servers.contains(label);
}

// Do several processes hold the end of the shape's doer?
bool shares_end(const std::string& name) {
  return std::any_of(shapes().begin(), shapes().end(), [&](const Shape& shape) {
    return shape.shares && name.substr(0, name.find('.')) == shape.name;
  });
}

class Walk {
 public:
  explicit Walk(const Options& options) : options_(options), labels_(find_labels(options.source)) {}

  int run() {
    if (labels_.empty()) blame("no labels in %s", options_.source.c_str());
    explore();
    if (options_.list) return list();
    for (std::size_t i = 0; i < labels_.size(); ++i) {
      if (!options_.only_label.empty() && labels_[i] != options_.only_label) continue;
      if (static_cast<int>(i) % options_.parts != options_.part) continue;
      for (const Role victim : {server, client}) {
        if (is_reached_by(labels_[i], victim)) visit(labels_[i], victim, i);
      }
    }
    std::printf(
        "%d labels, of %zu; %d deaths, %d held up, %d points not met again; "
        "%.2f s at most until all was over\n",
        visited_, labels_.size(), deaths_, held_, missed_, slowest_);
    std::printf("%d failures\n", failures_);
    return failures_ == 0 ? 0 : 1;
  }

 private:
  // Runs every shape undisturbed, until each label was met where it has to be.
  void explore() {
    constexpr int kTries = 30;
    for (int attempt = 0; attempt < kTries; ++attempt) {
      bool complete = true;
      for (const std::string& shape : all_shapes(options_.only_shape)) {
        for (const Role role : {server, client}) {
          if (attempt != 0 && !may_miss(role)) continue;
          const CountsFile counts(labels_);
          Run run(options_, shape);
          const Outcome outcome = run.go(role, "", counts.path());
          counts.add_to(hits_[role], shape);
          if (outcome.died || !outcome.problem.empty()) {
            fail("undisturbed", shape, role, outcome.problem);
          }
        }
      }
      for (const Role role : {server, client}) complete = complete && !may_miss(role);
      if (complete || !options_.only_shape.empty()) return;
    }
  }

  bool may_miss(Role role) const {
    return std::any_of(labels_.begin(), labels_.end(), [&](const std::string& label) {
      return is_reached_by(label, role) && !before().contains(label) &&
             !hits_[role].contains(label);
    });
  }

  int list() {
    for (const std::string& label : labels_) {
      for (const Role role : {server, client}) {
        std::printf("%s %s:", label.c_str(), kRoles[role]);
        if (const auto found = hits_[role].find(label); found != hits_[role].end()) {
          for (const auto& [shape, count] : found->second) {
            std::printf(" %s=%llu", shape.c_str(), static_cast<unsigned long long>(count));
          }
        } else if (is_reached_by(label, role) && !before().contains(label)) {
          std::printf(" NEVER");
        }
        std::printf("\n");
      }
    }
    return failures_ == 0 ? 0 : 1;
  }

  void visit(const std::string& label, Role victim, std::size_t turn) {
    if (before().contains(label)) {
      ++visited_;
      int deaths = 0;
      for (const char* shape : {"siblings.", "inturn."}) {
        deaths += end_at(label, std::string(shape) + kRoles[victim], victim, 1, "kill") ? 1 : 0;
      }
      if (deaths == 0) fail(label, "every shape", victim, "no death");
      return;
    }
    const auto found = hits_[victim].find(label);
    if (found == hits_[victim].end()) {
      if (options_.only_shape.empty()) fail(label, "every shape", victim, "is never reached");
      return;
    }
    ++visited_;
    // Shapes of shared ends first: there somebody is left to go on.
    std::vector<std::pair<std::string, std::uint64_t>> where(found->second.begin(),
                                                             found->second.end());
    std::rotate(where.begin(), where.begin() + static_cast<long>(turn % where.size()), where.end());
    const auto is_shared = [&](const auto& shape) {
      return shape.first.ends_with(kRoles[victim]) && shares_end(shape.first);
    };
    const auto middle = std::stable_partition(where.begin(), where.end(), is_shared);
    std::vector<std::pair<std::string, std::uint64_t>> chosen;
    const std::size_t each = options_.more || !options_.only_label.empty() ? where.size() : 1;
    for (auto at = where.begin(); at != middle && chosen.size() < 2 * each; ++at) {
      chosen.push_back(*at);
    }
    std::size_t others = 0;
    for (auto at = middle; at != where.end() && others < each; ++at, ++others) {
      chosen.push_back(*at);
    }
    constexpr const char* kActions[] = {"kill", "abort", "segv"};
    int deaths = 0;
    for (const auto& [shape, hits] : chosen) {
      std::set<std::uint64_t> counts = {1, (hits + 1) / 2};
      // What comes first, comes before the end is shared.
      if (shares_end(shape) && hits > 2) counts = {hits / 2 + 1, hits - hits / 4};
      if (options_.more) counts.insert({2, hits / 4 + 1, hits - hits / 4, hits});
      for (const std::uint64_t count : counts) {
        const char* action = kActions[++turn % 3];
        if (!options_.action.empty()) action = options_.action.c_str();
        deaths += end_at(label, shape, victim, count, action) ? 1 : 0;
      }
      if (options_.action.empty() && &shape == &chosen.front().first) {
        end_at(label, shape, victim, 1, "hold");
      }
    }
    // It may depend on who is faster; but once it must be met.
    for (int attempt = 0; deaths == 0 && attempt < 20 && options_.action != "hold"; ++attempt) {
      const auto& shape = where[static_cast<std::size_t>(attempt) % where.size()].first;
      deaths += end_at(label, shape, victim, 1, "kill") ? 1 : 0;
    }
    if (deaths == 0 && options_.action != "hold") fail(label, "every shape", victim, "no death");
  }

  // True if it came to that.
  bool end_at(const std::string& label, const std::string& shape, Role victim, std::uint64_t count,
              const std::string& action) {
    Run run(options_, shape);
    std::string wish = label + ":" + std::to_string(count) + ":" + action;
    if (const auto first = before().find(label); first != before().end()) {
      wish = first->second + "," + wish;
    }
    const Outcome outcome = run.go(victim, wish, "");
    if (options_.verbose) {
      std::printf("%s %s %s: %s%s %.3f s\n", wish.c_str(), shape.c_str(), kRoles[victim],
                  outcome.died ? "died" : "-", outcome.problem.empty() ? "" : " PROBLEM",
                  outcome.seconds);
      std::fflush(stdout);
    }
    if (!outcome.problem.empty()) fail(wish, shape, victim, outcome.problem);
    slowest_ = std::max(slowest_, outcome.seconds);
    if (action == "hold") {
      if (outcome.died) fail(wish, shape, victim, "a process died that was held up only");
      ++held_;
      return false;
    }
    if (!outcome.died) ++missed_;
    if (outcome.died) ++deaths_;
    return outcome.died;
  }

  void fail(const std::string& what, const std::string& shape, Role victim,
            const std::string& problem) {
    ++failures_;
    std::printf("FAILED: %s at the %s's end of %s: %s\n", what.c_str(), kRoles[victim],
                shape.c_str(), problem.c_str());
    std::fflush(stdout);
  }

  const Options& options_;
  std::vector<std::string> labels_;
  Hits hits_[2];
  int visited_ = 0;
  int deaths_ = 0;
  int held_ = 0;
  int missed_ = 0;
  int failures_ = 0;
  double slowest_ = 0;
};

// --- started again ---

int be_actor(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "--act" && argc == 6) {
    const Role role = std::strcmp(argv[3], "client") == 0 ? client : server;
    prepare_actor(std::string(argv[2]) + " " + argv[3], kLifetime);
    return act(argv[2], role, argv[4], *map_ledger(argv[5], false));
  }
  if (what == "--resume" && argc == 5) {
    const Role role = std::strcmp(argv[2], "client") == 0 ? client : server;
    prepare_actor(std::string("resumed ") + argv[2], kLifetime);
    return act_after_exec(std::stoi(argv[3]), role, *map_ledger(argv[4], false));
  }
  return -1;
}

int walk(int argc, char** argv) {
  Options options;
  CLI::App app("Ends processes at each labelled point of the library in turn");
  app.add_option("--library", options.library, "libtssx-fault.so")->required();
  app.add_option("--source", options.source, "where core/ and shim/ are")->required();
  app.add_option("--part", options.part, "of the labels, from 0");
  app.add_option("--parts", options.parts, "into how many the labels are divided");
  app.add_option("--label", options.only_label, "this one alone, in all shapes");
  app.add_option("--shape", options.only_shape, "this one alone");
  app.add_option("--action", options.action, "kill, abort, segv or hold");
  app.add_flag("--more", options.more, "all shapes, more counts");
  app.add_flag("--list", options.list, "what is reached where, and no more");
  app.add_flag("--verbose", options.verbose, "each run");
  CLI11_PARSE(app, argc, argv);
  adopt_orphans();
  name_process("fault_walk");
  return Walk(options).run();
}

}  // namespace
}  // namespace fault

int main(int argc, char** argv) {
  const int acted = fault::be_actor(argc, argv);
  return acted >= 0 ? acted : fault::walk(argc, argv);
}
