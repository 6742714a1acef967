// TSSX_SECCOMP=trap: what bypasses the symbol table with an ID is carried out all the same.
//
// Each case executes itself again with the environment that this needs.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <regex>
#include <string>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

constexpr int kUnusedId = -(1 << 30) - 1 - 60000;

bool inside() { return std::getenv("TSSX_TRAP_TEST") != nullptr; }

// Runs this very case once more, with calls trapped; its exit status.
int run_inside() {
  const testing::TestInfo& info = *testing::UnitTest::GetInstance()->current_test_info();
  const std::string filter =
      std::string("--gtest_filter=") + info.test_suite_name() + "." + info.name();
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("TSSX_TRAP_TEST", "1", 1);
    ::setenv("TSSX_IDS", "negative", 1);
    ::setenv("TSSX_SECCOMP", "trap", 1);
    ::execl("/proc/self/exe", "call_tests", filter.c_str(), nullptr);
    ::_exit(127);
  }
  return wait_for_exit(child);
}

#define TSSX_INSIDE                                                                 \
  if (!preloaded()) GTEST_SKIP() << "without the library there is nothing to trap"; \
  if (!inside()) {                                                                  \
    EXPECT_EQ(run_inside(), 0);                                                     \
    return;                                                                         \
  }                                                                                 \
  static_assert(true)

// The server's end has an ID.
class Trap : public ConnectionTest {
 protected:
  void expect_alive() const {
    ASSERT_EQ(write_all(mine(), "good"), 4U);
    EXPECT_EQ(read_once(peer(), 100), "good");
    ASSERT_EQ(write_all(peer(), "well"), 4U);
    EXPECT_EQ(read_once(mine(), 100), "well");
  }
};
INSTANTIATE_TEST_SUITE_P(, Trap, testing::Values(Situation{false, true}, Situation{true, true}),
                         situation_name);

TEST_P(Trap, RawReadAndWrite) {
  TSSX_INSIDE;
  ASSERT_LT(mine(), -(1 << 30));
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char bytes[16] = {};
  errno = EXDEV;
  EXPECT_EQ(::syscall(SYS_read, mine(), bytes, sizeof bytes), 5);
  EXPECT_EQ(errno, EXDEV);
  EXPECT_STREQ(bytes, "hello");
  EXPECT_EQ(::syscall(SYS_write, mine(), "back", 4), 4);
  EXPECT_EQ(read_once(peer(), 10), "back");
  EXPECT_EQ(accelerated_segments(), GetParam().warm ? 2 : 0);
}

TEST_P(Trap, MixesWithTheWrappers) {
  TSSX_INSIDE;
  for (std::size_t i = 0; i < 100; ++i) {
    const std::string bytes = pattern(i, 10);
    ASSERT_EQ(::syscall(SYS_sendto, mine(), bytes.data(), 10UL, 0, nullptr, 0), 10);
    ASSERT_EQ(write_all(mine(), bytes), 10U);
    ASSERT_EQ(read_exactly(peer(), 20), bytes + bytes);
    ASSERT_EQ(write_all(peer(), bytes + bytes), 20U);
    char got[10];
    ASSERT_EQ(::syscall(SYS_recvfrom, mine(), got, 10UL, 0, nullptr, nullptr), 10);
    ASSERT_EQ(std::string_view(got, 10), bytes);
    ASSERT_EQ(read_exactly(mine(), 10), bytes);
  }
}

TEST_P(Trap, VectorsAndMessages) {
  TSSX_INSIDE;
  char one[] = "ab";
  char two[] = "cd";
  std::array<iovec, 2> parts{{{one, 2}, {two, 2}}};
  EXPECT_EQ(::syscall(SYS_writev, mine(), parts.data(), 2), 4);
  mmsghdr messages[2] = {};
  for (mmsghdr& message : messages) {
    message.msg_hdr.msg_iov = parts.data();
    message.msg_hdr.msg_iovlen = 2;
  }
  EXPECT_EQ(::syscall(SYS_sendmsg, mine(), &messages[0].msg_hdr, 0), 4);
  EXPECT_EQ(::syscall(SYS_sendmmsg, mine(), messages, 2, 0), 2);
  EXPECT_EQ(read_exactly(peer(), 16), "abcdabcdabcdabcd");
  ASSERT_EQ(write_all(peer(), "1234567890AB"), 12U);
  EXPECT_EQ(::syscall(SYS_readv, mine(), parts.data(), 2), 4);
  EXPECT_STREQ(one, "12");
  EXPECT_STREQ(two, "34");
  EXPECT_EQ(::syscall(SYS_recvmsg, mine(), &messages[0].msg_hdr, 0), 4);
  EXPECT_STREQ(two, "78");
  EXPECT_EQ(::syscall(SYS_recvmmsg, mine(), messages, 1, 0, nullptr), 1);
  EXPECT_EQ(messages[0].msg_len, 4U);
  EXPECT_STREQ(two, "AB");
  expect_alive();
}

