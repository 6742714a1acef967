// The protocol of core/channel.h, step by step: two Channels on one socketpair(2), one thread.
#include "core/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "core/socket_look.h"
#include "tests/core/support/child.h"
#include "tests/core/support/endpoint.h"
#include "tests/core/support/stream.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

constexpr int kReadable = POLLIN | POLLRDNORM;
constexpr int kWritable = POLLOUT | POLLWRNORM | POLLWRBAND;

class Channels : public Watched {
 protected:
  Pair pair_;
  Endpoint& server_ = pair_.server;
  Endpoint& client_ = pair_.client;
};

class EstablishedChannels : public Channels {
 protected:
  void SetUp() override { pair_.establish(); }

  Direction& in(Endpoint& endpoint) { return ChannelTestAccess::in(endpoint.channel()); }
  Direction& out(Endpoint& endpoint) { return ChannelTestAccess::out(endpoint.channel()); }

  // Everything that is there now.
  static std::string drain(Endpoint& endpoint, Status* end = nullptr, int* error = nullptr) {
    std::string all;
    std::vector<char> buffer(100'000);
    for (;;) {
      const Outcome got = endpoint.try_receive(buffer.data(), buffer.size());
      if (got.status != Status::done) {
        if (end != nullptr) *end = got.status;
        if (error != nullptr) *error = got.error;
        return all;
      }
      all.append(buffer.data(), got.bytes);
    }
  }
  // Writes until there is no space; returns how much went in.
  static std::size_t fill(Endpoint& endpoint, std::uint64_t position = 0) {
    std::size_t sent = 0;
    for (;;) {
      const std::string chunk = stream_bytes(position + sent, 60'000);
      const Outcome outcome = endpoint.try_send(chunk);
      if (outcome.status != Status::done) {
        EXPECT_EQ(outcome.status, Status::would_block);
        return sent;
      }
      sent += outcome.bytes;
    }
  }
};

Phase phase(Endpoint& endpoint) { return ChannelTestAccess::phase(endpoint.channel()); }

int bytes_in_socket(int fd) {
  int bytes = 0;
  EXPECT_EQ(::ioctl(fd, FIONREAD, &bytes), 0);
  return bytes;
}

// --- the way into the ring ---

TEST_F(Channels, StartInTheKernel) {
  EXPECT_FALSE(server_.channel().is_established());
  EXPECT_FALSE(client_.channel().is_plain());
  Pair::ping(server_, client_);
  Pair::ping(client_, server_);
  EXPECT_FALSE(server_.sends_to_ring());
  EXPECT_FALSE(client_.sends_to_ring());
}

TEST_F(Channels, OfferAfterAFewCallsAndNotBefore) {
  for (int i = 0; i < 7; ++i) {
    Pair::ping(server_, client_);
    ASSERT_EQ(phase(server_), Phase::candidate) << i;
  }
  Pair::ping(server_, client_);
  EXPECT_EQ(phase(server_), Phase::offered);
  EXPECT_EQ(phase(client_), Phase::established) << "the offer travels in front of the bytes";
}

TEST_F(Channels, OfferAfterSomeKibibytesInFewCalls) {
  const std::string bytes = stream_bytes(0, 70'000);
  ASSERT_TRUE(server_.send_all(bytes));
  EXPECT_EQ(client_.receive_exactly(bytes.size()), bytes);
  Pair::ping(server_, client_);
  EXPECT_EQ(phase(server_), Phase::offered);
}

TEST_F(Channels, EachDirectionCutsOnItsOwn) {
  for (int i = 0; i < 8; ++i) Pair::ping(server_, client_);
  EXPECT_TRUE(client_.sends_to_ring()) << "the client cuts as soon as it has accepted";
  EXPECT_FALSE(client_.receives_from_ring());
  EXPECT_FALSE(server_.receives_from_ring());
  Pair::ping(client_, server_);
  EXPECT_TRUE(server_.receives_from_ring());
  EXPECT_FALSE(server_.sends_to_ring()) << "no call of the server's has come since";
  Pair::ping(server_, client_);
  EXPECT_TRUE(server_.sends_to_ring());
  EXPECT_TRUE(client_.receives_from_ring());
}

TEST_F(Channels, MoveWithBytesInFlightWithoutLossOrDisorder) {
  // Both directions hold several unread messages whenever something changes.
  std::uint64_t sent[2] = {0, 0};
  std::uint64_t got[2] = {0, 0};
  Random random(7);
  Endpoint* const ends[2] = {&server_, &client_};
  for (int round = 0; round < 2000; ++round) {
    if (round % 20 == 19) {
      // Offers and cuts wait for an empty queue.
      for (std::size_t from = 0; from < 2; ++from) {
        const auto left = static_cast<std::size_t>(sent[from] - got[from]);
        ASSERT_TRUE(is_stream(ends[1 - from]->receive_exactly(left), got[from], from));
        got[from] = sent[from];
      }
    }
    const std::size_t from = random.between(0, 1);
    const std::size_t size = random.between(1, 3000);
    if (random.between(0, 2) != 0 && sent[from] - got[from] < 60'000) {
      const Outcome outcome = ends[from]->try_send(stream_bytes(sent[from], size, from));
      ASSERT_EQ(outcome.status, Status::done);
      sent[from] += outcome.bytes;
    } else {
      std::string buffer(size, '\0');
      const Outcome outcome = ends[1 - from]->try_receive(buffer.data(), size);
      if (outcome.status == Status::would_block) {
        ASSERT_EQ(got[from], sent[from]);
        continue;
      }
      ASSERT_EQ(outcome.status, Status::done);
      ASSERT_TRUE(is_stream(std::string_view(buffer).substr(0, outcome.bytes), got[from], from));
      got[from] += outcome.bytes;
    }
  }
  // The rarer the queue was empty, the rarer it is tried.
  for (std::size_t from = 0; from < 2; ++from) {
    const auto left = static_cast<std::size_t>(sent[from] - got[from]);
    ASSERT_TRUE(is_stream(ends[1 - from]->receive_exactly(left), got[from], from));
  }
  for (int i = 0; i < 3000 && !pair_.is_established(); ++i) {
    Pair::ping(server_, client_);
    Pair::ping(client_, server_);
  }
  EXPECT_TRUE(pair_.is_established());
}

TEST_F(Channels, CutBehindUnreadBytesLeavesThemFirst) {
  for (int i = 0; i < 8; ++i) Pair::ping(server_, client_);
  Pair::ping(client_, server_);
  ASSERT_TRUE(server_.receives_from_ring());
  // The answer cuts; what went before it is still unread.
  ASSERT_EQ(client_.try_send("one").bytes, 3U);
  ASSERT_EQ(server_.try_send("two").bytes, 3U);
  ASSERT_TRUE(server_.sends_to_ring());
  EXPECT_FALSE(client_.receives_from_ring());
  EXPECT_EQ(client_.receive_exactly(3), "two");
  EXPECT_EQ(server_.receive_exactly(3), "one");
}

TEST_F(Channels, OfferWaitsUntilEverythingIsRead) {
  for (int i = 0; i < 20; ++i) ASSERT_EQ(server_.try_send("x").bytes, 1U);
  EXPECT_EQ(phase(server_), Phase::candidate);
  EXPECT_EQ(client_.receive_exactly(20), std::string(20, 'x'));
  for (int i = 0; i < 100; ++i) Pair::ping(server_, client_);
  EXPECT_EQ(phase(client_), Phase::established) << "it is tried again";
}

TEST_F(Channels, OfferIsNotMadeToAClientThatLeaves) {
  Pair::ping(server_, client_);
  client_.channel().leave_for_good(client_.fd());
  for (int i = 0; i < 20; ++i) ASSERT_EQ(server_.try_send("x").bytes, 1U);
  EXPECT_TRUE(server_.channel().is_plain()) << "and gives up at once";
  char text[64] = {};
  ASSERT_EQ(::recv(client_.fd(), text, sizeof text, MSG_DONTWAIT), 20);
  EXPECT_EQ(bytes_in_socket(server_.fd()), 0) << "nothing was said on the connection";
}

// A notice behind unread bytes: the server's cut, which shutdown() does not put off.
class UnreadBeforeTheCut : public Channels {
 protected:
  void SetUp() override {
    for (int i = 0; i < 7; ++i) Pair::ping(server_, client_);
    ASSERT_EQ(server_.try_send("o").bytes, 1U);  // behind the offer
    ASSERT_EQ(server_.try_send("xxxxxx").bytes, 6U);
    ASSERT_EQ(client_.receive_exactly(1), "o");
    ASSERT_EQ(phase(client_), Phase::established);
    ASSERT_EQ(server_.try_send("x").bytes, 1U);
    ASSERT_FALSE(server_.sends_to_ring()) << "not while something is unread";
    server_.channel().shutdown(server_.fd(), false, true);
    ASSERT_TRUE(server_.sends_to_ring());
  }
};

TEST_F(UnreadBeforeTheCut, GluedNoticeIsNotCountedAsData) {
  char buffer[64];
  EXPECT_EQ(client_.try_receive(buffer, sizeof buffer).bytes, 7U);
  EXPECT_TRUE(client_.receives_from_ring());
  EXPECT_EQ(client_.try_receive(buffer, sizeof buffer).status, Status::end_of_file);
}

TEST_F(UnreadBeforeTheCut, PeekDoesNotConsumeANotice) {
  char buffer[64];
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(client_.try_receive(buffer, sizeof buffer, Peek::yes).bytes, 7U);
    EXPECT_FALSE(client_.receives_from_ring());
  }
  EXPECT_EQ(client_.receive_exactly(7), "xxxxxxx");
  EXPECT_EQ(client_.try_receive(buffer, sizeof buffer).status, Status::end_of_file);
  EXPECT_TRUE(client_.receives_from_ring());
}

TEST_F(Channels, PeekAtALeadingNoticeFindsTheDataBehindIt) {
  for (int i = 0; i < 7; ++i) Pair::ping(server_, client_);
  ASSERT_EQ(server_.try_send("yy").bytes, 2U);
  char buffer[64];
  EXPECT_EQ(client_.try_receive(buffer, sizeof buffer, Peek::yes).bytes, 2U);
  EXPECT_EQ(client_.receive_exactly(2), "yy");
}

TEST_F(UnreadBeforeTheCut, PeekThatStopsBeforeANoticeGetsWhatItAskedFor) {
  char buffer[64];
  for (const std::size_t size : {1U, 2U, 6U, 7U}) {
    EXPECT_EQ(client_.try_receive(buffer, size, Peek::yes).bytes, size);
  }
  EXPECT_EQ(client_.try_receive(buffer, 8, Peek::yes).bytes, 7U);
  EXPECT_EQ(client_.receive_exactly(7), "xxxxxxx");
}

TEST_F(UnreadBeforeTheCut, SettleTakesANoticeOnlyFromTheFront) {
  EXPECT_TRUE(client_.channel().settle(client_.fd()));
  EXPECT_FALSE(client_.receives_from_ring());
  EXPECT_EQ(client_.receive_exactly(7), "xxxxxxx");
  EXPECT_FALSE(client_.receives_from_ring());
  EXPECT_TRUE(client_.channel().settle(client_.fd()));
  EXPECT_TRUE(client_.receives_from_ring());
}

TEST_F(Channels, SettleStepsOverNoUrgentByte) {
  for (int i = 0; i < 7; ++i) Pair::ping(server_, client_);
  ASSERT_EQ(server_.try_send("ox").bytes, 2U);  // behind the offer
  ASSERT_EQ(client_.receive_exactly(1), "o");
  ASSERT_EQ(server_.try_send("x").bytes, 1U);  // sees the answer, and unread bytes
  ASSERT_EQ(client_.receive_exactly(2), "xx");
  ASSERT_FALSE(server_.sends_to_ring());
  if (::send(server_.fd(), "!", 1, MSG_OOB) == -1 && errno == EOPNOTSUPP) {
    GTEST_SKIP() << "this kernel has no MSG_OOB on AF_UNIX";
  }
  server_.channel().shutdown(server_.fd(), false, true);  // puts the cut behind it
  ASSERT_TRUE(server_.sends_to_ring());
  EXPECT_TRUE(client_.channel().settle(client_.fd()));
  EXPECT_FALSE(client_.receives_from_ring()) << "the cut is not in front";
  char urgent = 0;
  EXPECT_EQ(::recv(client_.fd(), &urgent, 1, MSG_OOB | MSG_DONTWAIT), 1);
  EXPECT_EQ(urgent, '!');
}

TEST_F(Channels, NoticeIsLeftToWhoSleepsOnTheSocket) {
  for (int i = 0; i < 8; ++i) Pair::ping(server_, client_);
  Pair::ping(client_, server_);
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("x").bytes, 1U);
  ASSERT_TRUE(server_.sends_to_ring());
  EXPECT_FALSE(client_.channel().settle(client_.fd()));
  EXPECT_FALSE(client_.receives_from_ring()) << "the cut has to wake the sleeper first";
  client_.channel().woken();
  EXPECT_TRUE(client_.channel().settle(client_.fd()));
  EXPECT_TRUE(client_.receives_from_ring());
}

TEST_F(Channels, ServerThatOnlyReadsOffersToAClientThatOnlyWrites) {
  for (int i = 0; i < 200 && !server_.receives_from_ring(); ++i) Pair::ping(client_, server_);
  EXPECT_TRUE(client_.sends_to_ring());
  EXPECT_TRUE(server_.receives_from_ring());
  EXPECT_FALSE(server_.sends_to_ring());
  EXPECT_FALSE(client_.receives_from_ring());
}

TEST_F(Channels, OfferAloneWaitsForAnEmptyQueue) {
  ASSERT_EQ(server_.try_send("unread").bytes, 6U);
  for (int i = 0; i < 100; ++i) Pair::ping(client_, server_);
  EXPECT_EQ(phase(server_), Phase::candidate);
  EXPECT_EQ(client_.receive_exactly(6), "unread");
}

TEST_F(Channels, ClientThatIsHeldTwiceRefuses) {
  client_.channel().prepare_fork();
  for (int i = 0; i < 8; ++i) Pair::ping(server_, client_);
  EXPECT_EQ(phase(client_), Phase::retired);
  EXPECT_TRUE(client_.channel().is_plain());
  for (int i = 0; i < 100; ++i) {
    Pair::ping(server_, client_);
    Pair::ping(client_, server_);
  }
  EXPECT_EQ(phase(server_), Phase::retired) << "the server gives up";
  EXPECT_FALSE(server_.sends_to_ring());
  EXPECT_FALSE(server_.receives_from_ring());
}

TEST_F(Channels, ServerThatIsHeldTwiceDoesNotOffer) {
  server_.channel().prepare_fork();
  for (int i = 0; i < 50; ++i) Pair::ping(server_, client_);
  EXPECT_EQ(phase(client_), Phase::candidate);
  server_.channel().undo_fork();
  for (int i = 0; i < 100; ++i) Pair::ping(server_, client_);
  EXPECT_EQ(phase(client_), Phase::established) << "alone again, it does";
}

TEST_F(Channels, OfferIsWithdrawnBeforeAFork) {
  for (int i = 0; i < 7; ++i) Pair::ping(server_, client_);
  ASSERT_EQ(server_.try_send("x").bytes, 1U);
  ASSERT_EQ(phase(server_), Phase::offered);
  server_.channel().prepare_fork();
  EXPECT_EQ(phase(server_), Phase::retired);
  EXPECT_EQ(client_.receive_exactly(1), "x");
  EXPECT_EQ(phase(client_), Phase::retired);
  EXPECT_TRUE(client_.channel().is_plain());
  EXPECT_FALSE(client_.sends_to_ring());
}

TEST_F(Channels, OfferThatWasAcceptedJustBeforeAForkStands) {
  for (int i = 0; i < 8; ++i) Pair::ping(server_, client_);
  ASSERT_EQ(phase(server_), Phase::offered);
  server_.channel().prepare_fork();
  EXPECT_EQ(phase(server_), Phase::established);
  pair_.establish();
}

TEST_F(Channels, RetiredClientDropsTheOffer) {
  client_.channel().retire(client_.fd());
  EXPECT_FALSE(client_.channel().is_plain()) << "an offer may be under way";
  for (int i = 0; i < 20; ++i) Pair::ping(server_, client_);
  EXPECT_TRUE(client_.channel().is_plain());
  EXPECT_FALSE(client_.channel().is_established());
}

TEST_F(Channels, RetiredServerNeverOffers) {
  server_.channel().retire(server_.fd());
  for (int i = 0; i < 20; ++i) Pair::ping(server_, client_);
  EXPECT_EQ(phase(client_), Phase::candidate);
}

TEST_F(Channels, RetiringAfterAnOfferStillEndsInTheKernel) {
  for (int i = 0; i < 8; ++i) Pair::ping(server_, client_);
  ASSERT_TRUE(client_.sends_to_ring());
  ASSERT_EQ(client_.try_send("in the ring").bytes, 11U);
  server_.channel().retire(server_.fd());
  EXPECT_EQ(server_.receive_exactly(11), "in the ring");
  for (int i = 0; i < 3; ++i) {
    Pair::ping(server_, client_);
    Pair::ping(client_, server_);
  }
  EXPECT_FALSE(client_.sends_to_ring());
  EXPECT_TRUE(client_.channel().is_plain());
  EXPECT_TRUE(server_.channel().is_plain());
}

TEST_F(Channels, ForeignDescriptorsStayTheApplications) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  ASSERT_EQ(send_with_descriptor(server_.fd(), pipe_ends[1]), 0);
  char buffer[8];
  iovec part{buffer, sizeof buffer};
  alignas(cmsghdr) char control[kControlRoom];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ASSERT_EQ(::recvmsg(client_.fd(), &message, 0), 1);
  bool notice = true;
  EXPECT_EQ(client_.channel().inspect(client_.fd(), message, 1, Peek::no, &notice), 1U);
  EXPECT_FALSE(notice);
  int received = -1;
  std::memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
  EXPECT_EQ(::write(received, "!", 1), 1);
  ::close(received);
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

TEST_F(Channels, SmallerSegmentThanTheSocketBufferIsRefused) {
  int bytes = 1 << 20;
  ASSERT_EQ(::setsockopt(client_.fd(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
  socklen_t length = sizeof bytes;
  ASSERT_EQ(::getsockopt(client_.fd(), SOL_SOCKET, SO_SNDBUF, &bytes, &length), 0);
  if (bytes <= 256 << 10) GTEST_SKIP() << "the system allows no larger socket buffer";
  for (int i = 0; i < 8; ++i) Pair::ping(server_, client_);
  EXPECT_EQ(phase(client_), Phase::retired);
}

TEST_F(Channels, ClientStopsLookingAfterTheOfferWindow) {
  server_.channel().retire(server_.fd());
  const std::string chunk = stream_bytes(0, 50'000);
  for (int i = 0; i < 170; ++i) {
    ASSERT_TRUE(server_.send_all(chunk));
    ASSERT_EQ(client_.receive_exactly(chunk.size()), chunk);
  }
  EXPECT_TRUE(client_.channel().is_plain());
}

// --- bytes ---

TEST_F(EstablishedChannels, PassBytesWithoutTheSocket) {
  ASSERT_EQ(server_.try_send("hello").bytes, 5U);
  EXPECT_EQ(bytes_in_socket(client_.fd()), 0);
  EXPECT_EQ(client_.receive_exactly(5), "hello");
}

TEST_F(EstablishedChannels, GatherAndScatter) {
  char a[] = "abc";
  char b[] = "defgh";
  const iovec out[] = {{a, 3}, {nullptr, 0}, {b, 5}, {nullptr, 0}};
  ASSERT_EQ(server_.channel().send(server_.fd(), out, 4, 0).bytes, 8U);
  ASSERT_EQ(server_.channel().send(server_.fd(), out, 4, 4).bytes, 4U);
  char first[2];
  char second[7];
  char third[10];
  const iovec parts[] = {{nullptr, 0}, {first, 2}, {second, 7}, {third, 10}};
  const Outcome got = client_.channel().receive(client_.fd(), parts, 4, Peek::no);
  EXPECT_EQ(got.bytes, 12U);
  EXPECT_EQ(std::string(first, 2) + std::string(second, 7) + std::string(third, 3), "abcdefghefgh");
}

TEST_F(EstablishedChannels, ReturnWouldBlockWhenEmpty) {
  char byte = 0;
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::would_block);
  EXPECT_EQ(server_.try_receive(&byte, 1).status, Status::would_block);
}

TEST_F(EstablishedChannels, SendOfNothingIsDone) {
  const Outcome sent = server_.channel().send(server_.fd(), nullptr, 0, 0);
  EXPECT_EQ(sent.status, Status::done);
  EXPECT_EQ(sent.bytes, 0U);
}

TEST_F(EstablishedChannels, PeekLeavesTheBytes) {
  ASSERT_EQ(server_.try_send("hello").bytes, 5U);
  char buffer[8];
  for (int i = 0; i < 3; ++i) {
    const Outcome got = client_.try_receive(buffer, sizeof buffer, Peek::yes);
    EXPECT_EQ(std::string(buffer, got.bytes), "hello");
  }
  EXPECT_EQ(client_.channel().bytes_to_read(), 5U);
  EXPECT_EQ(client_.receive_exactly(5), "hello");
}

TEST_F(EstablishedChannels, PartialReadsContinueWhereTheyStopped) {
  const std::string bytes = stream_bytes(0, 1000);
  ASSERT_TRUE(server_.send_all(bytes));
  std::string buffer(bytes.size(), '\0');
  std::size_t got = 0;
  for (std::size_t size = 1; got < bytes.size(); ++size) {
    const Outcome outcome = client_.try_receive(buffer.data(), size);
    ASSERT_EQ(outcome.status, Status::done);
    ASSERT_TRUE(is_stream(std::string_view(buffer).substr(0, outcome.bytes), got));
    got += outcome.bytes;
  }
  EXPECT_EQ(got, bytes.size());
}

TEST_F(EstablishedChannels, WrapAroundManyTimes) {
  std::uint64_t position = 0;
  Random random(3);
  std::string buffer(200'000, '\0');
  while (position < 3'000'000) {
    const std::size_t size = random.between(1, 200'000);
    ASSERT_EQ(server_.try_send(stream_bytes(position, size)).bytes, size);
    std::size_t got = 0;
    while (got < size) {
      const Outcome outcome = client_.try_receive(buffer.data(), random.between(1, 150'000));
      ASSERT_EQ(outcome.status, Status::done);
      ASSERT_TRUE(is_stream(std::string_view(buffer).substr(0, outcome.bytes), position + got));
      got += outcome.bytes;
    }
    position += size;
  }
}

TEST_F(EstablishedChannels, BadAddressesGiveEfault) {
  ASSERT_EQ(server_.try_send("hello").bytes, 5U);
  const iovec bad{reinterpret_cast<void*>(16), 5};
  const Outcome got = client_.channel().receive(client_.fd(), &bad, 1, Peek::no);
  EXPECT_EQ(got.status, Status::failed);
  EXPECT_EQ(got.error, EFAULT);
  const Outcome sent = client_.channel().send(client_.fd(), &bad, 1, 0);
  EXPECT_EQ(sent.status, Status::failed);
  EXPECT_EQ(sent.error, EFAULT);
  EXPECT_EQ(client_.receive_exactly(5), "hello") << "nothing was consumed";
}

TEST_F(EstablishedChannels, BadAddressBehindGoodOnesSendsNothing) {
  char good[] = "good";
  const iovec parts[] = {{good, 4}, {reinterpret_cast<void*>(16), 5}};
  const Outcome sent = server_.channel().send(server_.fd(), parts, 2, 0);
  EXPECT_EQ(sent.status, Status::failed);
  EXPECT_EQ(sent.error, EFAULT);
  EXPECT_EQ(client_.channel().bytes_to_read(), 0U);
}

TEST_F(EstablishedChannels, BadAddressBehindGoodOnesReceivesNothing) {
  ASSERT_EQ(server_.try_send("hello").bytes, 5U);
  char good[2] = {};
  const iovec parts[] = {{good, 2}, {reinterpret_cast<void*>(16), 3}};
  for (const Peek peek : {Peek::yes, Peek::no}) {
    const Outcome got = client_.channel().receive(client_.fd(), parts, 2, peek);
    EXPECT_EQ(got.status, Status::failed);
    EXPECT_EQ(got.error, EFAULT);
  }
  EXPECT_EQ(client_.channel().bytes_to_read(), 5U);
  EXPECT_EQ(client_.receive_exactly(5), "hello");
}

TEST_F(EstablishedChannels, WhatCameBeforeABadAddressIsTold) {
  const std::string bytes = stream_bytes(0, 100'000);
  ASSERT_EQ(server_.try_send(bytes).bytes, bytes.size());
  std::vector<char> buffer(80'000);
  const iovec parts[] = {{buffer.data(), 80'000}, {reinterpret_cast<void*>(16), 20'000}};
  const Outcome got = client_.channel().receive(client_.fd(), parts, 2, Peek::no);
  ASSERT_EQ(got.status, Status::done);
  ASSERT_GE(got.bytes, 32U << 10U);
  ASSERT_LE(got.bytes, 80'000U);
  EXPECT_EQ(std::string_view(buffer.data(), got.bytes),
            std::string_view(bytes).substr(0, got.bytes));
  EXPECT_EQ(client_.receive_exactly(bytes.size() - got.bytes), bytes.substr(got.bytes));
}

// --- waiting ---

TEST_F(EstablishedChannels, RingTheBellOfASleeperOnly) {
  ASSERT_EQ(server_.try_send("a").bytes, 1U);
  EXPECT_EQ(client_.receive_exactly(1), "a");
  ASSERT_EQ(bytes_in_socket(client_.fd()), 0);
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("b").bytes, 1U);
  ASSERT_EQ(server_.try_send("c").bytes, 1U);
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1) << "one bell for one announcement";
  client_.channel().woken();
  EXPECT_TRUE(client_.look());
  EXPECT_EQ(bytes_in_socket(client_.fd()), 0);
  EXPECT_EQ(client_.receive_exactly(2), "bc");
}

// libc never goes back to saying that there is one thread, though those that earlier tests of this
// process made are gone.
class OneThread {
 public:
  OneThread() {
    while (threads() != 1) ::usleep(100);  // one that was joined is there for a moment
    __libc_single_threaded = 1;
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { __libc_single_threaded = before_; }

 private:
  static long threads() {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  }

  char before_ = __libc_single_threaded;
};

TEST_F(EstablishedChannels, RingNoBellThatWasTakenBack) {
  const OneThread one_thread;
  ASSERT_TRUE(client_.channel().is_exclusive());
  ASSERT_TRUE(client_.channel().arm_data());
  client_.channel().take_back_bells(true, true);
  ASSERT_EQ(server_.try_send("a").bytes, 1U);
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1) << "somebody is asleep: it stays";
  client_.channel().woken();
  EXPECT_TRUE(client_.look());
  EXPECT_EQ(client_.receive_exactly(1), "a");

  ASSERT_TRUE(client_.channel().arm_data());
  client_.channel().woken();
  client_.channel().take_back_bells(true, true);
  ASSERT_EQ(server_.try_send("b").bytes, 1U);
  EXPECT_EQ(bytes_in_socket(client_.fd()), 0);
  EXPECT_EQ(client_.receive_exactly(1), "b");

  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("c").bytes, 1U);
  client_.channel().woken();
  client_.channel().take_back_bells(true, true);
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1) << "it was under way";
}

TEST_F(EstablishedChannels, DoNotArmWhenThereIsData) {
  ASSERT_EQ(server_.try_send("a").bytes, 1U);
  EXPECT_FALSE(client_.channel().arm_data());
  EXPECT_EQ(client_.channel().side().state.sleepers.load(), 0U);
}

TEST_F(EstablishedChannels, LeaveBellsToOtherSleepers) {
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("b").bytes, 1U);
  client_.channel().woken();
  EXPECT_FALSE(client_.look());
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1);
  client_.channel().woken();
  EXPECT_TRUE(client_.look());
  EXPECT_EQ(bytes_in_socket(client_.fd()), 0);
}

TEST_F(EstablishedChannels, TakeBellsFromSleepersThatHadLongEnough) {
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("b").bytes, 1U);
  EXPECT_FALSE(client_.look(Channel::Notices::leave_for_a_while));
  ::usleep(550'000);
  EXPECT_FALSE(client_.look(Channel::Notices::leave_to_sleepers));
  EXPECT_TRUE(client_.look(Channel::Notices::leave_for_a_while));
  EXPECT_EQ(bytes_in_socket(client_.fd()), 0);
}

TEST_F(EstablishedChannels, GiveEverySleeperItsTime) {
  // The bell was left to a first sleeper, who woke and let it lie.
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("b").bytes, 1U);
  EXPECT_FALSE(client_.look(Channel::Notices::leave_for_a_while));
  client_.channel().woken();
  EXPECT_EQ(client_.receive_exactly(1), "b");
  ::usleep(550'000);
  ASSERT_TRUE(client_.channel().arm_data());
  EXPECT_FALSE(client_.look(Channel::Notices::leave_for_a_while));
  // And where it was taken while others, which are dead, are still counted.
  EXPECT_TRUE(client_.look(Channel::Notices::take_all));
  ::usleep(550'000);
  ASSERT_EQ(server_.try_send("c").bytes, 1U);
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1);
  EXPECT_FALSE(client_.look(Channel::Notices::leave_for_a_while));
  client_.channel().woken();
  EXPECT_TRUE(client_.look());
}

TEST_F(EstablishedChannels, FullRingBlocksAndHalfEmptyRings) {
  const std::size_t capacity = server_.channel().view().capacity;
  EXPECT_EQ(fill(server_), capacity);
  EXPECT_EQ(server_.try_send("x").status, Status::would_block);
  ASSERT_TRUE(server_.channel().arm_space());
  std::string buffer(capacity, '\0');
  ASSERT_EQ(client_.try_receive(buffer.data(), capacity / 4).bytes, capacity / 4);
  EXPECT_EQ(bytes_in_socket(server_.fd()), 0) << "more than half is still in use";
  ASSERT_EQ(client_.try_receive(buffer.data(), capacity / 4).bytes, capacity / 4);
  EXPECT_EQ(bytes_in_socket(server_.fd()), 1) << "the bell for space";
  server_.channel().woken();
  EXPECT_TRUE(server_.look());
  EXPECT_EQ(server_.try_send("x").status, Status::done);
}

TEST_F(EstablishedChannels, DoNotArmForSpaceWhenHalfIsFree) {
  const std::size_t capacity = server_.channel().view().capacity;
  ASSERT_TRUE(server_.send_all(stream_bytes(0, capacity / 2)));
  EXPECT_FALSE(server_.channel().arm_space());
  EXPECT_EQ(server_.channel().side().state.sleepers.load(), 0U);
  EXPECT_EQ(drain(client_).size(), capacity / 2);
}

TEST_F(EstablishedChannels, SmallMessageGoesWholeOrNotAtAll) {
  const std::size_t capacity = server_.channel().view().capacity;
  EXPECT_EQ(fill(server_), capacity);
  EXPECT_EQ(client_.receive_exactly(500).size(), 500U);
  EXPECT_EQ(server_.try_send(std::string(1000, 'x')).status, Status::would_block);
  EXPECT_EQ(server_.try_send(std::string(500, 'x')).bytes, 500U);
}

TEST_F(EstablishedChannels, ProducerIsWokenHoweverTheSpaceCame) {
  // Every size of read: the consumer looks for sleepers once per half ring only.
  const std::size_t capacity = server_.channel().view().capacity;
  std::uint64_t position = 0;
  std::string buffer(capacity, '\0');
  for (const std::size_t step : {1000UL, 4096UL, 32768UL, 60'000UL, 131'072UL, 200'000UL}) {
    position += fill(server_, position);
    ASSERT_EQ(server_.channel().bytes_unread(), capacity);
    ASSERT_TRUE(server_.channel().arm_space()) << step;
    while (server_.channel().bytes_unread() > capacity / 2) {
      ASSERT_EQ(bytes_in_socket(server_.fd()), 0) << step;
      ASSERT_EQ(client_.try_receive(buffer.data(), step).bytes, step);
    }
    EXPECT_EQ(bytes_in_socket(server_.fd()), 1) << step;
    server_.channel().woken();
    server_.look();
    drain(client_);
  }
}

TEST_F(Channels, BellForSpaceIsACutWhereTheDirectionIsStillTheKernels) {
  for (int i = 0; i < 200 && !server_.receives_from_ring(); ++i) Pair::ping(client_, server_);
  ASSERT_TRUE(server_.receives_from_ring());
  ASSERT_FALSE(server_.sends_to_ring());
  const std::size_t capacity = server_.channel().view().capacity;
  ASSERT_EQ(client_.try_send(stream_bytes(0, capacity)).bytes, capacity);
  ASSERT_TRUE(client_.channel().arm_space());
  std::string buffer(capacity, '\0');
  ASSERT_EQ(server_.try_receive(buffer.data(), capacity).bytes, capacity);
  EXPECT_TRUE(server_.sends_to_ring());
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1);
  client_.channel().woken();
  char byte = 0;
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::would_block);
  EXPECT_TRUE(client_.receives_from_ring());
}

// --- end of file, reset, shutdown ---

TEST_F(EstablishedChannels, EndOfFileComesAfterTheData) {
  ASSERT_EQ(server_.try_send("last words").bytes, 10U);
  server_.close();
  char buffer[64];
  const Outcome got = client_.receive_some(buffer, sizeof buffer);
  EXPECT_EQ(std::string(buffer, got.bytes), "last words");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(client_.receive_some(buffer, sizeof buffer).status, Status::end_of_file);
  }
}

TEST_F(EstablishedChannels, EndOfFileNeedsNoGoodbye) {
  ASSERT_EQ(server_.try_send("last words").bytes, 10U);
  server_.vanish();
  EXPECT_EQ(client_.receive_exactly(100), "last words");
  char byte = 0;
  EXPECT_EQ(client_.receive_some(&byte, 1).status, Status::end_of_file);
}

TEST_F(EstablishedChannels, ClosedMarkAloneIsNoEndOfFile) {
  // A miscounted holder: the mark is there, the kernel says that somebody still has the socket.
  out(server_).producer.flags.fetch_or(kGone);
  char byte = 0;
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::would_block);
  EXPECT_TRUE(client_.channel().arm_data());
  client_.channel().woken();
  ASSERT_EQ(server_.try_send("x").bytes, 1U);
  EXPECT_EQ(client_.receive_exactly(1), "x");
  out(client_).producer.flags.fetch_or(kGone);
}

TEST_F(EstablishedChannels, ReaderGoneMarkAloneIsNoBrokenPipe) {
  in(client_).data_wait.word.fetch_or(kReaderGone);
  EXPECT_EQ(server_.try_send("x").status, Status::done);
  EXPECT_EQ(client_.receive_exactly(1), "x");
}

TEST_F(EstablishedChannels, BellsLeftUnreadAreNoReset) {
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("x").bytes, 1U);  // rings
  client_.channel().woken();
  char byte = 0;
  iovec part{&byte, 1};
  ASSERT_EQ(client_.channel().receive(client_.fd(), &part, 1, Peek::no).bytes, 1U);
  ASSERT_EQ(bytes_in_socket(client_.fd()), 1);
  client_.close();  // the kernel sets ECONNRESET for the bell
  EXPECT_EQ(server_.receive_some(&byte, 1).status, Status::end_of_file);
}

TEST_F(EstablishedChannels, UnreadDataGiveOneReset) {
  ASSERT_EQ(server_.try_send("never read").bytes, 10U);
  client_.close();
  char byte = 0;
  const Outcome got = server_.receive_some(&byte, 1);
  EXPECT_EQ(got.status, Status::failed);
  EXPECT_EQ(got.error, ECONNRESET);
  EXPECT_EQ(server_.receive_some(&byte, 1).status, Status::end_of_file);
}

TEST_F(EstablishedChannels, DataComeBeforeTheReset) {
  ASSERT_EQ(server_.try_send("never read").bytes, 10U);
  ASSERT_EQ(client_.try_send("bye").bytes, 3U);
  client_.close();
  EXPECT_EQ(server_.receive_exactly(3), "bye");
  char byte = 0;
  EXPECT_EQ(server_.receive_some(&byte, 1).error, ECONNRESET);
}

TEST_F(EstablishedChannels, PendingErrorIsConsumedOnce) {
  ASSERT_EQ(server_.try_send("never read").bytes, 10U);
  EXPECT_EQ(server_.channel().pending_error(false), 0);
  client_.close();
  server_.channel().poll_hang_up(server_.fd());
  EXPECT_EQ(server_.channel().pending_error(false), ECONNRESET);
  EXPECT_EQ(server_.channel().pending_error(true), ECONNRESET);
  EXPECT_EQ(server_.channel().pending_error(true), 0);
  char byte = 0;
  EXPECT_EQ(server_.receive_some(&byte, 1).status, Status::end_of_file);
}

TEST_F(EstablishedChannels, KilledPeerIsNoticedByReadsAndWritesInTurn) {
  for (int i = 0; i < 2; ++i) {  // so that the writer has seen the reader go on
    fill(server_);
    drain(client_);
  }
  // Each call is due for a look at the socket, and none comes long after the other.
  int calls = 0;
  const auto notices = [&] {
    const std::uint64_t start = sys::now_ns();
    while (sys::now_ns() - start < 80'000) {
    }
    char byte = 0;
    const Outcome outcome =
        ++calls % 2 == 0 ? server_.try_send("x") : server_.try_receive(&byte, sizeof byte);
    return outcome.status == Status::failed || outcome.status == Status::end_of_file;
  };
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(notices());
  client_.vanish();
  bool noticed = false;
  for (int i = 0; i < 100 && !noticed; ++i) noticed = notices();
  EXPECT_TRUE(noticed);
}

TEST_F(EstablishedChannels, SendAfterThePeerIsGoneGivesEpipe) {
  client_.close();
  int error = 0;
  // The look at the socket is rate-limited without the peer's mark; with it, it comes at once.
  EXPECT_FALSE(server_.send_all("x", &error));
  EXPECT_EQ(error, EPIPE);
}

TEST_F(EstablishedChannels, SendNoticesAVanishedPeerInTime) {
  client_.vanish();
  int error = 0;
  int sent = 0;
  while (server_.send_all("x", &error)) {
    ASSERT_LT(++sent, 10'000);
    ::usleep(100);
  }
  EXPECT_EQ(error, EPIPE);
}

TEST_F(EstablishedChannels, ShutdownOfWritingEndsTheStreamBehindTheData) {
  ASSERT_EQ(server_.try_send("last").bytes, 4U);
  server_.channel().shutdown(server_.fd(), false, true);
  char buffer[16];
  EXPECT_EQ(client_.try_receive(buffer, sizeof buffer).bytes, 4U);
  EXPECT_EQ(client_.try_receive(buffer, sizeof buffer).status, Status::end_of_file);
  EXPECT_EQ(server_.try_send("x").error, EPIPE);
  // The other direction goes on.
  ASSERT_EQ(client_.try_send("still here").bytes, 10U);
  EXPECT_EQ(server_.receive_exactly(10), "still here");
}

TEST_F(EstablishedChannels, ShutdownOfWritingWakesAReader) {
  ASSERT_TRUE(client_.channel().arm_data());
  server_.channel().shutdown(server_.fd(), false, true);
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1);
  client_.channel().woken();
  EXPECT_FALSE(client_.channel().arm_data());
}

TEST_F(EstablishedChannels, ShutdownOfWritingIsSeenBehindAClosedMark) {
  out(server_).producer.flags.fetch_or(kGone);
  ASSERT_TRUE(client_.channel().arm_data());
  server_.channel().shutdown(server_.fd(), false, true);
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1);
  client_.channel().woken();
  EXPECT_FALSE(client_.channel().arm_data());
}

