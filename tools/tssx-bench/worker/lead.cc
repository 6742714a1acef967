#include "tools/tssx-bench/worker/lead.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <exception>
#include <string_view>
#include <system_error>

#include "tools/tssx-bench/worker/board.h"
#include "tools/tssx-bench/worker/place.h"
#include "tools/tssx-bench/worker/scenario.h"
#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

void say(std::string text) {
  text += '\n';
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t count = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) ::_exit(1);  // nobody listens any more
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
}

char hear() {
  char answer = 0;
  ssize_t count = 0;
  do {
    count = ::read(STDIN_FILENO, &answer, 1);
  } while (count < 0 && errno == EINTR);
  if (count != 1) ::_exit(1);
  return answer;
}

void play(const Actor& actor, Board& board) {
  move_to(actor.cpu);
  const std::unique_ptr<Role> role = actor.make();
  for (;;) {
    switch (board.arrive()) {
      case Action::warm:
        role->warm();
        break;
      case Action::measure:
        role->measure();
        break;
      case Action::quit:
        return;
    }
  }
}

// In the child: never returns.
[[noreturn]] void be(const Actor& actor, Board& board, pid_t lead) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != lead) ::_exit(1);  // gone before the line above
  int status = 0;
  try {
    play(actor, board);
  } catch (const Skip& skip) {
    board.fail(true, skip.what());
    status = 1;
  } catch (const std::exception& error) {
    board.fail(false, error.what());
    status = 1;
  }
  ::_exit(status);
}

class Lead {
 public:
  Lead(const Scenario& scenario, Board& board) : scenario_(scenario), board_(board) {
    const pid_t self = ::getpid();
    std::string pids = "actors";
    for (const Actor& actor : scenario.actors) {
      const pid_t child = ::fork();
      if (child < 0) throw_errno("fork");
      if (child == 0) be(actor, board, self);
      pids += fmt::format(" {}", child);
    }
    say(pids);
    await();
  }

  void run() {
    do {
      order(Action::warm);
      say(fmt::format("warm {}", scenario_.connections));
    } while (hear() == 'w');
    order(Action::measure);
    say(fmt::format("done {} {}", board_.payload.load(),
                    std::max(scenario_.connections, scenario_.connections_at_end)));
    (void)hear();
    for (const Metric& metric : scenario_.report(board_)) {
      say(fmt::format("metric {} {}", metric.name, metric.value));
    }
    board_.order(Action::quit);
    while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    }
    say("end");
  }

 private:
  void order(Action action) {
    board_.order(action);
    await();
  }

  void await() {
    while (!board_.wait_for_all(static_cast<std::uint32_t>(scenario_.actors.size()))) {
      const pid_t gone = ::waitpid(-1, nullptr, WNOHANG);
      // One that failed says so before it ends.
      if (gone > 0 && board_.failure().empty()) throw std::runtime_error("a process died");
    }
    if (board_.failure().empty()) return;
    if (board_.skipped()) throw Skip(std::string(board_.failure()));
    throw std::runtime_error(std::string(board_.failure()));
  }

  const Scenario& scenario_;
  Board& board_;
};

}  // namespace

int run_worker(const std::vector<std::string>& words) {
  try {
    const Job job = Job::from_words(words);
    const ScenarioMaker make = find_scenario(job.kind());
    if (make == nullptr) throw std::invalid_argument("no such scenario: " + job.kind());
    Board& board = Board::make();
    const Scenario scenario = make(job, board);
    Lead(scenario, board).run();
    return 0;
  } catch (const Skip& skip) {
    say(fmt::format("skip {}", skip.what()));
  } catch (const std::exception& error) {
    say(fmt::format("error {}", error.what()));
  }
  return 1;
}

}  // namespace tssx::bench
