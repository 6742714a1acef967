// Members and sets whose numbers come and go: close without DEL, reused numbers, duplicates, sets
// that are closed while in use.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

constexpr std::uint64_t kMine = 0xfeedfacecafebeefULL;
constexpr std::uint64_t kOther = 42;

// Puts `fd` under the number `wanted`, which is free.
UniqueFd move_to(UniqueFd fd, int wanted) {
  if (fd.get() == wanted) return fd;
  EXPECT_EQ(::dup2(fd.get(), wanted), wanted);
  return UniqueFd(wanted);
}

// Waits until a thread of this process is inside epoll_wait() or epoll_pwait(), as far as /proc
// tells; elsewhere for a moment.
void wait_until_asleep_in_epoll(const std::atomic<pid_t>& thread) {
  while (thread == 0) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) {
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/syscall");
    int number = -1;
    file >> number;
    if (number == SYS_epoll_wait || number == SYS_epoll_pwait) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

std::ptrdiff_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

class EpollLife : public ConnectionTest {
 protected:
  [[nodiscard]] Connection another() const {
    Connection connection = make_connection();
    if (GetParam().warm) warm_up(connection.client.get(), connection.server.get());
    return connection;
  }
  EpollSet set;
};
INSTANTIATE_TEST_SUITE_P(, EpollLife, every_situation(), situation_name);

TEST_P(EpollLife, KeepsARegistrationThatItsNumberReachesNoMore) {
  // epoll(7): a member leaves when all its descriptors are closed, not when its own one is.
  const int number = mine();
  UniqueFd duplicate(::dup(number));
  ASSERT_EQ(set.add(number, EPOLLIN, kMine), 0);
  mine_.reset();
  EXPECT_EQ(set.remove(number), EBADF);
  Connection next = another();
  const UniqueFd reused = move_to(std::move(next.server), number);
  EXPECT_EQ(set.remove(number), ENOENT);
  EXPECT_EQ(set.modify(number, EPOLLIN, kOther), ENOENT);
  EXPECT_EQ(set.add(number, EPOLLIN, kOther), 0);
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  ASSERT_EQ(write_all(next.client.get(), "y"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}, {kOther, EPOLLIN}}));
  // The end of the one must not take the other's registration with it.
  duplicate.reset();
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN}}));
  EXPECT_EQ(read_once(reused.get(), 10), "y");
  EXPECT_EQ(set.look(), Events{});
  ASSERT_EQ(write_all(next.client.get(), "z"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kOther, EPOLLIN}}));
}

TEST_P(EpollLife, LeavesAPipeUnderAReusedNumberAlone) {
  const int number = mine();
  UniqueFd duplicate(::dup(number));
  ASSERT_EQ(set.add(number, EPOLLIN, kMine), 0);
  mine_.reset();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end = move_to(UniqueFd(ends[0]), number);
  const UniqueFd write_end(ends[1]);
  ASSERT_EQ(set.add(number, EPOLLIN, kOther), 0);
  duplicate.reset();
  ASSERT_EQ(write_all(write_end.get(), "x"), 1U);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN}}));
}

TEST(EpollLifeMove, FollowsAMemberWhoseNumberIsGoneToTheRing) {
  Connection connection = make_connection();
  const int number = connection.server.get();
  const UniqueFd duplicate(::dup(number));
  const EpollSet set;
  ASSERT_EQ(set.add(number, EPOLLIN, kMine), 0);
  connection.server.reset();
  Connection next = make_connection();
  const UniqueFd reused = move_to(std::move(next.server), number);
  ASSERT_EQ(set.add(number, EPOLLIN, kOther), 0);
  std::thread client([&] {
    for (int i = 0; i < 200; ++i) {
      if (i == 100) sleep_a_moment();
      EXPECT_EQ(write_all(connection.client.get(), "x"), 1U);
      EXPECT_EQ(read_exactly(connection.client.get(), 1), "y");
    }
  });
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}})) << i;
    ASSERT_EQ(read_once(duplicate.get(), 10), "x");
    EXPECT_EQ(set.look(), Events{});
    ASSERT_EQ(write_all(duplicate.get(), "y"), 1U);
  }
  client.join();
  ASSERT_EQ(write_all(next.client.get(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kOther, EPOLLIN}}));
}

