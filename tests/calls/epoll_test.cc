// epoll: the kinds of members, what is reported when, and the errors.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <set>
#include <thread>
#include <utility>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

constexpr std::uint64_t kMine = 0xfeedfacecafebeefULL;
constexpr std::uint64_t kOther = 42;
constexpr std::uint32_t kGone = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP;

class Epoll : public ConnectionTest {
 protected:
  const EpollSet set;
};
INSTANTIATE_TEST_SUITE_P(, Epoll, every_situation(), situation_name);

TEST_P(Epoll, ReportsDataWithTheMembersOwnWord) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
}

TEST_P(Epoll, ReturnsAPointerExactly) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = this;
  ASSERT_EQ(::epoll_ctl(set.fd(), EPOLL_CTL_ADD, mine(), &event), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  epoll_event report{};
  ASSERT_EQ(::epoll_wait(set.fd(), &report, 1, -1), 1);
  EXPECT_EQ(report.data.ptr, this);
}

TEST_P(Epoll, ReportsALevelUntilItIsGone) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(write_all(peer(), "ab"), 2U);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  ASSERT_EQ(read_once(mine(), 1), "a");
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  ASSERT_EQ(read_once(mine(), 1), "b");
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, ReportsWhatWasThereBeforeAdding) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, WaitsForData) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  for (int i = 0; i < 3; ++i) {
    std::thread writer([this] {
      sleep_a_moment();
      EXPECT_EQ(write_all(peer(), "x"), 1U);
    });
    EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
    EXPECT_EQ(read_once(mine(), 10), "x");
    writer.join();
  }
}

TEST_P(Epoll, DoesNotReturnBeforeItsTimeout) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  const Stopwatch stopwatch;
  EXPECT_EQ(set.wait(60), Events{});
  EXPECT_GE(stopwatch.milliseconds(), 59.0);
}

TEST_P(Epoll, IsNotDisturbedByTrafficTheOtherWay) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  std::thread traffic([this] {
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(write_all(mine(), "x"), 1U);
      EXPECT_EQ(read_exactly(peer(), 1), "x");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  const Stopwatch stopwatch;
  EXPECT_EQ(set.wait(60), Events{});
  EXPECT_GE(stopwatch.milliseconds(), 59.0);
  traffic.join();
}

TEST_P(Epoll, ReportsAnEdgeOnce) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "one"), 3U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
  // More data is a new edge, though the old has not been read.
  ASSERT_EQ(write_all(peer(), "two"), 3U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(read_once(mine(), 10), "onetwo");
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "three"), 5U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
}

// What the peer wrote before it went back to the kernel is unread, and what it writes now comes by
// another way.
TEST_P(Epoll, ReportsAnEdgeBehindTheLastBytesOfADirection) {
  ASSERT_EQ(write_all(peer(), "a"), 1U);
  ASSERT_EQ(::shutdown(peer(), SHUT_RD), 0);
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  EXPECT_EQ(set.wait(5000), (Events{{kMine, EPOLLIN}}));
  for (const char* byte : {"b", "c"}) {
    ASSERT_EQ(write_all(peer(), byte), 1U);
    EXPECT_EQ(set.wait(5000), (Events{{kMine, EPOLLIN}})) << byte;
  }
  EXPECT_EQ(read_exactly(mine(), 3), "abc");
}

TEST_P(Epoll, ReportsNoEdgeForAPartialRead) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  ASSERT_EQ(write_all(peer(), "abcdef"), 6U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 2), "ab");
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, CoalescesEdgesThatNobodyCollected) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, DropsAnEdgeWhoseDataIsAlreadyRead) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(read_once(mine(), 10), "x");
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, ServesAnEdgeTriggeredDrainLoop) {
  static constexpr std::size_t kSize = 2U << 20U;
  set_nonblocking(mine(), true);
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  std::thread writer([this] {
    for (std::size_t done = 0; done < kSize; done += 1024) {
      EXPECT_EQ(write_all(peer(), pattern(done, 1024)), 1024U);
    }
  });
  std::size_t done = 0;
  while (done < kSize) {
    ASSERT_NE(set.wait(-1)[kMine] & EPOLLIN, 0U);
    const std::string got = read_available(mine());
    ASSERT_TRUE(matches_pattern(got, done));
    done += got.size();
  }
  writer.join();
}

