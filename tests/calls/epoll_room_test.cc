// Edges of room: EPOLLOUT with EPOLLET is told each time the peer has read, also to a program that
// had room all the time (unix_write_space() of net/unix/af_unix.c).
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

constexpr std::uint64_t kMine = 0xfeedfacecafebeefULL;
constexpr std::uint64_t kOther = 42;
constexpr int kLong = 5000;  // milliseconds; a wake-up that is lost takes so long to be missed

void sleep_for(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// Voluntary switches of this thread so far: how often it went to sleep.
long sleeps() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

// With the peer in another process, so that this one has a single thread.
class EpollRoom : public ForkedPeerTest {
 protected:
  const EpollSet set;
};
INSTANTIATE_TEST_SUITE_P(, EpollRoom, every_situation(), situation_name);

TEST_P(EpollRoom, IsToldHoweverLateThePeerReads) {
  static constexpr int kDelays[] = {0, 1, 3, 10, 60, 300};
  ForkedConnection connection = connect_to([](int fd) {
    for (const int delay : kDelays) {
      sleep_for(delay);
      EXPECT_EQ(read_exactly(fd, 5), "bytes");
    }
    EXPECT_EQ(read_exactly(fd, 3), "end");
  });
  const int mine = connection.mine.get();
  ASSERT_EQ(set.add(mine, EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  for (const int delay : kDelays) {
    ASSERT_EQ(write_all(mine, "bytes"), 5U);
    ASSERT_EQ(set.wait(kLong), (Events{{kMine, EPOLLOUT}})) << delay;
  }
  ASSERT_EQ(write_all(mine, "end"), 3U);
}

TEST_P(EpollRoom, IsToldAgainWithEachRead) {
  ForkedConnection connection = connect_to([](int fd) {
    for (int i = 0; i < 6; ++i) {
      sleep_for(i % 2 == 0 ? 20 : 1);
      EXPECT_EQ(read_exactly(fd, 5), "bytes");
      EXPECT_EQ(read_exactly(fd, 1), "?");
    }
    EXPECT_EQ(read_exactly(fd, 3), "end");
  });
  const int mine = connection.mine.get();
  ASSERT_EQ(set.add(mine, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  for (int i = 0; i < 6; ++i) {
    ASSERT_EQ(write_all(mine, "bytes"), 5U);
    ASSERT_EQ(set.wait(kLong), (Events{{kMine, EPOLLOUT}})) << i;
    ASSERT_EQ(write_all(mine, "?"), 1U);
    ASSERT_EQ(set.wait(kLong), (Events{{kMine, EPOLLOUT}})) << i;
  }
  ASSERT_EQ(write_all(mine, "end"), 3U);
}

TEST_P(EpollRoom, IsToldOfWhatWasWrittenBetweenTwoWaits) {
  ForkedConnection connection = connect_to([](int fd) {
    EXPECT_EQ(read_exactly(fd, 5), "first");
    EXPECT_EQ(write_all(fd, "x"), 1U);
    sleep_for(20);
    EXPECT_EQ(read_exactly(fd, 5), "bytes");
    EXPECT_EQ(read_exactly(fd, 3), "end");
  });
  const int mine = connection.mine.get();
  ASSERT_EQ(write_all(mine, "first"), 5U);
  ASSERT_EQ(read_exactly(mine, 1), "x");
  const UniqueFd event(::eventfd(0, EFD_NONBLOCK));
  ASSERT_EQ(set.add(mine, EPOLLOUT | EPOLLET, kMine), 0);
  ASSERT_EQ(set.add(event.get(), EPOLLIN | EPOLLET, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  // Asleep with nothing unread: whatever watches the connection has come to rest.
  EXPECT_EQ(set.wait(60), Events{});
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
  EXPECT_EQ(set.wait(kLong), (Events{{kOther, EPOLLIN}}));
  ASSERT_EQ(write_all(mine, "bytes"), 5U);
  EXPECT_EQ(set.wait(kLong), (Events{{kMine, EPOLLOUT}}));
  ASSERT_EQ(write_all(mine, "end"), 3U);
}

TEST_P(EpollRoom, IsToldToALookAfterASleep) {
  ForkedConnection connection = connect_to([](int fd) {
    sleep_for(100);
    EXPECT_EQ(read_exactly(fd, 5), "bytes");
    EXPECT_EQ(read_exactly(fd, 3), "end");
  });
  const int mine = connection.mine.get();
  ASSERT_EQ(set.add(mine, EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  ASSERT_EQ(write_all(mine, "bytes"), 5U);
  EXPECT_EQ(set.wait(1), Events{});
  sleep_for(300);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(mine, "end"), 3U);
}

// Whoever waits for a peer that does not read must not keep the processor busy.
TEST_P(EpollRoom, IsWaitedForAsleep) {
  ForkedConnection connection = connect_to([](int fd) {
    sleep_for(700);
    EXPECT_EQ(read_exactly(fd, 5), "bytes");
    EXPECT_EQ(read_exactly(fd, 3), "end");
  });
  const int mine = connection.mine.get();
  ASSERT_EQ(set.add(mine, EPOLLIN | EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  ASSERT_EQ(write_all(mine, "bytes"), 5U);
  const long before = sleeps();
  EXPECT_EQ(set.wait(kLong), (Events{{kMine, EPOLLOUT}}));
  EXPECT_LE(sleeps() - before, 12);
  ASSERT_EQ(write_all(mine, "end"), 3U);
}

// With threads, and with what waits for the set from outside.
class EpollRoomThreads : public ConnectionTest {
 protected:
  const EpollSet set;
};
INSTANTIATE_TEST_SUITE_P(, EpollRoomThreads, every_situation(), situation_name);

TEST_P(EpollRoomThreads, IsToldToAThreadThatSleptBeforeTheWrite) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  for (int i = 0; i < 4; ++i) {
    std::thread other([this, i] {
      sleep_for(150);
      EXPECT_EQ(write_all(mine(), "bytes"), 5U);
      sleep_for(i % 2 == 0 ? 30 : 0);
      EXPECT_EQ(read_exactly(peer(), 5), "bytes");
    });
    EXPECT_EQ(set.wait(kLong), (Events{{kMine, EPOLLOUT}})) << i;
    other.join();
    set.forget();
  }
}

TEST_P(EpollRoomThreads, IsToldToTheThreadThatStays) {
  ASSERT_EQ(set.add(mine(), EPOLLOUT | EPOLLET, kMine), 0);
  const UniqueFd event(::eventfd(0, EFD_NONBLOCK));
  ASSERT_EQ(set.add(event.get(), EPOLLIN | EPOLLET, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  EXPECT_EQ(set.wait(30), Events{});
  // Two threads asleep; one of them takes the event, and does not come back.
  Events first;
  Events second;
  std::thread one([&] { first = set.wait(kLong); });
  sleep_for(30);
  ASSERT_EQ(write_all(mine(), "bytes"), 5U);
  std::thread two([&] { second = set.wait(kLong); });
  sleep_for(30);
  const std::uint64_t word = 1;
  ASSERT_EQ(::write(event.get(), &word, sizeof word), 8);
  sleep_for(60);
  EXPECT_EQ(read_exactly(peer(), 5), "bytes");
  one.join();
  two.join();
  EXPECT_EQ(first.size() + second.size(), 2U);
  first.merge(second);
  EXPECT_EQ(first, (Events{{kMine, EPOLLOUT}, {kOther, EPOLLIN}}));
}

TEST_P(EpollRoomThreads, IsToldThroughASetOutside) {
  const EpollSet outer;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLOUT | EPOLLET, kMine), 0);
  ASSERT_EQ(outer.add(set.fd(), EPOLLIN, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  for (int i = 0; i < 4; ++i) {
    const bool write_first = i % 2 == 0;
    if (write_first) {
      ASSERT_EQ(write_all(mine(), "bytes"), 5U);
    }
    std::thread other([this, write_first] {
      sleep_for(30);
      if (!write_first) {
        EXPECT_EQ(write_all(mine(), "bytes"), 5U);
      }
      sleep_for(30);
      EXPECT_EQ(read_exactly(peer(), 5), "bytes");
    });
    if (i < 2) {
      EXPECT_EQ(outer.wait(kLong), (Events{{kOther, EPOLLIN}})) << i;
    } else {
      pollfd entry{set.fd(), POLLIN, 0};
      EXPECT_EQ(::poll(&entry, 1, kLong), 1) << i;
    }
    EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}})) << i;
    other.join();
    set.forget();
  }
}

}  // namespace
}  // namespace tssx_test