TEST_F(EstablishedChannels, ShutdownOfReadingGivesThePeerEpipe) {
  ASSERT_EQ(server_.try_send("before").bytes, 6U);
  client_.channel().shutdown(client_.fd(), true, false);
  EXPECT_EQ(server_.try_send("x").error, EPIPE);
  EXPECT_EQ(client_.receive_exactly(6), "before") << "what had arrived can still be read";
  char byte = 0;
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::end_of_file);
  ASSERT_EQ(client_.try_send("other way").bytes, 9U);
  EXPECT_EQ(server_.receive_exactly(9), "other way");
}

TEST_F(EstablishedChannels, ShutdownOfReadingWakesAProducer) {
  fill(server_);
  ASSERT_TRUE(server_.channel().arm_space());
  client_.channel().shutdown(client_.fd(), true, false);
  EXPECT_GT(bytes_in_socket(server_.fd()), 0);
  server_.channel().woken();
  EXPECT_FALSE(server_.channel().arm_space());
  EXPECT_EQ(server_.try_send("x").error, EPIPE);
}

TEST_F(Channels, ShutdownRightAfterTheOfferCutsFirst) {
  for (int i = 0; i < 8; ++i) Pair::ping(server_, client_);
  Pair::ping(client_, server_);
  ASSERT_FALSE(server_.sends_to_ring());
  server_.channel().shutdown(server_.fd(), false, true);
  ASSERT_TRUE(server_.sends_to_ring());
  char byte = 0;
  EXPECT_EQ(client_.receive_some(&byte, 1).status, Status::end_of_file);
}