TEST_P(Epoll, ReportsOneshotOnceUntilModified) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLONESHOT, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "y"), 1U);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLONESHOT, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, DoesNotReportAHangUpOfASpentOneshot) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLONESHOT, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  peer_.reset();
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLONESHOT, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN | EPOLLHUP}}));
}

TEST_P(Epoll, KeepsASpentOneshotAMember) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLONESHOT, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.add(mine(), EPOLLIN, kMine), EEXIST);
  EXPECT_EQ(set.remove(mine()), 0);
}

TEST_P(Epoll, ModifyChangesEventsAndData) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  EXPECT_EQ(set.modify(mine(), EPOLLOUT, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLOUT}}));
  EXPECT_EQ(set.modify(mine(), 0, kOther), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLOUT, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN | EPOLLOUT}}));
}

TEST_P(Epoll, ModifyRearmsAnEdge) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, ModifyWakesWhoIsWaitingAlready) {
  ASSERT_EQ(set.add(mine(), 0, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  std::thread modifier([this] {
    sleep_a_moment();
    EXPECT_EQ(set.modify(mine(), EPOLLIN, kMine), 0);
  });
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  modifier.join();
}

TEST_P(Epoll, AddWakesWhoIsWaitingAlready) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  std::thread adder([this] {
    sleep_a_moment();
    EXPECT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  });
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  adder.join();
}

TEST_P(Epoll, DeleteEndsTheReports) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.remove(mine()), 0);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.add(mine(), EPOLLIN, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN}}));
}

TEST_P(Epoll, DeleteAcceptsANullEvent) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  EXPECT_EQ(::epoll_ctl(set.fd(), EPOLL_CTL_DEL, mine(), nullptr), 0);
}

TEST_P(Epoll, ReportsAHangUpUnasked) {
  ASSERT_EQ(set.add(mine(), 0, kMine), 0);
  EXPECT_EQ(set.look(), Events{});
  peer_.reset();
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLHUP}}));
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLHUP}}));
}

TEST_P(Epoll, ReportsEverythingOfAHangUp) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLOUT | EPOLLRDHUP, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  peer_.reset();
  EXPECT_EQ(set.look(), (Events{{kMine, kGone}}));
}

TEST_P(Epoll, ReportsTheEdgeOfAHangUpOnce) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLRDHUP | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), Events{});
  peer_.reset();
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLRDHUP | EPOLLHUP}}));
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, ReportsDataAndHangUpTogether) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLRDHUP | EPOLLET, kMine), 0);
  ASSERT_EQ(write_all(peer(), "last"), 4U);
  peer_.reset();
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLRDHUP | EPOLLHUP}}));
  EXPECT_EQ(read_to_end(mine()), "last");
}

TEST_P(Epoll, ReportsHalfAHangUp) {
  ASSERT_EQ(set.add(mine(), EPOLLRDHUP, kMine), 0);
  ASSERT_EQ(set.add(peer(), EPOLLRDHUP, kOther), 0);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLRDHUP}}));
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLRDHUP | EPOLLHUP}, {kOther, EPOLLRDHUP | EPOLLHUP}}));
}

TEST_P(Epoll, ReportsTheEdgeOfHalfAHangUp) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLRDHUP | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), Events{});
  std::thread stopper([this] {
    sleep_a_moment();
    EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  });
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLRDHUP}}));
  EXPECT_EQ(set.look(), Events{});
  stopper.join();
}

TEST_P(Epoll, ReportsAResetAsAnError) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(write_all(mine(), "unread"), 6U);
  peer_.reset();
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLERR | EPOLLHUP}}));
  EXPECT_EQ(read_once(mine(), 10), "<ECONNRESET>");
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLHUP}}));
}

TEST_P(Epoll, WakesAWaiterAtTheHangUp) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  std::thread closer([this] {
    sleep_a_moment();
    peer_.reset();
  });
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLHUP}}));
  closer.join();
}

TEST_P(Epoll, ReportsRoomAsALevel) {
  ASSERT_EQ(set.add(mine(), EPOLLOUT, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  const std::size_t queued = fill(mine());
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(read_exactly(peer(), queued).size(), queued);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
}

TEST_P(Epoll, ReportsRoomAsAnEdge) {
  ASSERT_EQ(set.add(mine(), EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  EXPECT_EQ(set.look(), Events{});
  const std::size_t queued = fill(mine());
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(read_exactly(peer(), queued).size(), queued);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLOUT}}));
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, WakesAWriterWhenThereIsRoom) {
  ASSERT_EQ(set.add(mine(), EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  for (int i = 0; i < 3; ++i) {
    const std::size_t queued = fill(mine());
    std::thread reader([&] {
      sleep_a_moment();
      EXPECT_EQ(read_exactly(peer(), queued).size(), queued);
    });
    EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLOUT}}));
    reader.join();
  }
}

