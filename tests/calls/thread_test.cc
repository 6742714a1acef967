// Several threads on one connection, and threads with little room.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

constexpr std::size_t kBlock = 32768;

void write_stream(int fd, std::size_t size, unsigned seed) {
  for (std::size_t done = 0; done < size; done += kBlock) {
    ASSERT_EQ(write_all(fd, pattern(done, kBlock, seed)), kBlock);
  }
}

void check_stream(int fd, std::size_t size, unsigned seed) {
  for (std::size_t done = 0; done < size; done += kBlock) {
    const std::string got = read_exactly(fd, kBlock);
    ASSERT_EQ(got.size(), kBlock);
    ASSERT_TRUE(matches_pattern(got, done, seed));
  }
}

class Duplex : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, Duplex, every_situation(), situation_name);

TEST_P(Duplex, TwentyMegabytesFlowEachWayAtOnce) {
  static constexpr std::size_t kSize = 20U << 20U;
  const auto both_ways = [](int fd, unsigned out, unsigned in) {
    std::thread writer([=] { write_stream(fd, kSize, out); });
    check_stream(fd, kSize, in);
    writer.join();
  };
  ForkedConnection connection = connect_to([&](int fd) { both_ways(fd, 1, 2); });
  both_ways(connection.mine.get(), 2, 1);
  EXPECT_EQ(connection.peer.wait(), 0);
}

class Threads : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Threads, every_situation(), situation_name);

TEST_P(Threads, FourOfThemRunBothEndsBothWays) {
  static constexpr std::size_t kSize = 4U << 20U;
  std::thread first([this] { write_stream(mine(), kSize, 1); });
  std::thread second([this] { write_stream(peer(), kSize, 2); });
  std::thread third([this] { check_stream(mine(), kSize, 2); });
  check_stream(peer(), kSize, 1);
  first.join();
  second.join();
  third.join();
}

TEST_P(Threads, TwoReadersShareTheBytes) {
  static constexpr std::size_t kSize = 2U << 20U;
  std::array<std::uint64_t, 2> sums{};
  std::array<std::size_t, 2> counts{};
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < 2; ++i) {
    readers.emplace_back([&, i] {
      for (;;) {
        const std::string got = read_once(mine(), 1000);
        if (got.empty()) return;
        counts[i] += got.size();
        for (const char byte : got) sums[i] += static_cast<unsigned char>(byte);
      }
    });
  }
  std::uint64_t expected = 0;
  for (std::size_t done = 0; done < kSize; done += kBlock) {
    const std::string block = pattern(done, kBlock);
    for (const char byte : block) expected += static_cast<unsigned char>(byte);
    ASSERT_EQ(write_all(peer(), block), kBlock);
  }
  peer_.reset();
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(counts[0] + counts[1], kSize);
  EXPECT_EQ(sums[0] + sums[1], expected);
}

TEST_P(Threads, SleepingReadersAreEachWokenForTheirByte) {
  // Three sleepers, three bytes in one write: all of them must come back.
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> readers;
    for (int i = 0; i < 3; ++i) {
      readers.emplace_back([this] { EXPECT_EQ(read_once(mine(), 1), "x"); });
    }
    if (round % 4 == 0) sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "xxx"), 3U);
    for (std::thread& reader : readers) reader.join();
  }
}

TEST_P(Threads, AllSleepingReadersSeeTheEnd) {
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([this] { EXPECT_EQ(read_once(mine(), 1), ""); });
  }
  sleep_a_moment();
  peer_.reset();
  for (std::thread& reader : readers) reader.join();
}

TEST_P(Threads, TwoWritersDoNotTearEachOthersWrites) {
  static constexpr std::size_t kRecord = 1000;
  static constexpr int kRecords = 1000;
  std::vector<std::thread> writers;
  for (const char letter : {'a', 'b'}) {
    writers.emplace_back([this, letter] {
      const std::string record(kRecord, letter);
      for (int i = 0; i < kRecords; ++i) {
        EXPECT_EQ(::write(mine(), record.data(), kRecord), static_cast<ssize_t>(kRecord));
      }
    });
  }
  int letters = 0;
  for (int i = 0; i < 2 * kRecords; ++i) {
    const std::string got = read_exactly(peer(), kRecord);
    ASSERT_EQ(got, std::string(kRecord, got[0])) << "record " << i;
    letters += got[0] == 'a' ? 1 : 0;
  }
  EXPECT_EQ(letters, kRecords);
  for (std::thread& writer : writers) writer.join();
}

