// The same actions after 0, 1, 2, ... messages, so that one of them falls on every stage of a
// connection's move to shared memory: the offer sent, taken, answered, one direction moved, both.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/pattern.h"
#include "tests/support/rights.h"

namespace tssx_test {
namespace {

constexpr std::size_t kStages = 40;
constexpr std::size_t kMessage = 16;

// One message from one end to the other.
void carry(int from, int to, std::size_t i) {
  ASSERT_EQ(write_all(from, pattern(i, kMessage)), kMessage);
  ASSERT_EQ(read_exactly(to, kMessage), pattern(i, kMessage)) << "message " << i;
}

void expect_idle(int fd) {
  EXPECT_EQ(poll_now(fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI), POLLOUT);
  int count = -1;
  EXPECT_EQ(::ioctl(fd, FIONREAD, &count), 0);
  EXPECT_EQ(count, 0);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::recv(fd, &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

// Which end acts.
class Stage : public testing::TestWithParam<bool> {
 protected:
  // A connection after `steps` messages, in turn client to server and back.
  void advance(std::size_t steps) {
    SCOPED_TRACE("after " + std::to_string(steps) + " messages");
    Connection connection = make_connection();
    for (std::size_t i = 0; i < steps; ++i) {
      const bool up = i % 2 == 0;
      carry(up ? connection.client.get() : connection.server.get(),
            up ? connection.server.get() : connection.client.get(), i);
    }
    mine_ = std::move(GetParam() ? connection.server : connection.client);
    peer_ = std::move(GetParam() ? connection.client : connection.server);
  }
  void TearDown() override {
    mine_.reset();
    peer_.reset();
  }
  [[nodiscard]] int mine() const { return mine_.get(); }
  [[nodiscard]] int peer() const { return peer_.get(); }
  UniqueFd mine_;
  UniqueFd peer_;
};
std::string end_name(const testing::TestParamInfo<bool>& server) {
  return server.param ? "Server" : "Client";
}
INSTANTIATE_TEST_SUITE_P(, Stage, testing::Bool(), end_name);

TEST_P(Stage, LooksIdleWhenIdle) {
  const Connection connection = make_connection();
  const EpollSet set;
  ASSERT_EQ(set.add(connection.client.get(), EPOLLIN | EPOLLRDHUP, 1), 0);
  ASSERT_EQ(set.add(connection.server.get(), EPOLLIN | EPOLLRDHUP, 2), 0);
  for (std::size_t i = 0; i < 2 * kStages; ++i) {
    const bool up = (i % 2 == 0) == GetParam();
    carry(up ? connection.client.get() : connection.server.get(),
          up ? connection.server.get() : connection.client.get(), i);
    SCOPED_TRACE("after message " + std::to_string(i));
    expect_idle(connection.client.get());
    expect_idle(connection.server.get());
    EXPECT_EQ(set.look(), Events{});
    ASSERT_FALSE(HasFailure());
  }
}

TEST_P(Stage, CloseDeliversTheLastData) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    ASSERT_EQ(write_all(mine(), "last"), 4U);
    mine_.reset();
    ASSERT_EQ(read_once(peer(), 10), "last") << stage;
    ASSERT_EQ(read_once(peer(), 10), "") << stage;
  }
}

TEST_P(Stage, CloseOfAnIdleConnectionIsEndOfFile) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    mine_.reset();
    ASSERT_EQ(poll_now(peer(), POLLIN | POLLRDHUP), POLLIN | POLLRDHUP | POLLHUP) << stage;
    ASSERT_EQ(read_once(peer(), 10), "") << stage;
  }
}

TEST_P(Stage, CloseWithUnreadDataIsAReset) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    ASSERT_EQ(write_all(peer(), "unread"), 6U);
    mine_.reset();
    ASSERT_EQ(read_once(peer(), 10), "<ECONNRESET>") << stage;
    ASSERT_EQ(read_once(peer(), 10), "") << stage;
  }
}

