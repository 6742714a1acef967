// fcntl() flags and ioctl() requests.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

class Fcntl : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Fcntl, every_situation(), situation_name);

TEST_P(Fcntl, TellsReadAndWriteAndNothingElse) {
  EXPECT_EQ(::fcntl(mine(), F_GETFL), O_RDWR);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), 0);
}

TEST_P(Fcntl, MakesReadsNonblockingAndBlockingAgain) {
  set_nonblocking(mine(), true);
  EXPECT_EQ(::fcntl(mine(), F_GETFL), O_RDWR | O_NONBLOCK);
  EXPECT_EQ(read_once(mine(), 10), "<EAGAIN>");
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(read_once(mine(), 10), "x");
  set_nonblocking(mine(), false);
  EXPECT_EQ(::fcntl(mine(), F_GETFL), O_RDWR);
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "y"), 1U);
  });
  EXPECT_EQ(read_once(mine(), 10), "y");
  writer.join();
}

TEST_P(Fcntl, NonblockingIsSeenHoweverItWasSet) {
  const auto found = [this] {
    const std::string got = read_once(mine(), 10);
    EXPECT_EQ(read_once(mine(), 10), got) << "and the second time";
    return got;
  };
  set_nonblocking(mine(), true);
  EXPECT_EQ(found(), "<EAGAIN>");
  int on = 0;
  ASSERT_EQ(::ioctl(mine(), FIONBIO, &on), 0);
  for (int way = 0; way < 3; ++way) {
    // A read that waits has found out that it is to wait.
    std::thread writer([this] {
      sleep_a_moment();
      EXPECT_EQ(write_all(peer(), "y"), 1U);
    });
    EXPECT_EQ(read_once(mine(), 10), "y");
    writer.join();
    on = 1;
    switch (way) {
      case 0:
        ASSERT_EQ(::ioctl(mine(), FIONBIO, &on), 0);
        break;
      case 1:
        if (mine() < 0) {
          set_nonblocking(mine(), true);  // syscall() does not know IDs
          break;
        }
        ASSERT_EQ(::syscall(SYS_fcntl, mine(), F_SETFL, O_RDWR | O_NONBLOCK), 0);
        break;
      default:
        // Flags are of the description, which the child of a fork shares.
        Child child([this] { set_nonblocking(mine(), true); });
        ASSERT_EQ(child.wait(), 0);
    }
    EXPECT_EQ(found(), "<EAGAIN>") << way;
    set_nonblocking(mine(), false);
  }
}

TEST_P(Fcntl, OfOneEndIsNotThatOfTheOther) {
  set_nonblocking(mine(), true);
  EXPECT_EQ(::fcntl(peer(), F_GETFL), O_RDWR);
}

