// select() and pselect().
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/signals.h"

// What FD_SET() asks with -D_FORTIFY_SOURCE=2, in no header of its own.
extern "C" long __fdelt_chk(long fd);

namespace tssx_test {
namespace {

fd_set set_of(std::initializer_list<int> descriptors) {
  fd_set set;
  FD_ZERO(&set);
  for (const int fd : descriptors) FD_SET(fd, &set);
  return set;
}

class Select : public ConnectionTest {
 protected:
  [[nodiscard]] int limit() const { return std::max(mine(), peer()) + 1; }
};
INSTANTIATE_TEST_SUITE_P(, Select, every_situation(), situation_name);

TEST_P(Select, SaysWritableOfAnIdleConnection) {
  fd_set readable = set_of({mine()});
  fd_set writable = set_of({mine()});
  fd_set exceptional = set_of({mine()});
  timeval timeout{0, 0};
  EXPECT_EQ(::select(limit(), &readable, &writable, &exceptional, &timeout), 1);
  EXPECT_FALSE(FD_ISSET(mine(), &readable));
  EXPECT_TRUE(FD_ISSET(mine(), &writable));
  EXPECT_FALSE(FD_ISSET(mine(), &exceptional));
}

TEST_P(Select, CountsAMemberOncePerSet) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  fd_set readable = set_of({mine(), peer()});
  fd_set writable = set_of({mine()});
  EXPECT_EQ(::select(limit(), &readable, &writable, nullptr, nullptr), 2);
  EXPECT_TRUE(FD_ISSET(mine(), &readable));
  EXPECT_FALSE(FD_ISSET(peer(), &readable));
  EXPECT_TRUE(FD_ISSET(mine(), &writable));
}

TEST_P(Select, SaysReadableOfAHangUp) {
  peer_.reset();
  fd_set readable = set_of({mine()});
  fd_set exceptional = set_of({mine()});
  EXPECT_EQ(::select(limit(), &readable, nullptr, &exceptional, nullptr), 1);
  EXPECT_TRUE(FD_ISSET(mine(), &readable));
  EXPECT_FALSE(FD_ISSET(mine(), &exceptional));
}

TEST_P(Select, SaysNotWritableWhenFull) {
  const std::size_t queued = fill(mine());
  fd_set writable = set_of({mine()});
  timeval timeout{0, 0};
  EXPECT_EQ(::select(limit(), nullptr, &writable, nullptr, &timeout), 0);
  EXPECT_FALSE(FD_ISSET(mine(), &writable));
  EXPECT_EQ(read_exactly(peer(), queued).size(), queued);
  writable = set_of({mine()});
  EXPECT_EQ(::select(limit(), nullptr, &writable, nullptr, nullptr), 1);
  EXPECT_TRUE(FD_ISSET(mine(), &writable));
}

TEST_P(Select, WaitsForDataAndTellsTheTimeLeft) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  fd_set readable = set_of({mine()});
  timeval timeout{1000, 0};
  EXPECT_EQ(::select(limit(), &readable, nullptr, nullptr, &timeout), 1);
  EXPECT_TRUE(FD_ISSET(mine(), &readable));
  EXPECT_LT(timeout.tv_sec, 1000);
  EXPECT_GT(timeout.tv_sec, 900);
  writer.join();
}

TEST_P(Select, WaitsForRoom) {
  const std::size_t queued = fill(mine());
  std::thread reader([&] {
    sleep_a_moment();
    EXPECT_EQ(read_exactly(peer(), queued).size(), queued);
  });
  fd_set writable = set_of({mine()});
  EXPECT_EQ(::select(limit(), nullptr, &writable, nullptr, nullptr), 1);
  reader.join();
}