TEST_P(Stage, ShutdownEndsOneDirectionOnly) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    ASSERT_EQ(write_all(mine(), "last"), 4U);
    ASSERT_EQ(::shutdown(mine(), SHUT_WR), 0);
    ASSERT_EQ(read_once(peer(), 10), "last") << stage;
    ASSERT_EQ(read_once(peer(), 10), "") << stage;
    for (std::size_t i = 0; i < 30; ++i) ASSERT_NO_FATAL_FAILURE(carry(peer(), mine(), i));
    expect_idle(mine());
    ASSERT_FALSE(HasFailure()) << stage;
    peer_.reset();
    ASSERT_EQ(read_once(mine(), 10), "") << stage;
  }
}

TEST_P(Stage, PeekSeesTheNextData) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(write_all(peer(), "peeked"), 6U);
      char bytes[10] = {};
      ASSERT_EQ(::recv(mine(), bytes, sizeof bytes, MSG_PEEK), 6) << stage;
      ASSERT_STREQ(bytes, "peeked") << stage;
      ASSERT_EQ(read_once(mine(), 10), "peeked") << stage;
    }
  }
}

TEST_P(Stage, FillAndDrainKeepTheOrder) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    const std::size_t queued = fill(mine());
    ASSERT_GE(queued, 100000U) << stage;
    const std::string got = read_available(peer());
    ASSERT_EQ(got.size(), queued) << stage;
    ASSERT_TRUE(matches_pattern(got, 0)) << stage;
    ASSERT_NO_FATAL_FAILURE(carry(peer(), mine(), stage));
    ASSERT_NO_FATAL_FAILURE(carry(mine(), peer(), stage));
  }
}

TEST_P(Stage, QueuedMessagesBothWaysKeepTheOrder) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    // Nobody reads until both have written ten messages.
    for (std::size_t i = 0; i < 10; ++i) {
      ASSERT_EQ(write_all(mine(), pattern(i * 100, 100, 1)), 100U);
      ASSERT_EQ(write_all(peer(), pattern(i * 100, 100, 2)), 100U);
    }
    ASSERT_TRUE(matches_pattern(read_exactly(peer(), 1000), 0, 1)) << stage;
    ASSERT_TRUE(matches_pattern(read_exactly(mine(), 1000), 0, 2)) << stage;
    expect_idle(mine());
    expect_idle(peer());
    ASSERT_FALSE(HasFailure()) << stage;
  }
}

TEST_P(Stage, ForkLetsTheChildServe) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    Child child([this] {
      peer_.reset();
      for (int i = 0; i < 30; ++i) {
        ASSERT_EQ(write_all(mine(), read_exactly(mine(), kMessage)), kMessage);
      }
    });
    mine_.reset();
    for (std::size_t i = 0; i < 30; ++i) {
      ASSERT_EQ(write_all(peer(), pattern(i, kMessage)), kMessage);
      ASSERT_EQ(read_exactly(peer(), kMessage), pattern(i, kMessage)) << stage;
    }
    ASSERT_EQ(child.wait(), 0) << stage;
    ASSERT_EQ(read_once(peer(), 10), "") << stage;
  }
}

TEST_P(Stage, ForkLetsParentAndChildTakeTurns) {
  for (std::size_t stage = 0; stage < kStages; stage += 3) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    for (std::size_t i = 0; i < 10; ++i) {
      Child child([&] {
        carry(mine(), peer(), i);
        carry(peer(), mine(), i);
      });
      ASSERT_EQ(child.wait(), 0) << stage;
      ASSERT_NO_FATAL_FAILURE(carry(mine(), peer(), i));
      ASSERT_NO_FATAL_FAILURE(carry(peer(), mine(), i));
    }
  }
}

TEST_P(Stage, ExecedCatEchoes) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    ASSERT_EQ(write_all(peer(), "before "), 7U);
    Child cat([this] {
      ::dup2(mine(), STDIN_FILENO);
      ::dup2(mine(), STDOUT_FILENO);
      ::close(mine());
      ::close(peer());
      ::execl("/bin/cat", "cat", nullptr);
      ::_exit(127);
    });
    mine_.reset();
    ASSERT_EQ(write_all(peer(), "and after"), 9U);
    ASSERT_EQ(read_exactly(peer(), 16), "before and after") << stage;
    ASSERT_EQ(::shutdown(peer(), SHUT_WR), 0);
    ASSERT_EQ(read_once(peer(), 10), "") << stage;
    ASSERT_EQ(cat.wait(), 0);
  }
}

