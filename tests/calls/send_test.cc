// send(), sendto(), sendmsg(), sendmmsg() without ancillary data (that is ancillary_test.cc).
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

class Send : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Send, every_situation(), situation_name);

TEST_P(Send, ReturnsTheLength) {
  EXPECT_EQ(::send(mine(), "hello", 5, 0), 5);
  EXPECT_EQ(read_exactly(peer(), 5), "hello");
}

TEST_P(Send, OfNothingSendsNothing) {
  EXPECT_EQ(::send(mine(), "x", 0, 0), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(Send, WithNosignalFailsQuietly) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  peer_.reset();
  errno = 0;
  EXPECT_EQ(::send(mine(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 0);
}

TEST_P(Send, WithoutNosignalRaisesSigpipe) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  peer_.reset();
  errno = 0;
  EXPECT_EQ(::send(mine(), "x", 1, 0), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 1);
}

TEST_P(Send, WithDontwaitFillsThenWouldBlock) {
  const std::size_t taken = fill(mine());
  EXPECT_GE(taken, 100000U);
  errno = 0;
  EXPECT_EQ(::send(mine(), "x", 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(poll_now(mine(), POLLOUT), 0);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), taken), 0));
  EXPECT_EQ(poll_now(mine(), POLLOUT), POLLOUT);
  EXPECT_EQ(::send(mine(), "again", 5, MSG_DONTWAIT), 5);
  EXPECT_EQ(read_exactly(peer(), 5), "again");
}

