// epoll: who gets its turn, what an edge is, and what time limits and signal masks mean.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

constexpr std::uint64_t kMine = 0xfeedfacecafebeefULL;
constexpr std::uint64_t kOther = 42;

class EpollTurns : public ConnectionTest {
 protected:
  const EpollSet set;
};
INSTANTIATE_TEST_SUITE_P(, EpollTurns, every_situation(), situation_name);

TEST_P(EpollTurns, ComeToConnectionsAndToReadyPipesAlike) {
  // Everything is ready all the time, and there is one place.
  std::vector<UniqueFd> pipes;
  for (std::uint64_t i = 0; i < 3; ++i) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    pipes.emplace_back(ends[0]);
    pipes.emplace_back(ends[1]);
    ASSERT_EQ(write_all(ends[1], "x"), 1U);
    ASSERT_EQ(set.add(ends[0], EPOLLIN, i), 0);
  }
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(set.add(peer(), EPOLLOUT, kOther), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  const std::set<std::uint64_t> all{0, 1, 2, kOther, kMine};
  for (int round = 0; round < 10; ++round) {
    std::set<std::uint64_t> seen;
    for (int i = 0; i < 10000 && seen != all; ++i) {
      const Events events = set.wait(-1, 1);
      ASSERT_EQ(events.size(), 1U);
      seen.insert(events.begin()->first);
    }
    EXPECT_EQ(seen, all) << round;
  }
}

TEST_P(EpollTurns, ReportAnEdgeForEachArrival) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, kMine), 0);
  // An offer that arrives behind unread data is an edge of its own (docs/limitations.md).
  const int arrivals = GetParam().warm ? 20 : 6;
  for (int i = 0; i < arrivals; ++i) {
    if (i % 2 == 0) {
      ASSERT_EQ(write_all(peer(), "x"), 1U);
      ASSERT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
    } else {
      std::thread writer([this] {
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        EXPECT_EQ(write_all(peer(), "x"), 1U);
      });
      ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
      writer.join();
    }
    ASSERT_EQ(set.look(), Events{});
  }
}

TEST_P(EpollTurns, ReportAnEdgeOfRoomWhenThePeerReads) {
  ASSERT_EQ(set.add(mine(), EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  ASSERT_EQ(write_all(mine(), "x"), 1U);
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(read_once(peer(), 10), "x");
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  EXPECT_EQ(set.look(), Events{});
}

TEST_P(EpollTurns, ReportTheWholeStateAtAnEdge) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN | EPOLLOUT}}));
  EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN | EPOLLOUT | EPOLLRDHUP}}));
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.modify(mine(), EPOLLRDHUP | EPOLLET, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLRDHUP}}));
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLRDHUP | EPOLLHUP}}));
}

TEST_P(EpollTurns, OfAOneshotComeBackByModifyAlone) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET | EPOLLONESHOT, kMine), 0);
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
    ASSERT_EQ(write_all(peer(), "y"), 1U);
    EXPECT_EQ(set.look(), Events{});
    EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLET | EPOLLONESHOT, kMine), 0);
    EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
    EXPECT_EQ(read_once(mine(), 10), "xy");
    EXPECT_EQ(set.modify(mine(), EPOLLIN | EPOLLET | EPOLLONESHOT, kMine), 0);
    EXPECT_EQ(set.look(), Events{});
  }
}

TEST_P(EpollTurns, OfExclusiveMembersComeToOneSetAtLeast) {
  const EpollSet second;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, kMine), 0);
  ASSERT_EQ(second.add(mine(), EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, kOther), 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    ASSERT_GE(set.look().size() + second.look().size(), 1U);
    ASSERT_EQ(read_once(mine(), 10), "x");
    ASSERT_EQ(write_all(mine(), "y"), 1U);
    ASSERT_EQ(read_once(peer(), 10), "y");
  }
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
  EXPECT_EQ(set.modify(mine(), EPOLLIN, kMine), EINVAL);
  EXPECT_EQ(set.remove(mine()), 0);
  EXPECT_EQ(second.remove(mine()), 0);
}

