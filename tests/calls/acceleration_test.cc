// That the preloaded run tests what it claims to: warm connections are on the rings, and only
// those. Natively nothing ever is.
#include <gtest/gtest.h>

#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

TEST(Acceleration, FollowsWarmUp) {
  const Connection connection = make_connection();
  EXPECT_EQ(accelerated_segments(), 0);
  warm_up(connection.client.get(), connection.server.get());
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
}

TEST(Acceleration, FollowsWarmUpWhicheverEndSpeaksFirst) {
  const Connection connection = make_connection();
  warm_up(connection.server.get(), connection.client.get());
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
}

TEST(Acceleration, HappensInAProcessWithThreads) {
  const Connection connection = make_connection();
  std::thread follower([&] { warm_up_as_follower(connection.server.get()); });
  warm_up_as_leader(connection.client.get());
  follower.join();
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
}

TEST(Acceleration, HappensOnAnAbstractName) {
  const Address address("@tssx-calls-acceleration-" + std::to_string(::getpid()));
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(::bind(listener.get(), address.get(), address.length), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  const UniqueFd server(::accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(server.valid());
  warm_up(client.get(), server.get());
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
}

TEST(Acceleration, HappensForEachOfManyConnections) {
  std::vector<Connection> connections;
  for (int i = 0; i < 20; ++i) {
    connections.push_back(make_connection());
    warm_up(connections.back().client.get(), connections.back().server.get());
  }
  EXPECT_GE(accelerated_segments(), preloaded() ? 20 : 0);
  for (const Connection& connection : connections) {
    ASSERT_EQ(write_all(connection.client.get(), "still mine"), 10U);
    EXPECT_EQ(read_exactly(connection.server.get(), 10), "still mine");
  }
}

TEST(Acceleration, LeavesNoMappingBehindAfterClose) {
  {
    const Connection connection = make_connection();
    warm_up(connection.client.get(), connection.server.get());
  }
  EXPECT_EQ(accelerated_segments(), 0);
}

class AcceleratedPeer : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, AcceleratedPeer, every_situation(), situation_name);

TEST_P(AcceleratedPeer, SaysTheSameOfItself) {
  ForkedConnection connection = connect_to([warm = GetParam().warm](int fd) {
    EXPECT_EQ(accelerated_segments() > 0, warm && preloaded());
    EXPECT_EQ(read_exactly(fd, 4), "ping");
    EXPECT_EQ(write_all(fd, "pong"), 4U);
  });
  EXPECT_EQ(write_all(connection.mine.get(), "ping"), 4U);
  EXPECT_EQ(read_exactly(connection.mine.get(), 4), "pong");
  EXPECT_EQ(connection.peer.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
