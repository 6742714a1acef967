// getsockopt() and setsockopt(): what they tell, and what the options do.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

int get_option(int fd, int option) {
  int value = -12345;
  socklen_t length = sizeof value;
  EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, option, &value, &length), 0) << std::strerror(errno);
  EXPECT_EQ(length, sizeof value);
  return value;
}

int set_option(int fd, int option, int value) {
  return ::setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) == 0 ? 0 : errno;
}

void set_timeout(int fd, int option, int milliseconds) {
  const timeval timeout{milliseconds / 1000, milliseconds % 1000 * 1000L};
  ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, option, &timeout, sizeof timeout), 0);
}

class SocketOption : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, SocketOption, every_situation(), situation_name);

TEST_P(SocketOption, TellsWhatKindOfSocketItIs) {
  EXPECT_EQ(get_option(mine(), SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(get_option(mine(), SO_DOMAIN), AF_UNIX);
  EXPECT_EQ(get_option(mine(), SO_PROTOCOL), 0);
  EXPECT_EQ(get_option(mine(), SO_ACCEPTCONN), 0);
  EXPECT_EQ(get_option(mine(), SO_ERROR), 0);
}

TEST_P(SocketOption, TellsThePeersCredentials) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  ASSERT_EQ(::getsockopt(mine(), SOL_SOCKET, SO_PEERCRED, &credentials, &length), 0);
  EXPECT_EQ(length, sizeof credentials);
  EXPECT_EQ(credentials.pid, ::getpid());
  EXPECT_EQ(credentials.uid, ::geteuid());
  EXPECT_EQ(credentials.gid, ::getegid());
}

TEST_P(SocketOption, TellsTheBufferSizesOfAnySocket) {
  const UniqueFd fresh(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(get_option(mine(), SO_SNDBUF), get_option(fresh.get(), SO_SNDBUF));
  EXPECT_EQ(get_option(mine(), SO_RCVBUF), get_option(fresh.get(), SO_RCVBUF));
}

TEST_P(SocketOption, DoublesTheBufferSizesThatAreSet) {
  EXPECT_EQ(set_option(mine(), SO_SNDBUF, 30000), 0);
  EXPECT_EQ(get_option(mine(), SO_SNDBUF), 60000);
  EXPECT_EQ(set_option(mine(), SO_RCVBUF, 40000), 0);
  EXPECT_EQ(get_option(mine(), SO_RCVBUF), 80000);
  EXPECT_GT(fill(mine(), 1000), 0U);
  EXPECT_GT(read_available(peer()).size(), 0U);
  EXPECT_EQ(write_all(mine(), "works"), 5U);
  EXPECT_EQ(read_once(peer(), 10), "works");
}

TEST_P(SocketOption, CutsAnAnswerToAShortBuffer) {
  unsigned char bytes[4] = {0x55, 0x55, 0x55, 0x55};
  socklen_t length = 1;
  EXPECT_EQ(::getsockopt(mine(), SOL_SOCKET, SO_TYPE, bytes, &length), 0);
  EXPECT_EQ(length, 1U);
  EXPECT_EQ(bytes[0], SOCK_STREAM);
  EXPECT_EQ(bytes[1], 0x55);
}

TEST_P(SocketOption, RefusesWhatIsWrong) {
  int value = 0;
  socklen_t length = sizeof value;
  errno = 0;
  EXPECT_EQ(::getsockopt(mine(), SOL_SOCKET, 0x7777, &value, &length), -1);
  EXPECT_EQ(errno, ENOPROTOOPT);
  errno = 0;
  EXPECT_EQ(::setsockopt(mine(), SOL_SOCKET, 0x7777, &value, length), -1);
  EXPECT_EQ(errno, ENOPROTOOPT);
  errno = 0;
  EXPECT_EQ(::getsockopt(mine(), IPPROTO_TCP, TCP_NODELAY, &value, &length), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  errno = 0;
  EXPECT_EQ(::setsockopt(mine(), IPPROTO_TCP, TCP_NODELAY, &value, length), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  errno = 0;
  EXPECT_EQ(::setsockopt(mine(), SOL_SOCKET, SO_SNDBUF, &value, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::getsockopt(mine(), SOL_SOCKET, SO_TYPE, bad_pointer(), &length), -1);
  EXPECT_EQ(errno, EFAULT);
  errno = 0;
  EXPECT_EQ(::setsockopt(mine(), SOL_SOCKET, SO_SNDBUF, bad_pointer(), length), -1);
  EXPECT_EQ(errno, EFAULT);
}

TEST_P(SocketOption, AcceptsOptionsWithoutEffectHere) {
  EXPECT_EQ(set_option(mine(), SO_KEEPALIVE, 1), 0);
  EXPECT_EQ(get_option(mine(), SO_KEEPALIVE), 1);
  EXPECT_EQ(set_option(mine(), SO_REUSEADDR, 1), 0);
  EXPECT_EQ(get_option(mine(), SO_REUSEADDR), 1);
  const linger on{1, 1};
  EXPECT_EQ(::setsockopt(mine(), SOL_SOCKET, SO_LINGER, &on, sizeof on), 0);
  ASSERT_EQ(write_all(mine(), "x"), 1U);
  mine_.reset();
  EXPECT_EQ(read_once(peer(), 10), "x");
  EXPECT_EQ(read_once(peer(), 10), "");
}

// Options by which the kernel adds something of its own to each message, or keeps it away. Some are
// newer than this machine's headers.
TEST_P(SocketOption, MayAskForWhatOnlyTheKernelKnows) {
  constexpr int kPassPidfd = 76;
  constexpr int kPassRights = 83;
  constexpr int kInq = 84;
  for (const int option : {SO_PASSSEC, kPassPidfd, kPassRights, kInq}) {
    SCOPED_TRACE(option);
    UniqueFd kernels_ends[2];
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    kernels_ends[0] = UniqueFd(ends[0]);
    kernels_ends[1] = UniqueFd(ends[1]);
    const auto told = [&](int receiver, int sender) {
      std::string all = std::to_string(set_option(receiver, option, option != kPassRights));
      EXPECT_EQ(write_all(sender, "hello"), 5U);
      char bytes[10];
      iovec part{bytes, sizeof bytes};
      alignas(cmsghdr) char control[256];
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      const ssize_t got = ::recvmsg(receiver, &message, 0);
      EXPECT_EQ(std::string(bytes, got > 0 ? static_cast<std::size_t>(got) : 0), "hello");
      for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
        all += " " + std::to_string(at->cmsg_type) + ":" + std::to_string(at->cmsg_len);
        constexpr int kPidfd = 4;  // SCM_PIDFD
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == kPidfd) {
          int pidfd = -1;
          std::memcpy(&pidfd, CMSG_DATA(at), sizeof pidfd);
          ::close(pidfd);
        }
      }
      set_option(receiver, option, option == kPassRights);
      return all;
    };
    EXPECT_EQ(told(mine(), peer()), told(ends[0], ends[1]));
    ASSERT_EQ(write_all(mine(), "back"), 4U);
    EXPECT_EQ(read_exactly(peer(), 4), "back");
  }
}

TEST_P(SocketOption, ReceiveTimeoutEndsAReadNotBeforeItsTime) {
  set_timeout(mine(), SO_RCVTIMEO, 60);
  timeval timeout{};
  socklen_t length = sizeof timeout;
  EXPECT_EQ(::getsockopt(mine(), SOL_SOCKET, SO_RCVTIMEO, &timeout, &length), 0);
  EXPECT_EQ(timeout.tv_sec, 0);
  EXPECT_EQ(timeout.tv_usec, 60000);
  const Stopwatch stopwatch;
  EXPECT_EQ(read_once(mine(), 10), "<EAGAIN>");
  EXPECT_GE(stopwatch.milliseconds(), 55.0);
}

TEST_P(SocketOption, ReceiveTimeoutDoesNotHoldDataBack) {
  set_timeout(mine(), SO_RCVTIMEO, 10000);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(read_once(mine(), 10), "x");
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "late"), 4U);
  });
  EXPECT_EQ(read_once(mine(), 10), "late");
  writer.join();
}

