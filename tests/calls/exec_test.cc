// exec and its relatives: a program that knows nothing of shared memory inherits a connection.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wordexp.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/pattern.h"

extern char** environ;

namespace tssx_test {
namespace {

constexpr int kFixed = 9;  // a number that a shell can redirect to

void expect_echo(int fd, std::size_t offset, std::size_t size) {
  std::thread writer([&] { EXPECT_EQ(write_all(fd, pattern(offset, size)), size); });
  const std::string got = read_exactly(fd, size);
  writer.join();
  EXPECT_EQ(got.size(), size);
  EXPECT_TRUE(matches_pattern(got, offset));
}

class Exec : public ConnectionTest {
 protected:
  // A child with mine() as its standard input and output; `run` does not return.
  Child on_standard_streams(const std::function<void()>& run) {
    return Child([this, &run] {
      ::dup2(mine(), STDIN_FILENO);
      ::dup2(mine(), STDOUT_FILENO);
      ::close(mine());
      ::close(peer());
      run();
      ::_exit(127);
    });
  }
};
INSTANTIATE_TEST_SUITE_P(, Exec, every_situation(), situation_name);

TEST_P(Exec, CatEchoes) {
  Child cat = on_standard_streams([] { ::execl("/bin/cat", "cat", nullptr); });
  mine_.reset();
  for (std::size_t i = 0; i < 50; ++i) expect_echo(peer(), i * 100, 100);
  expect_echo(peer(), 0, 1000000);
  EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(cat.wait(), 0);
}

TEST_P(Exec, KeepsTheOrderOfDataInFlight) {
  // Both directions hold data when the program changes.
  ASSERT_EQ(write_all(peer(), "before "), 7U);
  Child cat = on_standard_streams([] {
    write_all(STDOUT_FILENO, "from the old program, ");
    ::execl("/bin/cat", "cat", nullptr);
  });
  mine_.reset();
  ASSERT_EQ(write_all(peer(), "and after"), 9U);
  EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(read_to_end(peer()), "from the old program, before and after");
  EXPECT_EQ(cat.wait(), 0);
}

TEST_P(Exec, KeepsALargeBacklogInOrder) {
  const std::size_t queued = fill(peer(), 10000);
  Child cat = on_standard_streams([] { ::execl("/bin/cat", "cat", nullptr); });
  mine_.reset();
  std::thread writer([&] {
    EXPECT_EQ(write_all(peer(), pattern(queued, 300000)), 300000U);
    EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  });
  const std::string got = read_to_end(peer());
  writer.join();
  EXPECT_EQ(got.size(), queued + 300000);
  EXPECT_TRUE(matches_pattern(got, 0));
  EXPECT_EQ(cat.wait(), 0);
}

TEST_P(Exec, HappensWhileThePeerSleepsInRead) {
  std::string got;
  std::thread reader([&] { got = read_once(peer(), 100); });
  sleep_a_moment();
  Child echo = on_standard_streams([] { ::execl("/bin/echo", "echo", "hello", nullptr); });
  mine_.reset();
  reader.join();
  EXPECT_EQ(got, "hello\n");
  EXPECT_EQ(read_once(peer(), 100), "");
  EXPECT_EQ(echo.wait(), 0);
}

TEST_P(Exec, HappensWhileThePeerSleepsInPoll) {
  short events = 0;
  std::thread poller([&] { events = wait_for(peer(), POLLIN); });
  sleep_a_moment();
  Child echo = on_standard_streams([] { ::execl("/bin/echo", "echo", "hello", nullptr); });
  mine_.reset();
  poller.join();
  EXPECT_NE(events & POLLIN, 0);
  EXPECT_EQ(read_to_end(peer()), "hello\n");
  EXPECT_EQ(echo.wait(), 0);
}

TEST_P(Exec, UnderEachOfItsNamesPassesTheConnectionOn) {
  static char cat[] = "cat";
  static char* const arguments[] = {cat, nullptr};
  const std::function<void()> names[] = {
      [] { ::execl("/bin/cat", "cat", nullptr); },
      [] { ::execlp("cat", "cat", nullptr); },
      [] { ::execle("/bin/cat", "cat", nullptr, environ); },
      [] { ::execv("/bin/cat", arguments); },
      [] { ::execvp("cat", arguments); },
      [] { ::execve("/bin/cat", arguments, environ); },
      [] { ::execvpe("cat", arguments, environ); },
      [] { ::fexecve(::open("/bin/cat", O_RDONLY | O_CLOEXEC), arguments, environ); },
      [] { ::execveat(AT_FDCWD, "/bin/cat", arguments, environ, 0); },
      [] {
        ::execveat(::open("/bin/cat", O_PATH | O_CLOEXEC), "", arguments, environ, AT_EMPTY_PATH);
      },
  };
  std::size_t offset = 0;
  for (const auto& name : names) {
    // The parent keeps the connection, so one serves all of them, one after another.
    Child child = on_standard_streams(name);
    expect_echo(peer(), offset, 5000);
    child.kill(SIGTERM);
    EXPECT_EQ(child.wait(), 128 + SIGTERM);
    offset += 5000;
  }
}

TEST_P(Exec, ThatFailsLeavesTheConnectionUsable) {
  Child child([this] {
    peer_.reset();
    errno = 0;
    EXPECT_EQ(::execl("/nonexistent/program", "program", nullptr), -1);
    EXPECT_EQ(errno, ENOENT);
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(write_all(mine(), read_exactly(mine(), 20)), 20U);
    }
  });
  mine_.reset();
  for (std::size_t i = 0; i < 100; ++i) expect_echo(peer(), i * 20, 20);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Exec, ClosesWhatIsCloseOnExec) {
  int gate[2];
  ASSERT_EQ(::pipe2(gate, O_CLOEXEC), 0);
  const UniqueFd gate_read(gate[0]);
  UniqueFd gate_write(gate[1]);
  ASSERT_EQ(::fcntl(mine(), F_SETFD, FD_CLOEXEC), 0);
  Child child([&] {
    peer_.reset();
    ::dup2(gate_read.get(), STDIN_FILENO);
    gate_write.reset();
    ::execl("/bin/cat", "cat", nullptr);
    ::_exit(127);
  });
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");  // and cat is still running
  gate_write.reset();
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Exec, KeepsWhatTheParentHoldsAsWell) {
  Child echo = on_standard_streams([] { ::execl("/bin/echo", "echo", "child", nullptr); });
  EXPECT_EQ(echo.wait(), 0);
  EXPECT_EQ(read_exactly(peer(), 6), "child\n");
  ASSERT_EQ(write_all(mine(), "parent"), 6U);
  EXPECT_EQ(read_exactly(peer(), 6), "parent");
  ASSERT_EQ(write_all(peer(), "reply"), 5U);
  EXPECT_EQ(read_exactly(mine(), 5), "reply");
  warm_up(mine(), peer());
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Exec, ServesANonblockingConnection) {
  set_nonblocking(peer(), true);
  Child cat = on_standard_streams([] { ::execl("/bin/cat", "cat", nullptr); });
  mine_.reset();
  for (std::size_t i = 0; i < 50; ++i) {
    ASSERT_EQ(write_all(peer(), pattern(i, 10)), 10U);
    ASSERT_EQ(wait_for(peer(), POLLIN), POLLIN);
    ASSERT_EQ(read_once(peer(), 100), pattern(i, 10));
  }
  EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(cat.wait(), 0);
}

TEST_P(Exec, ByVforkPassesTheConnectionOn) {
  const int connection = mine();
  const pid_t pid = ::vfork();
  if (pid == 0) {
    ::dup2(connection, STDIN_FILENO);
    ::dup2(connection, STDOUT_FILENO);
    ::execl("/bin/sh", "sh", "-c", "read line; echo got $line", nullptr);
    ::_exit(127);
  }
  ASSERT_NE(pid, -1);
  ASSERT_EQ(write_all(peer(), "a line\n"), 7U);
  EXPECT_EQ(read_exactly(peer(), 11), "got a line\n");
  EXPECT_EQ(wait_for_exit(pid), 0);
  ASSERT_EQ(write_all(peer(), "later"), 5U);
  EXPECT_EQ(read_exactly(mine(), 5), "later");
}

TEST_P(Exec, ByPosixSpawnPassesTheConnectionOn) {
  posix_spawn_file_actions_t actions;
  ASSERT_EQ(::posix_spawn_file_actions_init(&actions), 0);
  ::posix_spawn_file_actions_adddup2(&actions, mine(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, mine(), STDOUT_FILENO);
  ::posix_spawn_file_actions_addclose(&actions, mine());
  ::posix_spawn_file_actions_addclose(&actions, peer());
  char name[] = "cat";
  char* const arguments[] = {name, nullptr};
  for (const bool search : {false, true}) {
    pid_t pid = -1;
    ASSERT_EQ(search ? ::posix_spawnp(&pid, "cat", &actions, nullptr, arguments, environ)
                     : ::posix_spawn(&pid, "/bin/cat", &actions, nullptr, arguments, environ),
              0);
    expect_echo(peer(), 0, 100000);
    ::kill(pid, SIGTERM);
    EXPECT_EQ(wait_for_exit(pid), 128 + SIGTERM);
  }
  ::posix_spawn_file_actions_destroy(&actions);
  ASSERT_EQ(write_all(peer(), "later"), 5U);
  EXPECT_EQ(read_exactly(mine(), 5), "later");
}

// Spawns `arguments` with `actions`, both ends being close-on-exec here.
pid_t spawn(const posix_spawn_file_actions_t& actions, char* const* arguments) {
  pid_t pid = -1;
  EXPECT_EQ(::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments, environ), 0);
  return pid;
}

TEST_P(Exec, BySpawnMayPutACloseOnExecConnectionOnOtherNumbers) {
  ASSERT_EQ(::fcntl(mine(), F_SETFD, FD_CLOEXEC), 0);
  ASSERT_EQ(::fcntl(peer(), F_SETFD, FD_CLOEXEC), 0);
  const TemporaryDirectory directory;
  const std::string errors = directory.path("errors");
  const UniqueFd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  posix_spawn_file_actions_t actions;
  ASSERT_EQ(::posix_spawn_file_actions_init(&actions), 0);
  // More actions than the first allocation holds, of every kind.
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(::posix_spawn_file_actions_addopen(&actions, 2, errors.c_str(),
                                                 O_WRONLY | O_CREAT | O_APPEND, 0600),
              0);
  }
  ASSERT_EQ(::posix_spawn_file_actions_adddup2(&actions, mine(), STDIN_FILENO), 0);
  ASSERT_EQ(::posix_spawn_file_actions_adddup2(&actions, mine(), STDOUT_FILENO), 0);
  ASSERT_EQ(::posix_spawn_file_actions_addfchdir_np(&actions, folder.get()), 0);
  ASSERT_EQ(::posix_spawn_file_actions_addchdir_np(&actions, "/"), 0);
  ASSERT_EQ(::posix_spawn_file_actions_addclosefrom_np(&actions, 3), 0);
  char name[] = "cat";
  char* const arguments[] = {name, nullptr};
  const pid_t pid = spawn(actions, arguments);
  ::posix_spawn_file_actions_destroy(&actions);
  for (std::size_t i = 0; i < 50; ++i) expect_echo(peer(), i * 100, 100);
  expect_echo(peer(), 0, 300000);
  ::kill(pid, SIGTERM);
  EXPECT_EQ(wait_for_exit(pid), 128 + SIGTERM);
  warm_up(mine(), peer());
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Exec, BySpawnMayTakeACloseOnExecFlagAway) {
  // A dup2() action onto the number itself (posix_spawn_file_actions_adddup2(3)).
  const UniqueFd fixed(::dup2(mine(), kFixed));
  ASSERT_EQ(::fcntl(mine(), F_SETFD, FD_CLOEXEC), 0);
  ASSERT_EQ(::fcntl(peer(), F_SETFD, FD_CLOEXEC), 0);
  ASSERT_EQ(::fcntl(kFixed, F_SETFD, FD_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  ASSERT_EQ(::posix_spawn_file_actions_init(&actions), 0);
  ASSERT_EQ(::posix_spawn_file_actions_adddup2(&actions, kFixed, kFixed), 0);
  char name[] = "sh";
  char option[] = "-c";
  char command[] = "read line <&9; echo got $line >&9";
  char* const arguments[] = {name, option, command, nullptr};
  const pid_t pid = spawn(actions, arguments);
  ::posix_spawn_file_actions_destroy(&actions);
  ASSERT_EQ(write_all(peer(), "a line\n"), 7U);
  EXPECT_EQ(read_exactly(peer(), 11), "got a line\n");
  EXPECT_EQ(wait_for_exit(pid), 0);
}

TEST_P(Exec, BySpawnThatTakesNothingLeavesTheConnectionAsItIs) {
  ASSERT_EQ(::fcntl(mine(), F_SETFD, FD_CLOEXEC), 0);
  ASSERT_EQ(::fcntl(peer(), F_SETFD, FD_CLOEXEC), 0);
  const UniqueFd file(::open("/dev/null", O_RDWR | O_CLOEXEC));
  posix_spawn_file_actions_t actions;
  ASSERT_EQ(::posix_spawn_file_actions_init(&actions), 0);
  ASSERT_EQ(::posix_spawn_file_actions_adddup2(&actions, file.get(), STDOUT_FILENO), 0);
  char name[] = "true";
  char* const arguments[] = {name, nullptr};
  EXPECT_EQ(wait_for_exit(spawn(actions, arguments)), 0);
  ::posix_spawn_file_actions_destroy(&actions);
  warm_up(mine(), peer());
  // It is not taken back for nothing.
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
}

TEST_P(Exec, BySpawnThatClosesItLeavesItToTheParent) {
  posix_spawn_file_actions_t actions;
  ASSERT_EQ(::posix_spawn_file_actions_init(&actions), 0);
  ::posix_spawn_file_actions_addclose(&actions, mine());
  ::posix_spawn_file_actions_addclose(&actions, peer());
  char name[] = "true";
  char* const arguments[] = {name, nullptr};
  pid_t pid = -1;
  ASSERT_EQ(::posix_spawn(&pid, "/bin/true", &actions, nullptr, arguments, environ), 0);
  ::posix_spawn_file_actions_destroy(&actions);
  EXPECT_EQ(wait_for_exit(pid), 0);
  warm_up(mine(), peer());
}

TEST_P(Exec, OfBothEndsKeepsWhatWasWrittenBefore) {
  ASSERT_EQ(write_all(mine(), "written before"), 14U);
  EXPECT_EQ(std::system("true"), 0);
  EXPECT_EQ(read_exactly(peer(), 14), "written before");
}

TEST_P(Exec, BySystemPassesTheConnectionOn) {
  const UniqueFd fixed(::dup2(mine(), kFixed));
  ASSERT_EQ(fixed.get(), kFixed);
  ASSERT_EQ(write_all(kFixed, "one "), 4U);
  EXPECT_EQ(std::system("printf 'two ' >&9"), 0);
  ASSERT_EQ(write_all(kFixed, "three "), 6U);
  EXPECT_EQ(std::system("printf four >&9"), 0);
  EXPECT_EQ(read_exactly(peer(), 18), "one two three four");
  ASSERT_EQ(write_all(peer(), "a line\n"), 7U);
  EXPECT_EQ(std::system("read line <&9 && test \"$line\" = 'a line'"), 0);
  warm_up(mine(), peer());
}

TEST_P(Exec, ByWordexpPassesTheConnectionOn) {
  const UniqueFd fixed(::dup2(mine(), kFixed));
  ASSERT_EQ(fixed.get(), kFixed);
  wordexp_t words{};
  ASSERT_EQ(::wordexp("$(echo shell >&9; echo word)", &words, 0), 0);
  ASSERT_EQ(words.we_wordc, 1U);
  EXPECT_STREQ(words.we_wordv[0], "word");
  ::wordfree(&words);
  EXPECT_EQ(read_exactly(peer(), 6), "shell\n");
  warm_up(mine(), peer());
}

TEST_P(Exec, ByPopenPassesTheConnectionOn) {
  const UniqueFd fixed(::dup2(mine(), kFixed));
  ASSERT_EQ(fixed.get(), kFixed);
  FILE* pipe = ::popen("cat >&9", "w");
  ASSERT_NE(pipe, nullptr);
  EXPECT_GE(std::fputs("through the pipe", pipe), 0);
  EXPECT_EQ(::pclose(pipe), 0);
  EXPECT_EQ(read_exactly(peer(), 16), "through the pipe");
  warm_up(mine(), peer());
}

class ExecPeer : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, ExecPeer, every_situation(), situation_name);

TEST_P(ExecPeer, InAnotherProcessMayBecomeCat) {
  ForkedConnection connection = connect_to([](int fd) {
    ::dup2(fd, STDIN_FILENO);
    ::dup2(fd, STDOUT_FILENO);
    ::close(fd);
    ::execl("/bin/cat", "cat", nullptr);
    ::_exit(127);
  });
  const int fd = connection.mine.get();
  for (std::size_t i = 0; i < 50; ++i) expect_echo(fd, i * 100, 100);
  expect_echo(fd, 0, 1000000);
  EXPECT_EQ(::shutdown(fd, SHUT_WR), 0);
  EXPECT_EQ(read_once(fd, 10), "");
  EXPECT_EQ(connection.peer.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