TEST_P(Epoll, ServesAnEdgeTriggeredWriteLoop) {
  static constexpr std::size_t kSize = 3U << 20U;
  set_nonblocking(mine(), true);
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLOUT | EPOLLET, kMine), 0);
  std::thread reader([this] {
    for (std::size_t done = 0; done < kSize; done += 65536) {
      const std::string got = read_exactly(peer(), 65536);
      EXPECT_EQ(got.size(), 65536U);
      EXPECT_TRUE(matches_pattern(got, done));
    }
  });
  const std::string bytes = pattern(0, kSize);
  std::size_t done = 0;
  while (done < kSize) {
    ASSERT_NE(set.wait(-1)[kMine] & EPOLLOUT, 0U);
    for (;;) {
      const ssize_t n = ::write(mine(), bytes.data() + done, std::min(kSize - done, 50000UL));
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
  }
  reader.join();
}

TEST_P(Epoll, HoldsBothEndsOfAConnection) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  ASSERT_EQ(set.add(peer(), EPOLLIN | EPOLLET, kOther), 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(mine(), "x"), 1U);
    ASSERT_EQ(set.wait(-1), (Events{{kOther, EPOLLIN}}));
    ASSERT_EQ(read_once(peer(), 10), "x");
    ASSERT_EQ(write_all(peer(), "y"), 1U);
    ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
    ASSERT_EQ(read_once(mine(), 10), "y");
  }
}

TEST_P(Epoll, MixesWithPipesAndEventfds) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const UniqueFd event(::eventfd(0, 0));
  ASSERT_EQ(set.add(read_end.get(), EPOLLIN, 1), 0);
  ASSERT_EQ(set.add(event.get(), EPOLLIN | EPOLLET, 2), 0);
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(write_all(write_end.get(), "x"), 1U);
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
  EXPECT_EQ(set.wait(-1), (Events{{1, EPOLLIN}, {2, EPOLLIN}, {kMine, EPOLLIN}}));
  EXPECT_EQ(set.look(), (Events{{1, EPOLLIN}, {kMine, EPOLLIN}}));
  ASSERT_EQ(read_once(mine(), 10), "x");
  EXPECT_EQ(set.look(), (Events{{1, EPOLLIN}}));
  ASSERT_EQ(read_once(read_end.get(), 10), "x");
  std::thread writer([&] {
    sleep_a_moment();
    EXPECT_EQ(write_all(write_end.get(), "y"), 1U);
  });
  EXPECT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
  writer.join();
}

TEST_P(Epoll, DoesNotStarveAPipeBesideABusyConnection) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  ASSERT_EQ(set.add(read_end.get(), EPOLLIN, 1), 0);
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(write_all(peer(), "never read"), 10U);
  ASSERT_EQ(write_all(write_end.get(), "x"), 1U);
  bool seen = false;
  while (!seen) seen = set.wait(-1, 1).contains(1);  // the watchdog is the limit
}

TEST_P(Epoll, SharesAFewPlacesAmongManyReadyMembers) {
  std::vector<Connection> others;
  ASSERT_EQ(set.add(mine(), EPOLLIN, 100), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  for (std::uint64_t i = 0; i < 5; ++i) {
    others.push_back(make_connection());
    if (GetParam().warm) warm_up(others.back().client.get(), others.back().server.get());
    ASSERT_EQ(set.add(others.back().server.get(), EPOLLIN, i), 0);
    ASSERT_EQ(write_all(others.back().client.get(), "x"), 1U);
  }
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 12; ++i) {
    const Events events = set.wait(-1, 2);
    ASSERT_LE(events.size(), 2U);
    ASSERT_GE(events.size(), 1U);
    for (const auto& [data, bits] : events) {
      EXPECT_EQ(bits, EPOLLIN);
      seen.insert(data);
    }
  }
  EXPECT_EQ(seen, (std::set<std::uint64_t>{0, 1, 2, 3, 4, 100}));
}

