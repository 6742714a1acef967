// A process that is killed inside a call, at the door of the kernel, while another one of its fork
// family goes on with the connection. Whatever the call had done by then, the peer is served.
//
// The tests trace the process and end it as it enters the system call that moves the bytes or, on a
// ring, wakes the peer for them.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <initializer_list>
#include <string>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"

#if defined(__x86_64__)

namespace tssx_test {
namespace {

// Runs `body` in a child until it is about to enter one of `calls` on `fd`, and kills it there.
// False if it never did.
bool kill_at(std::initializer_list<unsigned long long> calls, int fd,
             const std::function<void()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    guard_child();
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  bool met = false;
  while (WIFSTOPPED(status) && !met) {
    ::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr);
    ::waitpid(pid, &status, 0);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) continue;
    user_regs_struct registers{};
    ::ptrace(PTRACE_GETREGS, pid, nullptr, &registers);
    // On entry the result is not there yet.
    if (static_cast<long>(registers.rax) != -ENOSYS) continue;
    for (const unsigned long long call : calls) {
      met = met || (registers.orig_rax == call && static_cast<int>(registers.rdi) == fd);
    }
  }
  ::kill(pid, SIGKILL);
  if (!WIFEXITED(status) && !WIFSIGNALED(status)) ::waitpid(pid, &status, 0);
  return met;
}

constexpr std::size_t kTotal = 4'000'000;

class KilledInACall : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, KilledInACall, every_situation(), situation_name);

TEST_P(KilledInACall, AWriterLeavesAConnectionThatWakesItsPeer) {
  ForkedConnection connection = connect_to([](int fd) {
    for (int round = 0; round < 3; ++round) {
      // What the killed one had written may come, or not.
      std::string got;
      while (got.empty() || got.back() != 'y') got += read_exactly(fd, 1);
      EXPECT_TRUE(got == "y" || got == "xy") << got;
      EXPECT_EQ(write_all(fd, "z"), 1U);
    }
  });
  const int fd = connection.mine.get();
  for (int round = 0; round < 3; ++round) {
    sleep_a_moment();  // the peer sleeps
    EXPECT_TRUE(kill_at({SYS_write, SYS_sendto, SYS_sendmsg}, fd, [fd] { write_all(fd, "x"); }));
    sleep_a_moment();
    ASSERT_EQ(write_all(fd, "y"), 1U);
    ASSERT_EQ(read_exactly(fd, 1), "z");
  }
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(KilledInACall, AReaderLeavesAConnectionWithRoomForItsPeer) {
  ForkedConnection connection = connect_to([](int fd) {
    const std::string bytes(kTotal, 'x');
    EXPECT_EQ(write_all(fd, bytes), kTotal);
  });
  const int fd = connection.mine.get();
  sleep_a_moment();  // the peer sleeps for room
  kill_at({SYS_read, SYS_recvfrom, SYS_recvmsg, SYS_sendto}, fd, [fd] {
    char bytes[65536];
    for (int i = 0; i < 100; ++i) {
      [[maybe_unused]] const ssize_t n = ::read(fd, bytes, sizeof bytes);
    }
  });
  sleep_a_moment();
  // What it took is gone with it.
  const std::string rest = read_to_end(fd);
  EXPECT_GT(rest.size(), 0U);
  EXPECT_EQ(rest.find_first_not_of('x'), std::string::npos);
  EXPECT_EQ(connection.peer.wait(), 0);
}

}  // namespace
}  // namespace tssx_test

#endif
