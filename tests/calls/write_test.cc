// write() and writev(), with SIGPIPE.
#include <gtest/gtest.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

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

class Write : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Write, every_situation(), situation_name);

TEST_P(Write, ReturnsTheLength) {
  EXPECT_EQ(::write(mine(), "hello", 5), 5);
  EXPECT_EQ(read_exactly(peer(), 5), "hello");
}

TEST_P(Write, LeavesErrnoAloneOnSuccess) {
  errno = EXDEV;
  EXPECT_EQ(::write(mine(), "x", 1), 1);
  EXPECT_EQ(errno, EXDEV);
  EXPECT_EQ(read_exactly(peer(), 1), "x");
}

TEST_P(Write, OfNothingSendsNothing) {
  EXPECT_EQ(::write(mine(), "x", 0), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  EXPECT_EQ(::write(mine(), nullptr, 0), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(Write, FromABadPointerFailsAndSendsNothing) {
  errno = 0;
  EXPECT_EQ(::write(mine(), bad_pointer(), 8), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  ASSERT_EQ(write_all(mine(), "good"), 4U);
  EXPECT_EQ(read_once(peer(), 100), "good");
}

TEST_P(Write, AcrossTheEdgeOfMappedMemoryFailsAndSendsNothing) {
  const GuardedPage page;
  errno = 0;
  EXPECT_EQ(::write(mine(), page.beyond() - 100, 200), -1);
  EXPECT_EQ(errno, EFAULT);
  ASSERT_EQ(write_all(mine(), "good"), 4U);
  EXPECT_EQ(read_once(peer(), 100), "good");
}

TEST_P(Write, UpToTheEdgeOfMappedMemoryWorks) {
  const GuardedPage page;
  const std::string bytes = pattern(0, GuardedPage::kSize);
  bytes.copy(page.begin(), bytes.size());
  ASSERT_EQ(::write(mine(), page.begin(), GuardedPage::kSize),
            static_cast<ssize_t>(GuardedPage::kSize));
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), GuardedPage::kSize), 0));
}

TEST_P(Write, ToAClosedPeerRaisesSigpipe) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  peer_.reset();
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 1);
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 2);
}

TEST_P(Write, ToAClosedPeerKillsWhoDoesNotHandleIt) {
  peer_.reset();
  Child child([this] {
    ::signal(SIGPIPE, SIG_DFL);
    [[maybe_unused]] const ssize_t n = ::write(mine(), "x", 1);
  });
  EXPECT_EQ(child.wait(), 128 + SIGPIPE);
}

TEST_P(Write, ToAClosedPeerOnlyFailsWithSigpipeIgnored) {
  const ScopedHandler handler(SIGPIPE, SIG_IGN);
  peer_.reset();
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_P(Write, RaisesSigpipeInTheThreadThatWrote) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  const ScopedBlock block(SIGPIPE);
  peer_.reset();
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 0);
  EXPECT_TRUE(take_pending(SIGPIPE));
}

TEST_P(Write, OfNothingToAClosedPeerFailsToo) {
  const ScopedHandler handler(SIGPIPE, SIG_IGN);
  peer_.reset();
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 0), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_P(Write, BlocksUntilThePeerMakesRoom) {
  const std::size_t queued = fill(mine());
  std::thread reader([&] {
    sleep_a_moment();
    EXPECT_TRUE(matches_pattern(read_exactly(peer(), queued), 0));
    EXPECT_EQ(read_exactly(peer(), 5), "after");
  });
  EXPECT_EQ(::write(mine(), "after", 5), 5);
  reader.join();
}

TEST_P(Write, BlockedIsResetWhenThePeerClosesWithDataUnread) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  fill(mine());
  std::thread closer([this] {
    sleep_a_moment();
    peer_.reset();
  });
  // The sleeper takes the socket's pending error, and no signal with it; later writes get EPIPE.
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(signals_seen, 0);
  closer.join();
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 1);
}

TEST_P(Write, BlockedFailsWhenThePeerStopsReading) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  fill(mine());
  std::thread stopper([this] {
    sleep_a_moment();
    EXPECT_EQ(::shutdown(peer(), SHUT_RD), 0);
  });
  // The kernel sends no SIGPIPE to a writer that was already asleep.
  errno = 0;
  EXPECT_EQ(::write(mine(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 0);
  stopper.join();
}

class WriteV : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, WriteV, every_situation(), situation_name);

TEST_P(WriteV, SendsBuffersInOrder) {
  char first[] = "abc";
  char second[] = "defg";
  char third[] = "hij";
  const std::array<iovec, 5> parts{
      {{first, 3}, {nullptr, 0}, {second, 4}, {nullptr, 0}, {third, 3}}};
  EXPECT_EQ(::writev(mine(), parts.data(), 5), 10);
  EXPECT_EQ(read_exactly(peer(), 10), "abcdefghij");
}

TEST_P(WriteV, OfNoBuffersSendsNothing) {
  const iovec none{nullptr, 0};
  EXPECT_EQ(::writev(mine(), &none, 0), 0);
  EXPECT_EQ(::writev(mine(), &none, 1), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(WriteV, RefusesABadCount) {
  char byte = 'x';
  const iovec part{&byte, 1};
  errno = 0;
  EXPECT_EQ(::writev(mine(), &part, opaque(-1)), -1);
  EXPECT_EQ(errno, EINVAL);
  const std::vector<iovec> many(IOV_MAX + 1, part);
  errno = 0;
  EXPECT_EQ(::writev(mine(), many.data(), opaque(IOV_MAX + 1)), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

TEST_P(WriteV, TakesTheLargestCount) {
  std::string bytes = pattern(0, IOV_MAX);
  std::vector<iovec> parts;
  for (char& byte : bytes) parts.push_back({&byte, 1});
  ASSERT_EQ(::writev(mine(), parts.data(), IOV_MAX), IOV_MAX);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), IOV_MAX), 0));
}

TEST_P(WriteV, WithABadBufferFailsAndSendsNothing) {
  char good[] = "good";
  const std::array<iovec, 2> parts{{{good, 4}, {bad_pointer(), 4}}};
  errno = 0;
  EXPECT_EQ(::writev(mine(), parts.data(), 2), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  ASSERT_EQ(write_all(mine(), "next"), 4U);
  EXPECT_EQ(read_once(peer(), 100), "next");
}

TEST_P(WriteV, ToAClosedPeerRaisesSigpipe) {
  const ScopedHandler handler(SIGPIPE, count_signal);
  peer_.reset();
  char byte = 'x';
  const iovec part{&byte, 1};
  errno = 0;
  EXPECT_EQ(::writev(mine(), &part, 1), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(signals_seen, 1);
}

}  // namespace
}  // namespace tssx_test
