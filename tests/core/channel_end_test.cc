// Where a ring ends whose producer goes back to the kernel: every byte comes once, by the ring or
// by the socket, whatever the consumer was doing at that moment.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "tests/core/support/endpoint.h"
#include "tests/core/support/stream.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

// Runs a function in the middle of a copy: into memory that can't be written to before.
class Interruption {
 public:
  // What is copied behind `before` bytes of bytes() calls `run`, once.
  Interruption(std::size_t before, std::function<void()> run) : run_(std::move(run)) {
    bytes_ = static_cast<char*>(
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(bytes_, MAP_FAILED);
    EXPECT_EQ(::mprotect(bytes_ + before, kSize - before, PROT_NONE), 0);
    current = this;
    struct sigaction action {};
    action.sa_handler = [](int) { current->interrupt(); };
    action.sa_flags = SA_NODEFER;
    EXPECT_EQ(::sigaction(SIGSEGV, &action, &old_), 0);
  }
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;
  ~Interruption() {
    ::sigaction(SIGSEGV, &old_, nullptr);
    ::munmap(bytes_, kSize);
    EXPECT_EQ(times_, 1);
  }
  [[nodiscard]] char* bytes() const { return bytes_; }

  static constexpr std::size_t kSize = 1U << 20U;

 private:
  void interrupt() {
    if (++times_ > 1) ::_exit(99);  // a real fault
    ::mprotect(bytes_, kSize, PROT_READ | PROT_WRITE);
    run_();
  }

  static Interruption* current;
  std::function<void()> run_;
  char* bytes_ = nullptr;
  struct sigaction old_ {};
  int times_ = 0;
};
Interruption* Interruption::current = nullptr;

class RingEnd : public Watched {
 protected:
  void SetUp() override { pair_.establish(); }
  static Direction& in(Endpoint& endpoint) { return ChannelTestAccess::in(endpoint.channel()); }
  static Direction& out(Endpoint& endpoint) { return ChannelTestAccess::out(endpoint.channel()); }

