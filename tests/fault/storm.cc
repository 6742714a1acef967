// kill_storm: processes under load, killed at random instants and started again, with every byte
// checked. docs/testing.md.
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/fault/ledger.h"
#include "tests/fault/process.h"
#include "tests/fault/scenes.h"

namespace fault {
namespace {

constexpr double kPatience = 15;      // seconds without any progress of a client
constexpr unsigned kLifetime = 1000;  // of an actor, if this program is ended meanwhile

struct Options {
  std::string library;
  std::string only;
  std::uint64_t kills = 10'000;
  double seconds = 1'000'000;
  std::uint64_t seed = 0;
  std::uint64_t each = 150;  // kills of one scene before the next
  double pause_ms = 6;       // the longest between two kills
};

struct Totals {
  std::uint64_t kills = 0;
  std::uint64_t bytes = 0;
  std::uint64_t ended = 0;
  std::uint64_t told_otherwise = 0;
  std::uint64_t in_ring = 0;
  std::uint64_t asked = 0;
  std::uint64_t failures = 0;
};

void show_processes(const std::vector<pid_t>& groups) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const pid_t process = std::stoi(name);
    if (std::find(groups.begin(), groups.end(), ::getpgid(process)) == groups.end()) continue;
    for (const char* what : {"cmdline", "syscall", "stack"}) {
      std::ifstream file(entry.path() / what);
      for (std::string line; std::getline(file, line);) {
        std::replace(line.begin(), line.end(), '\0', ' ');
        std::fprintf(stderr, "    %d %s: %s\n", process, what, line.c_str());
      }
    }
  }
}

// One scene, from its first process to its last.
class Play {
 public:
  Play(const Options& options, const Scene& scene, std::uint64_t seed)
      : options_(options), scene_(scene), random_(seed) {
    ledger_ = map_ledger(directory_.path("ledger"), true);
    actors_.resize(1 + static_cast<std::size_t>(scene.clients));
    for (std::size_t i = 0; i < actors_.size(); ++i) begin(i);
  }
  Play(const Play&) = delete;
  Play& operator=(const Play&) = delete;
  ~Play() {
    end_groups(groups_);
    ::munmap(ledger_, sizeof(Ledger));
  }

  // False if something was wrong.
  bool run(std::uint64_t kills, double deadline, Totals& totals) {
    std::uniform_real_distribution<double> pause(0, options_.pause_ms * 1000);
    std::uint64_t done = 0;
    while (done < kills && seconds_now() < deadline && good_) {
      ::usleep(static_cast<useconds_t>(pause(random_)));
      reap(true);
      if (kill_one()) ++done;
      check_progress();
    }
    totals.kills += done;
    finish();
    totals.bytes += ledger_->bytes;
    totals.ended += ledger_->ended;
    totals.told_otherwise += ledger_->told_otherwise;
    totals.in_ring += ledger_->in_ring;
    totals.asked += ledger_->asked;
    return good_;
  }

 private:
  void begin(std::size_t which) {
    const std::string who = which == 0 ? "server" : std::to_string(which);
    actors_[which] = start({"kill_storm", "--play", scene_.name, who, directory_.path("socket"),
                            directory_.path("ledger")},
                           options_.library);
    std::erase_if(groups_, [](pid_t group) { return ::kill(-group, 0) != 0; });
    groups_.push_back(actors_[which]);
  }

  void fail(const std::string& what) {
    if (good_) std::printf("FAILED: %s: %s\n", scene_.name, what.c_str());
    std::fflush(stdout);
    good_ = false;
  }

  // Takes note of who has ended; who was killed is started again.
  void reap(bool again) {
    int status = 0;
    for (pid_t gone = 0; (gone = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 0) {
        fail("a process ended with " + describe_status(status));
      }
      const auto found = std::find(actors_.begin(), actors_.end(), gone);
      if (found == actors_.end()) continue;  // an orphan
      *found = 0;
      if (again && WIFSIGNALED(status)) begin(static_cast<std::size_t>(found - actors_.begin()));
    }
  }

  bool is_ours(pid_t process) const {
    return std::find(groups_.begin(), groups_.end(), ::getpgid(process)) != groups_.end();
  }

