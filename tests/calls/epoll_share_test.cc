// Sets and members that more than one process has: inherited over fork().
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

constexpr std::uint64_t kMine = 0xfeedfacecafebeefULL;
constexpr std::uint64_t kOther = 42;

class EpollShare : public ConnectionTest {
 protected:
  const EpollSet set;
};
INSTANTIATE_TEST_SUITE_P(, EpollShare, every_situation(), situation_name);

TEST_P(EpollShare, ReportsAMemberThatOnlyTheChildHasOpen) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  const UniqueFd done(::eventfd(0, 0));
  Child child([this, &done] {
    std::uint64_t word = 0;
    EXPECT_EQ(::read(done.get(), &word, sizeof word), 8);
    EXPECT_EQ(read_once(mine(), 10), "x");
    EXPECT_EQ(write_all(mine(), "y"), 1U);
    EXPECT_EQ(::read(done.get(), &word, sizeof word), 8);
  });
  mine_.reset();
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(done.get(), &one, sizeof one), 8);
  EXPECT_EQ(read_exactly(peer(), 1), "y");
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(::write(done.get(), &one, sizeof one), 8);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(read_once(peer(), 1), "");
}

TEST_P(EpollShare, ToldOnceSaysNothingOfTheEndOfAMemberThatOnlyTheChildHasOpen) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLONESHOT, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  ASSERT_EQ(read_exactly(mine(), 1), "x");
  const UniqueFd begun(::eventfd(0, 0));
  const UniqueFd done(::eventfd(0, 0));
  const std::uint64_t one = 1;
  Child child([&] {
    peer_.reset();
    EXPECT_EQ(::write(begun.get(), &one, sizeof one), 8);
    std::uint64_t word = 0;
    EXPECT_EQ(::read(done.get(), &word, sizeof word), 8);
  });
  std::uint64_t word = 0;
  ASSERT_EQ(::read(begun.get(), &word, sizeof word), 8);
  mine_.reset();
  peer_.reset();
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(::write(done.get(), &one, sizeof one), 8);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(EpollShare, ToldOnceSaysNothingOfTheEndWhereTheChildWaitsToo) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLONESHOT, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  Child child([this] { EXPECT_EQ(set.look(), Events{}); });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(set.look(), Events{});
  char byte = 0;
  EXPECT_EQ(::recv(peer(), &byte, 1, MSG_DONTWAIT), -1);
  peer_.reset();
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLONESHOT, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN | EPOLLHUP}}));
}

TEST_P(EpollShare, LosesWhatTheChildRemoves) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  Child child([this] { EXPECT_EQ(set.remove(mine()), 0); });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.remove(mine()), ENOENT);
  EXPECT_EQ(set.add(mine(), EPOLLIN, kOther), 0);
  ASSERT_EQ(write_all(peer(), "y"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kOther, EPOLLIN}}));
  EXPECT_EQ(read_exactly(mine(), 2), "xy");
}

TEST_P(EpollShare, ReportsAsTheChildModified) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  Child child([this] { EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLOUT, kOther), 0); });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLOUT}}));
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(wait_for(mine(), POLLIN), POLLIN);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN | EPOLLOUT}}));
}

TEST_P(EpollShare, GivesEachEventToOneOfTwoThatWait) {
  // Both wait; each event is read by whoever gets it, and none is lost.
  constexpr int kMessages = 100;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET | EPOLLONESHOT, kMine), 0);
  const UniqueFd stop(::eventfd(0, 0));
  ASSERT_EQ(set.add(stop.get(), EPOLLIN, 0), 0);
  const auto serve = [this] {
    for (;;) {
      const Events events = set.wait(-1, 1);
      if (events.contains(0)) return;
      ASSERT_EQ(events, (Events{{kMine, EPOLLIN}}));
      const std::string got = read_once(mine(), 10);
      EXPECT_EQ(write_all(mine(), got), got.size());
      EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLET | EPOLLONESHOT, kMine), 0);
    }
  };
  Child first(serve);
  Child second(serve);
  mine_.reset();
  for (int i = 0; i < kMessages; ++i) {
    if (i % 10 == 0) sleep_a_moment();
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    ASSERT_EQ(read_exactly(peer(), 1), "x");
  }
  const std::uint64_t one = 1;
  EXPECT_EQ(::write(stop.get(), &one, sizeof one), 8);
  EXPECT_EQ(first.wait(), 0);
  EXPECT_EQ(second.wait(), 0);
}

TEST_P(EpollShare, WakesTheParentThatSleepsInIt) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  Child child([this] {
    sleep_a_moment();
    // Now the parent sleeps. Using the set here must not cut it off.
    EXPECT_EQ(set.look(), Events{});
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
    sleep_a_moment();
  });
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 10), "x");
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "y"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
}

TEST_P(EpollShare, StaysTheParentsIfTheChildOnlyClosesIt) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  Child child([this] {
    ::close(mine());
    ::close(set.fd());
  });
  EXPECT_EQ(child.wait(), 0);
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
    ASSERT_EQ(read_once(mine(), 10), "x");
    ASSERT_EQ(set.look(), Events{});
  }
  if (GetParam().warm) {
    EXPECT_EQ(accelerated_segments() > 0, preloaded());
  }
}

TEST(EpollShareEmpty, BelongsToTheChildThatFillsIt) {
  const EpollSet set;
  Child child([&set] {
    const Connection connection = make_connection();
    EXPECT_EQ(set.add(connection.server.get(), EPOLLIN, kMine), 0);
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(write_all(connection.client.get(), "x"), 1U);
      ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
      EXPECT_EQ(read_once(connection.server.get(), 10), "x");
      EXPECT_EQ(write_all(connection.server.get(), "y"), 1U);
      EXPECT_EQ(read_once(connection.client.get(), 10), "y");
    }
    EXPECT_EQ(accelerated_segments() > 0, preloaded());
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST(EpollShareEmpty, ReportsTheChildsMemberToTheParentToo) {
  // A set is one for all processes: the parent hears of a descriptor that it does not have.
  const EpollSet set;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd ready(ends[0]);
  const UniqueFd tell(ends[1]);
  Child child([&] {
    const Connection connection = make_connection();
    warm_up(connection.client.get(), connection.server.get());
    EXPECT_EQ(set.add(connection.server.get(), EPOLLIN, kMine), 0);
    EXPECT_EQ(write_all(tell.get(), "1"), 1U);
    sleep_a_moment();
    EXPECT_EQ(write_all(connection.client.get(), "x"), 1U);
    std::thread reader([&] { read_once(connection.client.get(), 1); });
    EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
    for (;;) ::pause();
  });
  EXPECT_EQ(read_exactly(ready.get(), 1), "1");
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  child.kill_and_wait();
  EXPECT_EQ(set.look(), Events{});
}

}  // namespace
}  // namespace tssx_test
