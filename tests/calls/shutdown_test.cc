// shutdown() in each direction, seen from both ends.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/pattern.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

constexpr short kAll = POLLIN | POLLOUT | POLLRDHUP | POLLPRI;

int send_error(int fd) {
  errno = 0;
  return ::send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 ? errno : 0;
}

class Shutdown : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Shutdown, every_situation(), situation_name);

TEST_P(Shutdown, OfWritingIsEndOfFileToThePeer) {
  ASSERT_EQ(write_all(mine(), "last"), 4U);
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(read_once(peer(), 10), "last");
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Shutdown, OfWritingLeavesTheOtherDirectionOpen) {
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
  ASSERT_EQ(write_all(peer(), pattern(0, 50000)), 50000U);
  EXPECT_TRUE(matches_pattern(read_exactly(mine(), 50000), 0));
  peer_.reset();
  EXPECT_EQ(read_once(mine(), 10), "");
}

TEST_P(Shutdown, OfWritingFailsLaterWrites) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(send_error(mine()), EPIPE);
  EXPECT_EQ(signals_seen, 0);
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 1);
}

TEST_P(Shutdown, OfWritingWakesABlockedReaderOfThePeer) {
  std::thread stopper([this] {
    sleep_a_moment();
    EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  });
  EXPECT_EQ(read_once(peer(), 10), "");
  stopper.join();
}

TEST_P(Shutdown, OfReadingIsEndOfFileToMyself) {
  EXPECT_EQ(::shutdown(mine(), SHUT_RD), 0);
  EXPECT_EQ(read_once(mine(), 10), "");
  EXPECT_EQ(read_once(mine(), 10), "");
}

TEST_P(Shutdown, OfReadingKeepsWhatHadCome) {
  ASSERT_EQ(write_all(peer(), "had come"), 8U);
  EXPECT_EQ(::shutdown(mine(), SHUT_RD), 0);
  EXPECT_EQ(read_once(mine(), 3), "had");
  EXPECT_EQ(read_once(mine(), 10), " come");
  EXPECT_EQ(read_once(mine(), 10), "");
}

TEST_P(Shutdown, OfReadingFailsThePeersWrites) {
  EXPECT_EQ(::shutdown(mine(), SHUT_RD), 0);
  EXPECT_EQ(send_error(peer()), EPIPE);
  EXPECT_EQ(read_once(mine(), 10), "");
}

TEST_P(Shutdown, OfReadingLeavesTheOtherDirectionOpen) {
  EXPECT_EQ(::shutdown(mine(), SHUT_RD), 0);
  ASSERT_EQ(write_all(mine(), "still"), 5U);
  EXPECT_EQ(read_once(peer(), 10), "still");
}

TEST_P(Shutdown, OfReadingWakesMyOwnBlockedReader) {
  std::thread stopper([this] {
    sleep_a_moment();
    EXPECT_EQ(::shutdown(mine(), SHUT_RD), 0);
  });
  EXPECT_EQ(read_once(mine(), 10), "");
  stopper.join();
}

TEST_P(Shutdown, OfWritingWakesMyOwnBlockedWriter) {
  const ScopedHandler handler(SIGPIPE, SIG_IGN);
  fill(mine());
  std::thread stopper([this] {
    sleep_a_moment();
    EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  });
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  stopper.join();
}

TEST_P(Shutdown, OfBothEndsEverything) {
  ASSERT_EQ(write_all(mine(), "to peer"), 7U);
  ASSERT_EQ(write_all(peer(), "to me"), 5U);
  EXPECT_EQ(::shutdown(mine(), SHUT_RDWR), 0);
  EXPECT_EQ(read_once(mine(), 10), "to me");
  EXPECT_EQ(read_once(mine(), 10), "");
  EXPECT_EQ(send_error(mine()), EPIPE);
  EXPECT_EQ(read_once(peer(), 10), "to peer");
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(send_error(peer()), EPIPE);
}

TEST_P(Shutdown, TwiceIsAllowed) {
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(::shutdown(mine(), SHUT_RD), 0);
  EXPECT_EQ(::shutdown(mine(), SHUT_RDWR), 0);
}

TEST_P(Shutdown, AfterThePeerClosedIsAllowed) {
  peer_.reset();
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(::shutdown(mine(), SHUT_RDWR), 0);
  EXPECT_EQ(read_once(mine(), 10), "");
}

TEST_P(Shutdown, RefusesAnUnknownDirection) {
  errno = 0;
  EXPECT_EQ(::shutdown(mine(), 3), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::shutdown(mine(), -1), -1);
  EXPECT_EQ(errno, EINVAL);
  ASSERT_EQ(write_all(mine(), "x"), 1U);
  EXPECT_EQ(read_once(peer(), 10), "x");
}

TEST_P(Shutdown, OfBothEndsByBothIsQuiet) {
  EXPECT_EQ(::shutdown(mine(), SHUT_RDWR), 0);
  EXPECT_EQ(::shutdown(peer(), SHUT_RDWR), 0);
  EXPECT_EQ(read_once(mine(), 10), "");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Shutdown, OfWritingThenCloseWithUnreadDataResets) {
  ASSERT_EQ(write_all(peer(), "unread"), 6U);
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Shutdown, OfWritingIsPolledAsHalfAHangUp) {
  EXPECT_EQ(poll_now(mine(), kAll), POLLOUT);
  EXPECT_EQ(poll_now(peer(), kAll), POLLOUT);
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(poll_now(mine(), kAll), POLLOUT);
  EXPECT_EQ(poll_now(peer(), kAll), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(poll_now(peer(), kAll), POLLIN | POLLOUT | POLLRDHUP);
}

TEST_P(Shutdown, OfReadingIsPolledAsHalfAHangUp) {
  EXPECT_EQ(::shutdown(mine(), SHUT_RD), 0);
  EXPECT_EQ(poll_now(mine(), kAll), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_EQ(poll_now(peer(), kAll), POLLOUT);
}

TEST_P(Shutdown, OfBothIsPolledAsAHangUpOnBothEnds) {
  EXPECT_EQ(::shutdown(mine(), SHUT_RDWR), 0);
  EXPECT_EQ(poll_now(mine(), kAll), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  EXPECT_EQ(poll_now(peer(), kAll), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  EXPECT_EQ(poll_now(peer(), 0), POLLHUP);
}

TEST_P(Shutdown, OfOneDirectionByEachEndIsPolledAsAHangUp) {
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(poll_now(mine(), kAll), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  EXPECT_EQ(poll_now(peer(), kAll), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
}

class HalfClose : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, HalfClose, every_situation(), situation_name);

TEST_P(HalfClose, LetsAFilterAnswerAfterEndOfFile) {
  // cat | sort: all the input first, and the answer only when it has ended.
  ForkedConnection connection = connect_to([](int fd) {
    const std::string input = read_to_end(fd);
    EXPECT_EQ(input.size(), 500000U);
    EXPECT_EQ(write_all(fd, input), input.size());
  });
  EXPECT_EQ(write_all(connection.mine.get(), pattern(0, 500000)), 500000U);
  EXPECT_EQ(::shutdown(connection.mine.get(), SHUT_WR), 0);
  const std::string output = read_to_end(connection.mine.get());
  EXPECT_EQ(output.size(), 500000U);
  EXPECT_TRUE(matches_pattern(output, 0));
  EXPECT_EQ(connection.peer.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