TEST_P(SocketOption, ReceiveTimeoutOfWaitallLeavesAPart) {
  set_timeout(mine(), SO_RCVTIMEO, 60);
  ASSERT_EQ(write_all(peer(), "part"), 4U);
  char bytes[10];
  const Stopwatch stopwatch;
  EXPECT_EQ(::recv(mine(), bytes, 10, MSG_WAITALL), 4);
  EXPECT_GE(stopwatch.milliseconds(), 55.0);
}

TEST_P(SocketOption, ReceiveTimeoutEndsAtZero) {
  set_timeout(mine(), SO_RCVTIMEO, 20);
  EXPECT_EQ(read_once(mine(), 10), "<EAGAIN>");
  set_timeout(mine(), SO_RCVTIMEO, 0);
  std::thread writer([this] {
    sleep_a_moment();
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "waited"), 6U);
  });
  EXPECT_EQ(read_once(mine(), 10), "waited");
  writer.join();
}

TEST_P(SocketOption, ReceiveTimeoutIsNotTheWritersBusiness) {
  set_timeout(mine(), SO_RCVTIMEO, 20);
  const std::size_t queued = fill(mine());
  std::thread reader([&] {
    sleep_a_moment();
    sleep_a_moment();
    EXPECT_EQ(read_exactly(peer(), queued + 1).size(), queued + 1);
  });
  EXPECT_EQ(::write(mine(), "x", 1), 1);
  reader.join();
}

TEST_P(SocketOption, SendTimeoutEndsAWriteNotBeforeItsTime) {
  set_timeout(mine(), SO_SNDTIMEO, 60);
  fill(mine());
  const Stopwatch stopwatch;
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(stopwatch.milliseconds(), 55.0);
}

