// recv(), recvfrom(), recvmsg(), recvmmsg() and their fortified names, with their flags.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"

extern "C" {
ssize_t __recv_chk(int fd, void* buffer, size_t size, size_t buffer_size, int flags);
ssize_t __recvfrom_chk(int fd, void* buffer, size_t size, size_t buffer_size, int flags,
                       sockaddr* address, socklen_t* length);
}

namespace tssx_test {
namespace {

std::string recv_once(int fd, std::size_t size, int flags) {
  std::string bytes(size, '\0');
  const ssize_t n = ::recv(fd, bytes.data(), size, flags);
  if (n == -1) return std::string("<") + ::strerrorname_np(errno) + ">";
  bytes.resize(static_cast<std::size_t>(n));
  return bytes;
}

class Recv : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Recv, every_situation(), situation_name);

TEST_P(Recv, ReturnsWhatIsThere) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  EXPECT_EQ(recv_once(mine(), 100, 0), "hello");
}

TEST_P(Recv, WithDontwaitWouldBlockWhenEmpty) {
  EXPECT_EQ(recv_once(mine(), 10, MSG_DONTWAIT), "<EAGAIN>");
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  EXPECT_EQ(recv_once(mine(), 10, MSG_DONTWAIT), "hello");
  EXPECT_EQ(recv_once(mine(), 10, MSG_DONTWAIT), "<EAGAIN>");
}

TEST_P(Recv, WithPeekLeavesTheData) {
  ASSERT_EQ(write_all(peer(), "abcdef"), 6U);
  EXPECT_EQ(recv_once(mine(), 3, MSG_PEEK), "abc");
  EXPECT_EQ(recv_once(mine(), 100, MSG_PEEK), "abcdef");
  EXPECT_EQ(recv_once(mine(), 2, 0), "ab");
  EXPECT_EQ(recv_once(mine(), 100, MSG_PEEK), "cdef");
  EXPECT_EQ(recv_once(mine(), 100, 0), "cdef");
  EXPECT_EQ(recv_once(mine(), 100, MSG_PEEK | MSG_DONTWAIT), "<EAGAIN>");
}

TEST_P(Recv, WithPeekSeesSeveralWrites) {
  ASSERT_EQ(write_all(peer(), "one "), 4U);
  ASSERT_EQ(write_all(peer(), "two"), 3U);
  EXPECT_EQ(recv_once(mine(), 100, MSG_PEEK), "one two");
  EXPECT_EQ(recv_once(mine(), 100, 0), "one two");
}

TEST_P(Recv, WithPeekWaitsForData) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "late"), 4U);
  });
  EXPECT_EQ(recv_once(mine(), 100, MSG_PEEK), "late");
  EXPECT_EQ(recv_once(mine(), 100, 0), "late");
  writer.join();
}

TEST_P(Recv, WithPeekSeesEndOfFileAgainAndAgain) {
  peer_.reset();
  EXPECT_EQ(recv_once(mine(), 100, MSG_PEEK), "");
  EXPECT_EQ(recv_once(mine(), 100, MSG_PEEK), "");
  EXPECT_EQ(recv_once(mine(), 100, 0), "");
}

TEST_P(Recv, WithWaitallWaitsForAll) {
  std::thread writer([this] {
    for (std::size_t i = 0; i < 5; ++i) {
      sleep_a_moment();
      EXPECT_EQ(write_all(peer(), pattern(i * 1000, 1000)), 1000U);
    }
  });
  const std::string got = recv_once(mine(), 5000, MSG_WAITALL);
  EXPECT_EQ(got.size(), 5000U);
  EXPECT_TRUE(matches_pattern(got, 0));
  writer.join();
}

TEST_P(Recv, WithWaitallTakesNoMoreThanAskedFor) {
  ASSERT_EQ(write_all(peer(), "abcdef"), 6U);
  EXPECT_EQ(recv_once(mine(), 4, MSG_WAITALL), "abcd");
  EXPECT_EQ(recv_once(mine(), 2, MSG_WAITALL), "ef");
}

