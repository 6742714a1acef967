// epoll over the life of connections: members from before connect() and from before the move,
// many of them, and peers in other processes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

constexpr std::uint64_t kMine = 0xfeedfacecafebeefULL;
constexpr std::uint64_t kOther = 42;

// Members that join before the connection is what it will be.

TEST(EpollEarly, ReportsASocketThatIsNotConnectedYet) {
  const Listener listener;
  const EpollSet set;
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(set.add(client.get(), EPOLLIN | EPOLLOUT, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT | EPOLLHUP}}));
  const Address address(listener.path());
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  const UniqueFd server = listener.accept();
  ASSERT_EQ(write_all(server.get(), "x"), 1U);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN | EPOLLOUT}}));
  EXPECT_EQ(read_once(client.get(), 10), "x");
}

TEST(EpollEarly, MemberAddedBeforeConnectSurvivesTheMove) {
  const Listener listener;
  const EpollSet set;
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(set.add(client.get(), EPOLLIN | EPOLLRDHUP | EPOLLET, kMine), 0);
  const Address address(listener.path());
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  UniqueFd server = listener.accept();
  set.forget();
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(write_all(server.get(), "x"), 1U);
    ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}})) << i;
    ASSERT_EQ(read_once(client.get(), 10), "x");
    ASSERT_EQ(write_all(client.get(), "y"), 1U);
    ASSERT_EQ(read_once(server.get(), 10), "y");
  }
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
  server.reset();
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLRDHUP | EPOLLHUP}}));
}

class EpollMove : public testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(, EpollMove, testing::Values(0U, static_cast<std::uint32_t>(EPOLLET)),
                         [](const testing::TestParamInfo<std::uint32_t>& mode) {
                           return mode.param == 0 ? "Level" : "Edge";
                         });

TEST_P(EpollMove, HappensWhileBothEndsAreMembers) {
  Connection connection = make_connection();
  const int client = connection.client.get();
  const int server = connection.server.get();
  const EpollSet set;
  ASSERT_EQ(set.add(client, EPOLLIN | GetParam(), kMine), 0);
  ASSERT_EQ(set.add(server, EPOLLIN | GetParam(), kOther), 0);
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(write_all(client, "x"), 1U);
    ASSERT_EQ(set.wait(-1), (Events{{kOther, EPOLLIN}})) << i;
    ASSERT_EQ(read_once(server, 10), "x");
    ASSERT_EQ(write_all(server, "y"), 1U);
    ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}})) << i;
    ASSERT_EQ(read_once(client, 10), "y");
  }
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
  connection.client.reset();
  EXPECT_EQ(set.wait(-1), (Events{{kOther, EPOLLIN | EPOLLHUP}}));
}

TEST_P(EpollMove, HappensWhileAThreadWaits) {
  const Connection connection = make_connection();
  const int client = connection.client.get();
  const int server = connection.server.get();
  set_nonblocking(server, true);
  std::thread serving([&] {
    const EpollSet set;
    ASSERT_EQ(set.add(server, EPOLLIN | GetParam(), kOther), 0);
    for (int i = 0; i < 300; ++i) {
      ASSERT_EQ(set.wait(-1), (Events{{kOther, EPOLLIN}}));
      ASSERT_EQ(read_once(server, 10), "x");
      ASSERT_EQ(write_all(server, "y"), 1U);
    }
  });
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(write_all(client, "x"), 1U);
    EXPECT_EQ(read_exactly(client, 1), "y");
  }
  serving.join();
}

TEST_P(EpollMove, KeepsAStandingRegistrationForRoom) {
  // The usual event loop registers everything, edge-triggered, once and for all.
  const Connection connection = make_connection();
  const int client = connection.client.get();
  const int server = connection.server.get();
  const EpollSet set;
  ASSERT_EQ(set.add(server, EPOLLIN | EPOLLOUT | EPOLLRDHUP | GetParam(), kOther), 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(client, "x"), 1U);
    Events events;
    do {
      events = set.wait(-1);
    } while ((events[kOther] & EPOLLIN) == 0);
    ASSERT_EQ(read_once(server, 10), "x");
    ASSERT_EQ(write_all(server, "y"), 1U);
    ASSERT_EQ(read_once(client, 10), "y");
  }
  set.forget();
  const std::size_t queued = fill(server);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(read_exactly(client, queued).size(), queued);
  EXPECT_EQ(set.wait(-1), (Events{{kOther, EPOLLOUT}}));
}

