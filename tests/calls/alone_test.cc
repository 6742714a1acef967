// A client beside a server without the library: whatever becomes of its end, the server must not
// see a byte that nobody wrote. The server's end is used by raw system calls alone, as by a program
// that has no library.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/rights.h"

namespace tssx_test {
namespace {

class UnawareServer : public testing::Test {
 protected:
  void SetUp() override {
    client_ = listener_.connect();
    server_ = static_cast<int>(::syscall(SYS_accept4, listener_.fd(), nullptr, nullptr, 0));
    ASSERT_GE(server_, 0);
    ASSERT_EQ(::fcntl(client_.get(), F_SETFD, 0), 0);
  }
  void TearDown() override { ::syscall(SYS_close, server_); }

  // Some traffic, so that the client has been a candidate for a while.
  void talk(int times) {
    for (int i = 0; i < times; ++i) {
      char byte = 0;
      ASSERT_EQ(write_all(client_.get(), "a"), 1U);
      ASSERT_EQ(::syscall(SYS_read, server_, &byte, 1), 1);
      ASSERT_EQ(::syscall(SYS_write, server_, "b", 1), 1);
      ASSERT_EQ(read_exactly(client_.get(), 1), "b");
    }
  }
  // All that comes until the end.
  std::string rest() {
    std::string all;
    char buffer[4096];
    for (;;) {
      const long got = ::syscall(SYS_read, server_, buffer, sizeof buffer);
      if (got <= 0) return all + (got == 0 ? "" : "<error>");
      all.append(buffer, static_cast<std::size_t>(got));
    }
  }

  Listener listener_;
  UniqueFd client_;
  int server_ = -1;
};

TEST_F(UnawareServer, SeesNothingOfAClientThatBecomesAProgram) {
  for (const int times : {0, 1, 30}) {
    talk(times);
    ASSERT_EQ(write_all(client_.get(), "before "), 7U);
    Child child([this] {
      ::dup2(client_.get(), STDOUT_FILENO);
      ::execl("/bin/echo", "echo", "after", nullptr);
    });
    EXPECT_EQ(child.wait(), 0);
    char text[14] = {};
    std::size_t got = 0;
    while (got < 13) {
      const long more = ::syscall(SYS_read, server_, text + got, 13 - got);
      ASSERT_GT(more, 0);
      got += static_cast<std::size_t>(more);
    }
    EXPECT_STREQ(text, "before after\n") << times;
  }
  client_.reset();
  EXPECT_EQ(rest(), "");
}

TEST_F(UnawareServer, SeesNothingOfAShellThatTheClientStarts) {
  ASSERT_EQ(::dup2(client_.get(), 9), 9);
  client_.reset();
  EXPECT_EQ(std::system("printf one >&9"), 0);
  ASSERT_EQ(write_all(9, " two"), 4U);
  ::close(9);
  EXPECT_EQ(rest(), "one two");
}

TEST_F(UnawareServer, SeesNothingOfAClientThatIsPassedOn) {
  talk(3);
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const UniqueFd near(pair[0]);
  const UniqueFd far(pair[1]);
  ASSERT_EQ(send_with(near.get(), "x", {client_.get()}), 0);
  client_.reset();
  {
    const Received got = receive(far.get(), 1);
    ASSERT_EQ(got.descriptors.size(), 1U);
    ASSERT_EQ(write_all(got.descriptors[0].get(), "from the next"), 13U);
  }
  EXPECT_EQ(rest(), "from the next");
}

TEST_F(UnawareServer, SeesNothingOfAClientThatTalksForLong) {
  talk(500);
  ASSERT_EQ(write_all(client_.get(), "end"), 3U);
  client_.reset();
  EXPECT_EQ(rest(), "end");
}

// The client's program changes while the server, which has the library, goes on.
TEST(LeftToAnotherProgram, FindsNoOfferOfAServerThatGoesOn) {
  Listener listener;
  Child client([&] {
    UniqueFd fd = listener.connect();
    ASSERT_EQ(::fcntl(fd.get(), F_SETFD, 0), 0);
    ASSERT_EQ(write_all(fd.get(), "x"), 1U);
    ASSERT_EQ(read_exactly(fd.get(), 1), "y");
    ::dup2(fd.get(), STDIN_FILENO);
    ::dup2(fd.get(), STDOUT_FILENO);
    fd.reset();
    ::unsetenv("LD_PRELOAD");
    ::execl("/bin/cat", "cat", nullptr);
  });
  const UniqueFd server = listener.accept();
  ASSERT_EQ(read_exactly(server.get(), 1), "x");
  ASSERT_EQ(write_all(server.get(), "y"), 1U);
  for (int i = 0; i < 200; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    ASSERT_EQ(write_all(server.get(), line), line.size());
    ASSERT_EQ(read_exactly(server.get(), line.size()), line);
  }
  EXPECT_EQ(::shutdown(server.get(), SHUT_WR), 0);
  EXPECT_EQ(read_to_end(server.get()), "");
  EXPECT_EQ(client.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