TEST_P(Trap, ErrorsAreTold) {
  TSSX_INSIDE;
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::syscall(SYS_recvfrom, mine(), &byte, 1UL, MSG_DONTWAIT, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  errno = 0;
  EXPECT_EQ(::syscall(SYS_read, mine(), bad_pointer(), 1), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(read_once(mine(), 10), "x");
  peer_.reset();
  errno = 0;
  EXPECT_EQ(::syscall(SYS_sendto, mine(), "x", 1, MSG_NOSIGNAL, nullptr, 0), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_P(Trap, StdioInsideLibc) {
  TSSX_INSIDE;
  // libc's own fdopen(), as a library would have it that was bound to libc directly.
  void* const libc = ::dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(libc, nullptr);
  const auto original = reinterpret_cast<FILE* (*)(int, const char*)>(::dlsym(libc, "fdopen"));
  ASSERT_NE(original, nullptr);
  FILE* const in = original(mine(), "r");
  ASSERT_NE(in, nullptr);
  FILE* const out = original(mine(), "w");
  ASSERT_NE(out, nullptr);
  ASSERT_EQ(write_all(peer(), "first line\nsecond line\n"), 23U);
  char* line = nullptr;
  std::size_t size = 0;
  EXPECT_EQ(::getline(&line, &size, in), 11);
  EXPECT_STREQ(line, "first line\n");
  EXPECT_EQ(::getline(&line, &size, in), 12);
  EXPECT_STREQ(line, "second line\n");
  std::free(line);
  EXPECT_EQ(std::fprintf(out, "answer %d\n", 42), 10);
  EXPECT_EQ(std::fflush(out), 0);
  EXPECT_EQ(read_once(peer(), 100), "answer 42\n");
  std::fclose(in);
  std::fclose(out);
  ::dlclose(libc);
}

TEST_P(Trap, RawClose) {
  TSSX_INSIDE;
  ASSERT_EQ(write_all(mine(), "last"), 4U);
  const int id = mine_.release();
  EXPECT_EQ(::syscall(SYS_close, id), 0);
  EXPECT_EQ(read_once(peer(), 10), "last");
  EXPECT_EQ(read_once(peer(), 10), "");
  errno = 0;
  EXPECT_EQ(::syscall(SYS_close, id), -1);
  EXPECT_EQ(errno, EBADF);
  errno = 0;
  EXPECT_EQ(::close(id), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_P(Trap, OtherNegativeNumbersAreTheKernels) {
  TSSX_INSIDE;
  char byte = 0;
  for (const int fd : {-1, AT_FDCWD, -5000, kUnusedId, -(1 << 30), -(1 << 30) - 70000, INT32_MIN}) {
    errno = 0;
    EXPECT_EQ(::syscall(SYS_read, fd, &byte, 1), -1) << fd;
    EXPECT_EQ(errno, EBADF) << fd;
    errno = 0;
    EXPECT_EQ(::read(fd, &byte, 1), -1) << fd;
    EXPECT_EQ(errno, EBADF) << fd;
  }
  struct stat status {};
  EXPECT_EQ(::syscall(SYS_newfstatat, AT_FDCWD, "/", &status, 0), 0);
  EXPECT_TRUE(S_ISDIR(status.st_mode));
}

TEST_P(Trap, ControlCalls) {
  TSSX_INSIDE;
  const auto flags = ::syscall(SYS_fcntl, mine(), F_GETFL, 0);
  EXPECT_EQ(flags & O_ACCMODE, O_RDWR);
  EXPECT_EQ(::syscall(SYS_fcntl, mine(), F_SETFL, flags | O_NONBLOCK), 0);
  EXPECT_NE(::syscall(SYS_fcntl, mine(), F_GETFL, 0) & O_NONBLOCK, 0);
  EXPECT_EQ(::syscall(SYS_fcntl, mine(), F_SETFL, flags), 0);
  struct stat status {};
  EXPECT_EQ(::syscall(SYS_fstat, mine(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  status = {};
  EXPECT_EQ(::syscall(SYS_newfstatat, mine(), "", &status, AT_EMPTY_PATH), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  ASSERT_EQ(write_all(peer(), "12345"), 5U);
  int count = 0;
  EXPECT_EQ(::syscall(SYS_ioctl, mine(), FIONREAD, &count), 0);
  EXPECT_EQ(count, 5);
  EXPECT_EQ(read_once(mine(), 10), "12345");
  int type = 0;
  socklen_t length = sizeof type;
  EXPECT_EQ(::syscall(SYS_getsockopt, mine(), SOL_SOCKET, SO_TYPE, &type, &length), 0);
  EXPECT_EQ(type, SOCK_STREAM);
  const timeval soon{0, 1000};
  EXPECT_EQ(::syscall(SYS_setsockopt, mine(), SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon), 0);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::read(mine(), &byte, 1), -1);
  EXPECT_EQ(errno, EAGAIN);
  sockaddr_un name{};
  length = sizeof name;
  EXPECT_EQ(::syscall(SYS_getsockname, mine(), &name, &length), 0);
  EXPECT_EQ(std::string(name.sun_path), path_);
  length = sizeof name;
  EXPECT_EQ(::syscall(SYS_getpeername, mine(), &name, &length), 0);
  EXPECT_EQ(length, sizeof(sa_family_t));
  const EpollSet set;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 9;
  EXPECT_EQ(::syscall(SYS_epoll_ctl, set.fd(), EPOLL_CTL_ADD, mine(), &event), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{9, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 10), "x");
  EXPECT_EQ(::syscall(SYS_shutdown, mine(), SHUT_WR), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Trap, Duplicates) {
  TSSX_INSIDE;
  const UniqueFd first(static_cast<int>(::syscall(SYS_dup, mine())));
  ASSERT_GE(first.get(), 0);
  const UniqueFd second(static_cast<int>(::syscall(SYS_dup2, mine(), 200)));
  ASSERT_EQ(second.get(), 200);
  const UniqueFd third(static_cast<int>(::syscall(SYS_dup3, mine(), 201, O_CLOEXEC)));
  ASSERT_EQ(third.get(), 201);
  mine_.reset();
  for (const UniqueFd* fd : {&first, &second, &third}) {
    ASSERT_EQ(write_all(peer(), "to all"), 6U);
    EXPECT_EQ(read_once(fd->get(), 10), "to all");
    ASSERT_EQ(write_all(fd->get(), "from all"), 8U);
    EXPECT_EQ(read_once(peer(), 10), "from all");
  }
}

TEST_P(Trap, BlockedRawReadIsInterrupted) {
  TSSX_INSIDE;
  const ScopedHandler handler(SIGALRM, count_signal);
  const PeriodicAlarm alarm(20);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::syscall(SYS_read, mine(), &byte, 1), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_GE(signals_seen, 1);
}

TEST_P(Trap, BlockedRawReadIsRestarted) {
  TSSX_INSIDE;
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  const PeriodicAlarm alarm(5);
  std::thread writer([&] {
    while (signals_seen < 5) sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  char byte = 0;
  ssize_t got = -1;
  // With threads a read may nap before it sleeps, and a nap is not restarted (limitations.md).
  do {
    got = ::syscall(SYS_read, mine(), &byte, 1);
  } while (got == -1 && errno == EINTR);
  EXPECT_EQ(got, 1);
  writer.join();
}

TEST_P(Trap, ThreadsAreTrappedToo) {
  TSSX_INSIDE;
  std::thread reader([&] {
    char bytes[6] = {};
    EXPECT_EQ(::syscall(SYS_read, mine(), bytes, 5), 5);
    EXPECT_STREQ(bytes, "hello");
  });
  sleep_a_moment();
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  reader.join();
}

TEST_P(Trap, ForkedChildIsTrappedToo) {
  TSSX_INSIDE;
  Child child([&] {
    char bytes[6] = {};
    EXPECT_EQ(::syscall(SYS_read, mine(), bytes, 5), 5);
    EXPECT_EQ(::syscall(SYS_write, mine(), bytes, 5), 5);
  });
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "hello");
}

// --- SIGSYS is the application's ---

volatile sig_atomic_t traps = 0;
volatile int trapped_call = 0;

// A filter of the application's own, for a call that nothing else uses.
void trap_getpriority() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP | 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{4, code};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

TEST_P(Trap, ApplicationHasItsOwnTraps) {
  TSSX_INSIDE;
  struct sigaction now {};
  ASSERT_EQ(::sigaction(SIGSYS, nullptr, &now), 0);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
  struct sigaction action {};
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    traps = traps + 1;
    trapped_call = info->si_syscall;
  };
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(::sigaction(SIGSYS, &action, nullptr), 0);
  ASSERT_EQ(::sigaction(SIGSYS, nullptr, &now), 0);
  EXPECT_EQ(now.sa_sigaction, action.sa_sigaction);
  trap_getpriority();
  ::syscall(SYS_getpriority, PRIO_PROCESS, 0);
  EXPECT_EQ(traps, 1);
  EXPECT_EQ(trapped_call, SYS_getpriority);
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char bytes[6] = {};
  EXPECT_EQ(::syscall(SYS_read, mine(), bytes, 5), 5);
  EXPECT_STREQ(bytes, "hello");
  EXPECT_EQ(traps, 1);
  ASSERT_EQ(::kill(::getpid(), SIGSYS), 0);
  EXPECT_EQ(traps, 2);
}

TEST_P(Trap, DefaultOfAForeignTrapIsDeath) {
  TSSX_INSIDE;
  const auto dies = [&](void (*how)()) {
    Child child([&] {
      const rlimit none{0, 0};
      ::setrlimit(RLIMIT_CORE, &none);
      how();
    });
    EXPECT_EQ(child.wait(), 128 + SIGSYS);
  };
  dies([] {
    trap_getpriority();
    ::syscall(SYS_getpriority, PRIO_PROCESS, 0);
  });
  dies([] { ::raise(SIGSYS); });
}

TEST_P(Trap, IgnoringTheSignalChangesNothing) {
  TSSX_INSIDE;
  ASSERT_EQ(::signal(SIGSYS, SIG_IGN), SIG_DFL);
  ASSERT_EQ(::raise(SIGSYS), 0);
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char bytes[6] = {};
  EXPECT_EQ(::syscall(SYS_read, mine(), bytes, 5), 5);
  EXPECT_STREQ(bytes, "hello");
  EXPECT_EQ(::signal(SIGSYS, SIG_DFL), SIG_IGN);
}

// --- the filter ---

std::string status_line(const std::string& key) {
  FILE* const file = std::fopen("/proc/self/status", "re");
  char line[256];
  std::string found;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::string_view(line).starts_with(key)) found = line + key.size();
  }
  std::fclose(file);
  return found;
}

TEST(TrapFilter, IsInstalledOnceOverExec) {
  TSSX_INSIDE;
  EXPECT_EQ(std::stoi(status_line("Seccomp_filters:")), 1);
  EXPECT_EQ(std::stoi(status_line("NoNewPrivs:")), 1);
  if (std::getenv("TSSX_TRAP_TEST_AGAIN") == nullptr) {
    ::setenv("TSSX_TRAP_TEST_AGAIN", "1", 1);
    EXPECT_EQ(run_inside(), 0);
  }
}

// What a program with this environment prints on standard error.
std::string complaints_with(const char* ids, const char* seccomp) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::setenv("TSSX_IDS", ids, 1);
    ::setenv("TSSX_SECCOMP", seccomp, 1);
    ::execl("/bin/grep", "grep", "Seccomp:", "/proc/self/status", nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  const std::string said = read_to_end(ends[0]);
  ::close(ends[0]);
  EXPECT_EQ(wait_for_exit(child), 0);
  return said;
}

TEST(TrapFilter, IsNotThereWithoutIds) {
  EXPECT_EQ(std::stoi(status_line("Seccomp:")), 0);
  EXPECT_EQ(complaints_with("kernel", "trap"), "");
  EXPECT_EQ(complaints_with("negative", "trap"), "");
}

TEST(TrapFilter, BadValueGetsOneLine) {
  const std::string said = complaints_with("negative", "yes");
  const std::regex line("tssx: grep\\[[0-9]+\\]: TSSX_SECCOMP: not trap; ignored\n");
  EXPECT_TRUE(preloaded() ? std::regex_match(said, line) : said.empty()) << said;
}

}  // namespace
}  // namespace tssx_test