TEST_P(EpollLife, ForgetsASocketThatWasClosedBeforeItWasConnected) {
  const Listener listener;
  const Address address(listener.path());
  UniqueFd first(::socket(AF_UNIX, SOCK_STREAM, 0));
  const int number = first.get();
  ASSERT_EQ(set.add(number, EPOLLIN | EPOLLOUT, kMine), 0);
  EXPECT_EQ(set.add(number, EPOLLIN, kMine), EEXIST);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT | EPOLLHUP}}));
  first.reset();
  const UniqueFd second = move_to(UniqueFd(::socket(AF_UNIX, SOCK_STREAM, 0)), number);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.modify(number, EPOLLIN, kMine), ENOENT);
  EXPECT_EQ(set.remove(number), ENOENT);
  ASSERT_EQ(::connect(number, address.get(), address.length), 0);
  const UniqueFd server = listener.accept();
  if (GetParam().warm) warm_up(number, server.get());
  ASSERT_EQ(write_all(server.get(), "x"), 1U);
  EXPECT_EQ(set.look(), Events{});
  EXPECT_EQ(set.add(number, EPOLLIN, kOther), 0);
  EXPECT_EQ(set.look(), (Events{{kOther, EPOLLIN}}));
}

TEST_P(EpollLife, TakesAnUnconnectedSocketOnceAndKeepsIt) {
  const Listener listener;
  const Address address(listener.path());
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(set.add(client.get(), EPOLLIN, kMine), 0);
  EXPECT_EQ(set.add(client.get(), EPOLLIN, kOther), EEXIST);
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  const UniqueFd server = listener.accept();
  EXPECT_EQ(set.add(client.get(), EPOLLIN, kOther), EEXIST);
  ASSERT_EQ(write_all(server.get(), "x"), 1U);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLIN}}));
}

TEST_P(EpollLife, WorksThroughADuplicateWhenItsFirstNumberIsClosed) {
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLOUT | EPOLLET, kMine), 0);
  const UniqueFd duplicate(::dup(set.fd()));
  { const EpollSet gone = std::move(set); }
  epoll_event report{};
  ASSERT_EQ(::epoll_wait(duplicate.get(), &report, 1, -1), 1);
  EXPECT_EQ(report.events, static_cast<std::uint32_t>(EPOLLOUT));
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    ASSERT_EQ(::epoll_wait(duplicate.get(), &report, 1, -1), 1);
    EXPECT_EQ(report.events, static_cast<std::uint32_t>(EPOLLIN | EPOLLOUT));
    ASSERT_EQ(read_once(mine(), 10), "x");
    ASSERT_EQ(write_all(mine(), "y"), 1U);
    ASSERT_EQ(read_once(peer(), 10), "y");
    while (::epoll_wait(duplicate.get(), &report, 1, 0) == 1) {
    }
  }
  epoll_event event{};
  EXPECT_EQ(::epoll_ctl(duplicate.get(), EPOLL_CTL_DEL, mine(), &event), 0);
}