  static void leave_for_good(Endpoint& endpoint) {
    endpoint.channel().freeze(endpoint.fd());
    endpoint.channel().leave_for_good(endpoint.fd());
  }
  // What a program without the library reads.
  static std::string read_plainly(Endpoint& endpoint) {
    std::string all;
    char buffer[4096];
    for (;;) {
      const ssize_t got = ::recv(endpoint.fd(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (got <= 0) return all;
      all.append(buffer, static_cast<std::size_t>(got));
    }
  }
  static int bytes_in_socket(Endpoint& endpoint) {
    int bytes = 0;
    EXPECT_EQ(::ioctl(endpoint.fd(), FIONREAD, &bytes), 0);
    return bytes;
  }

  Pair pair_;
  Endpoint& server_ = pair_.server;
  Endpoint& client_ = pair_.client;
};

TEST_F(RingEnd, WhatIsUnreadComesBehindTheCut) {
  ASSERT_EQ(server_.try_send("unread").bytes, 6U);
  ASSERT_EQ(client_.receive_exactly(2), "un");
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  EXPECT_EQ(bytes_in_socket(client_), 1 + 4);
  EXPECT_EQ(client_.channel().bytes_waiting(client_.fd()), 4U);
  EXPECT_EQ(client_.receive_exactly(4), "read");
  EXPECT_FALSE(client_.receives_from_ring());
}

TEST_F(RingEnd, OfBothOneAfterTheOther) {
  ASSERT_EQ(server_.try_send("to the client").bytes, 13U);
  ASSERT_EQ(client_.try_send("to the server").bytes, 13U);
  leave_for_good(server_);
  leave_for_good(client_);
  EXPECT_EQ(read_plainly(client_), "to the client");
  EXPECT_EQ(read_plainly(server_), "to the server");
}

TEST_F(RingEnd, OfOneAndTheFreezeOfTheOtherInBetween) {
  ASSERT_EQ(server_.try_send("to the client").bytes, 13U);
  ASSERT_EQ(client_.try_send("to the server").bytes, 13U);
  server_.channel().freeze(server_.fd());
  client_.channel().freeze(client_.fd());
  client_.channel().leave_for_good(client_.fd());
  server_.channel().leave_for_good(server_.fd());
  EXPECT_EQ(read_plainly(client_), "to the client");
  EXPECT_EQ(read_plainly(server_), "to the server");
}

TEST_F(RingEnd, AsideLeavesNothingBehindEither) {
  ASSERT_EQ(server_.try_send("ring ").bytes, 5U);
  server_.channel().step_aside(server_.fd());
  ASSERT_EQ(server_.try_send("kernel").bytes, 6U);
  leave_for_good(client_);
  EXPECT_EQ(read_plainly(client_), "ring kernel");
}

TEST_F(RingEnd, LeavesAFullRing) {
  std::string sent;
  for (Outcome outcome{Status::done}; outcome.status == Status::done; sent.resize(sent.size())) {
    const std::string chunk = stream_bytes(sent.size(), 10'000);
    outcome = server_.try_send(chunk);
    sent += chunk.substr(0, outcome.bytes);
  }
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  leave_for_good(client_);
  EXPECT_TRUE(read_plainly(client_) == sent);
}

TEST_F(RingEnd, FollowerThatRetiredTakesTheMessagesOfTheOther) {
  // The server has neither read the client's cut to the ring, nor the one back.
  Pair pair;
  for (int i = 0; i < 9 && !pair.client.sends_to_ring(); ++i) Pair::ping(pair.server, pair.client);
  ASSERT_TRUE(pair.client.sends_to_ring());
  Pair::ping(pair.server, pair.client);
  ASSERT_TRUE(pair.server.sends_to_ring());
  ASSERT_FALSE(pair.server.receives_from_ring());
  ASSERT_TRUE(pair.client.channel().leave_ring(pair.client.fd()));
  ASSERT_EQ(pair.server.try_send("last").bytes, 4U);
  ASSERT_EQ(bytes_in_socket(pair.server), 2);
  leave_for_good(pair.server);
  EXPECT_EQ(bytes_in_socket(pair.server), 0);
  EXPECT_EQ(pair.client.receive_exactly(4), "last");
}

TEST_F(RingEnd, InTheMiddleOfACopyTakesItBack) {
  ASSERT_EQ(server_.try_send("taken back").bytes, 10U);
  Outcome got{Status::failed};
  {
    const Interruption copy(0, [&] { server_.channel().leave_ring(server_.fd()); });
    got = client_.try_receive(copy.bytes(), 6);
    ASSERT_EQ(got.bytes, 6U);
    EXPECT_EQ(std::string(copy.bytes(), 6), "taken ");
  }
  EXPECT_FALSE(client_.receives_from_ring());
  EXPECT_EQ(client_.receive_exactly(4), "back");
  EXPECT_EQ(bytes_in_socket(client_), 0);
}

TEST_F(RingEnd, InTheMiddleOfACopyBeforeTheReaderLeaves) {
  ASSERT_EQ(server_.try_send("taken back").bytes, 10U);
  const Interruption copy(0, [&] {
    leave_for_good(server_);
    ASSERT_EQ(::send(server_.fd(), ", and more", 10, 0), 10);
  });
  ASSERT_EQ(client_.try_receive(copy.bytes(), 6).bytes, 6U);
  EXPECT_EQ(std::string(copy.bytes(), 6), "taken ");
  leave_for_good(client_);
  EXPECT_EQ(read_plainly(client_), "back, and more");
}

TEST_F(RingEnd, BetweenTwoStepsKeepsTheFirst) {
  constexpr std::size_t kFirst = 32U << 10U;
  const std::string sent = stream_bytes(0, 50'000);
  ASSERT_TRUE(server_.send_all(sent));
  const Interruption copy(kFirst, [&] { server_.channel().leave_ring(server_.fd()); });
  const Outcome got = client_.try_receive(copy.bytes(), 50'000);
  ASSERT_EQ(got.bytes, kFirst);
  EXPECT_TRUE(is_stream(std::string_view(copy.bytes(), kFirst), 0));
  EXPECT_TRUE(is_stream(client_.receive_exactly(50'000 - kFirst), kFirst));
  EXPECT_EQ(bytes_in_socket(client_), 0);
}

TEST_F(RingEnd, BehindAHandlersReadKeepsBoth) {
  // The handler's bytes are with the application: the interrupted read can't be taken back either.
  ASSERT_EQ(server_.try_send("outer inner rest").bytes, 16U);
  std::string inner(6, '\0');
  const Interruption copy(0, [&] {
    ASSERT_EQ(client_.try_receive(inner.data(), 6).bytes, 6U);
    server_.channel().leave_ring(server_.fd());
  });
  ASSERT_EQ(client_.try_receive(copy.bytes(), 6).bytes, 6U);
  EXPECT_EQ(std::string(copy.bytes(), 6), "outer ");
  EXPECT_EQ(inner, "inner ");
  EXPECT_EQ(client_.receive_exactly(4), "rest");
  EXPECT_EQ(bytes_in_socket(client_), 0);
}

TEST_F(RingEnd, BeforeAHandlersReadGivesItTheFirstBytes) {
  // As if the interrupted read had not begun.
  ASSERT_EQ(server_.try_send("first second").bytes, 12U);
  std::string inner(6, '\0');
  const Interruption copy(0, [&] {
    server_.channel().leave_ring(server_.fd());
    ASSERT_EQ(client_.try_receive(inner.data(), 6).bytes, 6U);
  });
  ASSERT_EQ(client_.try_receive(copy.bytes(), 6).bytes, 6U);
  EXPECT_EQ(inner, "first ");
  EXPECT_EQ(std::string(copy.bytes(), 6), "second");
  EXPECT_EQ(bytes_in_socket(client_), 0);
}

TEST_F(RingEnd, OfAReaderThatDiedGivesItsBytesToTheNext) {
  ASSERT_EQ(server_.try_send("claimed, not read").bytes, 17U);
  client_.channel().side().receiving.tail.fetch_add(7);
  ASSERT_TRUE(server_.channel().leave_ring(server_.fd()));
  EXPECT_EQ(client_.receive_exactly(17), "claimed, not read");
}

TEST_F(RingEnd, PeekAtItSeesTheSameBytes) {
  ASSERT_EQ(server_.try_send("peeked at").bytes, 9U);
  const Interruption copy(0, [&] { server_.channel().leave_ring(server_.fd()); });
  ASSERT_EQ(client_.try_receive(copy.bytes(), 6, Peek::yes).bytes, 6U);
  EXPECT_EQ(std::string(copy.bytes(), 6), "peeked");
  EXPECT_EQ(client_.receive_exactly(9), "peeked at");
}

TEST_F(RingEnd, ThatFoundNoRoomIsNone) {
  const char bell = '\a';
  while (::send(server_.fd(), &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
  }
  ASSERT_FALSE(server_.channel().leave_ring(server_.fd()));
  ASSERT_EQ(server_.try_send("in the ring").bytes, 11U);
  ASSERT_TRUE(server_.sends_to_ring());
  EXPECT_EQ(in(client_).consumer.end.load() & kEndCut, 0U) << "no cut is coming";
  EXPECT_EQ(client_.receive_exactly(11), "in the ring");
}

TEST_F(RingEnd, IsAwaitedByAReaderThatDoesNotWait) {
  // The peer has decided where the ring ends, and lost its processor; then it found no room.
  ASSERT_EQ(server_.try_send("on its way").bytes, 10U);
  Direction& direction = in(client_);
  direction.producer.asks.store(kEnding);
  direction.consumer.end.store(end_word(direction.consumer.tail.load(), kEndCut));
  std::thread peer([&] {
    ::usleep(5'000);
    direction.consumer.end.fetch_and(~kEndCut);
  });
  char buffer[16];
  const Outcome got = client_.try_receive(buffer, sizeof buffer);
  peer.join();
  EXPECT_EQ(std::string(buffer, got.bytes), "on its way");
}

TEST_F(RingEnd, ThatNeverComesHoldsUpFewReads) {
  // A peer that says so for ever. At 50 ms for each read the test would be ended.
  ASSERT_EQ(server_.try_send("on its way").bytes, 10U);
  Direction& direction = in(client_);
  direction.producer.asks.store(kEnding);
  direction.consumer.end.store(end_word(direction.consumer.tail.load(), kEndCut));
  char buffer[16];
  for (int i = 0; i < 2'000; ++i) ASSERT_EQ(client_.try_receive(buffer, sizeof buffer).bytes, 0U);
  direction.consumer.end.fetch_and(~kEndCut);
  EXPECT_EQ(client_.try_receive(buffer, sizeof buffer).bytes, 10U);
}

TEST_F(RingEnd, OfAPeerThatDiedBeforeItsCutIsNone) {
  ASSERT_EQ(server_.try_send("in the ring").bytes, 11U);
  Direction& direction = in(client_);
  direction.producer.asks.store(kEnding);
  direction.consumer.end.store(end_word(direction.consumer.tail.load(), kEndCut));
  server_.vanish();
  char buffer[16];
  const Outcome got = client_.try_receive(buffer, sizeof buffer);
  EXPECT_EQ(std::string(buffer, got.bytes), "in the ring");
  EXPECT_EQ(client_.try_receive(buffer, sizeof buffer).status, Status::end_of_file);
}

TEST_F(RingEnd, ReturnsToTheRingWhenItsCutWasRead) {
  // The client reads nothing for a long time. Were the server's direction in the ring again before
  // it has read the cut, it would take what comes there for what came before it.
  server_.channel().step_aside(server_.fd());
  std::string sent;
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(server_.try_send("k").bytes, 1U);
    Pair::ping(client_, server_);
    sent += 'k';
  }
  for (int i = 0; i < 40; ++i) Pair::ping(client_, server_);
  // Wakes for space are the reason to return even so.
  std::string all;
  for (int i = 0; i < 30; ++i) {
    client_.try_send(std::string(30'000, 'c'));
    client_.channel().arm_space();
    server_.receive_exactly(0);
    char buffer[60'000];
    server_.try_receive(buffer, sizeof buffer);
    client_.channel().woken();
    if (server_.try_send("r").bytes == 1) sent += 'r';
  }
  EXPECT_EQ(client_.receive_exactly(sent.size()), sent);
}

TEST_F(RingEnd, WhileAThreadReads) {
  Random random(7);
  for (int round = 0; round < 20; ++round) {
    Pair pair;
    pair.establish();
    const std::size_t before = random.between(1, 150'000);
    const std::size_t behind = random.between(0, 3'000);
    const std::size_t own = random.between(0, before + behind);
    const std::size_t largest = random.between(1, 50'000);
    std::thread writer([&] {
      pair.server.send_all(stream_bytes(0, before));
      leave_for_good(pair.server);
      const std::string rest = stream_bytes(before, behind);
      for (std::size_t at = 0; at < rest.size();) {
        const ssize_t sent = ::send(pair.server.fd(), rest.data() + at, rest.size() - at, 0);
        ASSERT_GT(sent, 0);
        at += static_cast<std::size_t>(sent);
      }
      ::shutdown(pair.server.fd(), SHUT_WR);
    });
    std::string got;
    std::string buffer(largest, '\0');
    while (got.size() < own) {
      const Outcome outcome =
          pair.client.receive_some(buffer.data(), std::min(buffer.size(), own - got.size()));
      ASSERT_EQ(outcome.status, Status::done);
      got.append(buffer.data(), outcome.bytes);
    }
    leave_for_good(pair.client);
    for (char bytes[4096];;) {
      const ssize_t more = ::recv(pair.client.fd(), bytes, sizeof bytes, 0);
      if (more <= 0) break;
      got.append(bytes, static_cast<std::size_t>(more));
    }
    writer.join();
    ASSERT_EQ(got.size(), before + behind) << round;
    ASSERT_TRUE(is_stream(got, 0)) << round;
  }
}

// --- a peer that writes what it likes ---

TEST_F(RingEnd, OfAHostileProducerIsHarmless) {
  for (const std::uint64_t position :
       {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{1'000'000}, ~std::uint64_t{0} >> 3U}) {
    for (const std::uint64_t bits : {std::uint64_t{0}, kEndCut, kEndFrozen, kEndCut | kEndCalled}) {
      Pair pair;
      pair.establish();
      ASSERT_EQ(pair.server.try_send("whatever").bytes, 8U);
      Direction& direction = in(pair.client);
      direction.producer.asks.store(kEnding);
      direction.consumer.end.store(end_word(position, bits));
      std::string buffer(1'000, '\0');
      for (int i = 0; i < 3; ++i) {
        EXPECT_LE(pair.client.try_receive(buffer.data(), buffer.size()).bytes, 1'000U);
        pair.client.events();
      }
      EXPECT_LE(pair.client.channel().bytes_to_read(), pair.client.channel().view().capacity);
      leave_for_good(pair.client);
    }
  }
}

TEST_F(RingEnd, OfAHostileConsumerIsHarmless) {
  constexpr std::uint64_t kNonsense[] = {0, 3, 1'000'000, ~std::uint64_t{0} >> 3U,
                                         ~std::uint64_t{0}};
  for (const std::uint64_t tail : kNonsense) {
    for (const std::uint64_t position : kNonsense) {
      Pair pair;
      pair.establish();
      ASSERT_EQ(pair.server.try_send("whatever").bytes, 8U);
      Direction& direction = out(pair.server);
      direction.consumer.tail.store(tail);
      direction.consumer.claim.store(position);
      direction.consumer.end.store(end_word(position, 0));
      EXPECT_TRUE(pair.server.channel().leave_ring(pair.server.fd()));
      EXPECT_FALSE(pair.server.sends_to_ring());
      EXPECT_LE(bytes_in_socket(pair.client), 1 + 1'000);
    }
  }
}

}  // namespace
}  // namespace tssx::test