TEST_P(Select, DoesNotReturnBeforeItsTimeoutAndClearsTheSets) {
  fd_set readable = set_of({mine()});
  fd_set exceptional = set_of({mine()});
  timeval timeout{0, 60000};
  const Stopwatch stopwatch;
  EXPECT_EQ(::select(limit(), &readable, nullptr, &exceptional, &timeout), 0);
  EXPECT_GE(stopwatch.milliseconds(), 60.0);
  EXPECT_FALSE(FD_ISSET(mine(), &readable));
  EXPECT_FALSE(FD_ISSET(mine(), &exceptional));
  EXPECT_EQ(timeout.tv_sec, 0);
  EXPECT_EQ(timeout.tv_usec, 0);
}

TEST_P(Select, LooksAtNoDescriptorBeyondItsLimit) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  fd_set readable = set_of({mine()});
  timeval timeout{0, 0};
  EXPECT_EQ(::select(mine(), &readable, nullptr, nullptr, &timeout), 0);
}

TEST_P(Select, MixesWithPipes) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const int nfds = std::max(limit(), ends[1] + 1);
  fd_set readable = set_of({mine(), read_end.get()});
  fd_set writable = set_of({write_end.get()});
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::select(nfds, &readable, &writable, nullptr, nullptr), 2);
  EXPECT_TRUE(FD_ISSET(mine(), &readable));
  EXPECT_FALSE(FD_ISSET(read_end.get(), &readable));
  EXPECT_TRUE(FD_ISSET(write_end.get(), &writable));
  ASSERT_EQ(read_once(mine(), 1), "x");
  std::thread writer([&] {
    sleep_a_moment();
    EXPECT_EQ(write_all(write_end.get(), "y"), 1U);
  });
  readable = set_of({mine(), read_end.get()});
  EXPECT_EQ(::select(nfds, &readable, nullptr, nullptr, nullptr), 1);
  EXPECT_FALSE(FD_ISSET(mine(), &readable));
  EXPECT_TRUE(FD_ISSET(read_end.get(), &readable));
  writer.join();
}