// --- readiness ---

TEST_F(EstablishedChannels, IdleEndpointIsWritable) { EXPECT_EQ(client_.events(), kWritable); }

TEST_F(EstablishedChannels, DataMakeItReadable) {
  ASSERT_EQ(server_.try_send("x").bytes, 1U);
  EXPECT_EQ(client_.events(), kReadable | kWritable);
  drain(client_);
  EXPECT_EQ(client_.events(), kWritable);
}

TEST_F(EstablishedChannels, BellAloneIsNotReadable) {
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("x").bytes, 1U);
  client_.channel().woken();
  char byte = 0;
  iovec part{&byte, 1};
  ASSERT_EQ(client_.channel().receive(client_.fd(), &part, 1, Peek::no).bytes, 1U);
  ASSERT_EQ(bytes_in_socket(client_.fd()), 1);
  EXPECT_EQ(client_.events(), kWritable);
}

TEST_F(EstablishedChannels, FullRingIsNotWritableUntilHalfIsFree) {
  const std::size_t capacity = server_.channel().view().capacity;
  fill(server_);
  EXPECT_EQ(server_.events(), 0);
  std::string buffer(capacity, '\0');
  client_.try_receive(buffer.data(), capacity / 2 - 1);
  EXPECT_EQ(server_.events(), 0);
  client_.try_receive(buffer.data(), 1);
  EXPECT_EQ(server_.events(), kWritable);
}

