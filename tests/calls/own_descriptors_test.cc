// A program may put its files on any number that it was not given: dup2() over every number of a
// range closes nothing but what the program itself has there. The suite also runs with
// TSSX_IDS=negative, where an accepted end's socket lies on a number that the program never saw.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

constexpr int kFirst = 600;
constexpr int kEnd = 1024;

// One file on every number from kFirst to the end.
class OwnDescriptors : public testing::TestWithParam<Situation> {
 protected:
  void SetUp() override {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < kEnd + kSpare) {
      limit.rlim_cur = kEnd + kSpare;
      if (limit.rlim_max < limit.rlim_cur || ::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        GTEST_SKIP() << "needs descriptors up to " << limit.rlim_cur;
      }
    }
    file_ = UniqueFd(::memfd_create("own", MFD_CLOEXEC));
    ASSERT_GE(file_.get(), 0);
    struct stat status {};
    ASSERT_EQ(::fstat(file_.get(), &status), 0);
    inode_ = status.st_ino;
  }
  void TearDown() override {
    if (taken_) release();
  }

  void take_the_numbers() {
    taken_ = true;
    for (int fd = kFirst; fd < kEnd; ++fd) {
      ASSERT_EQ(fd % 2 == 0 ? ::dup2(file_.get(), fd) : ::dup3(file_.get(), fd, O_CLOEXEC), fd)
          << errno;
    }
    check_the_numbers();
  }
  void check_the_numbers() const {
    for (int fd = kFirst; fd < kEnd; ++fd) {
      struct stat status {};
      ASSERT_EQ(::fstat(fd, &status), 0) << fd;
      ASSERT_EQ(status.st_ino, inode_) << fd;
      ASSERT_EQ(::fcntl(fd, F_GETFD), fd % 2 == 0 ? 0 : FD_CLOEXEC) << fd;
    }
  }
  void release() {
    taken_ = false;
    for (int fd = kFirst; fd < kEnd; ++fd) EXPECT_EQ(::close(fd), 0) << fd;
  }

  [[nodiscard]] static Connection connect() {
    Connection made = make_connection();
    if (GetParam().warm) warm_up(made.server.get(), made.client.get());
    return made;
  }
  static int mine(const Connection& connection) {
    return GetParam().server ? connection.server.get() : connection.client.get();
  }
  static int peer(const Connection& connection) {
    return GetParam().server ? connection.client.get() : connection.server.get();
  }

 private:
  static constexpr int kSpare = 256;
  UniqueFd file_;
  ino_t inode_ = 0;
  bool taken_ = false;
};
INSTANTIATE_TEST_SUITE_P(, OwnDescriptors, every_situation(), situation_name);

TEST_P(OwnDescriptors, MayTakeAnyNumberBesideConnections) {
  std::vector<Connection> connections;
  for (int i = 0; i < 8; ++i) connections.push_back(connect());
  for (int turn = 0; turn < 2; ++turn) {
    take_the_numbers();
    for (const Connection& each : connections) {
      ASSERT_EQ(write_all(mine(each), "there"), 5U);
      ASSERT_EQ(read_exactly(peer(each), 5), "there");
      ASSERT_EQ(write_all(peer(each), "back"), 4U);
      ASSERT_EQ(read_exactly(mine(each), 4), "back");
      warm_up(mine(each), peer(each));
    }
    check_the_numbers();
    if (turn == 0) release();
  }
  for (Connection& each : connections) {
    const int left = peer(each);
    (GetParam().server ? each.server : each.client).reset();
    EXPECT_EQ(read_to_end(left), "");
  }
  connections.clear();
  check_the_numbers();
}

TEST_P(OwnDescriptors, MayTakeAnyNumberUnderABlockedReader) {
  const Connection connection = connect();
  std::thread reader([&] {
    for (int i = 0; i < 20; ++i) EXPECT_EQ(read_exactly(mine(connection), 3), "one");
  });
  sleep_a_moment();
  take_the_numbers();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(write_all(peer(connection), "one"), 3U);
  reader.join();
  check_the_numbers();
}

TEST_P(OwnDescriptors, MayTakeAnyNumberUnderAReaderOfAClosedConnection) {
  if (!GetParam().warm) GTEST_SKIP() << "docs/limitations.md, close() under a blocked read()";
  Connection connection = connect();
  std::thread reader([fd = mine(connection)] { EXPECT_EQ(read_once(fd, 9), "last"); });
  sleep_a_moment();
  (GetParam().server ? connection.server : connection.client).reset();
  take_the_numbers();
  EXPECT_EQ(write_all(peer(connection), "last"), 4U);
  reader.join();
  check_the_numbers();
}

