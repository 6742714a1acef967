// A connection that several processes hold stays in the kernel, and moves once one of them is left,
// however the others ended. What it carries is the same all the while.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <ostream>
#include <string>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

// A pipe by which one process waits for another.
class Gate {
 public:
  Gate() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
  }
  void open() const { write_all(write_.get(), "x"); }
  void wait() const { read_once(read_.get(), 1); }
  // Until the last other process that could open it has executed another program, or ended.
  void wait_for_end() {
    write_.reset();
    read_to_end(read_.get());
  }
  [[nodiscard]] int read_end() const { return read_.get(); }

 private:
  UniqueFd read_;
  UniqueFd write_;
};

// As many round trips as the next attempt to move may need, when earlier ones failed.
void talk(int a, int b) {
  for (int i = 0; i < 20; ++i) warm_up(a, b);
}

int moved() { return preloaded() ? 2 : 0; }

enum class End { execve, underscore_exit, c_exit, quick_exit, exit, kill };
void PrintTo(End end, std::ostream* out) { *out << static_cast<int>(end); }

// Both ends are here and in the child, which goes in the given way. It has talked before or not.
class Holder : public testing::TestWithParam<End> {
 protected:
  void SetUp() override {
    connection_ = make_connection();
    ASSERT_EQ(::fcntl(server(), F_SETFD, FD_CLOEXEC), 0);
    ASSERT_EQ(::fcntl(client(), F_SETFD, FD_CLOEXEC), 0);
  }
  [[nodiscard]] int server() const { return connection_.server.get(); }
  [[nodiscard]] int client() const { return connection_.client.get(); }

  // In a child: ends it. `idle` is what a program that goes on waits for.
  static void end_here(End end, int idle) {
    switch (end) {
      case End::execve:
        ::dup2(idle, STDIN_FILENO);
        ::execl("/bin/cat", "cat", nullptr);
        ::_exit(127);
      case End::underscore_exit:
        ::_exit(0);
      case End::c_exit:
        std::_Exit(0);
      case End::quick_exit:
        std::quick_exit(0);
      case End::exit:
        std::exit(0);
      case End::kill:
        ::raise(SIGKILL);
    }
  }
  Connection connection_;
};
std::string name_of(const testing::TestParamInfo<End>& end) {
  constexpr const char* kNames[] = {"Execve",    "UnderscoreExit", "CExit",
                                    "QuickExit", "Exit",           "Kill"};
  return kNames[static_cast<int>(end.param)];
}
INSTANTIATE_TEST_SUITE_P(, Holder,
                         testing::Values(End::execve, End::underscore_exit, End::c_exit,
                                         End::quick_exit, End::exit, End::kill),
                         name_of);

TEST_P(Holder, ThatIsLeftAloneMovesTheConnection) {
  Gate idle;
  Gate gone;
  Child child([&] { end_here(GetParam(), idle.read_end()); });
  gone.wait_for_end();
  talk(server(), client());
  EXPECT_EQ(accelerated_segments(), moved());
  EXPECT_EQ(write_all(server(), "done"), 4U);
  EXPECT_EQ(read_exactly(client(), 4), "done");
}

TEST_P(Holder, ThatIsLeftAloneAfterAWhileMovesTheConnection) {
  Gate idle;
  Gate gone;
  Gate go;
  Child child([&] {
    go.wait();
    talk(server(), client());
    EXPECT_EQ(accelerated_segments(), 0);
    end_here(GetParam(), idle.read_end());
  });
  talk(client(), server());
  EXPECT_EQ(accelerated_segments(), 0);
  go.open();
  gone.wait_for_end();
  for (int i = 0; i < 3; ++i) talk(server(), client());
  EXPECT_EQ(accelerated_segments(), moved());
}