TEST_F(EstablishedChannels, PeersEndOfWritingIsReadableAndHalfHungUp) {
  server_.channel().shutdown(server_.fd(), false, true);
  EXPECT_EQ(client_.events(), kReadable | POLLRDHUP | kWritable);
  EXPECT_EQ(server_.events(), kWritable);
}

TEST_F(EstablishedChannels, BothEndsOfWritingHangUp) {
  server_.channel().shutdown(server_.fd(), false, true);
  client_.channel().shutdown(client_.fd(), false, true);
  const int all = kReadable | POLLRDHUP | kWritable | POLLHUP;
  EXPECT_EQ(client_.events(), all);
  EXPECT_EQ(server_.events(), all);
}

TEST_F(EstablishedChannels, OwnEndOfReadingIsReadable) {
  client_.channel().shutdown(client_.fd(), true, false);
  EXPECT_EQ(client_.events(), kReadable | POLLRDHUP | kWritable);
  EXPECT_EQ(server_.events(), kWritable);
}

TEST_F(EstablishedChannels, PeersCloseHangsUp) {
  server_.close();
  EXPECT_EQ(client_.events(), kReadable | POLLRDHUP | kWritable | POLLHUP);
}

TEST_F(EstablishedChannels, ResetIsAnErrorUntilItIsTaken) {
  ASSERT_EQ(server_.try_send("never read").bytes, 10U);
  client_.close();
  const int hung_up = kReadable | POLLRDHUP | kWritable | POLLHUP;
  EXPECT_EQ(server_.events(), hung_up | POLLERR);
  EXPECT_EQ(server_.channel().pending_error(true), ECONNRESET);
  EXPECT_EQ(server_.events(), hung_up);
}

