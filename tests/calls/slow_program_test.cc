// The peer hands its end to a program that reads slowly, or not at all for a while, when more is
// unread than a socket of the kernel's takes. To the kernel those bytes are in the peer's queue:
// nobody waits for them, nothing overtakes them, and they arrive.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <string>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"
#include "tests/support/pipe.h"
#include "tests/support/rights.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

constexpr int kConnection = 9;  // numbers that a shell can redirect
constexpr int kOutput = 8;
constexpr int kGate = 7;

constexpr char kToTheEnd[] = "cat <&9 >&8";

// Without the right to make a socket's buffer larger than net.core.wmem_max, as most programs are.
class WithoutNetAdmin {
 public:
  WithoutNetAdmin() {
    if (::syscall(SYS_capget, &header_, before_) != 0) return;
    __user_cap_data_struct after[2] = {before_[0], before_[1]};
    after[0].effective &= ~(1U << CAP_NET_ADMIN);
    EXPECT_EQ(::syscall(SYS_capset, &header_, after), 0);
  }
  WithoutNetAdmin(const WithoutNetAdmin&) = delete;
  WithoutNetAdmin& operator=(const WithoutNetAdmin&) = delete;
  ~WithoutNetAdmin() { ::syscall(SYS_capset, &header_, before_); }

 private:
  __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct before_[2]{};
};

int send_buffer_of(int fd) {
  int bytes = 0;
  socklen_t length = sizeof bytes;
  EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length), 0);
  return bytes;
}

// As much as may be asked for, and where that is possible a little more: then a ring holds twice
// what the socket takes later.
void enlarge(int fd) {
  const int most = 1 << 29;
  EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &most, sizeof most), 0);
  const int more = send_buffer_of(fd) / 2 + (32 << 10);
  if (more <= 8 << 20) {
    static_cast<void>(::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &more, sizeof more));
  }
}

class SlowProgram : public testing::TestWithParam<Situation> {
 protected:
  // The peer leaves its end to `program`, when leave() says so: a shell with the connection as 9,
  // what the test looks at as 8, and as 7 what open_gate() writes to.
  void connect_to(const std::string& program) {
    Listener listener;
    output_ = UniqueFd(::memfd_create("output", MFD_CLOEXEC));
    peer_ = Child([&] {
      left_.read.reset();
      gate_.write.reset();
      leave_.write.reset();
      const bool server = !GetParam().server;
      UniqueFd end = server ? listener.accept() : listener.connect();
      listener.close();
      enlarge(end.get());
      if (GetParam().warm) warm_up_as_follower(end.get());
      EXPECT_EQ(read_exactly(leave_.read.get(), 1), "l");
      become(end.get(), program);
    });
    left_.write.reset();
    leave_.read.reset();
    gate_.read.reset();
    mine_ = GetParam().server ? listener.accept() : listener.connect();
    listener.close();
    enlarge(mine());
    if (!GetParam().warm) return;
    warm_up_as_leader(mine());
    EXPECT_EQ(accelerated_segments() > 0, preloaded());
  }

