// close(), and what the other end sees of it.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/pattern.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

int pending_error(int fd) {
  int error = -1;
  socklen_t length = sizeof error;
  EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  return error;
}

class Close : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Close, every_situation(), situation_name);

TEST_P(Close, IsEndOfFileToThePeer) {
  EXPECT_EQ(::close(mine_.release()), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, ComesAfterTheData) {
  ASSERT_EQ(write_all(mine(), pattern(0, 100000)), 100000U);
  mine_.reset();
  const std::string got = read_to_end(peer());
  EXPECT_EQ(got.size(), 100000U);
  EXPECT_TRUE(matches_pattern(got, 0));
  EXPECT_EQ(pending_error(peer()), 0);
}

TEST_P(Close, WakesABlockedReader) {
  std::thread closer([this] {
    sleep_a_moment();
    mine_.reset();
  });
  EXPECT_EQ(read_once(peer(), 10), "");
  closer.join();
}

TEST_P(Close, MakesTheNumberInvalid) {
  const int number = mine_.release();
  EXPECT_EQ(::close(number), 0);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::read(number, &byte, 1), -1);
  EXPECT_EQ(errno, EBADF);
  errno = 0;
  EXPECT_EQ(::write(number, &byte, 1), -1);
  EXPECT_EQ(errno, EBADF);
  errno = 0;
  EXPECT_EQ(::close(number), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_P(Close, WithUnreadDataResetsThePeerOnce) {
  ASSERT_EQ(write_all(peer(), "unread"), 6U);
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(peer(), 10), "");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, WithUnreadDataLetsThePeerReadItsOwnFirst) {
  ASSERT_EQ(write_all(mine(), "for you"), 7U);
  ASSERT_EQ(write_all(peer(), "unread"), 6U);
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 3), "for");
  EXPECT_EQ(read_once(peer(), 10), " you");
  EXPECT_EQ(read_once(peer(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, WithHalfReadDataResetsToo) {
  ASSERT_EQ(write_all(peer(), "half read"), 9U);
  ASSERT_EQ(read_once(mine(), 4), "half");
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, WithPeekedDataResetsToo) {
  ASSERT_EQ(write_all(peer(), "peeked"), 6U);
  char bytes[6];
  ASSERT_EQ(::recv(mine(), bytes, 6, MSG_PEEK), 6);
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, WithUnreadDataMakesAWriteFailWithEpipe) {
  ASSERT_EQ(write_all(peer(), "unread"), 6U);
  mine_.reset();
  errno = 0;
  EXPECT_EQ(::send(peer(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  // The write did not use up the reset.
  EXPECT_EQ(read_once(peer(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, WithUnreadDataIsToldBySoErrorOnce) {
  ASSERT_EQ(write_all(peer(), "unread"), 6U);
  mine_.reset();
  EXPECT_EQ(pending_error(peer()), ECONNRESET);
  EXPECT_EQ(pending_error(peer()), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, WithUnreadDataWakesABlockedReaderWithTheReset) {
  ASSERT_EQ(write_all(peer(), "unread"), 6U);
  std::thread closer([this] {
    sleep_a_moment();
    mine_.reset();
  });
  EXPECT_EQ(read_once(peer(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(peer(), 10), "");
  closer.join();
}

TEST_P(Close, WithEverythingReadLeavesNoError) {
  ASSERT_EQ(write_all(peer(), "read"), 4U);
  ASSERT_EQ(read_exactly(mine(), 4), "read");
  mine_.reset();
  EXPECT_EQ(pending_error(peer()), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, OfBothEndsWithDataBothWaysIsQuiet) {
  ASSERT_EQ(write_all(peer(), "unread"), 6U);
  ASSERT_EQ(write_all(mine(), "unread"), 6U);
  EXPECT_EQ(::close(mine_.release()), 0);
  EXPECT_EQ(::close(peer_.release()), 0);
}

TEST_P(Close, OfAFullConnectionLosesNothing) {
  const std::size_t queued = fill(mine());
  mine_.reset();
  const std::string got = read_to_end(peer());
  EXPECT_EQ(got.size(), queued);
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(Close, UnderABlockedReaderLetsItFinish) {
  // The sleeping call holds the connection: it gets the data and only then is the end closed.
  std::string got;
  std::thread reader([&] { got = read_once(mine(), 100); });
  sleep_a_moment();
  sleep_a_moment();
  EXPECT_EQ(::close(mine_.release()), 0);
  ASSERT_EQ(write_all(peer(), "still delivered"), 15U);
  reader.join();
  EXPECT_EQ(got, "still delivered");
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Close, GivesTheNumberToTheNextSocket) {
  const int number = mine_.release();
  ASSERT_EQ(::close(number), 0);
  ASSERT_EQ(read_once(peer(), 10), "");
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const UniqueFd first(pair[0]);
  const UniqueFd second(pair[1]);
  ASSERT_EQ(write_all(first.get(), "another"), 7U);
  EXPECT_EQ(read_once(second.get(), 10), "another");
  ASSERT_EQ(write_all(second.get(), "stream"), 6U);
  EXPECT_EQ(read_once(first.get(), 10), "stream");
}

TEST(CloseAtOnce, AfterAcceptIsEndOfFileNotReset) {
  const Listener listener;
  const UniqueFd client = listener.connect();
  listener.accept().reset();
  EXPECT_EQ(read_once(client.get(), 10), "");
  EXPECT_EQ(read_once(client.get(), 10), "");
}

TEST(CloseAtOnce, AfterAcceptWithARequestWaitingIsAReset) {
  const Listener listener;
  const UniqueFd client = listener.connect();
  ASSERT_EQ(write_all(client.get(), "request"), 7U);
  listener.accept().reset();
  EXPECT_EQ(read_once(client.get(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(client.get(), 10), "");
}

TEST(CloseAtOnce, BeforeAcceptIsEndOfFileToTheServer) {
  const Listener listener;
  listener.connect().reset();
  const UniqueFd server = listener.accept();
  EXPECT_EQ(read_once(server.get(), 10), "");
}

TEST(CloseAtOnce, BeforeAcceptDeliversWhatWasWritten) {
  const Listener listener;
  {
    const UniqueFd client = listener.connect();
    ASSERT_EQ(write_all(client.get(), "last words"), 10U);
  }
  const UniqueFd server = listener.accept();
  EXPECT_EQ(read_once(server.get(), 100), "last words");
  EXPECT_EQ(read_once(server.get(), 100), "");
}

TEST(CloseAtOnce, OfTheListenerResetsWhoWasNotAccepted) {
  Listener listener;
  const UniqueFd client = listener.connect();
  listener.close();
  EXPECT_EQ(read_once(client.get(), 10), "<ECONNRESET>");
}

TEST(CloseAtOnce, ManyShortConnectionsLeaveNothing) {
  const Listener listener;
  for (int i = 0; i < 300; ++i) {
    const UniqueFd client = listener.connect();
    const UniqueFd server = listener.accept();
    ASSERT_EQ(write_all(client.get(), "request"), 7U);
    ASSERT_EQ(read_exactly(server.get(), 7), "request");
    ASSERT_EQ(write_all(server.get(), "reply"), 5U);
    ASSERT_EQ(read_exactly(client.get(), 5), "reply");
  }
}

TEST(CloseAtOnce, ManyWarmConnectionsLeaveNothing) {
  for (int i = 0; i < 50; ++i) {
    const Connection connection = make_connection();
    warm_up(connection.client.get(), connection.server.get());
  }
  EXPECT_EQ(accelerated_segments(), 0);
}

class DeadPeer : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, DeadPeer, every_situation(), situation_name);

TEST_P(DeadPeer, KilledLeavesItsDataThenEndOfFile) {
  ForkedConnection connection = connect_to([](int fd) {
    EXPECT_EQ(write_all(fd, pattern(0, 100000)), 100000U);
    for (;;) ::pause();
  });
  EXPECT_EQ(read_exactly(connection.mine.get(), 1), pattern(0, 1));
  sleep_a_moment();
  connection.peer.kill_and_wait();
  const std::string got = read_to_end(connection.mine.get());
  EXPECT_EQ(got.size(), 99999U);
  EXPECT_TRUE(matches_pattern(got, 1));
  EXPECT_EQ(pending_error(connection.mine.get()), 0);
}

TEST_P(DeadPeer, KilledWithUnreadDataIsAReset) {
  ForkedConnection connection = connect_to([](int fd) {
    EXPECT_EQ(write_all(fd, "r"), 1U);
    for (;;) ::pause();
  });
  ASSERT_EQ(read_exactly(connection.mine.get(), 1), "r");
  ASSERT_EQ(write_all(connection.mine.get(), "never read"), 10U);
  connection.peer.kill_and_wait();
  EXPECT_EQ(read_once(connection.mine.get(), 10), "<ECONNRESET>");
  EXPECT_EQ(read_once(connection.mine.get(), 10), "");
}

TEST_P(DeadPeer, KilledWakesABlockedReader) {
  ForkedConnection connection = connect_to([](int /*fd*/) {
    for (;;) ::pause();
  });
  std::thread killer([&] {
    sleep_a_moment();
    connection.peer.kill(SIGKILL);
  });
  EXPECT_EQ(read_once(connection.mine.get(), 10), "");
  killer.join();
}

TEST_P(DeadPeer, KilledWakesABlockedWriter) {
  const ScopedHandler handler(SIGPIPE, SIG_IGN);
  ForkedConnection connection = connect_to([](int /*fd*/) {
    for (;;) ::pause();
  });
  fill(connection.mine.get());
  std::thread killer([&] {
    sleep_a_moment();
    connection.peer.kill(SIGKILL);
  });
  errno = 0;
  EXPECT_EQ(::write(connection.mine.get(), "x", 1), -1);
  EXPECT_EQ(errno, ECONNRESET);
  killer.join();
}

TEST_P(DeadPeer, KilledWhileItWritesLeavesAPrefix) {
  ForkedConnection connection = connect_to([](int fd) {
    for (std::size_t done = 0;; done += 5000) write_all(fd, pattern(done, 5000));
  });
  std::string got = read_exactly(connection.mine.get(), 100000);
  connection.peer.kill_and_wait();
  got += read_to_end(connection.mine.get());
  EXPECT_GE(got.size(), 100000U);
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(DeadPeer, ThatExitsWithoutCloseIsEndOfFile) {
  ForkedConnection connection = connect_to([](int fd) { EXPECT_EQ(write_all(fd, "goodbye"), 7U); });
  EXPECT_EQ(connection.peer.wait(), 0);
  EXPECT_EQ(read_to_end(connection.mine.get()), "goodbye");
}

}  // namespace
}  // namespace tssx_test
