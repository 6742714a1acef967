#include "tests/differential/play.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace differential {
namespace {

void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  ::syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

// What the actors of one process share; a forked child goes on with its copy.
class Cast {
 public:
  Cast(const Program& program, Board& board, Performer& performer)
      : program_(program), board_(board), performer_(performer), routes_(program.size()) {
    Model model;
    for (std::size_t i = 0; i < program.size(); ++i) {
      const Step& step = program[i];
      for (std::size_t j = 0; j < step.arguments.size(); ++j) {
        if (kind_of(step.op, j) != 'd') continue;
        const int index = model.file_of(step.actor, step[j]);
        if (index == -1) continue;
        const File& file = std::as_const(model).file(index);
        routes_[i][j] = {file.in, file.out};
      }
      model.take(step);
    }
  }

  // One actor's part, to the end of the program.
  void act(int actor) {
    for (;;) {
      const std::uint32_t turn = board_.next.load(std::memory_order_acquire);
      if (turn >= program_.size()) return;
      if (program_[turn].actor != actor) {
        futex(board_.next, FUTEX_WAIT, turn);
        continue;
      }
      take_turn(turn);
    }
  }

  void wait_for_children() {
    for (const pthread_t thread : threads_) ::pthread_join(thread, nullptr);
    for (const auto& [actor, process] : processes_) ::waitpid(process, nullptr, 0);
  }

 private:
  struct Process {
    int actor;
    pid_t pid;
  };
  struct Start {
    Cast* cast;
    int actor;
  };

  void advance(std::uint32_t turn) {
    board_.next.store(turn + 1, std::memory_order_release);
    futex(board_.next, FUTEX_WAKE, INT_MAX);
  }

  void take_turn(std::uint32_t turn) {
    const Step& step = program_[turn];
    Result& result = board_.results[turn];
    switch (step.op) {
      case Op::thread_: {
        pthread_t thread{};
        auto* start = new Start{this, static_cast<int>(step[0])};
        result.value = ::pthread_create(&thread, nullptr, run_thread, start);
        threads_.push_back(thread);
        break;
      }
      case Op::fork_: {
        const pid_t child = ::fork();
        if (child == 0) run_child(static_cast<int>(step[0]));
        processes_.push_back({static_cast<int>(step[0]), child});
        result.value = child > 0 ? 0 : -1;
        break;
      }
      case Op::exit_:
        result.done = true;
        advance(turn);
        if (step[0] == 0) std::exit(0);
        if (step[0] == 2) ::kill(::getpid(), SIGKILL);
        ::_exit(0);
      case Op::reap_:
        for (auto one = processes_.begin(); one != processes_.end(); ++one) {
          if (one->actor != step[0]) continue;
          int status = -1;
          ::waitpid(one->pid, &status, 0);
          ::usleep(1000);  // exclusions.h, kDeathAtOnce
          result.value = status;
          processes_.erase(one);
          break;
        }
        break;
      case Op::sync_:
        break;
      default: {
        if (step.background) advance(turn);
        const Result performed = performer_.perform(step, routes_[turn]);
        result = performed;
        result.done = true;
        if (step.background) return;
        break;
      }
    }
    result.done = true;
    advance(turn);
  }

  [[noreturn]] void run_child(int actor) {
    // The signal comes when the thread dies that forked: only the first one lives long enough.
    if (::gettid() == ::getpid()) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    threads_.clear();
    processes_.clear();
    act(actor);
    wait_for_children();
    ::_exit(0);
  }

  static void* run_thread(void* argument) {
    const Start start = *static_cast<Start*>(argument);
    delete static_cast<Start*>(argument);
    start.cast->act(start.actor);
    return nullptr;
  }

  const Program& program_;
  Board& board_;
  Performer& performer_;
  std::vector<Route> routes_;
  std::vector<pthread_t> threads_;
  std::vector<Process> processes_;
};

int lowest_free_descriptor() {
  const int free = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  ::close(free);
  return free;
}

int segments_mapped() {
  const int file = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  std::string text;
  char piece[16384];
  for (ssize_t count; (count = ::read(file, piece, sizeof piece)) > 0;) {
    text.append(piece, static_cast<std::size_t>(count));
  }
  ::close(file);
  constexpr std::string_view kName = "/memfd:tssx-segment";
  int found = 0;
  for (std::size_t at = 0; (at = text.find(kName, at)) != std::string::npos; at += kName.size()) {
    ++found;
  }
  return found;
}

}  // namespace

void play(const Program& program, Board& board, Performer& performer, bool thorough) {
  const int free = lowest_free_descriptor();
  std::memset(board.results, 0, sizeof board.results);
  std::memset(board.sent, 0, sizeof board.sent);
  std::memset(board.received, 0, sizeof board.received);
  board.next.store(0);
  Cast cast(program, board, performer);
  cast.act(0);
  cast.wait_for_children();
  performer.close_all();
  Result& left = board.results[program.size()];
  left.value = lowest_free_descriptor() - free;
  if (thorough) left.add(segments_mapped());
  left.done = true;
}

std::uint64_t hash_of_results(const Board& board, std::size_t steps) {
  std::uint64_t hash = 14695981039346656037U;
  const auto mix = [&](long value) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 1099511628211U;
    hash ^= hash >> 29;
  };
  for (std::size_t i = 0; i <= steps; ++i) {
    const Result& result = board.results[i];
    mix(result.done);
    mix(result.value);
    mix(result.error);
    for (int j = 0; j < result.count; ++j) mix(result.extras[j]);
  }
  return hash;
}

}  // namespace differential