TEST_P(Epoll, KeepsTheEdgesThatDidNotFit) {
  std::vector<Connection> others;
  for (std::uint64_t i = 0; i < 5; ++i) {
    others.push_back(make_connection());
    if (GetParam().warm) warm_up(others.back().client.get(), others.back().server.get());
    ASSERT_EQ(set.add(others.back().server.get(), EPOLLIN | EPOLLET, i), 0);
    ASSERT_EQ(write_all(others.back().client.get(), "x"), 1U);
  }
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 5; ++i) {
    const Events events = set.wait(-1, 1);
    ASSERT_EQ(events.size(), 1U);
    EXPECT_TRUE(seen.insert(events.begin()->first).second) << "reported twice";
  }
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, ForgetsAMemberThatIsClosed) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  mine_.reset();
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, TakesANewMemberUnderAnOldNumber) {
  const int number = mine();
  ASSERT_EQ(set.add(number, EPOLLIN, kMine), 0);
  mine_.reset();
  Connection next = make_connection();
  if (GetParam().warm) warm_up(next.client.get(), next.server.get());
  if (next.client.get() == number) std::swap(next.client, next.server);
  if (next.server.get() != number) {
    ASSERT_EQ(::dup2(next.server.get(), number), number);
    next.server.reset(number);
  }
  EXPECT_EQ(set.add(number, EPOLLIN, kOther), 0);
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(next.client.get(), "x"), 1U);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN}}));
}

TEST_P(Epoll, HoldsAMemberAndItsDuplicateApart) {
  UniqueFd duplicate(::dup(mine()));
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(set.add(duplicate.get(), EPOLLIN | EPOLLOUT, kOther), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}, {kOther, EPOLLIN | EPOLLOUT}}));
  EXPECT_EQ(set.remove(mine()), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN | EPOLLOUT}}));
  EXPECT_EQ(set.remove(duplicate.get()), 0);
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, ReportsAClosedMemberWhileADuplicateIsOpen) {
  UniqueFd duplicate(::dup(mine()));
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  mine_.reset();
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(read_once(duplicate.get(), 10), "x");
  duplicate.reset();
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Epoll, ReportsAMemberOfTwoSetsInBoth) {
  const EpollSet second;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  ASSERT_EQ(second.add(mine(), EPOLLIN, kOther), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(second.look(), (Events{{kOther, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(second.look(), (Events{{kOther, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 10), "x");
  EXPECT_EQ(second.look(), Events{});
}

TEST_P(Epoll, AcceptsExclusiveMembers) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLEXCLUSIVE, kMine), 0);
  EXPECT_EQ(set.modify(mine(), EPOLLIN, kMine), EINVAL);
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(set.remove(mine()), 0);
  EXPECT_EQ(set.add(mine(), EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, kMine), EINVAL);
  EXPECT_EQ(set.add(mine(), EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP, kMine), EINVAL);
  EXPECT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLEXCLUSIVE, kMine), EINVAL);
}

TEST_P(Epoll, InsideAPollIsReadableWithAReadyMember) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  EXPECT_EQ(poll_now(set.fd(), POLLIN), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(poll_now(set.fd(), POLLIN), POLLIN);
  ASSERT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(poll_now(set.fd(), POLLIN), POLLIN);
  ASSERT_EQ(read_once(mine(), 1), "x");
  EXPECT_EQ(poll_now(set.fd(), POLLIN), 0);
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "y"), 1U);
  });
  EXPECT_EQ(wait_for(set.fd(), POLLIN), POLLIN);
  writer.join();
}

TEST_P(Epoll, InsideAnotherSetIsReadableWithAReadyMember) {
  const EpollSet outer;
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(outer.add(set.fd(), EPOLLIN, kOther), 0);
  EXPECT_EQ(outer.look(), Events{});
  for (int i = 0; i < 3; ++i) {
    std::thread writer([this] {
      sleep_a_moment();
      EXPECT_EQ(write_all(peer(), "x"), 1U);
    });
    EXPECT_EQ(outer.wait(-1), (Events{{kOther, EPOLLIN}}));
    EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
    EXPECT_EQ(read_once(mine(), 10), "x");
    EXPECT_EQ(outer.look(), Events{});
    writer.join();
  }
}

TEST_P(Epoll, InsideAnotherSetDeliversEdges) {
  const EpollSet outer;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  ASSERT_EQ(outer.add(set.fd(), EPOLLIN | EPOLLET, kOther), 0);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_EQ(outer.wait(-1), (Events{{kOther, EPOLLIN}}));
    EXPECT_EQ(outer.look(), Events{});
    EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
  }
}