TEST_F(EstablishedChannels, CountBytesOnBothSides) {
  ASSERT_EQ(server_.try_send("12345").bytes, 5U);
  EXPECT_EQ(client_.channel().bytes_to_read(), 5U);
  EXPECT_EQ(server_.channel().bytes_unread(), 5U);
  const std::uint64_t head = client_.channel().head_seen();
  const std::uint64_t tail = server_.channel().tail_seen();
  EXPECT_EQ(client_.receive_exactly(2), "12");
  EXPECT_EQ(client_.channel().bytes_to_read(), 3U);
  EXPECT_EQ(server_.channel().bytes_unread(), 3U);
  EXPECT_EQ(client_.channel().head_seen(), head);
  EXPECT_EQ(server_.channel().tail_seen(), tail + 2);
  ASSERT_EQ(server_.try_send("6").bytes, 1U);
  EXPECT_EQ(client_.channel().head_seen(), head + 1);
  drain(client_);
}

// --- back to the kernel ---

class BackToTheKernel : public EstablishedChannels {
 protected:
  // Both sides use the connection until nothing of ours travels on it.
  void expect_plain() {
    for (int i = 0; i < 4; ++i) {
      Pair::ping(server_, client_);
      Pair::ping(client_, server_);
    }
    EXPECT_TRUE(server_.channel().is_plain());
    EXPECT_TRUE(client_.channel().is_plain());
  }
};

TEST_F(BackToTheKernel, FromTheServer) {
  EXPECT_TRUE(server_.channel().leave_ring(server_.fd()));
  EXPECT_FALSE(server_.sends_to_ring());
  expect_plain();
}

TEST_F(BackToTheKernel, FromTheClient) {
  EXPECT_TRUE(client_.channel().leave_ring(client_.fd()));
  EXPECT_FALSE(client_.sends_to_ring());
  expect_plain();
}

TEST_F(BackToTheKernel, FromBothAtOnce) {
  EXPECT_TRUE(client_.channel().leave_ring(client_.fd()));
  EXPECT_TRUE(server_.channel().leave_ring(server_.fd()));
  expect_plain();
}

TEST_F(BackToTheKernel, TwiceIsOnce) {
  EXPECT_TRUE(client_.channel().leave_ring(client_.fd()));
  EXPECT_TRUE(client_.channel().leave_ring(client_.fd()));
  EXPECT_EQ(bytes_in_socket(server_.fd()), 1);
  expect_plain();
}

