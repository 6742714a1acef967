// Epoll sets inside poll(), select() and other sets: readable exactly when the inner epoll_wait
// would tell something.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

constexpr std::uint64_t kMine = 0xfeedfacecafebeefULL;
constexpr std::uint64_t kInner = 42;
constexpr std::uint64_t kPipe = 7;

class EpollNested : public ConnectionTest {
 protected:
  // Whether the inner set is readable, asked in each of the three ways.
  [[nodiscard]] bool is_readable() const {
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(inner.fd(), &readable);
    timeval now{0, 0};
    const bool by_select = ::select(inner.fd() + 1, &readable, nullptr, nullptr, &now) == 1;
    const bool by_poll = poll_now(inner.fd(), POLLIN) == POLLIN;
    const bool by_set = outer.look() == Events{{kInner, EPOLLIN}};
    EXPECT_EQ(by_select, by_poll);
    EXPECT_EQ(by_set, by_poll);
    return by_poll;
  }
  const EpollSet inner;
  const EpollSet outer;
};
INSTANTIATE_TEST_SUITE_P(, EpollNested, every_situation(), situation_name);

TEST_P(EpollNested, IsReadableAsLongAsAMemberIs) {
  ASSERT_EQ(inner.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), 0);
  for (int i = 0; i < 20; ++i) {
    ASSERT_FALSE(is_readable()) << i;
    ASSERT_EQ(write_all(peer(), "ab"), 2U);
    ASSERT_TRUE(is_readable()) << i;
    ASSERT_EQ(inner.look(), (Events{{kMine, EPOLLIN}}));
    ASSERT_TRUE(is_readable()) << i;
    ASSERT_EQ(read_once(mine(), 1), "a");
    ASSERT_TRUE(is_readable()) << i;
    ASSERT_EQ(read_once(mine(), 1), "b");
    // The data went without a look at the inner set.
    ASSERT_FALSE(is_readable()) << i;
    ASSERT_EQ(inner.look(), Events{});
  }
  peer_.reset();
  EXPECT_TRUE(is_readable());
}

TEST_P(EpollNested, WakesEachTimeAndOnlyForSomething) {
  ASSERT_EQ(inner.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), 0);
  std::thread writer([this] {
    for (int i = 0; i < 200; ++i) {
      if (i % 20 == 0) sleep_a_moment();
      EXPECT_EQ(write_all(peer(), "x"), 1U);
      EXPECT_EQ(read_exactly(peer(), 1), "y");
    }
  });
  for (int i = 0; i < 200; ++i) {
    if (i % 2 == 0) {
      ASSERT_EQ(outer.wait(-1), (Events{{kInner, EPOLLIN}}));
    } else {
      ASSERT_EQ(wait_for(inner.fd(), POLLIN), POLLIN);
    }
    ASSERT_EQ(inner.look(), (Events{{kMine, EPOLLIN}})) << i;
    ASSERT_EQ(read_once(mine(), 10), "x");
    ASSERT_EQ(write_all(mine(), "y"), 1U);
  }
  writer.join();
}

TEST_P(EpollNested, IsReadableOnceForAnEdge) {
  ASSERT_EQ(inner.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), 0);
  EXPECT_FALSE(is_readable());
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_TRUE(is_readable());
    EXPECT_TRUE(is_readable());
    EXPECT_EQ(inner.look(), (Events{{kMine, EPOLLIN}}));
    EXPECT_FALSE(is_readable());
  }
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(read_once(mine(), 10), "xxxxxx");
  EXPECT_FALSE(is_readable());
}

TEST_P(EpollNested, IsNotReadableForASpentOneshot) {
  ASSERT_EQ(inner.add(mine(), EPOLLIN | EPOLLONESHOT, kMine), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_TRUE(is_readable());
  EXPECT_EQ(inner.look(), (Events{{kMine, EPOLLIN}}));
  EXPECT_FALSE(is_readable());
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_FALSE(is_readable());
  EXPECT_EQ(inner.modify(mine(), EPOLLIN | EPOLLONESHOT, kMine), 0);
  EXPECT_TRUE(is_readable());
  EXPECT_EQ(inner.remove(mine()), 0);
  EXPECT_FALSE(is_readable());
}

TEST_P(EpollNested, KnowsItsOtherMembersToo) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  ASSERT_EQ(inner.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(inner.add(read_end.get(), EPOLLIN | EPOLLET, kPipe), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), 0);
  EXPECT_FALSE(is_readable());
  ASSERT_EQ(write_all(write_end.get(), "x"), 1U);
  EXPECT_TRUE(is_readable());
  // Asking takes nothing away: the edge is still there.
  EXPECT_EQ(inner.look(), (Events{{kPipe, EPOLLIN}}));
  EXPECT_FALSE(is_readable());
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(write_all(write_end.get(), "x"), 1U);
  EXPECT_TRUE(is_readable());
  EXPECT_EQ(inner.look(), (Events{{kPipe, EPOLLIN}, {kMine, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 10), "x");
  EXPECT_FALSE(is_readable());
}

TEST_P(EpollNested, TakesMembersWhileItIsInside) {
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), 0);
  EXPECT_FALSE(is_readable());
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(inner.add(mine(), EPOLLIN, kMine), 0);
  EXPECT_TRUE(is_readable());
  ASSERT_EQ(read_once(mine(), 10), "x");
  EXPECT_FALSE(is_readable());
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  EXPECT_EQ(outer.wait(-1), (Events{{kInner, EPOLLIN}}));
  writer.join();
  ASSERT_EQ(inner.remove(mine()), 0);
  EXPECT_FALSE(is_readable());
}

