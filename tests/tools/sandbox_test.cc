#include "tools/tssx-stat/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

namespace tssx::stat_tool {
namespace {

constexpr int kNoSandbox = 77;

pid_t child_pid;  // for the checks, which can't ask any more

// Runs the check inside the sandbox, in a child that exits with its result: 0 is success.
int run_sandboxed(int (*check)(), Sandbox sandbox = Sandbox::parsing) {
  const pid_t child = ::fork();
  if (child == 0) {
    child_pid = ::getpid();
    ::_exit(enter_sandbox(sandbox).empty() ? check() : kNoSandbox);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define SKIP_WITHOUT_SANDBOX()                       \
  if (run_sandboxed([] { return 0; }) == kNoSandbox) \
  GTEST_SKIP() << "seccomp is not available "        \
                  "here"

TEST(Sandbox, LeavesWhatParsingAndPrintingNeed) {
  SKIP_WITHOUT_SANDBOX();
  EXPECT_EQ(run_sandboxed([] {
              std::vector<std::string> memory;
              memory.resize(20000, std::string(500, 'm'));
              const std::string large(std::size_t{8} << 20U, 'l');
              int from = 42;
              int to = 0;
              const iovec local{&to, sizeof to};
              const iovec remote{&from, sizeof from};
              const ssize_t count = ::process_vm_readv(child_pid, &local, 1, &remote, 1, 0);
              if (count != sizeof to || to != from) return 1;
              if (::write(STDOUT_FILENO, "", 0) != 0) return 2;
              return large.size() + memory.size() > 0 ? 0 : 3;
            }),
            0);
}

TEST(Sandbox, TakesAllElse) {
  SKIP_WITHOUT_SANDBOX();
  EXPECT_EQ(run_sandboxed([] {
              if (::open("/dev/null", O_RDONLY) >= 0 || errno != EPERM) return 1;
              if (::open("/tmp/x", O_WRONLY | O_CREAT, 0600) >= 0 || errno != EPERM) return 2;
              if (::socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || errno != EPERM) return 3;
              if (::fork() >= 0 || errno != EPERM) return 4;
              if (::execl("/bin/true", "true", nullptr) >= 0 || errno != EPERM) return 5;
              if (::kill(1, 0) == 0 || errno != EPERM) return 6;
              if (::write(5, "", 0) >= 0 || errno != EPERM) return 7;
              if (::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0) != MAP_FAILED) {
                return 8;
              }
              return 0;
            }),
            0);
}

TEST(Sandbox, LetsAWatcherReadFilesAndUseItsTerminalAlone) {
  SKIP_WITHOUT_SANDBOX();
  EXPECT_EQ(run_sandboxed(
                [] {
                  char byte = 0;
                  const int file = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
                  if (file < 0 || ::read(file, &byte, 1) != 1 || ::close(file) != 0) return 1;
                  winsize size{};
                  if (::ioctl(0, TIOCGWINSZ, &size) != 0 && errno == EPERM) return 2;
                  if (::open("/tmp/x", O_RDONLY | O_CREAT, 0600) >= 0 || errno != EPERM) return 3;
                  if (::open("/dev/null", O_WRONLY) >= 0 || errno != EPERM) return 4;
                  if (::open("/dev/null", O_RDWR) >= 0 || errno != EPERM) return 5;
                  if (::socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || errno != EPERM) return 6;
                  if (::fork() >= 0 || errno != EPERM) return 7;
                  if (::kill(1, 0) == 0 || errno != EPERM) return 8;
                  if (::ioctl(0, TIOCSTI, "x") >= 0 || errno != EPERM) return 9;
                  return ::execl("/bin/true", "true", nullptr) >= 0 || errno != EPERM ? 10 : 0;
                },
                Sandbox::watching),
            0);
}

}  // namespace
}  // namespace tssx::stat_tool
