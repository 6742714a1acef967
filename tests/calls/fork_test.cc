// fork(), vfork() and what runs them inside libc, with connections open.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

// `rounds` requests answered, each by its own bytes.
void serve(int fd, std::size_t rounds) {
  for (std::size_t i = 0; i < rounds; ++i) {
    const std::string request = read_exactly(fd, 50);
    ASSERT_EQ(request.size(), 50U) << "round " << i;
    ASSERT_EQ(write_all(fd, request), 50U);
  }
}

void ask(int fd, std::size_t rounds) {
  for (std::size_t i = 0; i < rounds; ++i) {
    ASSERT_EQ(write_all(fd, pattern(i, 50)), 50U);
    ASSERT_EQ(read_exactly(fd, 50), pattern(i, 50)) << "round " << i;
  }
}

class Fork : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Fork, every_situation(), situation_name);

TEST_P(Fork, ChildServesAndTheParentCloses) {
  Child child([this] {
    peer_.reset();
    serve(mine(), 200);
  });
  mine_.reset();
  ask(peer(), 200);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, ParentServesAndTheChildCloses) {
  Child child([this] {
    mine_.reset();
    ask(peer(), 200);
  });
  peer_.reset();
  serve(mine(), 200);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(mine(), 10), "");
}

TEST_P(Fork, ParentClosesBeforeTheChildHasStarted) {
  int gate[2];
  ASSERT_EQ(::pipe(gate), 0);
  const UniqueFd gate_read(gate[0]);
  UniqueFd gate_write(gate[1]);
  Child child([&] {
    gate_write.reset();
    peer_.reset();
    read_to_end(gate_read.get());
    serve(mine(), 100);
  });
  mine_.reset();
  gate_write.reset();
  ask(peer(), 100);
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Fork, ParentClosesAfterTheChildHasWorked) {
  Child child([this] {
    peer_.reset();
    serve(mine(), 100);
    serve(mine(), 100);
  });
  ask(peer(), 100);
  mine_.reset();
  ask(peer(), 100);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, ChildsExitDoesNotEndWhatTheParentHolds) {
  Child child([this] {
    peer_.reset();
    serve(mine(), 20);
  });
  ask(peer(), 20);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN | POLLRDHUP), 0);
  std::thread server([this] { serve(mine(), 20); });
  ask(peer(), 20);
  server.join();
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, KilledChildDoesNotEndWhatTheParentHolds) {
  Child child([this] {
    peer_.reset();
    for (;;) serve(mine(), 1);
  });
  ask(peer(), 20);
  child.kill_and_wait();
  EXPECT_EQ(poll_now(peer(), POLLIN | POLLRDHUP), 0);
  std::thread server([this] { serve(mine(), 20); });
  ask(peer(), 20);
  server.join();
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, EndOfFileComesWithTheLastHolder) {
  int gates[2][2];
  ASSERT_EQ(::pipe(gates[0]), 0);
  ASSERT_EQ(::pipe(gates[1]), 0);
  const UniqueFd first_read(gates[0][0]);
  UniqueFd first_write(gates[0][1]);
  const UniqueFd second_read(gates[1][0]);
  UniqueFd second_write(gates[1][1]);
  const auto hold = [&](int gate) {
    return [&, gate] {
      first_write.reset();
      second_write.reset();
      peer_.reset();
      read_to_end(gate);
    };
  };
  Child first(hold(first_read.get()));
  Child second(hold(second_read.get()));
  mine_.reset();
  EXPECT_EQ(poll_now(peer(), POLLIN | POLLRDHUP), 0);
  first_write.reset();
  EXPECT_EQ(first.wait(), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN | POLLRDHUP), 0);
  second_write.reset();
  EXPECT_EQ(second.wait(), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN | POLLRDHUP), POLLIN | POLLRDHUP | POLLHUP);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, BlockedReaderSeesTheLastHolderGo) {
  Child child([this] {
    peer_.reset();
    sleep_a_moment();
  });
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Fork, BlockedReaderSeesTheLastHolderKilled) {
  Child child([this] {
    peer_.reset();
    for (;;) ::pause();
  });
  mine_.reset();
  std::thread killer([&] {
    sleep_a_moment();
    child.kill(SIGKILL);
  });
  EXPECT_EQ(read_once(peer(), 10), "");
  killer.join();
}

TEST_P(Fork, DataInFlightGoesToWhoeverReadsIt) {
  ASSERT_EQ(write_all(peer(), "for whoever reads"), 17U);
  Child child([this] { EXPECT_EQ(read_exactly(mine(), 11), "for whoever"); });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(mine(), 100), " reads");
}