TEST_P(Epoll, WakesOneOfSeveralWaitersAndLosesNoWork) {
  // Each message is one byte that some worker must read; the writer waits for each.
  set_nonblocking(mine(), true);
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  const UniqueFd stop(::eventfd(0, 0));
  ASSERT_EQ(set.add(stop.get(), EPOLLIN, 0), 0);
  std::vector<std::thread> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back([this] {
      for (;;) {
        const Events events = set.wait(-1, 1);
        if (events.contains(0)) return;
        const std::string got = read_available(mine());
        if (!got.empty()) {
          EXPECT_EQ(write_all(mine(), got), got.size());
        }
      }
    });
  }
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_EQ(read_exactly(peer(), 1), "x");
  }
  const std::uint64_t one = 1;
  EXPECT_EQ(::write(stop.get(), &one, sizeof one), 8);
  for (std::thread& worker : workers) worker.join();
}

TEST_P(Epoll, SpreadsReadyMembersOverWaitingThreads) {
  // Two members become ready at once; each thread takes one and keeps it, so both must be woken.
  Connection other = make_connection();
  if (GetParam().warm) warm_up(other.client.get(), other.server.get());
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET | EPOLLONESHOT, 1), 0);
  ASSERT_EQ(set.add(other.server.get(), EPOLLIN | EPOLLET | EPOLLONESHOT, 2), 0);
  std::array<Events, 2> seen;
  std::thread first([&] { seen[0] = set.wait(-1, 1); });
  std::thread second([&] { seen[1] = set.wait(-1, 1); });
  sleep_a_moment();
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(write_all(other.client.get(), "x"), 1U);
  first.join();
  second.join();
  EXPECT_EQ(seen[0].size(), 1U);
  EXPECT_EQ(seen[1].size(), 1U);
  EXPECT_NE(seen[0], seen[1]);
}

TEST_P(Epoll, PwaitLetsASignalThroughItsMask) {
  const ScopedHandler handler(SIGUSR1, count_signal);
  const ScopedBlock block(SIGUSR1);
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ::raise(SIGUSR1);
  sigset_t none;
  ::sigemptyset(&none);
  epoll_event event{};
  errno = 0;
  EXPECT_EQ(::epoll_pwait(set.fd(), &event, 1, -1, &none), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(signals_seen, 1);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::epoll_pwait(set.fd(), &event, 1, -1, nullptr), 1);
  EXPECT_EQ(::epoll_pwait(set.fd(), &event, 1, -1, &none), 1);
}