TEST_F(BackToTheKernel, WithBytesInBothRingsAndInTheSocket) {
  ASSERT_TRUE(server_.send_all(stream_bytes(0, 5000, 1)));
  ASSERT_TRUE(client_.send_all(stream_bytes(0, 7000, 2)));
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  ASSERT_TRUE(server_.send_all(stream_bytes(5000, 3000, 1)));  // by the kernel, behind the cut
  ASSERT_TRUE(client_.send_all(stream_bytes(7000, 1000, 2)));  // the client follows
  EXPECT_FALSE(client_.sends_to_ring());
  EXPECT_TRUE(is_stream(client_.receive_exactly(8000), 0, 1));
  EXPECT_TRUE(is_stream(server_.receive_exactly(8000), 0, 2));
  expect_plain();
}

TEST_F(BackToTheKernel, WithBellsInFrontOfTheCut) {
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_EQ(server_.try_send("ring").bytes, 4U);
  client_.channel().woken();
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  ASSERT_EQ(server_.try_send("kernel").bytes, 6U);
  EXPECT_EQ(client_.receive_exactly(10), "ringkernel");
  expect_plain();
}

TEST_F(BackToTheKernel, ReadinessBetweenCutAndDataLosesNothing) {
  ASSERT_EQ(server_.try_send("ring").bytes, 4U);
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  ASSERT_EQ(server_.try_send("kernel").bytes, 6U);
  // The first look takes the cut; the others must not take what lies behind it for bells.
  for (int i = 0; i < 3; ++i) EXPECT_NE(client_.events() & POLLIN, 0);
  EXPECT_EQ(client_.receive_exactly(4), "ring");
  for (int i = 0; i < 3; ++i) EXPECT_NE(client_.events() & POLLIN, 0);
  EXPECT_EQ(client_.receive_exactly(6), "kernel");
  expect_plain();
}

TEST_F(BackToTheKernel, LooksBetweenCutAndDataLoseNothing) {
  ASSERT_EQ(server_.try_send("ring").bytes, 4U);
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  ASSERT_EQ(server_.try_send("kernel").bytes, 6U);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(client_.look());
  EXPECT_EQ(client_.receive_exactly(10), "ringkernel");
}

TEST_F(BackToTheKernel, TheCutWakesAReader) {
  ASSERT_TRUE(client_.channel().arm_data());
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  EXPECT_EQ(bytes_in_socket(client_.fd()), 1);
  client_.channel().woken();
  EXPECT_TRUE(client_.look());
  EXPECT_FALSE(client_.receives_from_ring()) << "the ring was empty: it ends here";
}

TEST_F(BackToTheKernel, TheCutWakesABlockedProducer) {
  const std::size_t filled = fill(server_);
  ASSERT_TRUE(server_.channel().arm_space());
  ASSERT_TRUE(client_.channel().leave_ring(client_.fd()));
  EXPECT_EQ(bytes_in_socket(server_.fd()), 1);
  server_.channel().woken();
  server_.look();
  // It follows with all that is unread, which fills the socket as well.
  ASSERT_EQ(server_.try_send(stream_bytes(filled, 1000)).status, Status::would_block);
  EXPECT_FALSE(server_.sends_to_ring());
  EXPECT_TRUE(is_stream(client_.receive_exactly(filled), 0));
  ASSERT_EQ(server_.try_send(stream_bytes(filled, 1000)).bytes, 1000U);
  EXPECT_TRUE(is_stream(client_.receive_exactly(1000), filled));
  expect_plain();
}

TEST_F(BackToTheKernel, WhileAProducerIsBlockedOnItsOwnSide) {
  const std::size_t filled = fill(server_);
  ASSERT_TRUE(server_.channel().arm_space());
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  server_.channel().woken();
  ASSERT_EQ(server_.try_send(stream_bytes(filled, 1000)).status, Status::would_block);
  EXPECT_TRUE(is_stream(client_.receive_exactly(filled), 0));
  EXPECT_NE(bytes_in_socket(server_.fd()), 0) << "the bell for space";
  server_.look();
  ASSERT_EQ(server_.try_send(stream_bytes(filled, 1000)).bytes, 1000U);
  EXPECT_TRUE(is_stream(client_.receive_exactly(1000), filled));
  expect_plain();
}

TEST_F(BackToTheKernel, NonBlockingReaderThatAlsoWritesSeesTheCut) {
  // Never asleep, never in poll: only its own calls can find the cut. The writes must not use up
  // the looks that its reads need.
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  ASSERT_EQ(server_.try_send("kernel").bytes, 6U);
  char buffer[16];
  Outcome got{Status::would_block};
  for (int i = 0; i < 2000 && got.status == Status::would_block; ++i) {
    ::usleep(200);
    ASSERT_EQ(client_.try_send("x").bytes, 1U);
    got = client_.try_receive(buffer, sizeof buffer);
  }
  EXPECT_EQ(got.status, Status::done);
  EXPECT_EQ(std::string(buffer, got.bytes), "kernel");
}

TEST_F(BackToTheKernel, EndOfFileFollowsTheCut) {
  ASSERT_EQ(server_.try_send("ring").bytes, 4U);
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  server_.close();
  EXPECT_EQ(client_.receive_exactly(100), "ring");
  char byte = 0;
  EXPECT_EQ(client_.receive_some(&byte, 1).status, Status::end_of_file);
}

TEST_F(BackToTheKernel, EndOfWritingStaysTheEnd) {
  ASSERT_EQ(server_.try_send("last").bytes, 4U);
  server_.channel().shutdown(server_.fd(), false, true);
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  EXPECT_EQ(client_.receive_exactly(4), "last");
  char byte = 0;
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::end_of_file);
  client_.look();
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::end_of_file);
  ASSERT_EQ(client_.try_send("other way").bytes, 9U);
  EXPECT_EQ(server_.receive_exactly(9), "other way");
}

TEST_F(BackToTheKernel, EndOfReadingStaysTheEnd) {
  client_.channel().shutdown(client_.fd(), true, false);
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  char byte = 0;
  client_.look();
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::end_of_file);
  EXPECT_EQ(server_.try_send("x").error, EPIPE);
}

TEST_F(BackToTheKernel, CutThatIsLeftUnreadIsNoReset) {
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  client_.close();
  char byte = 0;
  EXPECT_EQ(server_.receive_some(&byte, 1).status, Status::end_of_file);
}

TEST_F(BackToTheKernel, DataLeftUnreadBehindTheCutAreAReset) {
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  ASSERT_EQ(server_.try_send("unread").bytes, 6U);
  client_.close();
  char byte = 0;
  const Outcome got = server_.receive_some(&byte, 1);
  EXPECT_EQ(got.status, Status::failed);
  EXPECT_EQ(got.error, ECONNRESET);
}

TEST_F(BackToTheKernel, FullQueueSaysTryAgain) {
  // Bells that nobody drains fill the client's queue; the cut has no room.
  const char bell = '\a';
  while (::send(server_.fd(), &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
  }
  EXPECT_FALSE(server_.channel().leave_ring(server_.fd()));
  EXPECT_TRUE(server_.sends_to_ring());
  client_.look();
  EXPECT_TRUE(server_.channel().leave_ring(server_.fd()));
  expect_plain();
}

TEST_F(BackToTheKernel, WithoutAFreeDescriptor) {
  ASSERT_EQ(server_.try_send("ring").bytes, 4U);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::fcntl(server_.fd(), F_DUPFD_CLOEXEC, 0);
  ASSERT_GE(next, 0);
  ::close(next);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(next);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const bool left = server_.channel().leave_ring(server_.fd());
  const Outcome sent = server_.try_send("kernel");
  std::string got = client_.receive_exactly(10);  // the descriptor can't be received either
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(left);
  EXPECT_EQ(sent.bytes, 6U);
  EXPECT_EQ(got, "ringkernel");
}

TEST_F(BackToTheKernel, ForAWhileAndBackToTheRing) {
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(server_.try_send("ring").bytes, 4U);
    server_.channel().step_aside(server_.fd());
    ASSERT_FALSE(server_.sends_to_ring());
    ASSERT_EQ(server_.try_send("kernel").bytes, 6U);
    ASSERT_EQ(client_.receive_exactly(10), "ringkernel");
    Pair::ping(client_, server_);
    EXPECT_FALSE(client_.sends_to_ring()) << "it follows";
    int calls = 0;
    while (!pair_.is_established() && calls < 1000) {
      Pair::ping(client_, server_);
      Pair::ping(server_, client_);
      ++calls;
    }
    EXPECT_TRUE(pair_.is_established()) << round;
    EXPECT_GT(calls, 8 << round) << "later each time";
  }
  client_.channel().retire(client_.fd());
  for (int i = 0; i < 1000; ++i) {
    Pair::ping(client_, server_);
    Pair::ping(server_, client_);
  }
  EXPECT_TRUE(server_.channel().is_plain()) << "who follows for good gives up too";
  EXPECT_TRUE(client_.channel().is_plain());
}

TEST_F(BackToTheKernel, WhoWasNotFollowedReturnsAlone) {
  // The client never writes, so its direction never leaves the ring.
  std::uint64_t sent = 0;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(server_.sends_to_ring()) << round;
    server_.channel().step_aside(server_.fd());
    for (int i = 0; i < 400; ++i) {
      ASSERT_EQ(server_.try_send(stream_bytes(sent, 100)).bytes, 100U);
      ASSERT_TRUE(is_stream(client_.receive_exactly(100), sent));
      sent += 100;
    }
  }
  Pair::ping(client_, server_);
  EXPECT_TRUE(pair_.is_established());
}