TEST_P(Threads, SleepingWritersAllFindRoom) {
  const std::size_t queued = fill(mine());
  std::vector<std::thread> writers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([this] { EXPECT_EQ(::write(mine(), "x", 1), 1); });
  }
  sleep_a_moment();
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), queued), 0));
  EXPECT_EQ(read_exactly(peer(), 3), "xxx");
  for (std::thread& writer : writers) writer.join();
}

TEST_P(Threads, AReaderAndAnEpollWaiterAreBothWoken) {
  const EpollSet set;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, 1), 0);
  for (int i = 0; i < 50; ++i) {
    // The reader leaves a byte, so there is something to report whoever comes first.
    std::thread reader([this] { EXPECT_EQ(read_once(mine(), 1), "x"); });
    std::thread writer([this, i] {
      if (i % 10 == 0) sleep_a_moment();
      EXPECT_EQ(write_all(peer(), "xx"), 2U);
    });
    EXPECT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
    reader.join();
    writer.join();
    EXPECT_EQ(read_once(mine(), 10), "x");
    set.forget();
  }
}

TEST_P(Threads, WithSmallStacksCanTalk) {
  struct Task {
    int fd;
    bool leads;
    bool good;
  };
  const auto run = [](void* argument) -> void* {
    auto* const task = static_cast<Task*>(argument);
    char bytes[512];
    task->good = true;
    for (int i = 0; i < 200 && task->good; ++i) {
      std::memset(bytes, i, sizeof bytes);
      if (task->leads) task->good = ::write(task->fd, bytes, sizeof bytes) == sizeof bytes;
      for (std::size_t done = 0; task->good && done < sizeof bytes;) {
        pollfd entry{task->fd, POLLIN, 0};
        task->good = ::poll(&entry, 1, -1) == 1;
        const ssize_t n = ::read(task->fd, bytes + done, sizeof bytes - done);
        task->good = task->good && n > 0;
        done += static_cast<std::size_t>(n);
      }
      if (!task->leads) task->good &= ::write(task->fd, bytes, sizeof bytes) == sizeof bytes;
    }
    return nullptr;
  };
  pthread_attr_t attributes;
  ASSERT_EQ(::pthread_attr_init(&attributes), 0);
  ASSERT_EQ(::pthread_attr_setstacksize(&attributes, 64UL * 1024), 0);
  std::array<Task, 2> tasks{{{mine(), true, false}, {peer(), false, false}}};
  std::array<pthread_t, 2> threads{};
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(::pthread_create(&threads[i], &attributes, run, &tasks[i]), 0);
  }
  for (const pthread_t thread : threads) ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attributes);
  EXPECT_TRUE(tasks[0].good);
  EXPECT_TRUE(tasks[1].good);
}

TEST_P(Threads, ComeAndGoOneAfterAnother) {
  for (std::size_t i = 0; i < 100; ++i) {
    std::thread([&] { EXPECT_EQ(write_all(mine(), pattern(i, 10)), 10U); }).join();
    std::thread([&] { EXPECT_EQ(read_once(peer(), 10), pattern(i, 10)); }).join();
  }
}

TEST(ThreadsMany, EachWithItsOwnConnection) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 8; ++i) {
    threads.emplace_back([i] {
      for (int n = 0; n < 5; ++n) {
        const Connection connection = make_connection();
        warm_up(connection.client.get(), connection.server.get());
        EXPECT_EQ(write_all(connection.client.get(), pattern(0, 50000, i)), 50000U);
        EXPECT_TRUE(matches_pattern(read_exactly(connection.server.get(), 50000), 0, i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tssx_test