TEST_P(Recv, WithWaitallReturnsAPartAtEndOfFile) {
  std::thread closer([this] {
    EXPECT_EQ(write_all(peer(), "all there is"), 12U);
    sleep_a_moment();
    peer_.reset();
  });
  EXPECT_EQ(recv_once(mine(), 100, MSG_WAITALL), "all there is");
  EXPECT_EQ(recv_once(mine(), 100, MSG_WAITALL), "");
  closer.join();
}

TEST_P(Recv, WithWaitallAndDontwaitReturnsAPart) {
  ASSERT_EQ(write_all(peer(), "part"), 4U);
  EXPECT_EQ(recv_once(mine(), 100, MSG_WAITALL | MSG_DONTWAIT), "part");
  EXPECT_EQ(recv_once(mine(), 100, MSG_WAITALL | MSG_DONTWAIT), "<EAGAIN>");
}

TEST_P(Recv, WithWaitallTakesMoreThanAnyBufferHolds) {
  static constexpr std::size_t kSize = 3U << 20U;
  std::thread writer([this] { EXPECT_EQ(write_all(peer(), pattern(0, kSize)), kSize); });
  const std::string got = recv_once(mine(), kSize, MSG_WAITALL);
  EXPECT_EQ(got.size(), kSize);
  EXPECT_TRUE(matches_pattern(got, 0));
  writer.join();
}

TEST_P(Recv, WithTruncMeansNothingOnAStream) {
  ASSERT_EQ(write_all(peer(), "abcdef"), 6U);
  char bytes[4] = {};
  EXPECT_EQ(::recv(mine(), bytes, 3, MSG_TRUNC), 3);
  EXPECT_STREQ(bytes, "abc");
  EXPECT_EQ(recv_once(mine(), 100, 0), "def");
}

TEST_P(Recv, OfNothingWaitsForDataAllTheSame) {
  // Unlike read() of nothing, which returns at once.
  EXPECT_EQ(recv_once(mine(), 0, MSG_DONTWAIT), "<EAGAIN>");
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  EXPECT_EQ(recv_once(mine(), 0, 0), "");
  writer.join();
  EXPECT_EQ(poll_now(mine(), POLLIN), POLLIN);
  EXPECT_EQ(recv_once(mine(), 0, 0), "");
  EXPECT_EQ(recv_once(mine(), 10, 0), "x");
}

TEST_P(Recv, IntoABadPointerFailsAndKeepsTheData) {
  ASSERT_EQ(write_all(peer(), "precious"), 8U);
  errno = 0;
  EXPECT_EQ(::recv(mine(), bad_pointer(), 8, 0), -1);
  EXPECT_EQ(errno, EFAULT);
  errno = 0;
  EXPECT_EQ(::recv(mine(), bad_pointer(), 8, MSG_PEEK), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(recv_once(mine(), 100, 0), "precious");
}

TEST_P(Recv, WithoutUrgentDataRefusesOob) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::recv(mine(), &byte, 1, MSG_OOB), -1);
  EXPECT_TRUE(errno == EINVAL || errno == EOPNOTSUPP) << errno;
  EXPECT_EQ(recv_once(mine(), 100, 0), "x");
}

TEST_P(Recv, FortifiedNamesReceive) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char buffer[16] = {};
  EXPECT_EQ(__recv_chk(mine(), buffer, 2, sizeof buffer, MSG_PEEK), 2);
  EXPECT_STREQ(buffer, "he");
  EXPECT_EQ(__recvfrom_chk(mine(), buffer, sizeof buffer, sizeof buffer, 0, nullptr, nullptr), 5);
  EXPECT_STREQ(buffer, "hello");
}

TEST_P(Recv, FortifiedNamesAbortOnOverflow) {
  char buffer[16] = {};
  EXPECT_DEATH(__recv_chk(mine(), buffer, 17, sizeof buffer, 0), "buffer overflow detected");
  EXPECT_DEATH(__recvfrom_chk(mine(), buffer, 17, sizeof buffer, 0, nullptr, nullptr),
               "buffer overflow detected");
}

class RecvFrom : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, RecvFrom, every_situation(), situation_name);