  // Fills the connection, and returns when the peer has executed its next program.
  void fill_and_leave() {
    sent_ = 0;
    fill_up();
    ASSERT_GT(sent_, 50'000U);
    leave();
  }
  void leave() {
    write_all(leave_.write.get(), "l");
    ASSERT_EQ(read_once(left_.read.get(), 1), "");
  }
  // Each line lets the program go on, which reads one.
  void open_gate(const std::string& line = "x") { write_all(gate_.write.get(), line + "\n"); }

  // More of the pattern, until there is no room. Not while somebody reads.
  void fill_up() { sent_ += fill(mine(), 4096, sent_); }
  // One send(2) of the pattern that does not wait: "sent", or the error's name.
  std::string try_to_send(std::size_t size = 1000) {
    const std::string bytes = pattern(sent_, size);
    const ssize_t sent = ::send(mine(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return ::strerrorname_np(errno);
    sent_ += static_cast<std::size_t>(sent);
    return "sent";
  }

  // What the program wrote to 8 when it has ended: all that was sent, and `rest` after it.
  void expect_all(const std::string& rest = "") {
    gate_.write.reset();
    EXPECT_EQ(peer_.wait(), 0);
    ASSERT_EQ(::lseek(output_.get(), 0, SEEK_SET), 0);
    const std::string got = read_to_end(output_.get());
    ASSERT_EQ(got.size(), sent_ + rest.size());
    EXPECT_TRUE(matches_pattern(std::string_view(got).substr(0, sent_), 0));
    EXPECT_EQ(got.substr(sent_), rest);
  }

  [[nodiscard]] int mine() const { return mine_.get(); }
  UniqueFd mine_;
  std::size_t sent_ = 0;

 private:
  [[noreturn]] void become(int connection, const std::string& program) const {
    connection = ::fcntl(connection, F_DUPFD_CLOEXEC, 50);
    const int output = ::fcntl(output_.get(), F_DUPFD_CLOEXEC, 50);
    const int gate = ::fcntl(gate_.read.get(), F_DUPFD_CLOEXEC, 50);
    const int left = ::fcntl(left_.write.get(), F_DUPFD_CLOEXEC, 50);
    ::dup2(connection, kConnection);
    ::dup2(output, kOutput);
    ::dup2(gate, kGate);
    static_cast<void>(left);  // open until the next program begins
    ::unsetenv("LD_PRELOAD");
    ::execl("/bin/sh", "sh", "-c", program.c_str(), nullptr);
    ::_exit(127);
  }

  UniqueFd output_;
  Pipe leave_;
  Pipe left_;
  Pipe gate_;
  Child peer_;
  WithoutNetAdmin mortal_;
};
INSTANTIATE_TEST_SUITE_P(, SlowProgram, every_situation(), situation_name);

TEST_P(SlowProgram, ThatReadsNothingHoldsUpNoNonblockingSender) {
  connect_to(std::string("read x <&7; ") + kToTheEnd);
  set_nonblocking(mine(), true);
  fill_and_leave();
  const EpollSet level;
  EXPECT_EQ(level.add(mine(), EPOLLOUT, 1), 0);
  EXPECT_EQ(try_to_send(), "EAGAIN");
  EXPECT_EQ(try_to_send(), "EAGAIN");
  EXPECT_EQ(poll_now(mine(), POLLOUT), 0);
  EXPECT_EQ(level.wait(20), Events{});
  open_gate();
  const std::size_t whole = sent_ + 1'000'000;
  while (sent_ < whole) {
    EXPECT_EQ(wait_for(mine(), POLLOUT), POLLOUT);
    ASSERT_EQ(level.look(), (Events{{1, EPOLLOUT}}));
    ASSERT_EQ(try_to_send(100'000), "sent");
  }
  mine_.reset();
  expect_all();
}

TEST_P(SlowProgram, ThatReadsNowAndThenHoldsUpNoNonblockingSender) {
  connect_to(std::string("while read x <&7; do head -c 100000 <&9 >&8; printf r >&9; done; ") +
             kToTheEnd);
  set_nonblocking(mine(), true);
  fill_and_leave();
  EXPECT_EQ(try_to_send(), "EAGAIN");
  for (int i = 0; i < 20; ++i) {
    open_gate();
    EXPECT_EQ(wait_for(mine(), POLLIN), POLLIN);
    EXPECT_EQ(read_available(mine()), "r");
    const short writable = poll_now(mine(), POLLOUT);
    const std::string sent = try_to_send();
    EXPECT_EQ(sent, writable != 0 ? "sent" : sent);
    EXPECT_TRUE(sent == "sent" || sent == "EAGAIN") << sent;
  }
  set_nonblocking(mine(), false);
  ASSERT_EQ(::shutdown(mine(), SHUT_WR), 0);
  expect_all();
  EXPECT_EQ(read_to_end(mine()), "");
}

TEST_P(SlowProgram, TellsAnEdgeTriggeredSenderOfRoom) {
  connect_to(std::string("read x <&7; ") + kToTheEnd);
  set_nonblocking(mine(), true);
  const EpollSet edges;
  EXPECT_EQ(edges.add(mine(), EPOLLIN | EPOLLOUT | EPOLLET, 1), 0);
  fill_and_leave();
  edges.forget();
  EXPECT_EQ(try_to_send(), "EAGAIN");
  EXPECT_EQ(edges.wait(20), Events{});
  open_gate();
  const std::size_t whole = sent_ + 3'000'000;
  while (sent_ < whole) {
    EXPECT_EQ(edges.wait(-1), (Events{{1, EPOLLOUT}}));
    while (sent_ < whole && try_to_send(100'000) == "sent") {
    }
  }
  ASSERT_EQ(::shutdown(mine(), SHUT_WR), 0);
  expect_all();
}

TEST_P(SlowProgram, IsWaitedForByABlockingSender) {
  connect_to(std::string("sleep 2; ") + kToTheEnd);
  fill_and_leave();
  const std::string more = pattern(sent_, 500'000);
  ASSERT_EQ(write_all(mine(), more), more.size());
  sent_ += more.size();
  mine_.reset();
  expect_all();
}

TEST_P(SlowProgram, EndsTheWaitOfASenderAfterItsTimeout) {
  connect_to(std::string("read x <&7; ") + kToTheEnd);
  fill_and_leave();
  const timeval timeout{0, 50'000};
  ASSERT_EQ(::setsockopt(mine(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout), 0);
  const std::string bytes = pattern(sent_, 1000);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(::send(mine(), bytes.data(), bytes.size(), MSG_NOSIGNAL), -1);
    EXPECT_EQ(errno, EAGAIN);
  }
  open_gate();
  const timeval none{};
  ASSERT_EQ(::setsockopt(mine(), SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none), 0);
  ASSERT_EQ(write_all(mine(), bytes), bytes.size());
  sent_ += bytes.size();
  mine_.reset();
  expect_all();
}

TEST_P(SlowProgram, LeavesABlockingSenderToItsSignals) {
  connect_to(std::string("read x <&7; ") + kToTheEnd);
  fill_and_leave();
  {
    const ScopedHandler handler(SIGALRM, count_signal);
    const PeriodicAlarm alarm(30);
    const std::string bytes = pattern(sent_, 1000);
    EXPECT_EQ(::send(mine(), bytes.data(), bytes.size(), MSG_NOSIGNAL), -1);
    EXPECT_EQ(errno, EINTR);
  }
  open_gate();
  mine_.reset();
  expect_all();
}

// The program answers when it has read everything. Nothing more is sent, so whatever waits for the
// answer has to bring it what is still on the way.
class SlowProgramAnswers : public SlowProgram {
 protected:
  void expect_answer(const std::function<void()>& wait) {
    connect_to("read size <&7; head -c $size <&9 >&8; printf answer >&9; cat <&9 >&8");
    sent_ = 0;
    fill_up();
    leave();
    EXPECT_EQ(try_to_send(), "EAGAIN");
    open_gate(std::to_string(sent_));
    wait();
    mine_.reset();
    expect_all();
  }
};
INSTANTIATE_TEST_SUITE_P(, SlowProgramAnswers, every_situation(), situation_name);

TEST_P(SlowProgramAnswers, WhileTheSenderReads) {
  expect_answer([this] { EXPECT_EQ(read_exactly(mine(), 6), "answer"); });
}

TEST_P(SlowProgramAnswers, WhileTheSenderWaitsForAllOfIt) {
  expect_answer([this] {
    char answer[7] = "";
    EXPECT_EQ(::recv(mine(), answer, 6, MSG_WAITALL), 6);
    EXPECT_STREQ(answer, "answer");
  });
}

TEST_P(SlowProgramAnswers, WhileTheSenderPolls) {
  expect_answer([this] {
    set_nonblocking(mine(), true);
    EXPECT_EQ(wait_for(mine(), POLLIN), POLLIN);
    EXPECT_EQ(read_once(mine(), 100), "answer");
  });
}

TEST_P(SlowProgramAnswers, WhileTheSenderSelects) {
  expect_answer([this] {
    // An ID has no place in a set.
    const UniqueFd number(::dup2(mine(), 40));
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(number.get(), &readable);
    EXPECT_EQ(::select(number.get() + 1, &readable, nullptr, nullptr, nullptr), 1);
    EXPECT_EQ(read_once(mine(), 100), "answer");
  });
}

TEST_P(SlowProgramAnswers, WhileTheSenderIsInEpoll) {
  expect_answer([this] {
    const EpollSet set;
    EXPECT_EQ(set.add(mine(), EPOLLIN, 1), 0);
    EXPECT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
    EXPECT_EQ(read_once(mine(), 100), "answer");
  });
}

TEST_P(SlowProgramAnswers, WhileTheSenderIsInEpollSinceBefore) {
  connect_to("read size <&7; head -c $size <&9 >&8; printf answer >&9; cat <&9 >&8");
  const EpollSet set;
  EXPECT_EQ(set.add(mine(), EPOLLIN | EPOLLET, 1), 0);
  sent_ = 0;
  fill_up();
  set.forget();
  leave();
  EXPECT_EQ(set.wait(20), Events{});
  open_gate(std::to_string(sent_));
  EXPECT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 100), "answer");
  mine_.reset();
  expect_all();
}

TEST_P(SlowProgram, GetsItAllFromWhoCloses) {
  connect_to(std::string("sleep 0.2; ") + kToTheEnd);
  fill_and_leave();
  mine_.reset();
  expect_all();
}

TEST_P(SlowProgram, GetsItAllFromWhoHasNoticedAndCloses) {
  connect_to(std::string("sleep 0.2; ") + kToTheEnd);
  fill_and_leave();
  EXPECT_EQ(try_to_send(), "EAGAIN");
  mine_.reset();
  expect_all();
}

TEST_P(SlowProgram, GetsItAllFromWhoPutsAnotherFileInItsPlace) {
  connect_to(std::string("sleep 0.2; ") + kToTheEnd);
  const UniqueFd number(::dup2(mine(), 41));
  fill_and_leave();
  mine_.reset();
  const UniqueFd other(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(::dup2(other.get(), number.get()), number.get());
  expect_all();
}

TEST_P(SlowProgram, FindsTheEndBehindAllOfIt) {
  connect_to(std::string("read x <&7; ") + kToTheEnd + "; printf answer >&9");
  fill_and_leave();
  EXPECT_EQ(try_to_send(), "EAGAIN");
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(try_to_send(), "EPIPE");
  open_gate();
  EXPECT_EQ(read_to_end(mine()), "answer");
  expect_all();
}

TEST_P(SlowProgram, FindsTheEndOfBothDirectionsBehindAllOfIt) {
  connect_to(std::string("read x <&7; ") + kToTheEnd);
  fill_and_leave();
  EXPECT_EQ(try_to_send(), "EAGAIN");
  EXPECT_EQ(::shutdown(mine(), SHUT_RDWR), 0);
  EXPECT_EQ(try_to_send(), "EPIPE");
  EXPECT_EQ(read_once(mine(), 1), "");
  open_gate();
  mine_.reset();
  expect_all();
}

TEST_P(SlowProgram, FindsAMessageWithADescriptorBehindAllOfIt) {
  connect_to(std::string("read x <&7; ") + kToTheEnd);
  fill_and_leave();
  const UniqueFd attached(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(send_with(mine(), "D", {attached.get()}, MSG_DONTWAIT), EAGAIN);
  open_gate();
  EXPECT_EQ(send_with(mine(), "D", {attached.get()}), 0);
  mine_.reset();
  expect_all("D");
}

TEST_P(SlowProgram, ThatEndsBeforeItHasReadAllResetsTheConnection) {
  connect_to("read x <&7");
  fill_and_leave();
  EXPECT_EQ(try_to_send(), "EAGAIN");
  open_gate();
  EXPECT_EQ(wait_for(mine(), POLLIN) & (POLLERR | POLLHUP), POLLERR | POLLHUP);
  EXPECT_EQ(try_to_send(), "EPIPE");
  EXPECT_EQ(read_once(mine(), 1), "<ECONNRESET>");
  EXPECT_EQ(read_once(mine(), 1), "");
}

TEST_P(SlowProgram, ThatEndsWhileTheSenderWaitsResetsTheConnection) {
  connect_to("sleep 0.2");
  fill_and_leave();
  // Without MSG_NOSIGNAL: who slept gets no signal.
  const std::string bytes = pattern(sent_, 1000);
  EXPECT_EQ(::send(mine(), bytes.data(), bytes.size(), 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(read_once(mine(), 1), "");
}

TEST_P(SlowProgram, GetsItAllAfterTheSenderHasBecomeAnotherProgram) {
  connect_to(std::string("sleep 0.3; ") + kToTheEnd);
  fill_and_leave();
  EXPECT_EQ(try_to_send(), "EAGAIN");
  Child echo([this] {
    ::dup2(mine(), STDOUT_FILENO);
    ::execl("/bin/echo", "echo", "-n", "echo", nullptr);
  });
  mine_.reset();
  EXPECT_EQ(echo.wait(), 0);
  expect_all("echo");
}

TEST_P(SlowProgram, GetsItAllThroughAForkedChild) {
  connect_to(std::string("read x <&7; ") + kToTheEnd);
  fill_and_leave();
  EXPECT_EQ(try_to_send(), "EAGAIN");
  Child child([this] {
    EXPECT_EQ(try_to_send(), "EAGAIN");
    open_gate();
    const std::string more = pattern(sent_, 100'000);
    EXPECT_EQ(write_all(mine(), more), more.size());
    mine_.reset();
  });
  mine_.reset();
  EXPECT_EQ(child.wait(), 0);
  sent_ += 100'000;
  expect_all();
}

}  // namespace
}  // namespace tssx_test