TEST_P(EpollNested, DeliversEdgesOfLevels) {
  ASSERT_EQ(inner.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN | EPOLLET, kInner), 0);
  for (int i = 0; i < 5; ++i) {
    std::thread writer([this] {
      sleep_a_moment();
      EXPECT_EQ(write_all(peer(), "x"), 1U);
    });
    EXPECT_EQ(outer.wait(-1), (Events{{kInner, EPOLLIN}})) << i;  // though the old was not read
    writer.join();
    EXPECT_EQ(outer.look(), Events{});
  }
  EXPECT_EQ(read_once(mine(), 10), "xxxxx");
  EXPECT_EQ(outer.look(), Events{});
}

TEST_P(EpollNested, MayBeAOneshotMember) {
  ASSERT_EQ(inner.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN | EPOLLONESHOT, kInner), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(outer.wait(-1), (Events{{kInner, EPOLLIN}}));
  EXPECT_EQ(outer.look(), Events{});
  EXPECT_EQ(outer.modify(inner.fd(), EPOLLIN | EPOLLONESHOT, kPipe), 0);
  EXPECT_EQ(outer.look(), (Events{{kPipe, EPOLLIN}}));
  EXPECT_EQ(outer.look(), Events{});
  EXPECT_EQ(outer.modify(inner.fd(), EPOLLOUT, kPipe), 0);
  EXPECT_EQ(outer.look(), Events{});
  EXPECT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), EEXIST);
  EXPECT_EQ(outer.remove(inner.fd()), 0);
  EXPECT_EQ(outer.remove(inner.fd()), ENOENT);
  EXPECT_EQ(outer.modify(inner.fd(), EPOLLIN, kInner), ENOENT);
  EXPECT_EQ(outer.add(inner.fd(), EPOLLIN | EPOLLEXCLUSIVE, kInner), EINVAL);
}

TEST_P(EpollNested, GoesAsDeepAsTheKernelAllows) {
  std::vector<EpollSet> sets(6);
  ASSERT_EQ(sets[0].add(mine(), EPOLLIN, kMine), 0);
  for (std::size_t i = 1; i < 5; ++i) {
    ASSERT_EQ(sets[i].add(sets[i - 1].fd(), EPOLLIN, i), 0) << i;
  }
  EXPECT_EQ(sets[5].add(sets[4].fd(), EPOLLIN, 5), ELOOP);
  EXPECT_EQ(sets[0].add(sets[4].fd(), EPOLLIN, 5), ELOOP);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(sets[4].look(), Events{});
    std::thread writer([this] {
      sleep_a_moment();
      EXPECT_EQ(write_all(peer(), "x"), 1U);
    });
    EXPECT_EQ(sets[4].wait(-1), (Events{{4, EPOLLIN}}));
    writer.join();
    for (std::size_t i = 4; i != 0; --i) EXPECT_EQ(sets[i].look(), (Events{{i, EPOLLIN}}));
    EXPECT_EQ(sets[0].look(), (Events{{kMine, EPOLLIN}}));
    EXPECT_EQ(read_once(mine(), 10), "x");
    for (std::size_t i = 4; i != 0; --i) EXPECT_EQ(sets[i].look(), Events{}) << i;
  }
}

TEST_P(EpollNested, WakesWhoWaitsInsideAndOutside) {
  ASSERT_EQ(inner.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), 0);
  Events seen_inside;
  Events seen_outside;
  short seen_by_poll = 0;
  std::thread inside([&] { seen_inside = inner.wait(-1); });
  std::thread outside([&] { seen_outside = outer.wait(-1); });
  std::thread poller([&] { seen_by_poll = wait_for(inner.fd(), POLLIN); });
  sleep_a_moment();
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  inside.join();
  outside.join();
  poller.join();
  EXPECT_EQ(seen_inside, (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(seen_outside, (Events{{kInner, EPOLLIN}}));
  EXPECT_EQ(seen_by_poll, POLLIN);
}

TEST_P(EpollNested, MayBeClosedInsideAnother) {
  {
    const EpollSet shortlived;
    ASSERT_EQ(shortlived.add(mine(), EPOLLIN, kMine), 0);
    ASSERT_EQ(outer.add(shortlived.fd(), EPOLLIN, kInner), 0);
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_EQ(outer.look(), (Events{{kInner, EPOLLIN}}));
  }
  EXPECT_EQ(outer.look(), Events{});
  EXPECT_EQ(read_once(mine(), 10), "x");
  const EpollSet next;  // most likely under the same number
  ASSERT_EQ(next.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(outer.add(next.fd(), EPOLLIN, kPipe), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(outer.look(), (Events{{kPipe, EPOLLIN}}));
}

TEST_P(EpollNested, SurvivesTheMoveOfItsMember) {
  Connection connection = make_connection();
  ASSERT_EQ(inner.add(connection.server.get(), EPOLLIN, kMine), 0);
  ASSERT_EQ(outer.add(inner.fd(), EPOLLIN, kInner), 0);
  std::thread client([&] {
    for (int i = 0; i < 200; ++i) {
      EXPECT_EQ(write_all(connection.client.get(), "x"), 1U);
      EXPECT_EQ(read_exactly(connection.client.get(), 1), "y");
    }
  });
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(outer.wait(-1), (Events{{kInner, EPOLLIN}}));
    ASSERT_EQ(inner.look(), (Events{{kMine, EPOLLIN}})) << i;
    ASSERT_EQ(read_once(connection.server.get(), 10), "x");
    ASSERT_EQ(write_all(connection.server.get(), "y"), 1U);
  }
  client.join();
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
}

}  // namespace
}  // namespace tssx_test