TEST_P(Fcntl, NonblockingWritesFillThenWouldBlock) {
  set_nonblocking(mine(), true);
  std::size_t taken = 0;
  for (;;) {
    const std::string bytes = pattern(taken, 10000);
    const ssize_t n = ::write(mine(), bytes.data(), bytes.size());
    if (n == -1) break;
    ASSERT_GT(n, 0);
    taken += static_cast<std::size_t>(n);
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(taken, 100000U);
  const std::string got = read_exactly(peer(), taken);
  EXPECT_EQ(got.size(), taken);
  EXPECT_TRUE(matches_pattern(got, 0));
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  EXPECT_EQ(write_all(mine(), "again"), 5U);
  EXPECT_EQ(read_once(peer(), 10), "again");
}

TEST_P(Fcntl, FillsAndDrainsAgainAndAgain) {
  std::size_t position = 0;
  for (int i = 0; i < 5; ++i) {
    const std::size_t taken = fill(mine(), 3000, position);
    ASSERT_GE(taken, 100000U);
    const std::string got = read_available(peer());
    ASSERT_EQ(got.size(), taken);
    ASSERT_TRUE(matches_pattern(got, position));
    position += taken;
  }
}

TEST_P(Fcntl, SmallWritesFillSooner) {
  // The kernel accounts for each write's overhead, so how many fit is open; that they arrive is
  // not.
  const std::size_t taken = fill(mine(), 1);
  EXPECT_GE(taken, 100U);
  EXPECT_EQ(poll_now(mine(), POLLOUT), 0);
  const std::string got = read_available(peer());
  EXPECT_EQ(got.size(), taken);
  EXPECT_TRUE(matches_pattern(got, 0));
  EXPECT_EQ(poll_now(mine(), POLLOUT), POLLOUT);
}

TEST_P(Fcntl, NonblockingReadTakesAPart) {
  set_nonblocking(mine(), true);
  ASSERT_EQ(write_all(peer(), "part"), 4U);
  EXPECT_EQ(read_once(mine(), 100), "part");
  EXPECT_EQ(read_once(mine(), 100), "<EAGAIN>");
}

TEST_P(Fcntl, NonblockingReadSeesEndOfFile) {
  set_nonblocking(mine(), true);
  peer_.reset();
  EXPECT_EQ(read_once(mine(), 100), "");
}

TEST_P(Fcntl, ModeChangesWhileTheConnectionMoves) {
  set_nonblocking(mine(), true);
  set_nonblocking(peer(), true);
  for (std::size_t i = 0; i < 200; ++i) {
    ASSERT_EQ(write_all(mine(), pattern(i, 10)), 10U);
    ASSERT_EQ(read_once(peer(), 100), pattern(i, 10));
    ASSERT_EQ(read_once(peer(), 100), "<EAGAIN>");
    ASSERT_EQ(write_all(peer(), pattern(i, 10)), 10U);
    ASSERT_EQ(read_once(mine(), 100), pattern(i, 10));
    ASSERT_EQ(read_once(mine(), 100), "<EAGAIN>");
  }
}

TEST_P(Fcntl, SetsAndClearsCloseOnExec) {
  EXPECT_EQ(::fcntl(mine(), F_SETFD, FD_CLOEXEC), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(mine(), F_SETFD, 0), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), 0);
}