TEST_P(Stage, DescriptorsSentArriveWithTheirBytes) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    ASSERT_EQ(send_with(mine(), "with", {STDERR_FILENO}), 0);
    ASSERT_EQ(write_all(mine(), "after"), 5U);
    const Received got = receive(peer(), 4, 0, CMSG_SPACE(sizeof(int)));
    ASSERT_EQ(got.bytes, "with") << stage;
    ASSERT_EQ(got.flags, 0) << stage;
    ASSERT_EQ(got.descriptors.size(), 1U) << stage;
    ASSERT_EQ(read_exactly(peer(), 5), "after") << stage;
    for (std::size_t i = 0; i < 10; ++i) {
      ASSERT_NO_FATAL_FAILURE(carry(peer(), mine(), i));
      ASSERT_NO_FATAL_FAILURE(carry(mine(), peer(), i));
    }
  }
}

TEST_P(Stage, DuplicatesServeAfterTheOriginalIsClosed) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    mine_.reset(::dup(mine()));
    for (std::size_t i = 0; i < 10; ++i) {
      ASSERT_NO_FATAL_FAILURE(carry(peer(), mine(), i));
      ASSERT_NO_FATAL_FAILURE(carry(mine(), peer(), i));
    }
  }
}

TEST_P(Stage, BlockedReadersAreWoken) {
  for (std::size_t stage = 0; stage < kStages; stage += 3) {
    ASSERT_NO_FATAL_FAILURE(advance(stage));
    std::thread echo([this] {
      for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(write_all(peer(), read_exactly(peer(), kMessage)), kMessage);
      }
    });
    sleep_a_moment();
    for (std::size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(write_all(mine(), pattern(i, kMessage)), kMessage);
      EXPECT_EQ(read_exactly(mine(), kMessage), pattern(i, kMessage));
    }
    echo.join();
  }
}

TEST_P(Stage, KilledPeerLeavesItsDataThenEndOfFile) {
  for (std::size_t stage = 0; stage < kStages; stage += 2) {
    Listener listener;
    Child child([&] {
      const UniqueFd fd = GetParam() ? listener.accept() : listener.connect();
      for (std::size_t i = 0; i < stage; ++i) {
        EXPECT_EQ(write_all(fd.get(), read_exactly(fd.get(), kMessage)), kMessage);
      }
      EXPECT_EQ(write_all(fd.get(), "last words"), 10U);
      ::raise(SIGKILL);
    });
    const UniqueFd fd = GetParam() ? listener.connect() : listener.accept();
    for (std::size_t i = 0; i < stage; ++i) {
      ASSERT_EQ(write_all(fd.get(), pattern(i, kMessage)), kMessage);
      ASSERT_EQ(read_exactly(fd.get(), kMessage), pattern(i, kMessage));
    }
    ASSERT_EQ(child.wait(), 128 + SIGKILL);
    ASSERT_EQ(read_once(fd.get(), 100), "last words") << stage;
    ASSERT_EQ(read_once(fd.get(), 100), "") << stage;
  }
}

// Traffic that goes one way only: an end that never reads or never writes.

class OneWay : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    Connection connection = make_connection();
    writer_ = std::move(GetParam() ? connection.server : connection.client);
    reader_ = std::move(GetParam() ? connection.client : connection.server);
  }
  UniqueFd writer_;
  UniqueFd reader_;
};
INSTANTIATE_TEST_SUITE_P(, OneWay, testing::Bool(), end_name);