  bool kill_one() {
    std::vector<pid_t> alive;
    for (const pid_t actor : actors_) {
      if (actor != 0) alive.push_back(actor);
    }
    for (const auto& forked : ledger_->forked) {
      if (forked != 0) alive.push_back(forked);
    }
    if (alive.empty()) return false;
    const pid_t victim = alive[random_() % alive.size()];
    // By a descriptor: the number of one that its parent has waited for may be somebody else's.
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, victim, 0));
    if (fd < 0) return false;
    const bool killed =
        is_ours(victim) && ::syscall(SYS_pidfd_send_signal, fd, SIGKILL, nullptr, 0) == 0;
    ::close(fd);
    return killed;
  }

  void check_progress() {
    const double now = seconds_now();
    std::uint64_t sum = 0;
    // Of each client: one that hangs is not to hide behind the others.
    for (std::size_t i = 1; i < actors_.size(); ++i) {
      sum = ledger_->progress[i];
      if (seen_.size() <= i) seen_.resize(actors_.size(), {0, now});
      if (seen_[i].first != sum) seen_[i] = {sum, now};
      if (now - seen_[i].second > kPatience) {
        fail("client " + std::to_string(i) + " hangs");
        show_processes(groups_);
        return;
      }
    }
  }

  // Clients end first, then the server.
  void finish() {
    for (const std::uint32_t word : {1U, 2U}) {
      ledger_->stop = word;
      const double deadline = seconds_now() + kPatience;
      const auto done = [&] {
        // Orphans and their kin too, before all is over.
        if (word == 2) return ::waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT) != 0;
        return std::all_of(actors_.begin() + 1, actors_.end(),
                           [](pid_t actor) { return actor == 0; });
      };
      while (good_ && !done()) {
        // The clients need a server until they have ended.
        reap(word == 1);
        if (seconds_now() > deadline) {
          fail(word == 1 ? "a client does not end" : "a server does not end");
          show_processes(groups_);
        }
        ::usleep(500);
      }
    }
  }

  const Options& options_;
  const Scene& scene_;
  std::mt19937_64 random_;
  Directory directory_;
  Ledger* ledger_;
  std::vector<pid_t> actors_;  // the server, and the clients in their slots
  std::vector<pid_t> groups_;
  std::vector<std::pair<std::uint64_t, double>> seen_;  // progress, and since when
  bool good_ = true;
};

int storm(int argc, char** argv) {
  Options options;
  CLI::App app("Kills processes under load at random instants, and checks every byte");
  app.add_option("--library", options.library, "libtssx.so; without it, the kernel's sockets");
  app.add_option("--kills", options.kills, "how many");
  app.add_option("--seconds", options.seconds, "at most");
  app.add_option("--seed", options.seed, "of when and whom; without it, a new one");
  app.add_option("--scene", options.only, "this one alone");
  app.add_option("--each", options.each, "kills of one scene before the next");
  app.add_option("--pause", options.pause_ms, "milliseconds between two kills, at most");
  CLI11_PARSE(app, argc, argv);
  if (options.seed == 0) options.seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(options.seed));
  std::fflush(stdout);
  adopt_orphans();
  name_process("kill_storm");
  const double start = seconds_now();
  const double deadline = start + options.seconds;
  Totals all;
  std::vector<std::uint64_t> kills_of(scenes().size());
  std::uint64_t turn = 0;
  while (all.kills < options.kills && seconds_now() < deadline && all.failures == 0) {
    const std::size_t which = turn++ % scenes().size();
    const Scene& scene = scenes()[which];
    if (!options.only.empty() && options.only != scene.name) continue;
    const std::uint64_t before = all.kills;
    Play play(options, scene, options.seed + turn);
    if (!play.run(std::min(options.each, options.kills - all.kills), deadline, all)) ++all.failures;
    kills_of[which] += all.kills - before;
  }
  for (std::size_t i = 0; i < kills_of.size(); ++i) {
    std::printf("%s: %llu kills\n", scenes()[i].name, static_cast<unsigned long long>(kills_of[i]));
  }
  std::printf(
      "%llu kills in %.0f s, %llu connections checked to their end, %llu bytes; "
      "of %llu asked, %llu in the ring; %llu ends told otherwise while moving\n",
      static_cast<unsigned long long>(all.kills), seconds_now() - start,
      static_cast<unsigned long long>(all.ended), static_cast<unsigned long long>(all.bytes),
      static_cast<unsigned long long>(all.asked), static_cast<unsigned long long>(all.in_ring),
      static_cast<unsigned long long>(all.told_otherwise));
  if (all.asked > 20 && !options.library.empty() && all.in_ring == 0) {
    std::printf("no connection was in the ring\n");
    ++all.failures;
  }
  std::printf("%llu failures\n", static_cast<unsigned long long>(all.failures));
  return all.failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace fault

int main(int argc, char** argv) {
  using namespace fault;
  if (argc == 6 && std::string(argv[1]) == "--play") {
    prepare_actor(std::string(argv[2]) + " " + argv[3], kLifetime);
    return play(argv[2], argv[3], argv[4], *map_ledger(argv[5], false));
  }
  return storm(argc, argv);
}