TEST_P(RecvFrom, TellsTheNameOfABoundPeerOnly) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  sockaddr_un address{};
  address.sun_family = 0x5555;
  socklen_t length = sizeof address;
  char buffer[16];
  EXPECT_EQ(
      ::recvfrom(mine(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&address), &length),
      5);
  if (GetParam().server) {  // the client is not bound
    EXPECT_EQ(length, 0U);
    EXPECT_EQ(address.sun_family, 0x5555);
  } else {  // the accepted socket has the listener's name
    EXPECT_EQ(length, offsetof(sockaddr_un, sun_path) + path_.size() + 1);
    EXPECT_EQ(address.sun_family, AF_UNIX);
    EXPECT_STREQ(address.sun_path, path_.c_str());
  }
}

TEST_P(RecvFrom, CutsTheNameToTheBufferAndTellsItsLength) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  std::array<unsigned char, 8> address{};
  address.fill(0x55);
  socklen_t length = 4;
  char buffer[16];
  EXPECT_EQ(::recvfrom(mine(), buffer, sizeof buffer, 0,
                       reinterpret_cast<sockaddr*>(address.data()), &length),
            5);
  EXPECT_EQ(address[4], 0x55);
  if (GetParam().server) {
    EXPECT_EQ(length, 0U);
  } else {
    EXPECT_EQ(length, offsetof(sockaddr_un, sun_path) + path_.size() + 1);
    EXPECT_EQ(address[2], '/');
  }
}

TEST_P(RecvFrom, WithoutAnAddressIsRecv) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char buffer[16];
  EXPECT_EQ(::recvfrom(mine(), buffer, sizeof buffer, 0, nullptr, nullptr), 5);
}

class RecvMsg : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, RecvMsg, every_situation(), situation_name);

TEST_P(RecvMsg, ScattersIntoBuffers) {
  ASSERT_EQ(write_all(peer(), "abcdefg"), 7U);
  char first[3];
  char second[10] = {};
  std::array<iovec, 3> parts{{{first, 3}, {nullptr, 0}, {second, 10}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  message.msg_flags = 0x5555;
  EXPECT_EQ(::recvmsg(mine(), &message, 0), 7);
  EXPECT_EQ(std::memcmp(first, "abc", 3), 0);
  EXPECT_STREQ(second, "defg");
  EXPECT_EQ(message.msg_flags, 0);
}

TEST_P(RecvMsg, HasNoAncillaryDataToTell) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char bytes[16];
  iovec part{bytes, sizeof bytes};
  alignas(cmsghdr) char control[256];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  EXPECT_EQ(::recvmsg(mine(), &message, 0), 5);
  EXPECT_EQ(message.msg_controllen, 0U);
  EXPECT_EQ(message.msg_flags, 0);
}

TEST_P(RecvMsg, TellsTheNameOfABoundPeerOnly) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char bytes[16];
  iovec part{bytes, sizeof bytes};
  sockaddr_un address{};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof address;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  EXPECT_EQ(::recvmsg(mine(), &message, 0), 5);
  if (GetParam().server) {
    EXPECT_EQ(message.msg_namelen, 0U);
    EXPECT_EQ(address.sun_family, 0);
  } else {
    EXPECT_EQ(message.msg_namelen, offsetof(sockaddr_un, sun_path) + path_.size() + 1);
    EXPECT_STREQ(address.sun_path, path_.c_str());
  }
}

TEST_P(RecvMsg, WithCmsgCloexecSaysSoInItsFlags) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char bytes[16];
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  EXPECT_EQ(::recvmsg(mine(), &message, MSG_CMSG_CLOEXEC), 5);
  EXPECT_EQ(message.msg_flags, MSG_CMSG_CLOEXEC);
}

TEST_P(RecvMsg, PeeksAndWaits) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "abc"), 3U);
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "def"), 3U);
  });
  char bytes[7] = {};
  iovec part{bytes, 6};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  EXPECT_EQ(::recvmsg(mine(), &message, MSG_PEEK), 3);
  EXPECT_EQ(::recvmsg(mine(), &message, MSG_WAITALL), 6);
  EXPECT_STREQ(bytes, "abcdef");
  writer.join();
}