TEST_P(OneWay, ArrivesAndEndsWithoutReset) {
  for (std::size_t i = 0; i < 2000; ++i) {
    ASSERT_NO_FATAL_FAILURE(carry(writer_.get(), reader_.get(), i));
  }
  ASSERT_EQ(write_all(writer_.get(), "last"), 4U);
  writer_.reset();
  EXPECT_EQ(read_once(reader_.get(), 10), "last");
  EXPECT_EQ(read_once(reader_.get(), 10), "");
  int error = -1;
  socklen_t length = sizeof error;
  EXPECT_EQ(::getsockopt(reader_.get(), SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, 0);
}

TEST_P(OneWay, LeavesTheWriterNothingToRead) {
  const EpollSet set;
  ASSERT_EQ(set.add(writer_.get(), EPOLLIN | EPOLLRDHUP, 1), 0);
  for (std::size_t i = 0; i < 200; ++i) {
    ASSERT_NO_FATAL_FAILURE(carry(writer_.get(), reader_.get(), i));
    ASSERT_EQ(set.look(), Events{}) << i;
    ASSERT_EQ(poll_now(writer_.get(), POLLIN), 0) << i;
  }
  expect_idle(writer_.get());
  expect_idle(reader_.get());
}

TEST_P(OneWay, LeavesAWriterThatClosesAtAnyPointNoReset) {
  for (std::size_t count = 0; count < kStages; ++count) {
    Connection connection = make_connection();
    UniqueFd& writer = GetParam() ? connection.server : connection.client;
    UniqueFd& reader = GetParam() ? connection.client : connection.server;
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_NO_FATAL_FAILURE(carry(writer.get(), reader.get(), i));
    }
    ASSERT_EQ(write_all(writer.get(), "last"), 4U);
    writer.reset();
    ASSERT_EQ(read_once(reader.get(), 10), "last") << count;
    ASSERT_EQ(read_once(reader.get(), 10), "") << count;
  }
}

TEST_P(OneWay, LeavesAReaderThatClosesAtAnyPointNoReset) {
  for (std::size_t count = 0; count < kStages; ++count) {
    Connection connection = make_connection();
    UniqueFd& writer = GetParam() ? connection.server : connection.client;
    UniqueFd& reader = GetParam() ? connection.client : connection.server;
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_NO_FATAL_FAILURE(carry(writer.get(), reader.get(), i));
    }
    reader.reset();
    ASSERT_EQ(read_once(writer.get(), 10), "") << count;
  }
}

TEST_P(OneWay, MayTurnAround) {
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_NO_FATAL_FAILURE(carry(writer_.get(), reader_.get(), i));
  }
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_NO_FATAL_FAILURE(carry(reader_.get(), writer_.get(), i));
  }
  ASSERT_NO_FATAL_FAILURE(carry(writer_.get(), reader_.get(), 0));
  expect_idle(writer_.get());
  expect_idle(reader_.get());
}

TEST_P(OneWay, GoesToAReaderThatSleeps) {
  std::thread reading([this] {
    const std::string got = read_to_end(reader_.get());
    EXPECT_EQ(got.size(), 50U * kMessage);
  });
  for (std::size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(write_all(writer_.get(), pattern(i, kMessage)), kMessage);
    if (i % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
  writer_.reset();
  reading.join();
}

TEST_P(OneWay, GoesToAReaderWhoIsStopped) {
  // The reader's process is stopped while everything is written.
  Listener listener;
  Child child([&] {
    const UniqueFd fd = GetParam() ? listener.connect() : listener.accept();
    EXPECT_EQ(read_exactly(fd.get(), 1), "g");
    ::raise(SIGSTOP);
    const std::string got = read_to_end(fd.get());
    EXPECT_EQ(got.size(), 100000U);
    EXPECT_TRUE(matches_pattern(got, 0));
  });
  UniqueFd fd = GetParam() ? listener.accept() : listener.connect();
  ASSERT_EQ(write_all(fd.get(), "g"), 1U);
  int status = 0;
  ASSERT_EQ(::waitpid(child.pid(), &status, WUNTRACED), child.pid());
  ASSERT_TRUE(WIFSTOPPED(status));
  for (std::size_t done = 0; done < 100000; done += 5000) {
    ASSERT_EQ(write_all(fd.get(), pattern(done, 5000)), 5000U);
  }
  fd.reset();
  child.kill(SIGCONT);
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
