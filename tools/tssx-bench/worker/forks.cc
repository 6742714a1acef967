#include "tools/tssx-bench/worker/forks.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/worker/resting.h"
#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

class Server : public RestingServer {
 public:
  Server(const Resting& resting, double seconds, Board& board)
      : RestingServer(resting), duration_ns_(to_ns(seconds)), board_(board) {}

  void measure() override {
    const std::uint64_t begin = now_ns();
    std::uint64_t now = begin;
    std::uint64_t forks = 0;
    while (now - begin < duration_ns_) {
      fork_once();
      ++forks;
      now = now_ns();
    }
    board_.values[0] = static_cast<double>(now - begin) / 1000 / static_cast<double>(forks);
  }

 private:
  static void fork_once() {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    if (child < 0) throw_errno("fork");
    while (::waitpid(child, nullptr, 0) < 0) {
      if (errno != EINTR) throw_errno("waitpid");
    }
  }

  std::uint64_t duration_ns_;
  Board& board_;
};

}  // namespace

Scenario make_forks(const Job& job, Board& board) {
  const Resting resting = resting_of(job);
  const double seconds = job.number("seconds");
  Scenario scenario;
  scenario.actors.push_back(
      {-1, [=, &board] { return std::make_unique<Server>(resting, seconds, board); }});
  scenario.actors.push_back({-1, [=] { return std::make_unique<RestingClient>(resting); }});
  scenario.connections = resting.connections;
  scenario.report = [](const Board& results) {
    return std::vector<Metric>{{"time", results.values[0]}};
  };
  return scenario;
}

}  // namespace tssx::bench