TEST_P(RecvMsg, WithBadPointersFailsAndKeepsTheData) {
  ASSERT_EQ(write_all(peer(), "precious"), 8U);
  errno = 0;
  EXPECT_EQ(::recvmsg(mine(), static_cast<msghdr*>(bad_pointer()), 0), -1);
  EXPECT_EQ(errno, EFAULT);
  msghdr message{};
  message.msg_iov = static_cast<iovec*>(bad_pointer());
  message.msg_iovlen = 1;
  errno = 0;
  EXPECT_EQ(::recvmsg(mine(), &message, 0), -1);
  EXPECT_EQ(errno, EFAULT);
  iovec part{bad_pointer(), 8};
  message.msg_iov = &part;
  errno = 0;
  EXPECT_EQ(::recvmsg(mine(), &message, 0), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(read_once(mine(), 100), "precious");
}

TEST_P(RecvMsg, RefusesTooManyBuffers) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  char byte = 0;
  std::vector<iovec> parts(1025, iovec{&byte, 1});
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  errno = 0;
  EXPECT_EQ(::recvmsg(mine(), &message, 0), -1);
  EXPECT_EQ(errno, EMSGSIZE);
  EXPECT_EQ(read_once(mine(), 10), "x");
}

TEST_P(RecvMsg, AtEndOfFileReturnsZero) {
  peer_.reset();
  char bytes[16];
  iovec part{bytes, sizeof bytes};
  alignas(cmsghdr) char control[64];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  EXPECT_EQ(::recvmsg(mine(), &message, 0), 0);
  EXPECT_EQ(message.msg_controllen, 0U);
  EXPECT_EQ(message.msg_flags, 0);
}

class RecvMMsg : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, RecvMMsg, every_situation(), situation_name);

TEST_P(RecvMMsg, FillsMessagesUntilItWouldBlock) {
  ASSERT_EQ(write_all(peer(), "abcdefg"), 7U);
  std::array<std::array<char, 3>, 4> bytes{};
  std::array<iovec, 4> parts{};
  std::array<mmsghdr, 4> messages{};
  for (std::size_t i = 0; i < 4; ++i) {
    parts[i] = {bytes[i].data(), 3};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(::recvmmsg(mine(), messages.data(), 4, MSG_DONTWAIT, nullptr), 3);
  EXPECT_EQ(messages[0].msg_len, 3U);
  EXPECT_EQ(messages[1].msg_len, 3U);
  EXPECT_EQ(messages[2].msg_len, 1U);
  EXPECT_EQ(std::memcmp(bytes[1].data(), "def", 3), 0);
  EXPECT_EQ(bytes[2][0], 'g');
  errno = 0;
  EXPECT_EQ(::recvmmsg(mine(), messages.data(), 4, MSG_DONTWAIT, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_P(RecvMMsg, WithWaitforoneWaitsForOne) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "abc"), 3U);
  });
  std::array<std::array<char, 10>, 2> bytes{};
  std::array<iovec, 2> parts{};
  std::array<mmsghdr, 2> messages{};
  for (std::size_t i = 0; i < 2; ++i) {
    parts[i] = {bytes[i].data(), 10};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(::recvmmsg(mine(), messages.data(), 2, MSG_WAITFORONE, nullptr), 1);
  EXPECT_EQ(messages[0].msg_len, 3U);
  writer.join();
}

TEST_P(RecvMMsg, LooksAtItsTimeoutBetweenMessagesOnly) {
  ASSERT_EQ(write_all(peer(), "abcdef"), 6U);
  std::array<std::array<char, 3>, 2> bytes{};
  std::array<iovec, 2> parts{};
  std::array<mmsghdr, 2> messages{};
  for (std::size_t i = 0; i < 2; ++i) {
    parts[i] = {bytes[i].data(), 3};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  timespec timeout{10, 0};
  EXPECT_EQ(::recvmmsg(mine(), messages.data(), 2, 0, &timeout), 2);
  timespec bad{0, 1000000000};
  errno = 0;
  EXPECT_EQ(::recvmmsg(mine(), messages.data(), 2, 0, &bad), -1);
  EXPECT_EQ(errno, EINVAL);
}

}  // namespace
}  // namespace tssx_test