TEST_F(Channels, OneWayTrafficReturnsToTheRingToo) {
  // The client never writes and the server never reads, so neither has a part in the return but to
  // go on.
  for (int i = 0; i < 9; ++i) Pair::ping(server_, client_);
  ASSERT_TRUE(client_.receives_from_ring());
  ASSERT_FALSE(server_.receives_from_ring());
  std::uint64_t sent = 0;
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(server_.sends_to_ring()) << round;
    server_.channel().step_aside(server_.fd());
    for (int i = 0; i < 400; ++i) {
      ASSERT_EQ(server_.try_send(stream_bytes(sent, 100)).bytes, 100U);
      ASSERT_TRUE(is_stream(client_.receive_exactly(100), sent));
      sent += 100;
    }
  }
}

TEST_F(BackToTheKernel, NewHolderFindsNothingButData) {
  // What exec() does to the client: the next program reads and writes the bare socket.
  ASSERT_EQ(server_.try_send("one ").bytes, 4U);
  ASSERT_EQ(server_.try_send("two ").bytes, 4U);
  char byte = 0;
  ASSERT_EQ(client_.try_receive(&byte, 1).bytes, 1U);
  client_.channel().freeze(client_.fd());
  client_.channel().leave_for_good(client_.fd());
  EXPECT_TRUE(client_.channel().is_plain());
  ASSERT_EQ(server_.try_send("three").bytes, 5U);
  char text[64] = {};
  ASSERT_EQ(::recv(client_.fd(), text, sizeof text, MSG_DONTWAIT), 12);
  EXPECT_STREQ(text, "ne two three");
  EXPECT_EQ(::recv(client_.fd(), text, sizeof text, MSG_DONTWAIT), -1);
  ASSERT_EQ(::send(client_.fd(), "answer", 6, 0), 6);
  EXPECT_EQ(server_.receive_exactly(6), "answer");
  EXPECT_TRUE(server_.channel().is_plain());
}

TEST_F(BackToTheKernel, BothEndsInOneProcessToNewHolders) {
  ASSERT_EQ(server_.try_send("to client").bytes, 9U);
  ASSERT_EQ(client_.try_send("to server").bytes, 9U);
  for (Endpoint* end : {&server_, &client_}) end->channel().freeze(end->fd());
  for (Endpoint* end : {&server_, &client_}) end->channel().leave_for_good(end->fd());
  char text[64] = {};
  ASSERT_EQ(::recv(client_.fd(), text, sizeof text, MSG_DONTWAIT), 9);
  EXPECT_STREQ(text, "to client");
  ASSERT_EQ(::recv(server_.fd(), text, sizeof text, MSG_DONTWAIT), 9);
  EXPECT_STREQ(text, "to server");
}