TEST_P(Send, WithDontwaitTakesAPartOfWhatIsTooMuch) {
  const std::string bytes = pattern(0, 8U << 20U);
  const ssize_t taken = ::send(mine(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  ASSERT_GE(taken, 100000);
  ASSERT_LT(taken, static_cast<ssize_t>(bytes.size()));
  const std::string got = read_available(peer());
  EXPECT_EQ(got.size(), static_cast<std::size_t>(taken));
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(Send, AcceptsTheFlagsThatMeanNothingHere) {
  EXPECT_EQ(::send(mine(), "abc", 3, MSG_MORE), 3);
  EXPECT_EQ(read_once(peer(), 10), "abc");
  EXPECT_EQ(::send(mine(), "abc", 3, MSG_EOR), 3);
  EXPECT_EQ(read_once(peer(), 10), "abc");
  EXPECT_EQ(::send(mine(), "abc", 3, MSG_DONTROUTE), 3);
  EXPECT_EQ(read_once(peer(), 10), "abc");
  EXPECT_EQ(::send(mine(), "abc", 3, MSG_CONFIRM), 3);
  EXPECT_EQ(read_once(peer(), 10), "abc");
}

TEST_P(Send, FromABadPointerFailsAndSendsNothing) {
  errno = 0;
  EXPECT_EQ(::send(mine(), bad_pointer(), 8, 0), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(Send, OfAnUrgentByteOvertakesNothing) {
  ASSERT_EQ(write_all(mine(), "before"), 6U);
  if (::send(mine(), "!", 1, MSG_OOB) == -1 && errno == EOPNOTSUPP) {
    GTEST_SKIP() << "this kernel has no MSG_OOB on AF_UNIX";
  }
  ASSERT_EQ(write_all(mine(), "after"), 5U);
  EXPECT_NE(poll_now(peer(), POLLPRI | POLLIN) & POLLPRI, 0);
  EXPECT_EQ(read_once(peer(), 100), "before");
  char urgent = 0;
  EXPECT_EQ(::recv(peer(), &urgent, 1, MSG_OOB), 1);
  EXPECT_EQ(urgent, '!');
  EXPECT_EQ(read_once(peer(), 100), "after");
  ASSERT_EQ(write_all(mine(), "more"), 4U);
  EXPECT_EQ(read_once(peer(), 100), "more");
}

class SendTo : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, SendTo, every_situation(), situation_name);

TEST_P(SendTo, WithoutAnAddressIsSend) {
  EXPECT_EQ(::sendto(mine(), "hello", 5, 0, nullptr, 0), 5);
  EXPECT_EQ(read_exactly(peer(), 5), "hello");
}

TEST_P(SendTo, WithAnAddressFails) {
  const Address address(path_);
  errno = 0;
  EXPECT_EQ(::sendto(mine(), "hello", 5, 0, address.get(), address.length), -1);
  EXPECT_EQ(errno, EISCONN);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

class SendMsg : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, SendMsg, every_situation(), situation_name);

TEST_P(SendMsg, GathersBuffers) {
  char first[] = "abc";
  char second[] = "defg";
  std::array<iovec, 3> parts{{{first, 3}, {nullptr, 0}, {second, 4}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  EXPECT_EQ(::sendmsg(mine(), &message, 0), 7);
  EXPECT_EQ(read_exactly(peer(), 7), "abcdefg");
}

TEST_P(SendMsg, OfNoBuffersSendsNothing) {
  msghdr message{};
  EXPECT_EQ(::sendmsg(mine(), &message, 0), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(SendMsg, WithBadPointersFailsAndSendsNothing) {
  errno = 0;
  EXPECT_EQ(::sendmsg(mine(), static_cast<msghdr*>(bad_pointer()), 0), -1);
  EXPECT_EQ(errno, EFAULT);
  msghdr message{};
  message.msg_iov = static_cast<iovec*>(bad_pointer());
  message.msg_iovlen = 1;
  errno = 0;
  EXPECT_EQ(::sendmsg(mine(), &message, 0), -1);
  EXPECT_EQ(errno, EFAULT);
  iovec part{bad_pointer(), 8};
  message.msg_iov = &part;
  errno = 0;
  EXPECT_EQ(::sendmsg(mine(), &message, 0), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(SendMsg, RefusesTooManyBuffers) {
  char byte = 'x';
  std::vector<iovec> parts(1025, iovec{&byte, 1});
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  errno = 0;
  EXPECT_EQ(::sendmsg(mine(), &message, 0), -1);
  EXPECT_EQ(errno, EMSGSIZE);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(SendMsg, WithAnAddressFails) {
  Address address(path_);
  char byte = 'x';
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_name = &address.storage;
  message.msg_namelen = address.length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  errno = 0;
  EXPECT_EQ(::sendmsg(mine(), &message, 0), -1);
  EXPECT_EQ(errno, EISCONN);
}

TEST_P(SendMsg, ToAClosedPeerHonoursNosignal) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  peer_.reset();
  char byte = 'x';
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  errno = 0;
  EXPECT_EQ(::sendmsg(mine(), &message, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 0);
  EXPECT_EQ(::sendmsg(mine(), &message, 0), -1);
  EXPECT_EQ(signals_seen, 1);
}

class SendMMsg : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, SendMMsg, every_situation(), situation_name);

TEST_P(SendMMsg, SendsEachMessageInOrder) {
  std::string bytes = pattern(0, 60);
  std::array<iovec, 3> parts{{{&bytes[0], 10}, {&bytes[10], 20}, {&bytes[30], 30}}};
  std::array<mmsghdr, 3> messages{};
  for (std::size_t i = 0; i < 3; ++i) {
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(::sendmmsg(mine(), messages.data(), 3, 0), 3);
  EXPECT_EQ(messages[0].msg_len, 10U);
  EXPECT_EQ(messages[1].msg_len, 20U);
  EXPECT_EQ(messages[2].msg_len, 30U);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), 60), 0));
}

TEST_P(SendMMsg, OfNoMessagesReturnsZero) { EXPECT_EQ(::sendmmsg(mine(), nullptr, 0, 0), 0); }

TEST_P(SendMMsg, StopsAtTheFirstFailure) {
  char good[] = "good";
  std::array<iovec, 2> parts{{{good, 4}, {bad_pointer(), 4}}};
  std::array<mmsghdr, 2> messages{};
  for (std::size_t i = 0; i < 2; ++i) {
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(::sendmmsg(mine(), messages.data(), 2, 0), 1);
  EXPECT_EQ(messages[0].msg_len, 4U);
  EXPECT_EQ(read_once(peer(), 100), "good");
}

TEST_P(SendMMsg, StopsWhenFull) {
  std::string bytes = pattern(0, 50000);
  std::array<mmsghdr, 1000> messages{};
  iovec part{bytes.data(), bytes.size()};
  for (mmsghdr& message : messages) {
    message.msg_hdr.msg_iov = &part;
    message.msg_hdr.msg_iovlen = 1;
  }
  const int sent = ::sendmmsg(mine(), messages.data(), 1000, MSG_DONTWAIT);
  ASSERT_GE(sent, 2);
  ASSERT_LT(sent, 1000);
  std::size_t total = 0;
  for (int i = 0; i < sent; ++i) total += messages[static_cast<std::size_t>(i)].msg_len;
  EXPECT_EQ(read_available(peer()).size(), total);
}

}  // namespace
}  // namespace tssx_test
