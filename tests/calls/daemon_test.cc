// daemon(), login_tty() and forkpty(): libc forks, and puts other files on the standard streams.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utmp.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <string>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

class Daemon : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, Daemon, every_situation(), situation_name);

// Echoes until the end. An alarm does not survive into the daemon: it is set again.
void echo(int fd) {
  guard_child();
  char bytes[256];
  ssize_t n = 0;
  while ((n = ::read(fd, bytes, sizeof bytes)) > 0) {
    write_all(fd, std::string_view(bytes, static_cast<std::size_t>(n)));
  }
}

TEST_P(Daemon, KeepsItsConnections) {
  for (const bool keep_streams : {true, false}) {
    for (const bool keep_folder : {true, false}) {
      std::fflush(nullptr);
      ForkedConnection connection = connect_to([&](int fd) {
        if (::daemon(keep_folder ? 1 : 0, keep_streams ? 1 : 0) != 0) ::_exit(3);
        char folder[PATH_MAX];
        if (::getcwd(folder, sizeof folder) == nullptr) ::_exit(4);
        std::string report = ::getsid(0) == ::getpid() ? "leads, " : "follows, ";
        report += std::string(folder) == "/" ? "at the root\n" : "elsewhere\n";
        write_all(fd, report);
        echo(fd);
        ::_exit(0);
      });
      const int fd = connection.mine.get();
      EXPECT_EQ(connection.peer.wait(), 0);  // the parent is gone at once
      char here[PATH_MAX];
      ASSERT_NE(::getcwd(here, sizeof here), nullptr);
      // glibc's daemon() calls setsid() in a child that leads no group.
      const std::string expected =
          !keep_folder || std::string(here) == "/" ? "leads, at the root\n" : "leads, elsewhere\n";
      EXPECT_EQ(read_exactly(fd, expected.size()), expected);
      for (int i = 0; i < 100; ++i) {
        ASSERT_EQ(write_all(fd, "line"), 4U);
        ASSERT_EQ(read_exactly(fd, 4), "line");
      }
      // The only holder moves on to the ring, or stays there.
      EXPECT_EQ(accelerated_segments() > 0, preloaded());
      EXPECT_EQ(::shutdown(fd, SHUT_WR), 0);
      EXPECT_EQ(read_once(fd, 1), "");
    }
  }
}

TEST_P(Daemon, HasTheNullDeviceOnItsStreams) {
  std::fflush(nullptr);
  ForkedConnection connection = connect_to([](int fd) {
    // The connection itself is on the standard streams before.
    const int kept = ::dup(fd);
    for (int stream = 0; stream <= 2; ++stream) ::dup2(fd, stream);
    ::close(fd);
    if (::daemon(0, 0) != 0) ::_exit(3);
    char byte = 0;
    std::string report = ::read(0, &byte, 1) == 0 ? "end " : "no end ";
    report += ::write(1, "x", 1) == 1 ? "taken" : "refused";
    write_all(kept, report);
    ::_exit(0);
  });
  EXPECT_EQ(connection.peer.wait(), 0);
  EXPECT_EQ(read_to_end(connection.mine.get()), "end taken");
}

class Terminal : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Terminal, every_situation(), situation_name);

// What the child says on its standard streams comes out of the terminal.
std::string say_hello() {
  std::string report = ::isatty(0) == 1 ? "a terminal " : "no terminal ";
  report += ::write(1, "hello", 5) == 5 ? "written" : "refused";
  return report;
}

TEST_P(Terminal, ByForkptyTakesTheStandardStreams) {
  std::fflush(nullptr);
  Child child([this] {
    const int kept = ::dup(mine());
    ::dup2(mine(), 0);
    ::dup2(mine(), 1);
    mine_.reset();
    int master = -1;
    const pid_t pid = ::forkpty(&master, nullptr, nullptr, nullptr);
    if (pid == 0) {
      guard_child();
      write_all(kept, say_hello());
      ::_exit(0);
    }
    EXPECT_EQ(read_exactly(master, 5), "hello");
    EXPECT_EQ(wait_for_exit(pid), 0);
    EXPECT_EQ(write_all(0, ", mine"), 6U);  // the parent's streams are what they were
    ::close(master);
  });
  mine_.reset();
  EXPECT_EQ(read_exactly(peer(), 24), "a terminal written, mine");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Terminal, ByLoginTtyTakesTheStandardStreams) {
  std::fflush(nullptr);
  Child child([this] {
    const int kept = ::dup(mine());
    ::dup2(mine(), 0);
    ::dup2(mine(), 1);
    ::dup2(mine(), 2);
    mine_.reset();
    ::setsid();
    int master = -1;
    int slave = -1;
    EXPECT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
    EXPECT_EQ(::login_tty(slave), 0);
    const std::string report = say_hello();
    EXPECT_EQ(read_exactly(master, 5), "hello");
    write_all(kept, report);
  });
  mine_.reset();
  EXPECT_EQ(read_exactly(peer(), 18), "a terminal written");
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