TEST_P(OwnDescriptors, MayTakeAnyNumberUnderAWaitInAnEpollSet) {
  const Connection connection = connect();
  const UniqueFd set(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 7;
  ASSERT_EQ(::epoll_ctl(set.get(), EPOLL_CTL_ADD, mine(connection), &event), 0);
  std::atomic<int> woken{0};
  std::thread waiter([&] {
    for (int i = 0; i < 20; ++i) {
      epoll_event found{};
      EXPECT_EQ(::epoll_wait(set.get(), &found, 1, -1), 1);
      EXPECT_EQ(found.data.u64, 7U);
      EXPECT_EQ(read_once(mine(connection), 9), "x");
      ++woken;
    }
  });
  sleep_a_moment();
  take_the_numbers();
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(write_all(peer(connection), "x"), 1U);
    while (woken.load() == i) std::this_thread::yield();
  }
  waiter.join();
  check_the_numbers();
  // Another member wakes a sleeper: that is done by a descriptor of the library's own.
  const Connection other = connect();
  std::thread second([&] {
    epoll_event found{};
    EXPECT_EQ(::epoll_wait(set.get(), &found, 1, -1), 1);
    EXPECT_EQ(found.data.u64, 8U);
  });
  sleep_a_moment();
  ASSERT_EQ(write_all(peer(other), "x"), 1U);
  event.data.u64 = 8;
  ASSERT_EQ(::epoll_ctl(set.get(), EPOLL_CTL_ADD, mine(other), &event), 0);
  second.join();
  EXPECT_EQ(::epoll_ctl(set.get(), EPOLL_CTL_DEL, mine(connection), nullptr), 0);
  EXPECT_EQ(::epoll_ctl(set.get(), EPOLL_CTL_DEL, mine(other), nullptr), 0);
  epoll_event none{};
  EXPECT_EQ(::epoll_wait(set.get(), &none, 1, 0), 0);
  check_the_numbers();
}

TEST_P(OwnDescriptors, MayTakeAnyNumberBesideNestedEpollSets) {
  const Connection connection = connect();
  UniqueFd inner(::epoll_create1(EPOLL_CLOEXEC));
  UniqueFd outer(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  ASSERT_EQ(::epoll_ctl(inner.get(), EPOLL_CTL_ADD, mine(connection), &event), 0);
  ASSERT_EQ(::epoll_ctl(outer.get(), EPOLL_CTL_ADD, inner.get(), &event), 0);
  EXPECT_EQ(poll_now(outer.get(), POLLIN), 0);
  take_the_numbers();
  for (int i = 0; i < 3; ++i) {
    std::thread writer([&] {
      sleep_a_moment();
      EXPECT_EQ(write_all(peer(connection), "x"), 1U);
    });
    EXPECT_EQ(wait_for(outer.get(), POLLIN), POLLIN);
    writer.join();
    epoll_event found{};
    EXPECT_EQ(::epoll_wait(outer.get(), &found, 1, -1), 1);
    EXPECT_EQ(::epoll_wait(inner.get(), &found, 1, -1), 1);
    EXPECT_EQ(read_once(mine(connection), 9), "x");
    EXPECT_EQ(::epoll_wait(inner.get(), &found, 1, 0), 0);
  }
  ASSERT_EQ(::epoll_ctl(outer.get(), EPOLL_CTL_DEL, inner.get(), nullptr), 0);
  ASSERT_EQ(write_all(peer(connection), "x"), 1U);
  EXPECT_EQ(poll_now(outer.get(), POLLIN), 0);
  inner.reset();
  outer.reset();
  check_the_numbers();
}

TEST_P(OwnDescriptors, MayTakeAnyNumberInAVforkedChild) {
  const Connection connection = connect();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const pid_t child = ::vfork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int failed = 0;
    for (int fd = kFirst; fd < kEnd; ++fd) failed |= ::dup2(ends[1], fd) != fd ? 1 : 0;
    ::usleep(50'000);
    failed |= ::write(kEnd - 1, "x", 1) != 1 ? 1 : 0;
    ::_exit(failed);
  }
  // vfork() returns when the child is done, not before.
  EXPECT_EQ(poll_now(ends[0], POLLIN), POLLIN);
  EXPECT_EQ(wait_for_exit(child), 0);
  ASSERT_EQ(write_all(mine(connection), "there"), 5U);
  ASSERT_EQ(read_exactly(peer(connection), 5), "there");
}

TEST_P(OwnDescriptors, AreAllThatFcntlKnows) {
  const Connection connection = connect();
  for (int fd = kFirst; fd < kEnd; ++fd) {
    errno = 0;
    ASSERT_EQ(::fcntl(fd, F_GETFD), -1) << fd;
    ASSERT_EQ(errno, EBADF) << fd;
    ASSERT_EQ(::close(fd), -1) << fd;
    ASSERT_EQ(::dup(fd), -1) << fd;
  }
  ASSERT_EQ(::close_range(kFirst, kEnd, 0), 0);
  ASSERT_EQ(write_all(mine(connection), "there"), 5U);
  ASSERT_EQ(read_exactly(peer(connection), 5), "there");
}

}  // namespace
}  // namespace tssx_test