TEST_P(EpollTurns, AreNotBoughtByAPendingSignal) {
  // ep_poll() looks for events first, and for signals only where it would sleep.
  const ScopedHandler handler(SIGUSR1, count_signal);
  const ScopedBlock block(SIGUSR1);
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ::raise(SIGUSR1);
  sigset_t none;
  ::sigemptyset(&none);
  epoll_event event{};
  EXPECT_EQ(::epoll_pwait(set.fd(), &event, 1, 0, &none), 0);
  EXPECT_EQ(signals_seen, 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::epoll_pwait(set.fd(), &event, 1, -1, &none), 1);
  EXPECT_EQ(signals_seen, 0);
  EXPECT_EQ(read_once(mine(), 10), "x");
  errno = 0;
  EXPECT_EQ(::epoll_pwait(set.fd(), &event, 1, 1, &none), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(signals_seen, 1);
}

TEST_P(EpollTurns, KeepAMaskedSignalOutOfTheWholeWait) {
  const ScopedHandler handler(SIGUSR1, count_signal);
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  sigset_t only;
  ::sigemptyset(&only);
  ::sigaddset(&only, SIGUSR1);
  const pthread_t me = ::pthread_self();
  std::thread other([&] {
    for (int i = 0; i < 5; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(120));
      ::pthread_kill(me, SIGUSR1);
      // Traffic the other way wakes nobody here, but may make us look again.
      EXPECT_EQ(write_all(mine(), "x"), 1U);
      EXPECT_EQ(read_exactly(peer(), 1), "x");
      EXPECT_EQ(signals_seen, 0);
    }
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  epoll_event event{};
  EXPECT_EQ(::epoll_pwait(set.fd(), &event, 1, -1, &only), 1);
  EXPECT_EQ(signals_seen, 1);
  other.join();
}

TEST_P(EpollTurns, ComeNeverBeforeTheTimeLimit) {
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  epoll_event event{};
  for (const long nanoseconds : {1L, 1'500'000L, 7'300'001L}) {
    const timespec limit{0, nanoseconds};
    const Stopwatch stopwatch;
    EXPECT_EQ(::epoll_pwait2(set.fd(), &event, 1, &limit, nullptr), 0);
    EXPECT_GE(stopwatch.milliseconds(), static_cast<double>(nanoseconds) / 1e6);
  }
  const timespec now{0, 0};
  EXPECT_EQ(::epoll_pwait2(set.fd(), &event, 1, &now, nullptr), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::epoll_pwait2(set.fd(), &event, 1, &now, nullptr), 1);
}

TEST_P(EpollTurns, TellOfTheUrgentByte) {
  ASSERT_EQ(set.add(mine(), EPOLLPRI, kMine), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.look(), Events{});
  std::thread sender([this] {
    sleep_a_moment();
    EXPECT_EQ(::send(peer(), "!", 1, MSG_OOB), 1);
  });
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLPRI}}));
  sender.join();
  char byte = 0;
  EXPECT_EQ(::recv(mine(), &byte, 1, MSG_OOB), 1);
  EXPECT_EQ(byte, '!');
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(read_once(mine(), 10), "x");
}

TEST_P(EpollTurns, ComeToAListenerBesideConnections) {
  const Listener listener;
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  ASSERT_EQ(set.add(listener.fd(), EPOLLIN, kOther), 0);
  std::vector<UniqueFd> held;
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    held.push_back(listener.connect());
    EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}, {kOther, EPOLLIN}}));
    held.push_back(listener.accept());
    EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
    EXPECT_EQ(read_once(mine(), 10), "x");
    EXPECT_EQ(set.look(), Events{});
  }
}

TEST(EpollConnect, OfANonblockingSocketIsReported) {
  const Listener listener;
  const Address address(listener.path());
  const EpollSet set;
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
  ASSERT_EQ(set.add(client.get(), EPOLLIN | EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT | EPOLLHUP}}));
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  const UniqueFd server = listener.accept();
  ASSERT_EQ(write_all(server.get(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN | EPOLLOUT}}));
}

}  // namespace
}  // namespace tssx_test