TEST_P(Holder, OfSeveralWaitsForTheLast) {
  Gate idle;
  Gate go;
  Gate last_gone;
  Child first;
  {
    Gate gone;
    first = Child([&] { end_here(GetParam(), idle.read_end()); });
    gone.wait_for_end();
  }
  Child second([&] {
    go.wait();
    end_here(GetParam(), idle.read_end());
  });
  for (int i = 0; i < 3; ++i) talk(server(), client());
  EXPECT_EQ(accelerated_segments(), 0);
  go.open();
  last_gone.wait_for_end();
  for (int i = 0; i < 3; ++i) talk(server(), client());
  EXPECT_EQ(accelerated_segments(), moved());
}

TEST_P(Holder, ThatIsAGrandchildMovesItsEnd) {
  Gate idle;
  Gate gone;
  std::fflush(nullptr);
  Child child([&] {
    connection_.client.reset();
    const pid_t grandchild = ::fork();
    ASSERT_NE(grandchild, -1);
    if (grandchild != 0) end_here(GetParam(), idle.read_end());
    guard_child();
    gone.wait_for_end();
    for (std::string got; got = read_once(server(), 10), !got.empty();) write_all(server(), got);
    ::_exit(0);
  });
  connection_.server.reset();
  gone.wait_for_end();
  for (int i = 0; i < 2000; ++i) {
    ASSERT_EQ(write_all(client(), "ping"), 4U);
    ASSERT_EQ(read_exactly(client(), 4), "ping") << i;
  }
  EXPECT_EQ(accelerated_segments(), preloaded() ? 1 : 0);
}

class HolderBeside : public Holder {};
INSTANTIATE_TEST_SUITE_P(, HolderBeside, testing::Values(End::exit), name_of);

// The parent's connection stays in the kernel while the child, which waits, has it in some way;
// then the child must be able to read from it.
void expect_shared(int server, int client, const std::function<int()>& held) {
  Gate ready;
  Gate go;
  Child child([&] {
    const int fd = held();
    ready.open();
    go.wait();
    EXPECT_EQ(read_exactly(fd, 9), "for child");
    EXPECT_EQ(write_all(fd, "by child"), 8U);
  });
  ready.wait();
  for (int i = 0; i < 3; ++i) talk(server, client);
  ASSERT_EQ(accelerated_segments(), 0);
  ASSERT_EQ(write_all(client, "for child"), 9U);
  go.open();
  EXPECT_EQ(read_exactly(client, 8), "by child");
  EXPECT_EQ(child.wait(), 0);
  for (int i = 0; i < 3; ++i) talk(server, client);
}

TEST_P(HolderBeside, ThatOnlyWaitsKeepsItInTheKernel) {
  expect_shared(server(), client(), [this] { return server(); });
}

TEST_P(HolderBeside, OfADuplicateKeepsItInTheKernel) {
  expect_shared(server(), client(), [this] {
    const int copy = ::dup(server());
    connection_.client.reset();
    connection_.server.reset();
    return copy;
  });
}

TEST_P(HolderBeside, OfADuplicatePutOverTheOriginalKeepsItInTheKernel) {
  if (server() < 0) GTEST_SKIP() << "docs/limitations.md, nothing can be put on an ID";
  expect_shared(server(), client(), [this] {
    const int copy = ::dup(server());
    EXPECT_EQ(::dup2(STDERR_FILENO, server()), server());
    return copy;
  });
}

TEST_P(HolderBeside, WhoseExecFailsKeepsItInTheKernel) {
  expect_shared(server(), client(), [this] {
    EXPECT_EQ(::execl("/nonexistent/program", "program", nullptr), -1);
    EXPECT_EQ(errno, ENOENT);
    return server();
  });
}

TEST_P(HolderBeside, OfItsOwnChildKeepsItInTheKernel) {
  expect_shared(server(), client(), [this] {
    Child inner([] {});
    EXPECT_EQ(inner.wait(), 0);
    return server();
  });
}

}  // namespace
}  // namespace tssx_test