TEST_P(Select, RefusesAClosedDescriptorAndLeavesTheSets) {
  const int closed = ::dup(mine());
  ::close(closed);
  fd_set readable = set_of({mine(), closed});
  errno = 0;
  EXPECT_EQ(::select(std::max(limit(), closed + 1), &readable, nullptr, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_TRUE(FD_ISSET(mine(), &readable));
  EXPECT_TRUE(FD_ISSET(closed, &readable));
}

TEST_P(Select, RefusesBadArguments) {
  fd_set readable = set_of({mine()});
  errno = 0;
  EXPECT_EQ(::select(opaque(-1), &readable, nullptr, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  timeval negative{-1, 0};
  errno = 0;
  EXPECT_EQ(::select(limit(), &readable, nullptr, nullptr, &negative), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_P(Select, IsInterruptedBySignalsEvenWithRestart) {
  const ScopedHandler handler(SIGALRM, count_signal, SA_RESTART);
  const PeriodicAlarm alarm(60);
  fd_set readable = set_of({mine()});
  errno = 0;
  EXPECT_EQ(::select(limit(), &readable, nullptr, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_GE(signals_seen, 1);
}

TEST_P(Select, OfPselectLeavesItsTimeoutAlone) {
  fd_set readable = set_of({mine()});
  const timespec timeout{0, 60000000};
  const Stopwatch stopwatch;
  EXPECT_EQ(::pselect(limit(), &readable, nullptr, nullptr, &timeout, nullptr), 0);
  EXPECT_GE(stopwatch.milliseconds(), 60.0);
  EXPECT_EQ(timeout.tv_nsec, 60000000);
  EXPECT_FALSE(FD_ISSET(mine(), &readable));
}

TEST_P(Select, OfPselectLetsASignalThroughItsMask) {
  const ScopedHandler handler(SIGUSR1, count_signal);
  const ScopedBlock block(SIGUSR1);
  ::raise(SIGUSR1);
  sigset_t none;
  ::sigemptyset(&none);
  fd_set readable = set_of({mine()});
  errno = 0;
  EXPECT_EQ(::pselect(limit(), &readable, nullptr, nullptr, nullptr, &none), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(signals_seen, 1);
}

TEST_P(Select, OfPselectIsInterruptedByAPendingSignalWithoutATimeToWait) {
  const ScopedHandler handler(SIGUSR1, count_signal);
  const ScopedBlock block(SIGUSR1);
  ::raise(SIGUSR1);
  sigset_t none;
  ::sigemptyset(&none);
  const timespec now{0, 0};
  fd_set readable = set_of({mine()});
  errno = 0;
  EXPECT_EQ(::pselect(limit(), &readable, nullptr, nullptr, &now, &none), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(signals_seen, 1);
}

TEST_P(Select, LooksBeyondTheUsualSizeOfASet) {
  // Programs with many descriptors give larger arrays; the kernel asks only for the bits.
  rlimit limits{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limits), 0);
  constexpr int kHigh = 3000;
  if (limits.rlim_cur <= kHigh) {
    limits.rlim_cur = kHigh + 1;
    if (limits.rlim_max < limits.rlim_cur || ::setrlimit(RLIMIT_NOFILE, &limits) != 0) {
      GTEST_SKIP() << "needs descriptor " << kHigh;
    }
  }
  ASSERT_EQ(::dup2(mine(), kHigh), kHigh);
  const UniqueFd high(kHigh);
  std::array<unsigned long, (kHigh + 64) / 64> bits{};
  auto* const readable = reinterpret_cast<fd_set*>(bits.data());
  const std::size_t word = kHigh / 64;
  bits.at(word) = 1UL << (kHigh % 64);
  timeval now{0, 0};
  EXPECT_EQ(::select(kHigh + 1, readable, nullptr, nullptr, &now), 0);
  EXPECT_EQ(bits.at(word), 0U);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  bits.at(word) = 1UL << (kHigh % 64);
  EXPECT_EQ(::select(kHigh + 1, readable, nullptr, nullptr, nullptr), 1);
  EXPECT_EQ(bits.at(word), 1UL << (kHigh % 64));
}

// FDSize of proc(5): select() looks at no bit behind it, whatever nfds says.
int table_size() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("FDSize:", 0) == 0) return std::stoi(line.substr(7));
  }
  return 0;
}

// A set with room for the descriptor table's bits, and memory of another use behind it.
class TightSet {
 public:
  explicit TightSet(int fd) : bytes_(static_cast<std::size_t>(table_size()) / 8) {
    memory_.assign(bytes_ + kBehind, kOther);
    choose(fd);
  }
  void choose(int fd) {
    std::memset(memory_.data(), 0, bytes_);
    FD_SET(fd, get());
  }
  fd_set* get() { return reinterpret_cast<fd_set*>(memory_.data()); }
  [[nodiscard]] bool is_untouched_behind() const {
    return std::all_of(memory_.begin() + static_cast<std::ptrdiff_t>(bytes_), memory_.end(),
                       [](unsigned char byte) { return byte == kOther; });
  }

 private:
  static constexpr std::size_t kBehind = 200'000;  // bits of more than a million numbers
  static constexpr unsigned char kOther = 7;
  std::size_t bytes_;
  std::vector<unsigned char> memory_;
};

TEST_P(Select, LooksAtNothingBehindTheDescriptorTable) {
  TightSet readable(mine());
  TightSet writable(mine());
  const int size = table_size();
  for (const int nfds : {size, size + 1, 2 * size, 1024 + size, 70'000, 1'048'576, INT_MAX}) {
    SCOPED_TRACE(nfds);
    readable.choose(mine());
    writable.choose(mine());
    timeval now{0, 0};
    EXPECT_EQ(::select(opaque(nfds), readable.get(), nullptr, nullptr, &now), 0);
    EXPECT_FALSE(FD_ISSET(mine(), readable.get()));
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    readable.choose(mine());
    EXPECT_EQ(::select(opaque(nfds), readable.get(), writable.get(), nullptr, nullptr), 2);
    EXPECT_TRUE(FD_ISSET(mine(), readable.get()));
    EXPECT_TRUE(FD_ISSET(mine(), writable.get()));
    EXPECT_TRUE(readable.is_untouched_behind());
    EXPECT_TRUE(writable.is_untouched_behind());
    EXPECT_EQ(read_once(mine(), 9), "x");
    EXPECT_EQ(table_size(), size);
  }
}

TEST_P(Select, NeedsNoMemoryBehindTheDescriptorTable) {
  const auto bytes = static_cast<std::size_t>(table_size()) / 8;
  ASSERT_LE(bytes, GuardedPage::kSize);
  const GuardedPage page;
  auto* const readable = reinterpret_cast<fd_set*>(page.beyond() - bytes);
  for (const int nfds : {1025, 70'000, INT_MAX}) {
    if (nfds < table_size()) continue;
    SCOPED_TRACE(nfds);
    std::memset(page.beyond() - bytes, 0, bytes);
    FD_SET(mine(), readable);
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    EXPECT_EQ(::select(opaque(nfds), readable, nullptr, nullptr, nullptr), 1);
    EXPECT_TRUE(FD_ISSET(mine(), readable));
    EXPECT_EQ(read_once(mine(), 9), "x");
  }
}

TEST_P(Select, SeesThatTheDescriptorTableGrew) {
  const int before = table_size();
  rlimit limits{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limits), 0);
  if (static_cast<int>(limits.rlim_cur) <= before) GTEST_SKIP() << "the table can't grow";
  std::vector<unsigned long> bits(2048);
  auto* const readable = reinterpret_cast<fd_set*>(bits.data());
  const auto choose = [&](int fd) {
    std::fill(bits.begin(), bits.end(), 0UL);
    bits.at(static_cast<std::size_t>(fd) / 64) |= 1UL << (static_cast<unsigned>(fd) % 64);
    bits.at(static_cast<std::size_t>(mine()) / 64) |= 1UL << (static_cast<unsigned>(mine()) % 64);
  };
  timeval now{0, 0};
  choose(before);
  EXPECT_EQ(::select(100'000, readable, nullptr, nullptr, &now), 0);
  ASSERT_EQ(::dup2(mine(), before), before);
  EXPECT_GT(table_size(), before);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  choose(before);
  EXPECT_EQ(::select(100'000, readable, nullptr, nullptr, &now), 2);
  ::close(before);
  errno = 0;
  EXPECT_EQ(::select(100'000, readable, nullptr, nullptr, &now), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_P(Select, SeesThatAChildHasASmallerDescriptorTable) {
  const int before = table_size();
  rlimit limits{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limits), 0);
  if (static_cast<int>(limits.rlim_cur) <= before) GTEST_SKIP() << "the table can't grow";
  ASSERT_EQ(::dup2(mine(), before), before);
  const int grown = table_size();
  {
    TightSet readable(mine());
    timeval now{0, 0};
    EXPECT_EQ(::select(INT_MAX, readable.get(), nullptr, nullptr, &now), 0);
  }
  ::close(before);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  Child child([&] {
    EXPECT_LT(table_size(), grown);
    TightSet readable(mine());
    EXPECT_EQ(::select(grown, readable.get(), nullptr, nullptr, nullptr), 1);
    EXPECT_TRUE(readable.is_untouched_behind());
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Select, FortifiedSetsHoldTheNumber) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  fd_set readable;
  FD_ZERO(&readable);
  auto* const words = reinterpret_cast<unsigned long*>(&readable);
  words[__fdelt_chk(mine())] |= 1UL << (static_cast<unsigned>(mine()) % 64);
  EXPECT_EQ(::select(limit(), &readable, nullptr, nullptr, nullptr), 1);
  EXPECT_TRUE(FD_ISSET(mine(), &readable));
  EXPECT_DEATH(__fdelt_chk(opaque(FD_SETSIZE)), "terminated");
}

TEST_P(Select, OfPselectWaitsForData) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  fd_set readable = set_of({mine()});
  EXPECT_EQ(::pselect(limit(), &readable, nullptr, nullptr, nullptr, nullptr), 1);
  writer.join();
}

}  // namespace
}  // namespace tssx_test
