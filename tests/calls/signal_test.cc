// Signals and cancellation: calls that are interrupted, resumed, jumped out of, and handlers that
// use connections themselves.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"
#include "tests/support/rights.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

constexpr int kPeriod = 30;  // milliseconds

void set_timeout(int fd, int option, int seconds) {
  const timeval timeout{seconds, 0};
  ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, option, &timeout, sizeof timeout), 0);
}

class Interrupted : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Interrupted, every_situation(), situation_name);

TEST_P(Interrupted, ReadFailsWithEintr) {
  const ScopedHandler handler(SIGALRM, count_signal);
  const PeriodicAlarm alarm(kPeriod);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::read(mine(), &byte, 1), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_GE(signals_seen, 1);
}

TEST_P(Interrupted, EveryReadingCallFailsWithEintr) {
  const ScopedHandler handler(SIGALRM, count_signal);
  const PeriodicAlarm alarm(kPeriod);
  char byte = 0;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  errno = 0;
  EXPECT_EQ(::readv(mine(), &part, 1), -1);
  EXPECT_EQ(errno, EINTR);
  errno = 0;
  EXPECT_EQ(::recv(mine(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, EINTR);
  errno = 0;
  EXPECT_EQ(::recv(mine(), &byte, 1, MSG_PEEK), -1);
  EXPECT_EQ(errno, EINTR);
  errno = 0;
  EXPECT_EQ(::recvmsg(mine(), &message, 0), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST_P(Interrupted, ReadWithATimeoutFailsEvenWithRestart) {
  set_timeout(mine(), SO_RCVTIMEO, 15);
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  const PeriodicAlarm alarm(kPeriod);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::read(mine(), &byte, 1), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST_P(Interrupted, WaitallReturnsItsPart) {
  const ScopedHandler handler(SIGALRM, count_signal);
  ASSERT_EQ(write_all(peer(), "part"), 4U);
  const PeriodicAlarm alarm(kPeriod);
  char bytes[10];
  EXPECT_EQ(::recv(mine(), bytes, 10, MSG_WAITALL), 4);
  EXPECT_GE(signals_seen, 1);
}

TEST_P(Interrupted, WaitallReturnsItsPartEvenWithRestart) {
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  ASSERT_EQ(write_all(peer(), "part"), 4U);
  const PeriodicAlarm alarm(kPeriod);
  char bytes[10];
  EXPECT_EQ(::recv(mine(), bytes, 10, MSG_WAITALL), 4);
}

TEST_P(Interrupted, WriteFailsWithEintrWhenFull) {
  const ScopedHandler handler(SIGALRM, count_signal);
  const std::size_t queued = fill(mine());
  {
    const PeriodicAlarm alarm(kPeriod);
    errno = 0;
    EXPECT_EQ(::write(mine(), "x", 1), -1);
    EXPECT_EQ(errno, EINTR);
  }
  EXPECT_TRUE(matches_pattern(read_available(peer()), 0));
  EXPECT_GE(queued, 100000U);
}

TEST_P(Interrupted, BigWriteReturnsItsPart) {
  for (const int flags : {0, static_cast<int>(SA_RESTART)}) {
    const ScopedHandler handler(SIGALRM, count_signal, flags);
    const std::string bytes = pattern(0, 8U << 20U);
    ssize_t sent = 0;
    {
      const PeriodicAlarm alarm(kPeriod);
      sent = ::write(mine(), bytes.data(), bytes.size());
    }
    ASSERT_GE(sent, 100000);
    ASSERT_LT(sent, static_cast<ssize_t>(bytes.size()));
    const std::string got = read_available(peer());
    EXPECT_EQ(got.size(), static_cast<std::size_t>(sent));
    EXPECT_TRUE(matches_pattern(got, 0));
  }
}

TEST_P(Interrupted, WriteWithATimeoutFailsEvenWithRestart) {
  set_timeout(mine(), SO_SNDTIMEO, 15);
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  fill(mine());
  const PeriodicAlarm alarm(kPeriod);
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST_P(Interrupted, PollFailsEvenWithRestart) {
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  const PeriodicAlarm alarm(kPeriod);
  pollfd entry{mine(), POLLIN, 0};
  errno = 0;
  EXPECT_EQ(::poll(&entry, 1, -1), -1);
  EXPECT_EQ(errno, EINTR);
  errno = 0;
  EXPECT_EQ(::poll(&entry, 1, 15000), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST_P(Interrupted, CallThatNeedNotWaitIsNotDisturbed) {
  const ScopedHandler handler(SIGALRM, count_signal);
  const PeriodicAlarm alarm(1);
  for (std::size_t i = 0; i < 3000; ++i) {
    ASSERT_EQ(::write(peer(), pattern(i, 8).data(), 8), 8);
    char bytes[8];
    ASSERT_EQ(::read(mine(), bytes, 8), 8);
    ASSERT_EQ(std::string_view(bytes, 8), pattern(i, 8));
  }
}

class Resumed : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, Resumed, every_situation(), situation_name);

void sleep_for(int milliseconds) {
  for (int i = 0; i < milliseconds; i += 30) sleep_a_moment();
}

TEST_P(Resumed, ReadGoesOnAfterASignalWithRestart) {
  ForkedConnection connection = connect_to([](int fd) {
    sleep_for(150);
    EXPECT_EQ(write_all(fd, "late"), 4U);
  });
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  char bytes[10] = {};
  {
    const PeriodicAlarm alarm(40);
    EXPECT_EQ(::read(connection.mine.get(), bytes, 10), 4);
  }
  EXPECT_STREQ(bytes, "late");
  EXPECT_GE(signals_seen, 1);
}

TEST_P(Resumed, WriteGoesOnAfterASignalWithRestart) {
  ForkedConnection connection = connect_to([](int fd) {
    sleep_for(150);
    std::size_t got = 0;
    while (const std::size_t n = read_once(fd, 100000).size()) got += n;
    EXPECT_GT(got, 100000U);
  });
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  fill(connection.mine.get());
  {
    const PeriodicAlarm alarm(40);
    EXPECT_EQ(::write(connection.mine.get(), "x", 1), 1);
  }
  EXPECT_GE(signals_seen, 1);
  connection.mine.reset();
  EXPECT_EQ(connection.peer.wait(), 0);
}

// A thread beside, that no signal is for.
class IdleThread {
 public:
  IdleThread() {
    const ScopedBlock block(SIGALRM);
    thread_ = std::thread([this] { EXPECT_EQ(read_once(pipe_[0], 1), ""); });
  }
  IdleThread(const IdleThread&) = delete;
  IdleThread& operator=(const IdleThread&) = delete;
  ~IdleThread() {
    ::close(pipe_[1]);
    thread_.join();
    ::close(pipe_[0]);
  }

 private:
  int pipe_[2] = {-1, -1};
  int made_ = ::pipe2(pipe_, O_CLOEXEC);
  std::thread thread_;
};

TEST_P(Resumed, ReadGoesOnBesideOtherThreads) {
  ForkedConnection connection = connect_to([](int fd) {
    sleep_for(300);
    EXPECT_EQ(write_all(fd, "late"), 4U);
  });
  const IdleThread idle;
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  char bytes[10] = {};
  {
    const PeriodicAlarm alarm(1);
    EXPECT_EQ(::read(connection.mine.get(), bytes, 10), 4);
  }
  EXPECT_STREQ(bytes, "late");
  EXPECT_GE(signals_seen, 1);
}

TEST_P(Resumed, WriteGoesOnBesideOtherThreads) {
  ForkedConnection connection = connect_to([](int fd) {
    sleep_for(300);
    std::size_t got = 0;
    while (const std::size_t n = read_once(fd, 100000).size()) got += n;
    EXPECT_GT(got, 100000U);
  });
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  fill(connection.mine.get());
  {
    const IdleThread idle;
    const PeriodicAlarm alarm(1);
    EXPECT_EQ(::write(connection.mine.get(), "x", 1), 1);
  }
  EXPECT_GE(signals_seen, 1);
  connection.mine.reset();
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(Resumed, PeerThatIsStoppedAndContinuedLosesNothing) {
  ForkedConnection connection = connect_to([](int fd) {
    for (int i = 0; i < 200; ++i) {
      EXPECT_EQ(write_all(fd, read_exactly(fd, 1000)), 1000U);
    }
  });
  const int fd = connection.mine.get();
  for (std::size_t i = 0; i < 200; ++i) {
    if (i % 50 == 10) connection.peer.kill(SIGSTOP);
    ASSERT_EQ(write_all(fd, pattern(i, 1000)), 1000U);
    if (i % 50 == 10) {
      sleep_a_moment();
      connection.peer.kill(SIGCONT);
    }
    ASSERT_TRUE(matches_pattern(read_exactly(fd, 1000), i));
  }
  EXPECT_EQ(connection.peer.wait(), 0);
}

// Handlers that use connections. What they need is in globals, as in real programs.

volatile int handlers_fd = -1;
volatile sig_atomic_t handlers_writes = 0;

void write_in_handler(int /*signal*/) {
  const int saved = errno;
  if (::send(handlers_fd, "h", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
    handlers_writes = handlers_writes + 1;
  }
  errno = saved;
}

void read_in_handler(int /*signal*/) {
  const int saved = errno;
  char byte = 0;
  if (::recv(handlers_fd, &byte, 1, MSG_DONTWAIT) == 1 && byte == 'r') {
    handlers_writes = handlers_writes + 1;
  }
  errno = saved;
}

class Handler : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, Handler, every_situation(), situation_name);

TEST_P(Handler, MayWriteToTheConnectionItInterrupted) {
  ForkedConnection connection = connect_to([](int fd) {
    EXPECT_EQ(read_exactly(fd, 2), "hh");
    EXPECT_EQ(write_all(fd, "seen"), 4U);
    read_to_end(fd);
  });
  handlers_fd = connection.mine.get();
  const ScopedHandler handler(SIGALRM, write_in_handler, SA_RESTART);
  {
    const PeriodicAlarm alarm(30);
    EXPECT_EQ(read_exactly(connection.mine.get(), 4), "seen");
  }
  connection.mine.reset();
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(Handler, MayReadFromTheConnectionItInterrupted) {
  ForkedConnection connection = connect_to([](int fd) {
    sleep_for(90);
    EXPECT_EQ(write_all(fd, "data"), 4U);
    read_to_end(fd);
  });
  // The handler finds nothing, but must do no harm to the read that it sits on.
  handlers_fd = connection.mine.get();
  handlers_writes = 0;
  const ScopedHandler handler(SIGALRM, read_in_handler, SA_RESTART);
  {
    const PeriodicAlarm alarm(20);
    const std::string first = read_exactly(connection.mine.get(), 1);
    EXPECT_EQ(first.size(), 1U);
  }
  connection.mine.reset();
}

TEST_P(Handler, MayWriteBetweenTheWritesItInterrupts) {
  static constexpr std::size_t kWrites = 5000;
  static constexpr std::size_t kSize = 7;
  ForkedConnection connection = connect_to([](int fd) {
    const std::string all = read_to_end(fd);
    const auto handlers = std::count(all.begin(), all.end(), 'h');
    EXPECT_EQ(all.size() - static_cast<std::size_t>(handlers), kWrites * kSize);
    // No write was torn by one of the handler's.
    std::size_t run = 0;
    for (const char byte : all) {
      if (byte == 'h') {
        EXPECT_EQ(run % kSize, 0U);
      } else {
        ++run;
      }
    }
    EXPECT_EQ(write_all(fd, std::to_string(handlers) + "\n"), std::to_string(handlers).size() + 1);
  });
  const int fd = connection.mine.get();
  handlers_fd = fd;
  handlers_writes = 0;
  const ScopedHandler handler(SIGALRM, write_in_handler, SA_RESTART);
  {
    const PeriodicAlarm alarm(1);
    for (std::size_t i = 0; i < kWrites || handlers_writes < 5; ++i) {
      if (i < kWrites) {
        ASSERT_EQ(::write(fd, "abcdefg", kSize), static_cast<ssize_t>(kSize));
      }
    }
  }
  EXPECT_EQ(::shutdown(fd, SHUT_WR), 0);
  EXPECT_EQ(read_to_end(fd), std::to_string(handlers_writes) + "\n");
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(Handler, MayUseAnotherConnectionThanTheOneItInterrupted) {
  const Connection other = make_connection();
  if (GetParam().warm) warm_up(other.client.get(), other.server.get());
  ForkedConnection connection = connect_to([](int fd) {
    for (int i = 0; i < 2000; ++i) EXPECT_EQ(write_all(fd, read_exactly(fd, 10)), 10U);
  });
  handlers_fd = other.client.get();
  handlers_writes = 0;
  const ScopedHandler handler(SIGALRM, write_in_handler, SA_RESTART);
  {
    const PeriodicAlarm alarm(1);
    for (std::size_t i = 0; i < 2000; ++i) {
      ASSERT_EQ(write_all(connection.mine.get(), pattern(i, 10)), 10U);
      ASSERT_EQ(read_exactly(connection.mine.get(), 10), pattern(i, 10));
    }
  }
  const std::size_t expected = static_cast<std::size_t>(handlers_writes);
  EXPECT_EQ(read_exactly(other.server.get(), expected), std::string(expected, 'h'));
  EXPECT_EQ(connection.peer.wait(), 0);
}

// A handler that lets the connection move while the read that it interrupted is in the kernel,
// which goes on with that read afterwards.

int handlers_pipe[2] = {-1, -1};  // to the peer

void set_alarm(int milliseconds) {
  const itimerval timer{{0, 0}, {0, milliseconds * 1000L}};
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

char read_one_in_handler() {
  char byte = 0;
  while (::recv(handlers_fd, &byte, 1, MSG_DONTWAIT) != 1) {
  }
  return byte;
}

void talk_in_handler(int /*signal*/) {
  const int saved = errno;
  for (int i = 0; i < 200; ++i) {
    if (::send(handlers_fd, "q", 1, MSG_NOSIGNAL) != 1 || read_one_in_handler() != 'a') return;
  }
  handlers_writes = 1;
  errno = saved;
}

TEST_P(Handler, MayLetTheConnectionMoveToTheRingUnderABlockedRead) {
  ForkedConnection connection = connect_to([](int fd) {
    for (int i = 0; i < 200; ++i) {
      ASSERT_EQ(read_exactly(fd, 1), "q");
      ASSERT_EQ(write_all(fd, "a"), 1U);
    }
    sleep_for(90);
    EXPECT_EQ(write_all(fd, "rest"), 4U);
    EXPECT_EQ(read_exactly(fd, 4), "done");
  });
  handlers_fd = connection.mine.get();
  handlers_writes = 0;
  const ScopedHandler handler(SIGALRM, talk_in_handler, SA_RESTART);
  set_alarm(kPeriod);
  EXPECT_EQ(read_exactly(connection.mine.get(), 4), "rest");
  EXPECT_EQ(handlers_writes, 1);
  EXPECT_EQ(write_all(connection.mine.get(), "done"), 4U);
  EXPECT_EQ(connection.peer.wait(), 0);
}

void take_first_in_handler(int /*signal*/) {
  const int saved = errno;
  char byte = 'g';
  if (::write(handlers_pipe[1], &byte, 1) == 1) handlers_writes = read_one_in_handler();
  sleep_a_moment();  // meanwhile the rest comes
  errno = saved;
}

TEST_P(Handler, MayTakeTheFirstByteOfWhatABlockedReadWaitsFor) {
  // With the descriptor the connection goes to where the kernel moves its bytes.
  ASSERT_EQ(::pipe2(handlers_pipe, O_CLOEXEC), 0);
  const UniqueFd reading(handlers_pipe[0]);
  const UniqueFd writing(handlers_pipe[1]);
  ForkedConnection connection = connect_to([&](int fd) {
    ASSERT_EQ(read_exactly(reading.get(), 1), "g");
    EXPECT_EQ(send_with(fd, "x", {0}), 0);
    EXPECT_EQ(write_all(fd, "rest"), 4U);
    EXPECT_EQ(read_exactly(fd, 4), "done");
  });
  handlers_fd = connection.mine.get();
  handlers_writes = 0;
  const ScopedHandler handler(SIGALRM, take_first_in_handler, SA_RESTART);
  set_alarm(kPeriod);
  EXPECT_EQ(read_exactly(connection.mine.get(), 4), "rest");
  EXPECT_EQ(handlers_writes, 'x');
  EXPECT_EQ(write_all(connection.mine.get(), "done"), 4U);
  EXPECT_EQ(connection.peer.wait(), 0);
}

// Jumping out of a blocked call.

sigjmp_buf jump_target;

void jump(int /*signal*/) { ::siglongjmp(jump_target, 1); }

// Starts `call`, which blocks, and leaves it by siglongjmp(). Nothing in the frames between has a
// destructor.
template <typename Call>
void jump_out_of(const Call& call) {
  const ScopedHandler handler(SIGALRM, jump);
  if (::sigsetjmp(jump_target, 1) == 0) {
    set_alarm(kPeriod);
    call();
    set_alarm(0);
    ADD_FAILURE() << "the call returned";
  }
}

class Jump : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Jump, every_situation(), situation_name);

TEST_P(Jump, OutOfABlockedReadLeavesTheConnectionUsable) {
  for (int i = 0; i < 5; ++i) {
    char byte = 0;
    jump_out_of([&] { [[maybe_unused]] const ssize_t n = ::read(mine(), &byte, 1); });
    EXPECT_EQ(write_all(peer(), "there"), 5U);
    EXPECT_EQ(read_once(mine(), 10), "there");
    EXPECT_EQ(write_all(mine(), "back"), 4U);
    EXPECT_EQ(read_once(peer(), 10), "back");
  }
}

TEST_P(Jump, OutOfABlockedWriteLeavesTheConnectionUsable) {
  const std::size_t queued = fill(mine());
  jump_out_of([&] { [[maybe_unused]] const ssize_t n = ::write(mine(), "x", 1); });
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), queued), 0));
  warm_up(mine(), peer());
  warm_up(peer(), mine());
}

TEST_P(Jump, OutOfABlockedPollLeavesTheConnectionUsable) {
  for (int i = 0; i < 3; ++i) {
    pollfd entry{mine(), POLLIN, 0};
    jump_out_of([&] { ::poll(&entry, 1, -1); });
    EXPECT_EQ(poll_now(mine(), POLLIN), 0);
    EXPECT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_EQ(wait_for(mine(), POLLIN), POLLIN);
    EXPECT_EQ(read_once(mine(), 10), "x");
  }
}

TEST_P(Jump, OutOfABlockedEpollWaitLeavesTheSetUsable) {
  const EpollSet set;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, 1), 0);
  for (int i = 0; i < 3; ++i) {
    epoll_event event{};
    jump_out_of([&] { ::epoll_wait(set.fd(), &event, 1, -1); });
    EXPECT_EQ(set.look(), Events{});
    EXPECT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
    EXPECT_EQ(read_once(mine(), 10), "x");
  }
}

// Cancellation: every blocking call is a point where a thread can end.

class Cancelled : public ConnectionTest {
 protected:
  // Runs `call` in a thread, cancels it there, and reports whether that is how it ended.
  template <typename Call>
  bool cancels(Call call) {
    pthread_t thread{};
    const auto run = [](void* argument) -> void* {
      (*static_cast<Call*>(argument))();
      return nullptr;
    };
    if (::pthread_create(&thread, nullptr, run, &call) != 0) return false;
    sleep_a_moment();
    ::pthread_cancel(thread);
    void* result = nullptr;
    ::pthread_join(thread, &result);
    return result == PTHREAD_CANCELED;
  }
};
INSTANTIATE_TEST_SUITE_P(, Cancelled, every_situation(), situation_name);

TEST_P(Cancelled, ReadLeavesTheConnectionUsable) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(cancels([this] {
      char byte = 0;
      [[maybe_unused]] const ssize_t n = ::read(mine(), &byte, 1);
    }));
    EXPECT_EQ(write_all(peer(), "there"), 5U);
    EXPECT_EQ(read_once(mine(), 10), "there");
  }
  warm_up(mine(), peer());
}

TEST_P(Cancelled, EveryReadingCallLeavesTheConnectionUsable) {
  static char byte;
  static iovec part{&byte, 1};
  static msghdr message;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  EXPECT_TRUE(cancels([this] { ::readv(mine(), &part, 1); }));
  EXPECT_TRUE(cancels([this] { ::recv(mine(), &byte, 1, 0); }));
  EXPECT_TRUE(cancels([this] { ::recvfrom(mine(), &byte, 1, 0, nullptr, nullptr); }));
  EXPECT_TRUE(
      cancels([this] { [[maybe_unused]] const ssize_t n = ::recvmsg(mine(), &message, 0); }));
  warm_up(mine(), peer());
}

TEST_P(Cancelled, WriteLeavesTheConnectionUsable) {
  const std::size_t queued = fill(mine());
  EXPECT_TRUE(cancels([this] { [[maybe_unused]] const ssize_t n = ::write(mine(), "x", 1); }));
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), queued), 0));
  warm_up(mine(), peer());
}

