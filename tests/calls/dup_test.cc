// dup(), dup2(), dup3() and fcntl(F_DUPFD): one endpoint under several numbers.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

// Far above what the tests open, far below the limit.
constexpr int kHighNumber = 500;

bool carries_both_ways(int fd, int peer) {
  return write_all(fd, "there") == 5 && read_exactly(peer, 5) == "there" &&
         write_all(peer, "back") == 4 && read_exactly(fd, 4) == "back";
}

class Dup : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Dup, every_situation(), situation_name);

TEST_P(Dup, IsTheSameConnection) {
  const UniqueFd copy(::dup(mine()));
  ASSERT_TRUE(copy.valid());
  EXPECT_NE(copy.get(), mine());
  EXPECT_TRUE(carries_both_ways(copy.get(), peer()));
  EXPECT_TRUE(carries_both_ways(mine(), peer()));
  ASSERT_EQ(write_all(peer(), "abcdef"), 6U);
  EXPECT_EQ(read_once(copy.get(), 3), "abc");
  EXPECT_EQ(read_once(mine(), 3), "def");
}

TEST_P(Dup, KeepsTheConnectionWhenTheOriginalIsClosed) {
  const UniqueFd copy(::dup(mine()));
  mine_.reset();
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  EXPECT_TRUE(carries_both_ways(copy.get(), peer()));
}

TEST_P(Dup, ClosedLeavesTheOriginal) {
  UniqueFd copy(::dup(mine()));
  copy.reset();
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  EXPECT_TRUE(carries_both_ways(mine(), peer()));
}