TEST_P(Fcntl, RefusesAnUnknownCommand) {
  errno = 0;
  EXPECT_EQ(::fcntl(mine(), 0x7777), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_P(Fcntl, AsyncModeRaisesSigio) {
  static volatile sig_atomic_t count;
  count = 0;
  struct sigaction action {};
  struct sigaction previous {};
  action.sa_handler = [](int) { count = count + 1; };
  ASSERT_EQ(::sigaction(SIGIO, &action, &previous), 0);
  ASSERT_EQ(::fcntl(mine(), F_SETOWN, ::getpid()), 0);
  ASSERT_EQ(::fcntl(mine(), F_SETFL, O_RDWR | O_ASYNC), 0);
  EXPECT_NE(::fcntl(mine(), F_GETFL) & O_ASYNC, 0);
  const int before = count;
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_GT(count, before);
  EXPECT_EQ(read_once(mine(), 10), "x");
  ASSERT_EQ(::fcntl(mine(), F_SETFL, O_RDWR), 0);
  ::sigaction(SIGIO, &previous, nullptr);
}

volatile sig_atomic_t told_descriptor;
void note_descriptor(int, siginfo_t* info, void*) { told_descriptor = info->si_fd; }

TEST_P(Fcntl, AsyncModeRaisesAChosenSignalForAThread) {
  // F_SETSIG and F_SETOWN_EX (fcntl(2)): the signal tells the descriptor, the kernel's number of
  // it.
  struct sigaction action {};
  struct sigaction previous {};
  action.sa_sigaction = note_descriptor;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(::sigaction(SIGRTMIN + 1, &action, &previous), 0);
  told_descriptor = -1;
  f_owner_ex owner{F_OWNER_TID, static_cast<int>(::gettid())};
  ASSERT_EQ(::fcntl(mine(), F_SETOWN_EX, &owner), 0);
  ASSERT_EQ(::fcntl(mine(), F_SETSIG, SIGRTMIN + 1), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETSIG), SIGRTMIN + 1);
  ASSERT_EQ(::fcntl(mine(), F_SETFL, O_RDWR | O_ASYNC), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  if (mine() >= 0) {
    EXPECT_EQ(told_descriptor, mine());
  } else {
    EXPECT_NE(told_descriptor, -1);
  }
  EXPECT_EQ(read_once(mine(), 10), "x");
  ASSERT_EQ(::fcntl(mine(), F_SETFL, O_RDWR), 0);
  ::sigaction(SIGRTMIN + 1, &previous, nullptr);
}

TEST_P(Fcntl, AsyncModeByIoctlRaisesSigio) {
  static volatile sig_atomic_t count;
  count = 0;
  struct sigaction action {};
  struct sigaction previous {};
  action.sa_handler = [](int) { count = count + 1; };
  ASSERT_EQ(::sigaction(SIGIO, &action, &previous), 0);
  const int self = ::getpid();
  int on = 1;
  ASSERT_EQ(::ioctl(mine(), FIOSETOWN, &self), 0);
  ASSERT_EQ(::ioctl(mine(), FIOASYNC, &on), 0);
  const int before = count;
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_GT(count, before);
  EXPECT_EQ(read_once(mine(), 10), "x");
  on = 0;
  ASSERT_EQ(::ioctl(mine(), FIOASYNC, &on), 0);
  ::sigaction(SIGIO, &previous, nullptr);
}

TEST_P(Fcntl, FstatSaysSocket) {
  struct stat status {};
  ASSERT_EQ(::fstat(mine(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  errno = 0;
  EXPECT_EQ(::lseek(mine(), 0, SEEK_CUR), -1);
  EXPECT_EQ(errno, ESPIPE);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::pread(mine(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ESPIPE);
  errno = 0;
  EXPECT_EQ(::pwrite(mine(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ESPIPE);
  errno = 0;
  EXPECT_EQ(::ftruncate(mine(), 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(::isatty(mine()), 0);
}

class Ioctl : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Ioctl, every_situation(), situation_name);

TEST_P(Ioctl, FionreadCountsWhatCanBeRead) {
  int count = -1;
  EXPECT_EQ(::ioctl(mine(), FIONREAD, &count), 0);
  EXPECT_EQ(count, 0);
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  ASSERT_EQ(write_all(peer(), pattern(0, 10000)), 10000U);
  EXPECT_EQ(::ioctl(mine(), FIONREAD, &count), 0);
  EXPECT_EQ(count, 10005);
  ASSERT_EQ(read_exactly(mine(), 7).size(), 7U);
  EXPECT_EQ(::ioctl(mine(), FIONREAD, &count), 0);
  EXPECT_EQ(count, 9998);
  ASSERT_EQ(read_exactly(mine(), 9998).size(), 9998U);
  EXPECT_EQ(::ioctl(mine(), FIONREAD, &count), 0);
  EXPECT_EQ(count, 0);
}

TEST_P(Ioctl, FionreadCountsWhatAClosedPeerLeft) {
  ASSERT_EQ(write_all(peer(), "left"), 4U);
  peer_.reset();
  int count = -1;
  EXPECT_EQ(::ioctl(mine(), FIONREAD, &count), 0);
  EXPECT_EQ(count, 4);
}

TEST_P(Ioctl, SiocoutqTellsWhatThePeerHasNotRead) {
  int count = -1;
  EXPECT_EQ(::ioctl(mine(), SIOCOUTQ, &count), 0);
  EXPECT_EQ(count, 0);
  ASSERT_EQ(write_all(mine(), pattern(0, 5000)), 5000U);
  // The kernel counts memory, not bytes.
  EXPECT_EQ(::ioctl(mine(), SIOCOUTQ, &count), 0);
  EXPECT_GE(count, 5000);
  ASSERT_EQ(read_exactly(peer(), 5000).size(), 5000U);
  EXPECT_EQ(::ioctl(mine(), SIOCOUTQ, &count), 0);
  EXPECT_EQ(count, 0);
}

TEST_P(Ioctl, FionbioSwitchesNonblockingMode) {
  int on = 1;
  EXPECT_EQ(::ioctl(mine(), FIONBIO, &on), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETFL), O_RDWR | O_NONBLOCK);
  EXPECT_EQ(read_once(mine(), 10), "<EAGAIN>");
  on = 0;
  EXPECT_EQ(::ioctl(mine(), FIONBIO, &on), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETFL), O_RDWR);
}

TEST_P(Ioctl, FioclexAndFionclexSwitchCloseOnExec) {
  EXPECT_EQ(::ioctl(mine(), FIOCLEX), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::ioctl(mine(), FIONCLEX), 0);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), 0);
}

TEST_P(Ioctl, RefusesAnUnknownRequest) {
  errno = 0;
  int argument = 0;
  EXPECT_EQ(::ioctl(mine(), TIOCGPTN, &argument), -1);
  EXPECT_EQ(errno, ENOTTY);
}

}  // namespace
}  // namespace tssx_test