TEST_P(Fork, ParentAndChildTakeTurns) {
  // A strict alternation over one endpoint, each telling the other by a pipe.
  int to_child[2];
  int to_parent[2];
  ASSERT_EQ(::pipe(to_child), 0);
  ASSERT_EQ(::pipe(to_parent), 0);
  UniqueFd child_read(to_child[0]);
  const UniqueFd parent_write(to_child[1]);
  const UniqueFd parent_read(to_parent[0]);
  const UniqueFd child_write(to_parent[1]);
  Child child([&] {
    for (std::size_t i = 1; i < 100; i += 2) {
      ASSERT_EQ(read_exactly(child_read.get(), 1), "t");
      ASSERT_EQ(read_exactly(mine(), 10), pattern(i * 10, 10));
      ASSERT_EQ(write_all(mine(), pattern(i * 10, 10)), 10U);
      ASSERT_EQ(write_all(child_write.get(), "t"), 1U);
    }
  });
  ASSERT_EQ(write_all(peer(), pattern(0, 1000)), 1000U);
  for (std::size_t i = 0; i < 100; i += 2) {
    ASSERT_EQ(read_exactly(mine(), 10), pattern(i * 10, 10));
    ASSERT_EQ(write_all(mine(), pattern(i * 10, 10)), 10U);
    ASSERT_EQ(write_all(parent_write.get(), "t"), 1U);
    ASSERT_EQ(read_exactly(parent_read.get(), 1), "t");
  }
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), 1000), 0));
}

TEST_P(Fork, ParentWritesWhileTheChildReads) {
  static constexpr std::size_t kSize = 1U << 20U;
  Child child([this] { EXPECT_TRUE(matches_pattern(read_exactly(mine(), kSize), 0, 1)); });
  std::thread other_end([this] {
    EXPECT_EQ(write_all(peer(), pattern(0, kSize, 1)), kSize);
    EXPECT_TRUE(matches_pattern(read_exactly(peer(), kSize), 0, 2));
  });
  EXPECT_EQ(write_all(mine(), pattern(0, kSize, 2)), kSize);
  other_end.join();
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Fork, GrandchildServes) {
  Child child([this] {
    Child grandchild([this] {
      peer_.reset();
      serve(mine(), 100);
    });
    mine_.reset();
    peer_.reset();
    EXPECT_EQ(grandchild.wait(), 0);
  });
  mine_.reset();
  ask(peer(), 100);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, ChildMayUseACopyAndCloseTheOriginal) {
  Child child([this] {
    peer_.reset();
    const UniqueFd copy(::dup2(mine(), 600));
    mine_.reset();
    serve(copy.get(), 100);
  });
  mine_.reset();
  ask(peer(), 100);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, InAThreadWorksWhileAnotherThreadTalks) {
  std::thread server([this] { serve(mine(), 300); });
  std::thread client([this] { ask(peer(), 300); });
  for (int i = 0; i < 10; ++i) {
    std::thread([] { const Child child([] {}); }).join();
  }
  server.join();
  client.join();
}

TEST_P(Fork, FromAThreadServes) {
  std::thread forking([this] {
    Child child([this] {
      peer_.reset();
      serve(mine(), 100);
    });
    mine_.reset();
    EXPECT_EQ(child.wait(), 0);
  });
  ask(peer(), 100);
  forking.join();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, ManyChildrenOneAfterAnother) {
  for (int i = 0; i < 20; ++i) {
    Child child([this] {
      peer_.reset();
      serve(mine(), 5);
    });
    ask(peer(), 5);
    ASSERT_EQ(child.wait(), 0);
  }
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, ChildThatLeavesByExitEndsItsShare) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  ASSERT_NE(pid, -1);
  if (pid == 0) {
    guard_child();
    peer_.release();  // exit() closes it, not a destructor
    write_all(mine(), "by exit");
    std::_Exit(7);
  }
  mine_.reset();
  EXPECT_EQ(wait_for_exit(pid), 7);
  EXPECT_EQ(read_once(peer(), 100), "by exit");
}