TEST(EpollMany, ServesSixtyFourBusyConnections) {
  constexpr std::size_t kConnections = 64;
  constexpr std::size_t kRounds = 40;
  std::vector<Connection> connections;
  const EpollSet set;
  for (std::size_t i = 0; i < kConnections; ++i) {
    connections.push_back(make_connection());
    const int server = connections.back().server.get();
    set_nonblocking(server, true);
    ASSERT_EQ(set.add(server, EPOLLIN | (i % 2 == 0 ? EPOLLET : 0U), i), 0);
  }
  std::thread clients([&] {
    for (std::size_t round = 0; round < kRounds; ++round) {
      for (std::size_t i = 0; i < kConnections; ++i) {
        EXPECT_EQ(write_all(connections[i].client.get(), pattern(round, 20)), 20U);
      }
      for (std::size_t i = 0; i < kConnections; ++i) {
        EXPECT_TRUE(matches_pattern(read_exactly(connections[i].client.get(), 20), round));
      }
    }
  });
  std::size_t served = 0;
  while (served < kConnections * kRounds * 20) {
    for (const auto& [i, events] : set.wait(-1, 16)) {
      EXPECT_EQ(events, EPOLLIN);
      const int server = connections[i].server.get();
      const std::string got = read_available(server);
      served += got.size();
      EXPECT_EQ(write_all(server, got), got.size());
    }
  }
  clients.join();
}

TEST(EpollMany, AddsAndRemovesMembersInTurn) {
  const EpollSet set;
  for (int i = 0; i < 100; ++i) {
    const Connection connection = make_connection();
    if (i % 4 == 0) warm_up(connection.client.get(), connection.server.get());
    const std::uint64_t data = static_cast<std::uint64_t>(i);
    ASSERT_EQ(set.add(connection.server.get(), EPOLLIN | EPOLLET, data), 0);
    ASSERT_EQ(write_all(connection.client.get(), "x"), 1U);
    ASSERT_EQ(set.wait(-1), (Events{{data, EPOLLIN}}));
    if (i % 2 == 0) {
      ASSERT_EQ(set.remove(connection.server.get()), 0);
    }
  }
  EXPECT_EQ(set.look(), Events{});
}

class EpollBetweenProcesses : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, EpollBetweenProcesses, every_situation(), situation_name);

TEST_P(EpollBetweenProcesses, PingPongsOnEdges) {
  ForkedConnection connection = connect_to([](int fd) {
    set_nonblocking(fd, true);
    const EpollSet set;
    ASSERT_EQ(set.add(fd, EPOLLIN | EPOLLRDHUP | EPOLLET, kMine), 0);
    for (;;) {
      const Events events = set.wait(-1);
      const std::string got = read_available(fd);
      ASSERT_EQ(write_all(fd, got), got.size());
      if ((events.at(kMine) & EPOLLRDHUP) != 0) break;
    }
  });
  const int fd = connection.mine.get();
  set_nonblocking(fd, true);
  const EpollSet set;
  ASSERT_EQ(set.add(fd, EPOLLIN | EPOLLRDHUP | EPOLLET, kMine), 0);
  for (std::size_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(write_all(fd, pattern(i, 100)), 100U);
    std::string got;
    while (got.size() < 100) {
      ASSERT_NE(set.wait(-1)[kMine] & EPOLLIN, 0U);
      got += read_available(fd);
    }
    ASSERT_TRUE(matches_pattern(got, i));
  }
  EXPECT_EQ(::shutdown(fd, SHUT_WR), 0);
  Events events;
  do {
    events = set.wait(-1);
  } while ((events[kMine] & EPOLLHUP) == 0);
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(EpollBetweenProcesses, SeesAKilledPeer) {
  ForkedConnection connection = connect_to([](int /*fd*/) {
    for (;;) ::pause();
  });
  const EpollSet set;
  ASSERT_EQ(set.add(connection.mine.get(), EPOLLIN | EPOLLRDHUP | EPOLLET, kMine), 0);
  std::thread killer([&] {
    sleep_a_moment();
    connection.peer.kill(SIGKILL);
  });
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLRDHUP | EPOLLHUP}}));
  killer.join();
  EXPECT_EQ(read_once(connection.mine.get(), 10), "");
}

}  // namespace
}  // namespace tssx_test