TEST_F(BackToTheKernel, UnderAFileSizeLimitOfNothing) {
  // Sandboxes set RLIMIT_FSIZE to 0: a write to a memfd then raises SIGXFSZ.
  Child child([&] {
    const rlimit none{0, 0};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
    ASSERT_EQ(server_.try_send("ring").bytes, 4U);
    EXPECT_TRUE(server_.channel().leave_ring(server_.fd()));
    EXPECT_EQ(server_.try_send("kernel").bytes, 6U);
    EXPECT_EQ(client_.receive_exactly(10), "ringkernel");
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Channels, UnderAFileSizeLimitOfNothingStayInTheKernel) {
  Child child([] {
    Pair pair;
    for (int i = 0; i < 7; ++i) Pair::ping(pair.server, pair.client);
    ASSERT_EQ(pair.server.try_send("x").bytes, 1U);
    ASSERT_EQ(phase(pair.server), Phase::offered);
    const rlimit none{0, 0};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
    EXPECT_EQ(pair.client.receive_exactly(1), "x");
    for (int i = 0; i < 20; ++i) {
      Pair::ping(pair.server, pair.client);
      Pair::ping(pair.client, pair.server);
    }
    EXPECT_FALSE(pair.server.sends_to_ring());
    EXPECT_FALSE(pair.client.sends_to_ring());
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(BackToTheKernel, MovesWithARandomMomentInEachDirection) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Pair pair;
    pair.establish();
    Endpoint* const ends[2] = {&pair.server, &pair.client};
    std::uint64_t sent[2] = {0, 0};
    std::uint64_t got[2] = {0, 0};
    Random random(seed);
    std::string buffer(40'000, '\0');
    const std::size_t leaver = random.between(0, 1);
    const std::size_t moment = random.between(0, 150);
    for (std::size_t round = 0; round < 300; ++round) {
      if (round == moment) {
        ASSERT_TRUE(ends[leaver]->channel().leave_ring(ends[leaver]->fd()));
      }
      const std::size_t who = random.between(0, 1);
      const std::size_t size = random.between(1, 40'000);
      switch (random.between(0, 2)) {
        case 0: {
          const Outcome outcome = ends[who]->try_send(stream_bytes(sent[who], size, who));
          ASSERT_TRUE(outcome.status == Status::done || outcome.status == Status::would_block);
          sent[who] += outcome.bytes;
          break;
        }
        case 1:
          ends[who]->events();
          break;
        default: {
          const Outcome outcome = ends[1 - who]->try_receive(buffer.data(), size);
          ASSERT_TRUE(outcome.status == Status::done || outcome.status == Status::would_block);
          ASSERT_TRUE(is_stream(std::string_view(buffer).substr(0, outcome.bytes), got[who], who))
              << "seed " << seed;
          got[who] += outcome.bytes;
        }
      }
    }
    for (const std::size_t who : {0U, 1U}) {
      while (got[who] < sent[who]) {
        const Outcome outcome = ends[1 - who]->receive_some(buffer.data(), buffer.size());
        ASSERT_EQ(outcome.status, Status::done);
        ASSERT_TRUE(is_stream(std::string_view(buffer).substr(0, outcome.bytes), got[who], who));
        got[who] += outcome.bytes;
      }
    }
  }
}

// --- processes ---

TEST_F(EstablishedChannels, HoldersAreCountedInTheSegment) {
  const SideLine& line = server_.channel().view().page->side[0];
  EXPECT_EQ(line.holders.load(), 1U);
  server_.channel().prepare_fork();
  EXPECT_EQ(line.holders.load(), 2U);
  server_.channel().undo_fork();
  EXPECT_EQ(line.holders.load(), 1U);
}

TEST_F(EstablishedChannels, CloseInAChildIsNoEnd) {
  server_.channel().prepare_fork();
  Child child([&] {
    char byte = 0;
    EXPECT_EQ(server_.channel().side().holders.load(), 2U);
    EXPECT_EQ(server_.receive_some(&byte, 1).status, Status::done);
    server_.close();
    client_.vanish();
  });
  ASSERT_EQ(client_.try_send("x").bytes, 1U);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(server_.channel().side().holders.load(), 1U);
  Pair::ping(server_, client_);
  Pair::ping(client_, server_);
}

TEST_F(EstablishedChannels, ChildGoesOnWhereTheParentStopped) {
  server_.channel().prepare_fork();
  ASSERT_EQ(client_.try_send("abcdef").bytes, 6U);
  EXPECT_EQ(server_.receive_exactly(3), "abc");
  Child child([&] {
    ::close(client_.fd());
    EXPECT_EQ(server_.receive_exactly(3), "def");
    EXPECT_TRUE(server_.send_all("from the child"));
    server_.close();
  });
  server_.close();
  EXPECT_EQ(client_.receive_exactly(100), "from the child");
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(EstablishedChannels, KilledHolderDelaysTheMarkButNotTheEnd) {
  server_.channel().prepare_fork();
  Child child([&] {
    for (;;) ::pause();
  });
  child.kill();
  child.wait();
  server_.close();
  char byte = 0;
  EXPECT_EQ(client_.receive_some(&byte, 1).status, Status::end_of_file);
}

TEST_F(EstablishedChannels, ManyHandOversMoveBackToTheKernel) {
  server_.channel().prepare_fork();
  for (int i = 0; i < 20; ++i) {
    server_.channel().side().user.store(1);
    server_.channel().note_user(server_.fd());
  }
  EXPECT_FALSE(server_.sends_to_ring());
}

// --- a peer that writes nonsense ---

class HostilePeer : public EstablishedChannels {
 protected:
  void expect_reset(Endpoint& endpoint) {
    char buffer[64];
    const Outcome got = endpoint.try_receive(buffer, sizeof buffer);
    EXPECT_EQ(got.status, Status::failed);
    EXPECT_EQ(got.error, ECONNRESET);
    EXPECT_EQ(endpoint.try_receive(buffer, sizeof buffer).status, Status::end_of_file);
    const Outcome sent = endpoint.try_send("x");
    EXPECT_EQ(sent.status, Status::failed);
    EXPECT_EQ(sent.error, EPIPE);
    EXPECT_NE(endpoint.events() & POLLHUP, 0);
  }
};

TEST_F(HostilePeer, HeadTooFarAhead) {
  in(client_).producer.head.store(client_.channel().view().capacity + 1'000'000);
  expect_reset(client_);
}

TEST_F(HostilePeer, HeadBehindTheTail) {
  ASSERT_EQ(server_.try_send("x").bytes, 1U);
  EXPECT_EQ(client_.receive_exactly(1), "x");
  in(client_).producer.head.fetch_sub(1);
  expect_reset(client_);
}

TEST_F(HostilePeer, EveryHeadIsHarmless) {
  for (const std::uint64_t head : {~std::uint64_t{0}, std::uint64_t{1} << 63U,
                                   std::uint64_t{300'000}, std::uint64_t{1} << 32U}) {
    Pair pair;
    pair.establish();
    Direction& incoming = ChannelTestAccess::in(pair.client.channel());
    incoming.producer.head.store(head);
    std::string buffer(300'000, '\0');
    EXPECT_EQ(pair.client.events() & kReadable, kReadable);
    EXPECT_LE(pair.client.channel().bytes_to_read(), pair.client.channel().view().capacity);
    pair.client.channel().arm_data();
    EXPECT_EQ(pair.client.try_receive(buffer.data(), buffer.size()).error, ECONNRESET);
  }
}

TEST_F(HostilePeer, EveryTailIsHarmless) {
  for (const std::uint64_t tail :
       {~std::uint64_t{0}, std::uint64_t{1} << 63U, std::uint64_t{1} << 40U}) {
    Pair pair;
    pair.establish();
    Endpoint& client = pair.client;
    Direction& outgoing = ChannelTestAccess::out(client.channel());
    // What fits is taken without a look at the tail; then comes the look.
    outgoing.consumer.tail.store(tail);
    const std::string chunk = stream_bytes(0, 100'000);
    Outcome sent{Status::done};
    for (int i = 0; i < 5 && sent.status == Status::done; ++i) sent = client.try_send(chunk);
    // ~0 can't be told from a tail just before the start.
    EXPECT_EQ(sent.status, tail == ~std::uint64_t{0} ? Status::would_block : Status::failed);
    EXPECT_LE(client.channel().bytes_unread(), client.channel().view().capacity);
    client.events();
  }
}

TEST_F(HostilePeer, TailThatRunsBackwardsOnlyBlocks) {
  fill(client_);
  drain(server_);
  ASSERT_EQ(client_.try_send(std::string(200'000, 'x')).bytes, 200'000U);
  out(client_).consumer.tail.store(1);
  const Outcome sent = client_.try_send(std::string(200'000, 'x'));
  EXPECT_NE(sent.status, Status::kernel);
  drain(server_);
}

TEST_F(HostilePeer, HeaderIsNotReadAgain) {
  SegmentHeader& header = client_.channel().view().page->header;
  header.capacity = ~std::uint64_t{0};
  header.size = 0;
  header.magic = 0;
  Pair::ping(server_, client_);
  Pair::ping(client_, server_);
}

TEST_F(HostilePeer, EveryFlagAtOnce) {
  in(client_).producer.flags.store(~0U);
  out(client_).data_wait.word.store(~0U);
  in(client_).space_wait.word.store(~0U);
  char byte = 0;
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::end_of_file);
  EXPECT_EQ(client_.try_send("x").error, EPIPE);
  client_.events();
}

TEST_F(HostilePeer, SecondCutToTheRingIsNoData) {
  ASSERT_EQ(send_token(server_.fd(), TokenKind::to_ring, server_.channel().nonce()), 0);
  char byte = 0;
  client_.look();
  EXPECT_NE(client_.try_receive(&byte, 1).status, Status::done);
}

TEST_F(HostilePeer, BellsWithoutEndEndTheConnection) {
  const std::string bells(60'000, '\a');
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(::send(server_.fd(), bells.data(), bells.size(), MSG_DONTWAIT | MSG_NOSIGNAL),
              60'000);
    client_.look();
    EXPECT_GT(bytes_in_socket(client_.fd()), 0) << "one look does not wait for their end";
    while (bytes_in_socket(client_.fd()) != 0) client_.look();
  }
  expect_reset(client_);
}

TEST_F(HostilePeer, BellsTooManyAreHarmless) {
  const std::string bells(60'000, '\a');
  ASSERT_EQ(::send(server_.fd(), bells.data(), bells.size(), MSG_DONTWAIT | MSG_NOSIGNAL), 60'000);
  while (bytes_in_socket(client_.fd()) != 0) client_.look();
  Pair::ping(server_, client_);
  Pair::ping(client_, server_);
}

// The socket is full of bells that the peer asked for and does not read, so there is no room for a
// cut. What has to go by the kernel has to wait for the socket, however much room the ring has.
TEST_F(HostilePeer, ThatReadsNoBellsIsNotToldOfAsWritable) {
  const int least = 1;
  ASSERT_EQ(::setsockopt(client_.fd(), SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
  Channel& channel = client_.channel();
  Direction& out = ChannelTestAccess::out(channel);
  std::size_t sent = 0;
  for (int i = 0; i < 100; ++i) {
    out.data_wait.word.fetch_or(kWaiting);
    sent += client_.try_send("x").bytes;
  }
  EXPECT_EQ(server_.receive_exactly(sent), std::string(100, 'x'));
  EXPECT_EQ(poll_now(client_.fd(), POLLOUT) & POLLOUT, 0);
  EXPECT_NE(channel.readiness(client_.fd(), 0) & POLLOUT, 0) << "there is room in the ring";
  EXPECT_EQ(channel.before_ancillary_send(client_.fd()), Route::ring);
  channel.step_aside(client_.fd());
  ASSERT_TRUE(client_.sends_to_ring());
  EXPECT_EQ(channel.readiness(client_.fd(), 0) & POLLOUT, 0);
  EXPECT_TRUE(channel.waits_for_socket());
  server_.look();
  EXPECT_NE(channel.readiness(client_.fd(), 0) & POLLOUT, 0);
  channel.step_aside(client_.fd());
  EXPECT_FALSE(client_.sends_to_ring());
}

TEST_F(HostilePeer, ThatReadsNoBellsGetsWhatTheRingCanTake) {
  const int least = 1;
  ASSERT_EQ(::setsockopt(client_.fd(), SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
  Direction& out = ChannelTestAccess::out(client_.channel());
  for (int i = 0; i < 100; ++i) {
    out.data_wait.word.fetch_or(kWaiting);
    ASSERT_EQ(client_.try_send("x").bytes, 1U);
    ASSERT_EQ(server_.receive_exactly(1), "x");
  }
  client_.channel().step_aside(client_.fd());
  ASSERT_TRUE(client_.channel().waits_for_socket());
  ASSERT_EQ(client_.try_send("y").bytes, 1U);
  EXPECT_FALSE(client_.channel().waits_for_socket());
  EXPECT_EQ(server_.receive_exactly(1), "y");
}

TEST_F(Channels, CutWithoutAnOfferIsIgnored) {
  ASSERT_EQ(send_token(server_.fd(), TokenKind::to_ring, server_.channel().nonce()), 0);
  ASSERT_EQ(send_token(server_.fd(), TokenKind::to_kernel, server_.channel().nonce()), 0);
  ASSERT_EQ(send_token(server_.fd(), TokenKind::to_kernel, server_.channel().nonce()), 0);
  ASSERT_EQ(server_.try_send("data").bytes, 4U);
  EXPECT_EQ(client_.receive_exactly(4), "data");
  EXPECT_FALSE(client_.receives_from_ring());
}

TEST_F(Channels, CutsWithoutEndAreDataInTheEnd) {
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(send_token(server_.fd(), TokenKind::to_ring, server_.channel().nonce()), 0) << i;
  }
  EXPECT_TRUE(client_.channel().settle(client_.fd())) << "there is something to read";
  char bytes[256];
  EXPECT_EQ(client_.try_receive(bytes, sizeof bytes).status, Status::done);
  for (int i = 0; i < 3; ++i) {
    // What is left of them.
    while (client_.try_receive(bytes, sizeof bytes).status == Status::done) {
    }
    Pair::ping(server_, client_);
  }
}

TEST_F(HostilePeer, CutsBackAndForthEndTheConnection) {
  for (int i = 0; i < 100; ++i) {
    const TokenKind kind = i % 2 == 0 ? TokenKind::to_kernel : TokenKind::to_ring;
    ASSERT_EQ(send_token(server_.fd(), kind, server_.channel().nonce()), 0) << i;
  }
  in(client_).producer.mode.store(static_cast<std::uint32_t>(Mode::kernel));
  char byte = 0;
  for (int i = 0; i < 3; ++i) {
    const Status got = client_.try_receive(&byte, 1).status;
    if (got != Status::would_block) return;  // it is told something
  }
  ADD_FAILURE() << "all of it was taken in one call";
}

// --- a handler that interrupts its own thread ---

TEST_F(EstablishedChannels, NestedReceiveTakesBytesAndTheOuterPublishes) {
  const std::size_t capacity = server_.channel().view().capacity;
  fill(server_);
  ASSERT_TRUE(server_.channel().arm_space());
  {
    // As if a signal came while this thread was inside the channel.
    LockScope outer(client_.channel().side().receiving.lock, client_.channel().is_exclusive());
    std::string buffer(capacity, '\0');
    iovec part{buffer.data(), capacity};
    const Outcome got = client_.channel().receive(client_.fd(), &part, 1, Peek::no);
    EXPECT_EQ(got.bytes, capacity);
    EXPECT_TRUE(is_stream(buffer, 0));
  }
  // Nothing is left to read, but the producer must learn of the space.
  char byte = 0;
  EXPECT_EQ(client_.try_receive(&byte, 1).status, Status::would_block);
  EXPECT_EQ(server_.channel().bytes_unread(), 0U);
  EXPECT_EQ(bytes_in_socket(server_.fd()), 1);
  server_.channel().woken();
}

TEST_F(EstablishedChannels, NestedSendGoesByTheKernelInOrder) {
  ASSERT_EQ(server_.try_send("ring").bytes, 4U);
  {
    LockScope outer(server_.channel().side().sending.lock, server_.channel().is_exclusive());
    ASSERT_EQ(server_.try_send("kernel").bytes, 6U);
  }
  EXPECT_FALSE(server_.sends_to_ring());
  ASSERT_EQ(server_.try_send("more").bytes, 4U);
  EXPECT_EQ(client_.receive_exactly(14), "ringkernelmore");
}

}  // namespace
}  // namespace tssx::test