TEST_P(Epoll, Pwait2TakesATimespec) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  epoll_event event{};
  const timespec timeout{0, 60000000};
  const Stopwatch stopwatch;
  EXPECT_EQ(::epoll_pwait2(set.fd(), &event, 1, &timeout, nullptr), 0);
  EXPECT_GE(stopwatch.milliseconds(), 60.0);
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  EXPECT_EQ(::epoll_pwait2(set.fd(), &event, 1, nullptr, nullptr), 1);
  EXPECT_EQ(event.data.u64, kMine);
  writer.join();
  const timespec bad{0, -1};
  errno = 0;
  EXPECT_EQ(::epoll_pwait2(set.fd(), &event, 1, &bad, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_P(Epoll, IsInterruptedBySignalsEvenWithRestart) {
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  const PeriodicAlarm alarm(60);
  epoll_event event{};
  errno = 0;
  EXPECT_EQ(::epoll_wait(set.fd(), &event, 1, -1), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST_P(Epoll, RefusesWhatIsWrong) {
  EXPECT_EQ(set.remove(mine()), ENOENT);
  EXPECT_EQ(set.modify(mine(), EPOLLIN, kMine), ENOENT);
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  EXPECT_EQ(set.add(mine(), EPOLLIN, kMine), EEXIST);
  EXPECT_EQ(set.control(77, mine(), EPOLLIN, kMine), EINVAL);
  EXPECT_EQ(set.add(set.fd(), EPOLLIN, kMine), EINVAL);
  epoll_event event{};
  errno = 0;
  EXPECT_EQ(::epoll_ctl(mine(), EPOLL_CTL_ADD, peer(), &event), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::epoll_wait(mine(), &event, 1, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::epoll_ctl(set.fd(), EPOLL_CTL_ADD, peer(), static_cast<epoll_event*>(bad_pointer())),
            -1);
  EXPECT_EQ(errno, EFAULT);
  const int closed = ::dup(mine());
  ::close(closed);
  EXPECT_EQ(set.add(closed, EPOLLIN, kMine), EBADF);
  EXPECT_EQ(set.remove(closed), EBADF);
  errno = 0;
  EXPECT_EQ(::epoll_ctl(closed, EPOLL_CTL_ADD, mine(), &event), -1);
  EXPECT_EQ(errno, EBADF);
  errno = 0;
  EXPECT_EQ(::epoll_wait(set.fd(), &event, 0, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::epoll_wait(set.fd(), &event, opaque(-1), 0), -1);
  EXPECT_EQ(errno, EINVAL);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  errno = 0;
  EXPECT_EQ(::epoll_wait(set.fd(), static_cast<epoll_event*>(bad_pointer()), 1, -1), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
}

TEST_P(Epoll, ClosedSetLeavesTheConnectionAlone) {
  {
    const EpollSet short_lived;
    ASSERT_EQ(short_lived.add(mine(), EPOLLIN, kMine), 0);
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_EQ(short_lived.look(), (Events{{kMine, EPOLLIN}}));
  }
  EXPECT_EQ(read_once(mine(), 10), "x");
  ASSERT_EQ(write_all(peer(), "y"), 1U);
  EXPECT_EQ(read_once(mine(), 10), "y");
  peer_.reset();
  EXPECT_EQ(read_once(mine(), 10), "");
}

TEST_P(Epoll, SetMayBeDuplicated) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  const UniqueFd duplicate(::dup(set.fd()));
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  epoll_event event{};
  EXPECT_EQ(::epoll_wait(duplicate.get(), &event, 1, -1), 1);
  EXPECT_EQ(event.data.u64, kMine);
  EXPECT_EQ(::epoll_ctl(duplicate.get(), EPOLL_CTL_DEL, mine(), nullptr), 0);
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(Epoll, SetIsSharedWithAForkedChild) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  Child child([this] {
    EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
    EXPECT_EQ(read_once(mine(), 100), "for the child");
    EXPECT_EQ(write_all(mine(), "from the child"), 14U);
  });
  sleep_a_moment();
  ASSERT_EQ(write_all(peer(), "for the child"), 13U);
  EXPECT_EQ(read_exactly(peer(), 14), "from the child");
  EXPECT_EQ(child.wait(), 0);
  ASSERT_EQ(write_all(peer(), "for the parent"), 14U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 100), "for the parent");
}

TEST_P(Epoll, SetInAForkedChildOutlivesTheParentsCopy) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  Child child([this] {
    peer_.reset();
    for (int i = 0; i < 50; ++i) {
      EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
      EXPECT_EQ(read_once(mine(), 10), "ping");
      EXPECT_EQ(write_all(mine(), "pong"), 4U);
    }
  });
  mine_.reset();
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(write_all(peer(), "ping"), 4U);
    ASSERT_EQ(read_exactly(peer(), 4), "pong");
  }
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST(EpollCreate, KnowsItsArguments) {
  errno = 0;
  EXPECT_EQ(::epoll_create(0), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::epoll_create(-1), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::epoll_create1(1), -1);
  EXPECT_EQ(errno, EINVAL);
  const UniqueFd plain(::epoll_create(1));
  ASSERT_TRUE(plain.valid());
  EXPECT_EQ(::fcntl(plain.get(), F_GETFD), 0);
  const UniqueFd plain1(::epoll_create1(0));
  ASSERT_TRUE(plain1.valid());
  EXPECT_EQ(::fcntl(plain1.get(), F_GETFD), 0);
  const UniqueFd cloexec(::epoll_create1(EPOLL_CLOEXEC));
  ASSERT_TRUE(cloexec.valid());
  EXPECT_EQ(::fcntl(cloexec.get(), F_GETFD), FD_CLOEXEC);
}

TEST(EpollCreate, SetOfTheOldKindServes) {
  const Connection connection = make_connection();
  warm_up(connection.client.get(), connection.server.get());
  const UniqueFd set(::epoll_create(10));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = connection.server.get();
  ASSERT_EQ(::epoll_ctl(set.get(), EPOLL_CTL_ADD, connection.server.get(), &event), 0);
  ASSERT_EQ(write_all(connection.client.get(), "x"), 1U);
  epoll_event report{};
  ASSERT_EQ(::epoll_wait(set.get(), &report, 1, -1), 1);
  EXPECT_EQ(report.data.fd, connection.server.get());
}

}  // namespace
}  // namespace tssx_test
