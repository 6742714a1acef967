#include "tools/tssx-bench/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/interrupt.h"
#include "tools/tssx-bench/process_group.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace tssx::bench {
namespace {

struct Pipe {
  Descriptor read;
  Descriptor write;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe2");
  }
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

// Ours without LD_PRELOAD and USE_TSSX, and with them for a side with a library. The library's
// other settings (TSSX_SPIN and so on) are passed on.
std::vector<std::string> environment_for(const Side& side, const std::string& pattern) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("LD_PRELOAD=") && !text.starts_with("USE_TSSX=")) {
      result.emplace_back(text);
    }
  }
  if (!side.library.empty()) {
    result.push_back("LD_PRELOAD=" + side.library);
    result.push_back("USE_TSSX=" + pattern);
  }
  return result;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

WorkerProcess::WorkerProcess(const Side& side, const std::string& pattern, const Job& job) {
  Pipe in = make_pipe();
  Pipe out = make_pipe();
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  std::vector<std::string> words = job.words();
  words.insert(words.begin(), {"tssx-bench", "--worker"});
  std::vector<std::string> variables = environment_for(side, pattern);
  const std::vector<char*> arguments = pointers_to(words);
  const std::vector<char*> environment = pointers_to(variables);

  pid_ = fork_group();
  if (pid_ == 0) {
    ::dup2(in.read.get(), STDIN_FILENO);
    ::dup2(out.write.get(), STDOUT_FILENO);
    ::execve(program.c_str(), arguments.data(), environment.data());
    ::_exit(127);
  }
  to_ = std::move(in.write);
  from_ = std::move(out.read);
}

WorkerProcess::~WorkerProcess() { end_group(pid_); }

std::string WorkerProcess::read_line(std::uint64_t deadline_ns) {
  // Interruptions are let in only while this waits, so that none slips in between look and wait.
  const sigset_t blocked = interruptions();
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  const auto restore = [&] { ::sigprocmask(SIG_SETMASK, &before, nullptr); };
  for (;;) {
    const std::size_t end = unread_.find('\n');
    if (end != std::string::npos) {
      restore();
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    const std::uint64_t now = now_ns();
    const char* failure = nullptr;
    if (interrupted() != 0) failure = "interrupted";
    if (now >= deadline_ns) failure = "timed out";
    if (failure == nullptr) {
      const std::uint64_t left = deadline_ns - now;
      const timespec timeout{static_cast<time_t>(left / 1'000'000'000U),
                             static_cast<long>(left % 1'000'000'000U)};
      pollfd entry{from_.get(), POLLIN, 0};
      if (::ppoll(&entry, 1, &timeout, &before) <= 0) continue;
      std::array<char, 4096> bytes{};
      const ssize_t count = ::read(from_.get(), bytes.data(), bytes.size());
      if (count > 0) unread_.append(bytes.data(), static_cast<std::size_t>(count));
      if (count == 0) failure = "the worker ended without a word";
    }
    if (failure != nullptr) {
      restore();
      throw std::runtime_error(failure);
    }
  }
}

void WorkerProcess::answer(char what) {
  // If it ended, the next line says so.
  (void)!::write(to_.get(), &what, 1);
}

void adopt_orphans() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

}  // namespace tssx::bench
