#include "tools/tssx-stat/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
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
int run_sandboxed(int (*check)()) {
  const pid_t child = ::fork();
  if (child == 0) {
    child_pid = ::getpid();
    ::_exit(enter_sandbox().empty() ? check() : kNoSandbox);
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

}  // namespace
}  // namespace tssx::stat_tool