TEST_P(Cancelled, PollAndEpollLeaveTheConnectionUsable) {
  const EpollSet set;
  ASSERT_EQ(set.add(mine(), EPOLLIN, 1), 0);
  EXPECT_TRUE(cancels([this] {
    pollfd entry{mine(), POLLIN, 0};
    ::poll(&entry, 1, -1);
  }));
  EXPECT_TRUE(cancels([&] {
    epoll_event event{};
    ::epoll_wait(set.fd(), &event, 1, -1);
  }));
  EXPECT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(wait_for(mine(), POLLIN), POLLIN);
  EXPECT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
  EXPECT_EQ(read_once(mine(), 10), "x");
}

TEST_P(Cancelled, BeforeTheCallTakesNoData) {
  EXPECT_EQ(write_all(peer(), "kept"), 4U);
  EXPECT_TRUE(cancels([this] {
    ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    for (int i = 0; i < 3; ++i) sleep_a_moment();  // the request comes now
    ::pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
    char bytes[10];
    [[maybe_unused]] const ssize_t n = ::read(mine(), bytes, 10);
  }));
  EXPECT_EQ(read_once(mine(), 10), "kept");
}

TEST_P(Cancelled, BeforeTheCallSendsNoData) {
  EXPECT_TRUE(cancels([this] {
    ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    for (int i = 0; i < 3; ++i) sleep_a_moment();
    ::pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
    [[maybe_unused]] const ssize_t n = ::write(mine(), "not sent", 8);
  }));
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(Cancelled, ButDisabledReads) {
  std::string got;
  EXPECT_FALSE(cancels([&] {
    ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    for (int i = 0; i < 3; ++i) sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "read"), 4U);
    got = read_once(mine(), 10);
  }));
  EXPECT_EQ(got, "read");
}

}  // namespace
}  // namespace tssx_test
