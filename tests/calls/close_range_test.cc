// close_range(), closefrom(), and the loops that daemons close everything with.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/close_range.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

class CloseRange : public ConnectionTest {
 protected:
  [[nodiscard]] static unsigned number(int fd) { return static_cast<unsigned>(fd); }
};
INSTANTIATE_TEST_SUITE_P(, CloseRange, every_situation(), situation_name);

TEST_P(CloseRange, OverOneEndClosesIt) {
  ASSERT_EQ(write_all(mine(), "last"), 4U);
  const int closed = mine_.release();
  ASSERT_EQ(::close_range(number(closed), number(closed), 0), 0);
  EXPECT_EQ(read_once(peer(), 10), "last");
  EXPECT_EQ(read_once(peer(), 10), "");
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::read(closed, &byte, 1), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_P(CloseRange, OverUnreadDataResetsThePeer) {
  ASSERT_EQ(write_all(peer(), "unread"), 6U);
  const int closed = mine_.release();
  ASSERT_EQ(::close_range(number(closed), number(closed), 0), 0);
  EXPECT_EQ(read_once(peer(), 10), "<ECONNRESET>");
}

TEST_P(CloseRange, OverACopyLeavesTheOriginal) {
  UniqueFd copy(::fcntl(mine(), F_DUPFD, 700));
  ASSERT_EQ(copy.get(), 700);
  ASSERT_EQ(::close_range(650, 750, 0), 0);
  copy.release();
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  warm_up(mine(), peer());
}

TEST_P(CloseRange, WithCloexecOnlyMarks) {
  const unsigned first = number(std::min(mine(), peer()));
  ASSERT_EQ(::close_range(first, number(std::max(mine(), peer())), CLOSE_RANGE_CLOEXEC), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(peer(), F_GETFD), FD_CLOEXEC);
  warm_up(mine(), peer());
}

TEST_P(CloseRange, RefusesABadRange) {
  errno = 0;
  EXPECT_EQ(::close_range(number(mine()), 0, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::close_range(number(mine()), number(mine()), 0x7000), -1);
  EXPECT_EQ(errno, EINVAL);
  warm_up(mine(), peer());
}

// The child closes everything in its way; the parent has dropped that end before.

TEST_P(CloseRange, OfEverythingEndsTheConnection) {
  int gate[2];
  ASSERT_EQ(::pipe(gate), 0);
  UniqueFd gate_write(gate[1]);
  const UniqueFd gate_read(gate[0]);
  Child child([&] {
    ::dup2(gate_read.get(), STDIN_FILENO);
    EXPECT_EQ(::close_range(3, UINT_MAX, 0), 0);
    read_to_end(STDIN_FILENO);
  });
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");  // and the child still lives
  gate_write.reset();
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(CloseRange, UnsharedEndsTheConnectionToo) {
  Child child([&] {
    EXPECT_EQ(::close_range(3, UINT_MAX, CLOSE_RANGE_UNSHARE), 0);
    errno = 0;
    char byte = 0;
    EXPECT_EQ(::read(mine(), &byte, 1), -1);
    EXPECT_EQ(errno, EBADF);
  });
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(CloseRange, AboveTheConnectionLeavesIt) {
  Child child([&] {
    ASSERT_EQ(::dup2(mine(), 3), 3);
    ::closefrom(4);
    for (int i = 0; i < 100; ++i) {
      ASSERT_EQ(write_all(3, read_exactly(3, 20)), 20U);
    }
  });
  mine_.reset();
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(peer(), pattern(i, 20)), 20U);
    ASSERT_EQ(read_exactly(peer(), 20), pattern(i, 20));
  }
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(CloseRange, ByClosefromEndsTheConnection) {
  Child child([&] {
    ::closefrom(3);
    errno = 0;
    EXPECT_EQ(::close(mine()), -1);
    EXPECT_EQ(errno, EBADF);
    sleep_a_moment();
  });
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(CloseRange, ByALoopEndsTheConnection) {
  Child child([&] {
    for (int fd = 3; fd < 1024; ++fd) ::close(fd);
    sleep_a_moment();
  });
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(CloseRange, ByALoopAboveTheConnectionLeavesIt) {
  Child child([&] {
    ASSERT_EQ(::dup2(mine(), STDIN_FILENO), STDIN_FILENO);
    for (int fd = 3; fd < 20000; ++fd) ::close(fd);
    for (int i = 0; i < 100; ++i) {
      ASSERT_EQ(write_all(STDIN_FILENO, read_exactly(STDIN_FILENO, 20)), 20U);
    }
  });
  mine_.reset();
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(peer(), pattern(i, 20)), 20U);
    ASSERT_EQ(read_exactly(peer(), 20), pattern(i, 20));
  }
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(CloseRange, OfEverythingIsNoHindranceToNewConnections) {
  const Listener listener;
  Child child([&] {
    ::closefrom(3);
    const UniqueFd client = listener.connect();
    warm_up_as_leader(client.get());
    EXPECT_EQ(accelerated_segments() > 0, preloaded());
    pollfd entry{client.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&entry, 1, -1), 1);
    EXPECT_EQ(read_once(client.get(), 10), "bye");
  });
  const UniqueFd server = listener.accept();
  warm_up_as_follower(server.get());
  sleep_a_moment();
  EXPECT_EQ(write_all(server.get(), "bye"), 3U);
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
