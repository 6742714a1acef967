// Programs that restrict their own system calls: they list what they call themselves, and know
// nothing of what a library might.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

// Allows `calls` and nothing else. True when it is in force.
bool restrict_to(std::initializer_list<unsigned> calls, unsigned otherwise, bool by_prctl) {
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const unsigned call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, otherwise));
  sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  if (by_prctl) return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0;
}

class Seccomp : public ForkedPeerTest {
 protected:
  // A peer that allows itself read() and write() alone, and what leaves it by.
  void converse(unsigned otherwise, bool by_prctl) {
    ForkedConnection connection = connect_to([&](int fd) {
      if (!restrict_to({SYS_read, SYS_write, SYS_exit_group, SYS_exit}, otherwise, by_prctl)) {
        ::_exit(3);
      }
      char bytes[64];
      for (;;) {
        const ssize_t n = ::read(fd, bytes, sizeof bytes);
        if (n < 0) ::_exit(4);
        if (n == 0) break;
        if (::write(fd, bytes, static_cast<std::size_t>(n)) != n) ::_exit(5);
      }
      ::_exit(0);
    });
    const int fd = connection.mine.get();
    for (int i = 0; i < 100; ++i) {
      if (i % 40 == 0) sleep_a_moment();  // it sleeps in read()
      ASSERT_EQ(write_all(fd, "line"), 4U);
      ASSERT_EQ(read_exactly(fd, 4), "line");
    }
    // More than it reads at once, and both ways at a time.
    ASSERT_EQ(write_all(fd, std::string(5000, 'x')), 5000U);
    EXPECT_EQ(read_exactly(fd, 5000), std::string(5000, 'x'));
    EXPECT_EQ(::shutdown(fd, SHUT_WR), 0);
    EXPECT_EQ(read_once(fd, 10), "");
    EXPECT_EQ(connection.peer.wait(), 0);
  }
};
INSTANTIATE_TEST_SUITE_P(, Seccomp, every_situation(), situation_name);

TEST_P(Seccomp, ThatKillsSparesWhoReadsAndWrites) { converse(SECCOMP_RET_KILL_PROCESS, false); }

TEST_P(Seccomp, ThatKillsSparesWhoAsksByPrctl) { converse(SECCOMP_RET_KILL_PROCESS, true); }

TEST_P(Seccomp, ThatRefusesLosesNothing) { converse(SECCOMP_RET_ERRNO | EPERM, false); }

TEST_P(Seccomp, InStrictModeAllowsReadsAndWrites) {
  // read, write and _exit alone (seccomp(2)).
  ForkedConnection connection = connect_to([](int fd) {
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) ::_exit(3);
    char bytes[64];
    ssize_t n = 0;
    while ((n = ::read(fd, bytes, sizeof bytes)) > 0) {
      if (::write(fd, bytes, static_cast<std::size_t>(n)) != n) break;
    }
    ::syscall(SYS_exit, n == 0 ? 0 : 4);
  });
  const int fd = connection.mine.get();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(fd, "line"), 4U);
    ASSERT_EQ(read_exactly(fd, 4), "line");
  }
  EXPECT_EQ(::shutdown(fd, SHUT_WR), 0);
  EXPECT_EQ(read_once(fd, 10), "");
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(Seccomp, KeepsWhatIsUnderWay) {
  // Both directions hold data when the filter is made.
  ForkedConnection connection = connect_to([](int fd) {
    write_all(fd, "from before, ");
    sleep_a_moment();
    if (!restrict_to({SYS_read, SYS_write, SYS_exit_group}, SECCOMP_RET_KILL_PROCESS, false)) {
      ::_exit(3);
    }
    char bytes[64];
    ssize_t n = 0;
    while ((n = ::read(fd, bytes, sizeof bytes)) > 0) {
      if (::write(fd, bytes, static_cast<std::size_t>(n)) != n) ::_exit(5);
    }
    ::_exit(0);
  });
  const int fd = connection.mine.get();
  ASSERT_EQ(write_all(fd, "written early, "), 15U);
  sleep_a_moment();
  sleep_a_moment();
  ASSERT_EQ(write_all(fd, "and late"), 8U);
  EXPECT_EQ(::shutdown(fd, SHUT_WR), 0);
  EXPECT_EQ(read_to_end(fd), "from before, written early, and late");
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST(SeccompOfBothEnds, KeepsWhatIsUnderWay) {
  Child child([] {
    const Connection connection = make_connection();
    warm_up(connection.client.get(), connection.server.get());
    ASSERT_EQ(write_all(connection.client.get(), "to server"), 9U);
    ASSERT_EQ(write_all(connection.server.get(), "to client"), 9U);
    if (!restrict_to({SYS_read, SYS_write, SYS_exit_group}, SECCOMP_RET_KILL_PROCESS, true)) {
      ::_exit(3);
    }
    char text[9];
    if (::read(connection.server.get(), text, 9) != 9) ::_exit(4);
    if (std::memcmp(text, "to server", 9) != 0) ::_exit(5);
    if (::read(connection.client.get(), text, 9) != 9) ::_exit(6);
    if (std::memcmp(text, "to client", 9) != 0) ::_exit(7);
    ::_exit(0);
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Seccomp, AppliesToConnectionsThatAreMadeLater) {
  Listener listener;
  Child child([&] {
    if (!restrict_to({SYS_read, SYS_write, SYS_exit_group, SYS_socket, SYS_connect, SYS_accept,
                      SYS_getpeername},
                     SECCOMP_RET_KILL_PROCESS, false)) {
      ::_exit(3);
    }
    const Address address(listener.path());
    int fd = -1;
    if (GetParam().server) {
      fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
      if (::connect(fd, address.get(), address.length) != 0) ::_exit(4);
    } else {
      sockaddr_un name{};
      socklen_t length = sizeof name;
      fd = ::accept(listener.fd(), reinterpret_cast<sockaddr*>(&name), &length);
      if (length != sizeof name.sun_family) ::_exit(7);
      length = sizeof name;
      if (::getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) ::_exit(8);
      if (length != sizeof name.sun_family) ::_exit(9);
    }
    char bytes[64];
    ssize_t n = 0;
    while ((n = ::read(fd, bytes, sizeof bytes)) > 0) {
      if (::write(fd, bytes, static_cast<std::size_t>(n)) != n) ::_exit(5);
    }
    ::_exit(n == 0 ? 0 : 6);
  });
  const UniqueFd other = GetParam().server ? listener.accept() : listener.connect();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(other.get(), "line"), 4U);
    ASSERT_EQ(read_exactly(other.get(), 4), "line");
  }
  EXPECT_EQ(::shutdown(other.get(), SHUT_WR), 0);
  EXPECT_EQ(read_once(other.get(), 10), "");
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
