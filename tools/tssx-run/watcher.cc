#include "tools/tssx-run/watcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "tools/tssx-run/connections.h"

namespace tssx::run_tool {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Looks are frequent at first: many programs are gone in a moment.
constexpr milliseconds kFirstPause{5};
constexpr milliseconds kLongestPause{100};
// For a reader of standard error who has stopped.
constexpr milliseconds kPatience{1000};

bool is_ready(int fd, short events, milliseconds limit) {
  pollfd look{fd, events, 0};
  const int count = ::poll(&look, 1, static_cast<int>(limit.count()));
  return count == 1;
}

// Everything but standard error and these two. The working directory may be unmounted meanwhile,
// and signals to the program's group are not for us.
void withdraw(int& gate, int& program) {
  ::setsid();
  (void)!::chdir("/");
  // First: where standard streams are closed, these two have their numbers.
  gate = ::fcntl(gate, F_DUPFD, 10);
  program = ::fcntl(program, F_DUPFD, 10);
  const int nothing = ::open("/dev/null", O_RDWR);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(nothing, STDOUT_FILENO);
  const auto close_range = [](int first, int last) {
    if (first <= last) {
      ::syscall(SYS_close_range, static_cast<unsigned>(first), static_cast<unsigned>(last), 0U);
    }
  };
  const auto [low, high] = std::minmax(gate, program);
  close_range(3, low - 1);
  close_range(low + 1, high - 1);
  close_range(high + 1, -1);
}

// Until the program has ended or its time is over. Returns when that was.
std::string watch(pid_t pid, int program, double seconds, Connections& connections) {
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(seconds));
  for (milliseconds pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
    connections.look(pid);
    const auto left = std::chrono::ceil<milliseconds>(end - Clock::now());
    if (left.count() <= 0) return fmt::format("after {} s", seconds);
    if (is_ready(program, POLLIN, std::min(pause, left))) return "when it ended";
  }
}

[[noreturn]] void run(pid_t pid, int gate, int program, const std::string& name,
                      const std::string& library, double seconds) {
  withdraw(gate, program);
  char byte;
  ssize_t count;
  do {
    count = ::read(gate, &byte, 1);
  } while (count < 0 && errno == EINTR);
  if (count != 0) ::_exit(0);  // dismissed
  Connections connections(library);
  const std::string after = watch(pid, program, seconds, connections);
  const std::string text = connections.report(fmt::format("tssx-run: {}[{}]: ", name, pid), after);
  if (is_ready(STDERR_FILENO, POLLOUT, kPatience)) {
    (void)!::write(STDERR_FILENO, text.data(), text.size());
  }
  ::_exit(0);
}

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno)));
}

// Would an orphan become a child of this process?
bool adopts_orphans() {
  int subreaper = 0;
  ::prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
  return ::getpid() == 1 || subreaper != 0;
}

}  // namespace

Watcher::Watcher(const std::string& program, const std::string& library, double seconds) {
  if (adopts_orphans()) {
    throw std::runtime_error("this process takes in orphans, so the watcher would be its child");
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
  const UniqueFd reader(ends[0]);
  gate_.reset(ends[1]);
  const pid_t self = ::getpid();
  const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, self, 0)));
  if (!handle) fail("pidfd_open");
  // No exit signal: a SIGCHLD that is blocked would wait for the program.
  const long child = ::syscall(SYS_clone, 0, nullptr, nullptr, nullptr, nullptr);
  if (child < 0) fail("clone");
  if (child == 0) {
    const pid_t watcher = ::fork();
    if (watcher == 0) {
      ::close(gate_.get());
      run(self, reader.get(), handle.get(), program, library, seconds);
    }
    ::_exit(watcher < 0 ? errno : 0);
  }
  int status = 0;
  while (::waitpid(static_cast<pid_t>(child), &status, __WALL) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EAGAIN;
    fail("fork");
  }
}

void Watcher::dismiss() noexcept {
  const char byte = 0;
  (void)!::write(gate_.get(), &byte, 1);
}

}  // namespace tssx::run_tool