TEST_P(Fork, ServesBesideProcessesThatTakeTheWholeCpu) {
  std::vector<Child> hogs;
  for (unsigned i = 0; i < std::thread::hardware_concurrency() + 1; ++i) {
    hogs.emplace_back([] {
      std::atomic<unsigned> turns{0};
      for (;;) ++turns;
    });
  }
  Child child([this] {
    peer_.reset();
    serve(mine(), 300);
  });
  mine_.reset();
  ask(peer(), 300);
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Fork, WithoutHandlersServes) {
  std::fflush(nullptr);
  const pid_t pid = ::_Fork();
  ASSERT_NE(pid, -1);
  if (pid == 0) {
    guard_child();
    ::close(peer_.get());
    serve(mine(), 200);
    ::_exit(HasFailure() ? 1 : 0);
  }
  ask(peer(), 200);
  EXPECT_EQ(wait_for_exit(pid), 0);
  // What the child did must not have left the parent behind.
  std::thread server([this] { serve(mine(), 200); });
  ask(peer(), 200);
  server.join();
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, SiblingGoesOnWhereAWriterWasKilled) {
  // Large writes, so that the child is often killed in the middle of one.
  Child writer([this] {
    for (std::size_t done = 0;; done += 1U << 20U) write_all(mine(), pattern(done, 1U << 20U));
  });
  std::string got = read_exactly(peer(), 3'000'000);
  writer.kill_and_wait();
  std::thread reader([&] { got += read_to_end(peer()); });
  const std::string last(100'000, '\0');
  EXPECT_EQ(write_all(mine(), last), last.size());
  EXPECT_EQ(write_all(mine(), "the end"), 7U);
  mine_.reset();
  reader.join();
  ASSERT_GE(got.size(), 3'000'000 + last.size() + 7);
  EXPECT_EQ(got.substr(got.size() - 7), "the end");
  const std::size_t written = got.size() - 7 - last.size();
  EXPECT_EQ(got.substr(written, last.size()), last);
  EXPECT_TRUE(matches_pattern(std::string_view(got).substr(0, written), 0));
}

TEST_P(Fork, VforkAndExecLeaveTheConnectionAlone) {
  const pid_t pid = ::vfork();
  if (pid == 0) {
    ::execl("/bin/true", "true", nullptr);
    ::_exit(127);
  }
  ASSERT_NE(pid, -1);
  EXPECT_EQ(wait_for_exit(pid), 0);
  std::thread server([this] { serve(mine(), 100); });
  ask(peer(), 100);
  server.join();
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, VforkReturnsInTheParentOnlyAfterTheChildIsGone) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const pid_t pid = ::vfork();
  if (pid == 0) {
    ::usleep(30000);
    [[maybe_unused]] const ssize_t n = ::write(write_end.get(), "x", 1);
    ::_exit(3);
  }
  ASSERT_NE(pid, -1);
  EXPECT_EQ(poll_now(read_end.get(), POLLIN), POLLIN);
  EXPECT_EQ(wait_for_exit(pid), 3);
  std::thread server([this] { serve(mine(), 10); });
  ask(peer(), 10);
  server.join();
}

TEST_P(Fork, InsideSystemLeavesTheConnectionAlone) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(std::system("exit 3"), 3 << 8);
    std::thread server([this] { serve(mine(), 50); });
    ask(peer(), 50);
    server.join();
  }
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Fork, InsidePopenLeavesTheConnectionAlone) {
  FILE* pipe = ::popen("echo from the child; cat >/dev/null </dev/null", "r");
  ASSERT_NE(pipe, nullptr);
  std::thread server([this] { serve(mine(), 50); });
  ask(peer(), 50);
  server.join();
  char line[64] = {};
  EXPECT_NE(std::fgets(line, sizeof line, pipe), nullptr);
  EXPECT_STREQ(line, "from the child\n");
  EXPECT_EQ(::pclose(pipe), 0);
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

// The shape of a forking server: the parent accepts, a child serves, for client after client.

class ForkingServer : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(, ForkingServer, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& early) {
                           return early.param ? "ParentClosesFirst" : "ChildStartsFirst";
                         });

TEST_P(ForkingServer, ServesClientAfterClient) {
  const Listener listener;
  for (int i = 0; i < 5; ++i) {
    const UniqueFd client = listener.connect();
    UniqueFd accepted = listener.accept();
    // A greeting from the parent, before it hands over.
    ASSERT_EQ(write_all(accepted.get(), "hello"), 5U);
    Child child([&] {
      ::close(client.get());
      if (GetParam()) sleep_a_moment();
      serve(accepted.get(), 100);
    });
    if (!GetParam()) sleep_a_moment();
    accepted.reset();
    ASSERT_EQ(read_exactly(client.get(), 5), "hello");
    ask(client.get(), 100);
    ASSERT_EQ(child.wait(), 0);
    EXPECT_EQ(read_once(client.get(), 10), "");
  }
}

TEST_P(ForkingServer, ServesSeveralClientsAtOnce) {
  const Listener listener;
  std::vector<UniqueFd> clients;
  std::vector<Child> children;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(listener.connect());
    UniqueFd accepted = listener.accept();
    children.emplace_back([&] {
      for (const UniqueFd& client : clients) ::close(client.get());
      if (GetParam()) sleep_a_moment();
      serve(accepted.get(), 100);
    });
    if (!GetParam()) sleep_a_moment();
  }
  for (int round = 0; round < 10; ++round) {
    for (const UniqueFd& client : clients) ask(client.get(), 10);
  }
  for (Child& child : children) EXPECT_EQ(child.wait(), 0);
  for (const UniqueFd& client : clients) EXPECT_EQ(read_once(client.get(), 10), "");
}

TEST_P(ForkingServer, AcceptsInPreforkedChildren) {
  const Listener listener;
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i) {
    children.emplace_back([&] {
      const UniqueFd accepted = listener.accept();
      if (GetParam()) sleep_a_moment();
      serve(accepted.get(), 100);
    });
  }
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(listener.connect());
  for (const UniqueFd& client : clients) ask(client.get(), 100);
  for (Child& child : children) EXPECT_EQ(child.wait(), 0);
  for (const UniqueFd& client : clients) EXPECT_EQ(read_once(client.get(), 10), "");
}

}  // namespace
}  // namespace tssx_test