TEST_P(SocketOption, SendTimeoutLeavesAPart) {
  set_timeout(mine(), SO_SNDTIMEO, 60);
  const std::string bytes = pattern(0, 8U << 20U);
  const ssize_t sent = ::write(mine(), bytes.data(), bytes.size());
  ASSERT_GE(sent, 100000);
  ASSERT_LT(sent, static_cast<ssize_t>(bytes.size()));
  const std::string got = read_available(peer());
  EXPECT_EQ(got.size(), static_cast<std::size_t>(sent));
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(SocketOption, LowWaterMarkHoldsAReadBack) {
  EXPECT_EQ(get_option(mine(), SO_RCVLOWAT), 1);
  ASSERT_EQ(set_option(mine(), SO_RCVLOWAT, 10), 0);
  EXPECT_EQ(get_option(mine(), SO_RCVLOWAT), 10);
  ASSERT_EQ(write_all(peer(), "four"), 4U);
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), " and ten."), 9U);
  });
  EXPECT_EQ(read_once(mine(), 100), "four and ten.");
  writer.join();
}

TEST_P(SocketOption, LowWaterMarkAsksForNoMoreThanTheBuffer) {
  ASSERT_EQ(set_option(mine(), SO_RCVLOWAT, 10), 0);
  ASSERT_EQ(write_all(peer(), "four"), 4U);
  EXPECT_EQ(read_once(mine(), 3), "fou");
  peer_.reset();
  EXPECT_EQ(read_once(mine(), 100), "r");
}

TEST_P(SocketOption, PeekOffsetMovesWithEachPeek) {
  TSSX_KNOWN_DIFFERENCE("SO_PEEK_OFF on the ring");
  ASSERT_EQ(write_all(peer(), "abcdefgh"), 8U);
  if (set_option(mine(), SO_PEEK_OFF, 0) != 0) GTEST_SKIP() << "no SO_PEEK_OFF";
  char bytes[4] = {};
  EXPECT_EQ(::recv(mine(), bytes, 3, MSG_PEEK), 3);
  EXPECT_STREQ(bytes, "abc");
  EXPECT_EQ(::recv(mine(), bytes, 3, MSG_PEEK), 3);
  EXPECT_STREQ(bytes, "def");
  EXPECT_EQ(read_once(mine(), 2), "ab");
  EXPECT_EQ(::recv(mine(), bytes, 2, MSG_PEEK), 2);
  EXPECT_EQ(bytes[0], 'g');
  EXPECT_EQ(set_option(mine(), SO_PEEK_OFF, -1), 0);
  EXPECT_EQ(::recv(mine(), bytes, 3, MSG_PEEK), 3);
  EXPECT_STREQ(bytes, "cde");
}

TEST(SocketOptionOther, TellsAListenerThatItListens) {
  const Listener listener;
  EXPECT_EQ(get_option(listener.fd(), SO_ACCEPTCONN), 1);
}

TEST(SocketOptionOther, BufferSizesSetBeforeConnectAreKept) {
  const Listener listener;
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(set_option(client.get(), SO_SNDBUF, 50000), 0);
  const Address address(listener.path());
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  EXPECT_EQ(get_option(client.get(), SO_SNDBUF), 100000);
  const UniqueFd server = listener.accept();
  warm_up(client.get(), server.get());
  EXPECT_EQ(get_option(client.get(), SO_SNDBUF), 100000);
}

TEST(SocketOptionOther, TimeoutsSetBeforeConnectAreKept) {
  const Listener listener;
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  set_timeout(client.get(), SO_RCVTIMEO, 40);
  const Address address(listener.path());
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  EXPECT_EQ(read_once(client.get(), 10), "<EAGAIN>");
  const UniqueFd server = listener.accept();
  warm_up(client.get(), server.get());
  EXPECT_EQ(read_once(client.get(), 10), "<EAGAIN>");
}

TEST(SocketOptionOther, ReceiveTimeoutEndsAnAccept) {
  const Listener listener;
  set_timeout(listener.fd(), SO_RCVTIMEO, 40);
  const Stopwatch stopwatch;
  errno = 0;
  EXPECT_EQ(::accept(listener.fd(), nullptr, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(stopwatch.milliseconds(), 35.0);
}

class PeerCredentials : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, PeerCredentials, every_situation(), situation_name);

TEST_P(PeerCredentials, NameTheProcessThatConnectedOrListened) {
  ForkedConnection connection = connect_to([](int fd) { EXPECT_EQ(read_once(fd, 1), "x"); });
  ucred credentials{};
  socklen_t length = sizeof credentials;
  ASSERT_EQ(::getsockopt(connection.mine.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length), 0);
  // The listener was made by this process, whoever accepts.
  EXPECT_EQ(credentials.pid, GetParam().server ? connection.peer.pid() : ::getpid());
  EXPECT_EQ(write_all(connection.mine.get(), "x"), 1U);
  EXPECT_EQ(connection.peer.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