TEST_P(EpollLife, MayBeClosedUnderAWaiter) {
  // The waiter keeps what it waits in, as the kernel keeps the file of a call under way.
  const int number = set.fd();
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  Events seen;
  std::atomic<pid_t> thread{0};
  std::thread waiter([&] {
    thread = static_cast<pid_t>(::syscall(SYS_gettid));
    epoll_event report{};
    if (::epoll_wait(number, &report, 1, -1) == 1) seen[report.data.u64] = report.events;
  });
  wait_until_asleep_in_epoll(thread);
  { const EpollSet gone = std::move(set); }
  const EpollSet next;  // under the same number
  Connection other = another();
  ASSERT_EQ(next.add(other.server.get(), EPOLLIN, kOther), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  waiter.join();
  EXPECT_EQ(seen, (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(next.look(), Events{});
  ASSERT_EQ(write_all(other.client.get(), "x"), 1U);
  EXPECT_EQ(next.look(), (Events{{kOther, EPOLLIN}}));
}

TEST_P(EpollLife, AWaiterOfAClosedSetGoesOnWaiting) {
  const int number = set.fd();
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLOUT | EPOLLET, kMine), 0);
  EXPECT_EQ(set.look(), (Events{{kMine, EPOLLOUT}}));
  Events seen;
  int error = 0;
  std::atomic<pid_t> thread{0};
  std::thread waiter([&] {
    thread = static_cast<pid_t>(::syscall(SYS_gettid));
    epoll_event report{};
    if (::epoll_wait(number, &report, 1, 5000) == 1) {
      seen[report.data.u64] = report.events;
    } else {
      error = errno;
    }
  });
  wait_until_asleep_in_epoll(thread);
  const auto before = open_descriptors();
  { const EpollSet gone = std::move(set); }
  // Over a ring the write makes the waiter look, and find nothing.
  EXPECT_EQ(write_all(mine(), "bytes"), 5U);
  sleep_a_moment();
  sleep_a_moment();
  EXPECT_EQ(read_exactly(peer(), 5), "bytes");
  waiter.join();
  EXPECT_EQ(error, 0);
  EXPECT_EQ(seen, (Events{{kMine, EPOLLOUT}}));
  EXPECT_EQ(open_descriptors(), before - 1);
}

TEST_P(EpollLife, SetsAndMembersMayBeClosedByTwoThreadsAtOnce) {
  for (int i = 0; i < 100; ++i) {
    Connection connection = make_connection();
    if (i % 10 == 0 && GetParam().warm) {
      warm_up(connection.client.get(), connection.server.get());
    }
    auto second = std::make_unique<EpollSet>();
    ASSERT_EQ(second->add(connection.server.get(), EPOLLIN, 1), 0);
    ASSERT_EQ(second->add(connection.client.get(), EPOLLIN, 2), 0);
    ASSERT_EQ(set.add(connection.server.get(), EPOLLIN, 3), 0);
    std::thread closer([&] { second.reset(); });
    connection.server.reset();
    connection.client.reset();
    closer.join();
    ASSERT_EQ(set.look(), Events{});
  }
}

sigjmp_buf out_of_the_wait;

TEST_P(EpollLife, AWaitMayBeLeftByAJump) {
  const ScopedHandler handler(SIGALRM, [](int) { ::siglongjmp(out_of_the_wait, 1); });
  ASSERT_EQ(set.add(mine(), EPOLLIN, kMine), 0);
  static int jumps;
  jumps = 0;
  if (sigsetjmp(out_of_the_wait, 1) != 0) ++jumps;
  if (jumps < 5) {
    const itimerval soon{{0, 0}, {0, 20000}};
    ::setitimer(ITIMER_REAL, &soon, nullptr);
    EXPECT_EQ(set.wait(-1), Events{});
    FAIL() << "nothing to report";
  }
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(set.wait(-1), (Events{{kMine, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 10), "x");
  EXPECT_EQ(set.look(), Events{});
}

TEST(EpollFork, MayHappenWhileAnotherThreadMakesAndClosesSets) {
  std::atomic<bool> done{false};
  const Connection connection = make_connection();
  std::thread maker([&] {
    while (!done) {
      const EpollSet set;
      EXPECT_EQ(set.add(connection.server.get(), EPOLLIN, 1), 0);
      EXPECT_EQ(set.look(), Events{});
    }
  });
  for (int i = 0; i < 40; ++i) {
    Child child([] {
      const EpollSet set;
      const Connection mine = make_connection();
      EXPECT_EQ(set.add(mine.server.get(), EPOLLIN, 1), 0);
      EXPECT_EQ(write_all(mine.client.get(), "x"), 1U);
      EXPECT_EQ(set.look(), (Events{{1, EPOLLIN}}));
    });
    EXPECT_EQ(child.wait(), 0);
  }
  done = true;
  maker.join();
}

}  // namespace
}  // namespace tssx_test