TEST_P(Dup, EndsWithTheLastCopy) {
  UniqueFd first(::dup(mine()));
  UniqueFd second(::dup(first.get()));
  mine_.reset();
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  first.reset();
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  ASSERT_EQ(write_all(second.get(), "last"), 4U);
  second.reset();
  EXPECT_EQ(read_once(peer(), 10), "last");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Dup, SharesNonblockingMode) {
  const UniqueFd copy(::dup(mine()));
  set_nonblocking(copy.get(), true);
  EXPECT_EQ(read_once(mine(), 10), "<EAGAIN>");
  set_nonblocking(mine(), false);
  EXPECT_EQ(::fcntl(copy.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_P(Dup, SharesShutdown) {
  const UniqueFd copy(::dup(mine()));
  EXPECT_EQ(::shutdown(copy.get(), SHUT_WR), 0);
  errno = 0;
  EXPECT_EQ(::send(mine(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Dup, DoesNotCopyCloseOnExec) {
  ASSERT_EQ(::fcntl(mine(), F_SETFD, FD_CLOEXEC), 0);
  const UniqueFd copy(::dup(mine()));
  EXPECT_EQ(::fcntl(copy.get(), F_GETFD), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), FD_CLOEXEC);
}

TEST_P(Dup, WakesAReaderOfTheOtherNumber) {
  const UniqueFd copy(::dup(mine()));
  std::string got;
  std::thread reader([&] { got = read_once(copy.get(), 10); });
  sleep_a_moment();
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  reader.join();
  EXPECT_EQ(got, "x");
}

TEST_P(Dup, Dup2ToAFreeNumberWorks) {
  UniqueFd copy(::dup2(mine(), kHighNumber));
  ASSERT_EQ(copy.get(), kHighNumber);
  mine_.reset();
  EXPECT_TRUE(carries_both_ways(kHighNumber, peer()));
  copy.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Dup, Dup2OntoItselfChangesNothing) {
  EXPECT_EQ(::dup2(mine(), mine()), mine());
  EXPECT_TRUE(carries_both_ways(mine(), peer()));
}

TEST_P(Dup, Dup2OntoAnotherNumberOfItselfChangesNothing) {
  const UniqueFd copy(::dup(mine()));
  EXPECT_EQ(::dup2(mine(), copy.get()), copy.get());
  mine_.reset();
  EXPECT_TRUE(carries_both_ways(copy.get(), peer()));
}

TEST_P(Dup, Dup2OfAPipeOverTheLastNumberClosesTheConnection) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  ASSERT_EQ(write_all(mine(), "last"), 4U);
  ASSERT_EQ(::dup2(write_end.get(), mine()), mine());
  EXPECT_EQ(read_once(peer(), 10), "last");
  EXPECT_EQ(read_once(peer(), 10), "");
  // The number is the pipe's now.
  ASSERT_EQ(write_all(mine(), "pipe"), 4U);
  EXPECT_EQ(read_once(read_end.get(), 10), "pipe");
}

TEST_P(Dup, Dup2OverOneOfTwoNumbersKeepsTheConnection) {
  const UniqueFd copy(::dup(mine()));
  const UniqueFd other(::open("/dev/null", O_RDWR));
  ASSERT_EQ(::dup2(other.get(), mine()), mine());
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  EXPECT_TRUE(carries_both_ways(copy.get(), peer()));
}

TEST_P(Dup, Dup2OfOneConnectionOverAnotherClosesThat) {
  const Connection other = make_connection();
  if (GetParam().warm) warm_up(other.client.get(), other.server.get());
  ASSERT_EQ(::dup2(other.client.get(), mine()), mine());
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_TRUE(carries_both_ways(mine(), other.server.get()));
  EXPECT_TRUE(carries_both_ways(other.client.get(), other.server.get()));
}

TEST_P(Dup, Dup2OverAPipeServesTheConnection) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  ASSERT_EQ(::dup2(mine(), write_end.get()), write_end.get());
  EXPECT_EQ(read_once(read_end.get(), 10), "");
  EXPECT_TRUE(carries_both_ways(write_end.get(), peer()));
}

TEST_P(Dup, Dup2OntoStandardInputAndBackWorks) {
  const UniqueFd saved(::dup(STDIN_FILENO));
  ASSERT_EQ(::dup2(mine(), STDIN_FILENO), STDIN_FILENO);
  mine_.reset();
  EXPECT_TRUE(carries_both_ways(STDIN_FILENO, peer()));
  if (saved.valid()) {
    ASSERT_EQ(::dup2(saved.get(), STDIN_FILENO), STDIN_FILENO);
  } else {
    ::close(STDIN_FILENO);
  }
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Dup, Dup2OfAClosedNumberFailsAndLeavesTheTarget) {
  const int closed = ::dup(mine());
  ::close(closed);
  errno = 0;
  EXPECT_EQ(::dup2(closed, mine()), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_TRUE(carries_both_ways(mine(), peer()));
  errno = 0;
  EXPECT_EQ(::dup2(mine(), 1 << 30), -1);
  EXPECT_EQ(errno, EBADF);
  errno = 0;
  EXPECT_EQ(::dup2(mine(), opaque(-1)), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_P(Dup, Dup3SetsCloseOnExec) {
  UniqueFd copy(::dup3(mine(), kHighNumber, O_CLOEXEC));
  ASSERT_EQ(copy.get(), kHighNumber);
  EXPECT_EQ(::fcntl(copy.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), 0);
  EXPECT_TRUE(carries_both_ways(copy.get(), peer()));
}

TEST_P(Dup, Dup3RefusesWhatDup2Allows) {
  errno = 0;
  EXPECT_EQ(::dup3(mine(), mine(), 0), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::dup3(mine(), kHighNumber, O_NONBLOCK), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_TRUE(carries_both_ways(mine(), peer()));
}

TEST_P(Dup, FcntlTakesTheLowestNumberFromAMinimum) {
  const UniqueFd first(::fcntl(mine(), F_DUPFD, kHighNumber));
  ASSERT_EQ(first.get(), kHighNumber);
  EXPECT_EQ(::fcntl(first.get(), F_GETFD), 0);
  const UniqueFd second(::fcntl(mine(), F_DUPFD_CLOEXEC, kHighNumber));
  ASSERT_EQ(second.get(), kHighNumber + 1);
  EXPECT_EQ(::fcntl(second.get(), F_GETFD), FD_CLOEXEC);
  mine_.reset();
  EXPECT_TRUE(carries_both_ways(first.get(), peer()));
  EXPECT_TRUE(carries_both_ways(second.get(), peer()));
}

TEST_P(Dup, FcntlRefusesABadMinimum) {
  errno = 0;
  EXPECT_EQ(::fcntl(mine(), F_DUPFD, -1), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::fcntl(mine(), F_DUPFD, 1 << 30), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_P(Dup, BeforeTheTrafficThatMovesTheConnectionWorks) {
  const UniqueFd copy(::dup(mine()));
  warm_up(copy.get(), peer());
  EXPECT_TRUE(carries_both_ways(mine(), peer()));
  EXPECT_TRUE(carries_both_ways(copy.get(), peer()));
  mine_.reset();
  EXPECT_TRUE(carries_both_ways(copy.get(), peer()));
}

TEST_P(Dup, WithTheTableNearlyFullTrafficGoesOn) {
  rlimit previous{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &previous), 0);
  const int lowest_free = ::dup(mine());
  ::close(lowest_free);
  rlimit tight = previous;
  tight.rlim_cur = static_cast<rlim_t>(lowest_free);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  errno = 0;
  EXPECT_EQ(::dup(mine()), -1);
  EXPECT_EQ(errno, EMFILE);
  warm_up(mine(), peer());
  std::thread echo([this] { EXPECT_EQ(write_all(peer(), read_exactly(peer(), 300000)), 300000U); });
  EXPECT_EQ(write_all(mine(), pattern(0, 300000)), 300000U);
  EXPECT_TRUE(matches_pattern(read_exactly(mine(), 300000), 0));
  echo.join();
  pollfd entry{mine(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 20), 0);
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &previous), 0);
}

}  // namespace
}  // namespace tssx_test
