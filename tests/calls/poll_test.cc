// poll() and ppoll(), their fortified names, and the events of every state of a connection.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"
#include "tests/support/signals.h"

extern "C" {
int __poll_chk(pollfd* entries, nfds_t count, int timeout, size_t size);
int __ppoll_chk(pollfd* entries, nfds_t count, const timespec* timeout, const sigset_t* mask,
                size_t size);
}

namespace tssx_test {
namespace {

constexpr short kAll = POLLIN | POLLOUT | POLLRDHUP | POLLPRI;
constexpr short kGone = POLLIN | POLLOUT | POLLRDHUP | POLLHUP;

class Poll : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Poll, every_situation(), situation_name);

TEST_P(Poll, SaysWritableOfAnIdleConnection) {
  EXPECT_EQ(poll_now(mine(), kAll), POLLOUT);
  EXPECT_EQ(poll_now(peer(), kAll), POLLOUT);
}

TEST_P(Poll, SaysReadableWhenThereIsData) {
  ASSERT_EQ(write_all(peer(), "ab"), 2U);
  EXPECT_EQ(poll_now(mine(), kAll), POLLIN | POLLOUT);
  EXPECT_EQ(poll_now(mine(), kAll), POLLIN | POLLOUT);
  ASSERT_EQ(read_once(mine(), 1), "a");
  EXPECT_EQ(poll_now(mine(), kAll), POLLIN | POLLOUT);
  ASSERT_EQ(read_once(mine(), 1), "b");
  EXPECT_EQ(poll_now(mine(), kAll), POLLOUT);
}

TEST_P(Poll, SaysOnlyWhatWasAskedFor) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(poll_now(mine(), POLLOUT), POLLOUT);
  EXPECT_EQ(poll_now(mine(), POLLIN), POLLIN);
  EXPECT_EQ(poll_now(mine(), 0), 0);
  EXPECT_EQ(poll_now(mine(), POLLPRI), 0);
}

TEST_P(Poll, KnowsTheOtherNamesOfTheEvents) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(poll_now(mine(), POLLRDNORM | POLLRDBAND), POLLRDNORM);
  EXPECT_EQ(poll_now(mine(), POLLWRNORM | POLLWRBAND), POLLWRNORM | POLLWRBAND);
}

TEST_P(Poll, SaysNotWritableWhenFull) {
  const std::size_t queued = fill(mine());
  EXPECT_EQ(poll_now(mine(), kAll), 0);
  EXPECT_EQ(poll_now(peer(), kAll), POLLIN | POLLOUT);
  EXPECT_EQ(read_exactly(peer(), queued).size(), queued);
  EXPECT_EQ(poll_now(mine(), kAll), POLLOUT);
}

TEST_P(Poll, SaysHangUpWhenThePeerHasClosed) {
  peer_.reset();
  EXPECT_EQ(poll_now(mine(), kAll), kGone);
  EXPECT_EQ(poll_now(mine(), 0), POLLHUP);
  EXPECT_EQ(poll_now(mine(), POLLRDHUP), POLLRDHUP | POLLHUP);
  EXPECT_EQ(poll_now(mine(), POLLIN), POLLIN | POLLHUP);
  EXPECT_EQ(poll_now(mine(), POLLOUT), POLLOUT | POLLHUP);
}

TEST_P(Poll, SaysTheSameOfAHangUpWithDataLeft) {
  ASSERT_EQ(write_all(peer(), "left"), 4U);
  peer_.reset();
  EXPECT_EQ(poll_now(mine(), kAll), kGone);
  EXPECT_EQ(read_once(mine(), 10), "left");
  EXPECT_EQ(poll_now(mine(), kAll), kGone);
  EXPECT_EQ(read_once(mine(), 10), "");
  EXPECT_EQ(poll_now(mine(), kAll), kGone);
}

TEST_P(Poll, SaysErrorOfAResetUntilItIsRead) {
  ASSERT_EQ(write_all(mine(), "unread"), 6U);
  peer_.reset();
  EXPECT_EQ(poll_now(mine(), kAll), kGone | POLLERR);
  EXPECT_EQ(poll_now(mine(), 0), POLLHUP | POLLERR);
  EXPECT_EQ(read_once(mine(), 10), "<ECONNRESET>");
  EXPECT_EQ(poll_now(mine(), kAll), kGone);
}

TEST_P(Poll, SaysHangUpOfAFullConnectionThatThePeerClosed) {
  fill(mine());
  peer_.reset();
  // Closing freed what was queued, so it is writable as well.
  EXPECT_EQ(poll_now(mine(), kAll), kGone | POLLERR);
}

TEST_P(Poll, WaitsForData) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  EXPECT_EQ(wait_for(mine(), POLLIN), POLLIN);
  writer.join();
}

TEST_P(Poll, WaitsForRoom) {
  const std::size_t queued = fill(mine());
  std::thread reader([&] {
    sleep_a_moment();
    EXPECT_EQ(read_exactly(peer(), queued).size(), queued);
  });
  EXPECT_EQ(wait_for(mine(), POLLOUT), POLLOUT);
  reader.join();
}

TEST_P(Poll, WaitsForTheHangUpWithoutAskingForIt) {
  std::thread closer([this] {
    sleep_a_moment();
    peer_.reset();
  });
  EXPECT_EQ(wait_for(mine(), 0), POLLHUP);
  closer.join();
}

TEST_P(Poll, WaitsForTheHalfHangUp) {
  std::thread stopper([this] {
    sleep_a_moment();
    EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  });
  EXPECT_EQ(wait_for(mine(), POLLRDHUP), POLLRDHUP);
  stopper.join();
}

TEST_P(Poll, DoesNotReturnBeforeItsTimeout) {
  pollfd entry{mine(), POLLIN, 0x55};
  const Stopwatch stopwatch;
  EXPECT_EQ(::poll(&entry, 1, 60), 0);
  EXPECT_GE(stopwatch.milliseconds(), 59.0);
  EXPECT_EQ(entry.revents, 0);
}

TEST_P(Poll, IsNotDisturbedByTrafficTheOtherWay) {
  // What mine() writes and peer() reads must not wake a poll of mine() for data.
  std::thread traffic([this] {
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(write_all(mine(), "x"), 1U);
      EXPECT_EQ(read_exactly(peer(), 1), "x");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  pollfd entry{mine(), POLLIN, 0};
  const Stopwatch stopwatch;
  EXPECT_EQ(::poll(&entry, 1, 60), 0);
  EXPECT_GE(stopwatch.milliseconds(), 59.0);
  traffic.join();
}

TEST_P(Poll, PassesOverNegativeEntries) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  std::array<pollfd, 3> entries{{{-1, POLLIN, 0x55}, {mine(), POLLIN, 0}, {-7, POLLIN, 0x55}}};
  EXPECT_EQ(::poll(entries.data(), 3, -1), 1);
  EXPECT_EQ(entries[0].revents, 0);
  EXPECT_EQ(entries[1].revents, POLLIN);
  EXPECT_EQ(entries[2].revents, 0);
}

TEST_P(Poll, SaysInvalidOfAClosedDescriptor) {
  const int closed = ::dup(mine());
  ::close(closed);
  std::array<pollfd, 2> entries{{{closed, POLLIN, 0}, {mine(), POLLIN, 0}}};
  EXPECT_EQ(::poll(entries.data(), 2, -1), 1);
  EXPECT_EQ(entries[0].revents, POLLNVAL);
  EXPECT_EQ(entries[1].revents, 0);
}

TEST_P(Poll, AnswersForTheSameDescriptorTwice) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  std::array<pollfd, 2> entries{{{mine(), POLLIN, 0}, {mine(), POLLOUT, 0}}};
  EXPECT_EQ(::poll(entries.data(), 2, -1), 2);
  EXPECT_EQ(entries[0].revents, POLLIN);
  EXPECT_EQ(entries[1].revents, POLLOUT);
}

TEST_P(Poll, AnswersForBothEndsOfAConnection) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  std::array<pollfd, 2> entries{{{mine(), POLLIN, 0}, {peer(), POLLIN, 0}}};
  EXPECT_EQ(::poll(entries.data(), 2, -1), 1);
  EXPECT_EQ(entries[0].revents, POLLIN);
  EXPECT_EQ(entries[1].revents, 0);
}

TEST_P(Poll, MixesWithPipesAndEventfds) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const UniqueFd event(::eventfd(0, 0));
  std::array<pollfd, 3> entries{
      {{read_end.get(), POLLIN, 0}, {mine(), POLLIN, 0}, {event.get(), POLLIN, 0}}};
  EXPECT_EQ(::poll(entries.data(), 3, 0), 0);

  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::poll(entries.data(), 3, -1), 1);
  EXPECT_EQ(entries[1].revents, POLLIN);

  ASSERT_EQ(write_all(write_end.get(), "x"), 1U);
  EXPECT_EQ(::poll(entries.data(), 3, -1), 2);
  EXPECT_EQ(entries[0].revents, POLLIN);
  EXPECT_EQ(entries[1].revents, POLLIN);
  EXPECT_EQ(entries[2].revents, 0);

  ASSERT_EQ(read_once(mine(), 1), "x");
  ASSERT_EQ(read_once(read_end.get(), 1), "x");
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
  EXPECT_EQ(::poll(entries.data(), 3, -1), 1);
  EXPECT_EQ(entries[0].revents, 0);
  EXPECT_EQ(entries[1].revents, 0);
  EXPECT_EQ(entries[2].revents, POLLIN);
}

TEST_P(Poll, IsWokenByAPipeBesideIt) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  std::thread writer([&] {
    sleep_a_moment();
    EXPECT_EQ(write_all(write_end.get(), "x"), 1U);
  });
  std::array<pollfd, 2> entries{{{mine(), POLLIN, 0}, {read_end.get(), POLLIN, 0}}};
  EXPECT_EQ(::poll(entries.data(), 2, -1), 1);
  EXPECT_EQ(entries[0].revents, 0);
  EXPECT_EQ(entries[1].revents, POLLIN);
  writer.join();
}

TEST_P(Poll, IsWokenByTheConnectionBesideAPipe) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  std::thread writer([&] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  std::array<pollfd, 2> entries{{{read_end.get(), POLLIN, 0}, {mine(), POLLIN, 0}}};
  EXPECT_EQ(::poll(entries.data(), 2, -1), 1);
  EXPECT_EQ(entries[0].revents, 0);
  EXPECT_EQ(entries[1].revents, POLLIN);
  writer.join();
}

TEST_P(Poll, WakesTwoThreadsThatWaitForTheSame) {
  std::array<short, 2> seen{};
  std::thread first([&] { seen[0] = wait_for(mine(), POLLIN); });
  std::thread second([&] { seen[1] = wait_for(mine(), POLLIN); });
  sleep_a_moment();
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  first.join();
  second.join();
  EXPECT_EQ(seen[0], POLLIN);
  EXPECT_EQ(seen[1], POLLIN);
}

TEST_P(Poll, AndABlockedReadAreBothWoken) {
  short seen = 0;
  std::string got;
  std::thread poller([&] { seen = wait_for(mine(), POLLIN | POLLRDHUP); });
  std::thread reader([&] { got = read_exactly(mine(), 10); });
  sleep_a_moment();
  ASSERT_EQ(write_all(peer(), "some"), 4U);
  sleep_a_moment();
  peer_.reset();
  reader.join();
  poller.join();
  EXPECT_EQ(got, "some");
  EXPECT_NE(seen & POLLIN, 0);
}

TEST_P(Poll, HandsManyMessagesOverOneByOne) {
  std::thread writer([this] {
    for (int i = 0; i < 500; ++i) {
      EXPECT_EQ(write_all(peer(), "x"), 1U);
      EXPECT_EQ(wait_for(peer(), POLLIN), POLLIN);
      EXPECT_EQ(read_exactly(peer(), 1), "y");
    }
  });
  for (int i = 0; i < 500; ++i) {
    ASSERT_EQ(wait_for(mine(), POLLIN), POLLIN);
    ASSERT_EQ(read_exactly(mine(), 1), "x");
    ASSERT_EQ(write_all(mine(), "y"), 1U);
  }
  writer.join();
}

TEST_P(Poll, WithABadPointerFails) {
  errno = 0;
  EXPECT_EQ(::poll(static_cast<pollfd*>(bad_pointer()), 1, 0), -1);
  EXPECT_EQ(errno, EFAULT);
}

TEST_P(Poll, FortifiedNamesPoll) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  pollfd entry{mine(), POLLIN, 0};
  EXPECT_EQ(__poll_chk(&entry, 1, -1, sizeof entry), 1);
  EXPECT_EQ(entry.revents, POLLIN);
  entry.revents = 0;
  EXPECT_EQ(__ppoll_chk(&entry, 1, nullptr, nullptr, sizeof entry), 1);
  EXPECT_EQ(entry.revents, POLLIN);
}

TEST_P(Poll, FortifiedNamesAbortOnOverflow) {
  pollfd entry{mine(), POLLIN, 0};
  EXPECT_DEATH(__poll_chk(&entry, 2, 0, sizeof entry), "buffer overflow detected");
  EXPECT_DEATH(__ppoll_chk(&entry, 2, nullptr, nullptr, sizeof entry), "buffer overflow detected");
}

class PPoll : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, PPoll, every_situation(), situation_name);

TEST_P(PPoll, DoesNotReturnBeforeItsTimeoutNorChangeIt) {
  pollfd entry{mine(), POLLIN, 0};
  const timespec timeout{0, 60000000};
  const Stopwatch stopwatch;
  EXPECT_EQ(::ppoll(&entry, 1, &timeout, nullptr), 0);
  EXPECT_GE(stopwatch.milliseconds(), 60.0);
  EXPECT_EQ(timeout.tv_sec, 0);
  EXPECT_EQ(timeout.tv_nsec, 60000000);
}

TEST_P(PPoll, WithoutATimeoutWaits) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  pollfd entry{mine(), POLLIN, 0};
  EXPECT_EQ(::ppoll(&entry, 1, nullptr, nullptr), 1);
  EXPECT_EQ(entry.revents, POLLIN);
  writer.join();
}

TEST_P(PPoll, RefusesABadTimeout) {
  pollfd entry{mine(), POLLIN, 0};
  const timespec negative{-1, 0};
  errno = 0;
  EXPECT_EQ(::ppoll(&entry, 1, &negative, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  const timespec too_much{0, 1000000000};
  errno = 0;
  EXPECT_EQ(::ppoll(&entry, 1, &too_much, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_P(PPoll, LetsASignalThroughItsMaskOnlyWhileItWaits) {
  const ScopedHandler handler(SIGUSR1, count_signal);
  const ScopedBlock block(SIGUSR1);
  ::raise(SIGUSR1);
  EXPECT_EQ(signals_seen, 0);
  sigset_t none;
  ::sigemptyset(&none);
  pollfd entry{mine(), POLLIN, 0};
  errno = 0;
  EXPECT_EQ(::ppoll(&entry, 1, nullptr, &none), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(signals_seen, 1);
  ::raise(SIGUSR1);
  EXPECT_EQ(signals_seen, 1);
  EXPECT_TRUE(take_pending(SIGUSR1));
}

TEST_P(PPoll, KeepsAMaskedSignalOut) {
  const ScopedHandler handler(SIGUSR1, count_signal);
  sigset_t only;
  ::sigemptyset(&only);
  ::sigaddset(&only, SIGUSR1);
  const pthread_t me = ::pthread_self();
  std::thread other([&] {
    sleep_a_moment();
    ::pthread_kill(me, SIGUSR1);
    sleep_a_moment();
    EXPECT_EQ(signals_seen, 0);
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  pollfd entry{mine(), POLLIN, 0};
  EXPECT_EQ(::ppoll(&entry, 1, nullptr, &only), 1);
  EXPECT_EQ(signals_seen, 1);
  other.join();
}

TEST_P(PPoll, KeepsAMaskedSignalOutOfTheWholeWait) {
  const ScopedHandler handler(SIGUSR1, count_signal);
  sigset_t only;
  ::sigemptyset(&only);
  ::sigaddset(&only, SIGUSR1);
  const pthread_t me = ::pthread_self();
  std::thread other([&] {
    sleep_a_moment();
    ::pthread_kill(me, SIGUSR1);
    // Long enough for a wait that is made of several sleeps to come out of one.
    for (int i = 0; i < 5; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      EXPECT_EQ(signals_seen, 0);
    }
    EXPECT_EQ(write_all(peer(), "x"), 1U);
  });
  pollfd entry{mine(), POLLIN, 0};
  EXPECT_EQ(::ppoll(&entry, 1, nullptr, &only), 1);
  EXPECT_EQ(signals_seen, 1);
  other.join();
}

TEST_P(PPoll, IsInterruptedByAPendingSignalWithoutATimeToWait) {
  // do_poll() looks for events first, then for signals, and at the time last.
  const ScopedHandler handler(SIGUSR1, count_signal);
  const ScopedBlock block(SIGUSR1);
  ::raise(SIGUSR1);
  sigset_t none;
  ::sigemptyset(&none);
  const timespec now{0, 0};
  pollfd entry{mine(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(::ppoll(&entry, 1, &now, &none), 1);
  EXPECT_EQ(signals_seen, 0);
  entry.events = POLLIN;
  errno = 0;
  EXPECT_EQ(::ppoll(&entry, 1, &now, &none), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(signals_seen, 1);
}

// Every bit of the answer, in every state, for both ends: what unix_poll() says.
class PollBits : public ConnectionTest {
 protected:
  // The answers to a poll() for all bits, and to one for each bit, which must agree.
  static unsigned bits_of(int fd) {
    const auto all = static_cast<unsigned short>(poll_now(fd, static_cast<short>(0x3fff)));
    for (unsigned bit = 0; bit < 14; ++bit) {
      const auto asked = static_cast<short>(1U << bit);
      const auto one = static_cast<unsigned short>(poll_now(fd, asked));
      const unsigned unasked = POLLERR | POLLHUP | POLLNVAL;
      EXPECT_EQ(one, all & (static_cast<unsigned short>(asked) | unasked)) << "bit " << bit;
    }
    return all;
  }
  static constexpr unsigned kIn = POLLIN | POLLRDNORM;
  static constexpr unsigned kOut = POLLOUT | POLLWRNORM | POLLWRBAND;
  static constexpr unsigned kEnded = kIn | POLLRDHUP;
};
INSTANTIATE_TEST_SUITE_P(, PollBits, every_situation(), situation_name);

TEST_P(PollBits, OfTraffic) {
  EXPECT_EQ(bits_of(mine()), kOut);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(bits_of(mine()), kOut | kIn);
  EXPECT_EQ(bits_of(peer()), kOut);
  ASSERT_EQ(read_once(mine(), 10), "x");
  EXPECT_EQ(bits_of(mine()), kOut);
  const std::size_t queued = fill(mine());
  EXPECT_EQ(bits_of(mine()), 0U);
  EXPECT_EQ(bits_of(peer()), kOut | kIn);
  ASSERT_EQ(read_exactly(peer(), queued).size(), queued);
  EXPECT_EQ(bits_of(mine()), kOut);
}

TEST_P(PollBits, OfAnEndShutForWriting) {
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(bits_of(mine()), kOut);
  EXPECT_EQ(bits_of(peer()), kOut | kEnded);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(bits_of(mine()), kOut | kIn);
  EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(bits_of(mine()), kOut | kEnded | POLLHUP);
  EXPECT_EQ(bits_of(peer()), kOut | kEnded | POLLHUP);
}

TEST_P(PollBits, OfAnEndShutForReading) {
  EXPECT_EQ(::shutdown(mine(), SHUT_RD), 0);
  EXPECT_EQ(bits_of(mine()), kOut | kEnded);
  EXPECT_EQ(bits_of(peer()), kOut);
  EXPECT_EQ(::shutdown(mine(), SHUT_WR), 0);
  EXPECT_EQ(bits_of(mine()), kOut | kEnded | POLLHUP);
  EXPECT_EQ(bits_of(peer()), kOut | kEnded | POLLHUP);
}

TEST_P(PollBits, OfAClosedPeer) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  peer_.reset();
  EXPECT_EQ(bits_of(mine()), kOut | kEnded | POLLHUP);
  ASSERT_EQ(read_once(mine(), 10), "x");
  EXPECT_EQ(bits_of(mine()), kOut | kEnded | POLLHUP);
}

TEST_P(PollBits, OfAReset) {
  ASSERT_EQ(write_all(mine(), "unread"), 6U);
  peer_.reset();
  EXPECT_EQ(bits_of(mine()), kOut | kEnded | POLLHUP | POLLERR);
  ASSERT_EQ(read_once(mine(), 10), "<ECONNRESET>");
  EXPECT_EQ(bits_of(mine()), kOut | kEnded | POLLHUP);
}

TEST_P(PollBits, WakeAWaiterForWriteBand) {
  const std::size_t queued = fill(mine());
  std::thread reader([&] {
    sleep_a_moment();
    EXPECT_EQ(read_exactly(peer(), queued).size(), queued);
  });
  EXPECT_EQ(wait_for(mine(), POLLWRBAND), POLLWRBAND);
  reader.join();
}

TEST(PollMany, FindsTheReadyOnesAmongManyConnections) {
  std::vector<Connection> connections;
  for (int i = 0; i < 40; ++i) {
    connections.push_back(make_connection());
    if (i % 2 == 0) warm_up(connections.back().client.get(), connections.back().server.get());
  }
  std::vector<pollfd> entries;
  for (const Connection& connection : connections) {
    entries.push_back({connection.server.get(), POLLIN, 0});
  }
  EXPECT_EQ(::poll(entries.data(), entries.size(), 0), 0);
  for (const std::size_t i : {3U, 4U, 20U, 39U}) {
    ASSERT_EQ(write_all(connections[i].client.get(), "x"), 1U);
  }
  EXPECT_EQ(::poll(entries.data(), entries.size(), -1), 4);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const bool ready = i == 3 || i == 4 || i == 20 || i == 39;
    EXPECT_EQ(entries[i].revents, ready ? POLLIN : 0) << i;
  }
}

TEST(PollMany, WakesForAnyOfMany) {
  std::vector<Connection> connections;
  for (int i = 0; i < 20; ++i) {
    connections.push_back(make_connection());
    if (i % 2 == 0) warm_up(connections.back().client.get(), connections.back().server.get());
  }
  for (std::size_t chosen = 0; chosen < connections.size(); chosen += 3) {
    std::vector<pollfd> entries;
    for (const Connection& connection : connections) {
      entries.push_back({connection.server.get(), POLLIN, 0});
    }
    std::thread writer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      EXPECT_EQ(write_all(connections[chosen].client.get(), "x"), 1U);
    });
    EXPECT_EQ(::poll(entries.data(), entries.size(), -1), 1);
    EXPECT_EQ(entries[chosen].revents, POLLIN);
    EXPECT_EQ(read_once(connections[chosen].server.get(), 1), "x");
    writer.join();
  }
}

TEST(PollOther, SaysHangUpOfASocketThatWasNeverConnected) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(poll_now(socket.get(), kAll), POLLOUT | POLLHUP);
}

TEST(PollOther, SaysReadableOfAListenerWithSomeoneWaiting) {
  const Listener listener;
  EXPECT_EQ(poll_now(listener.fd(), kAll) & POLLIN, 0);
  const UniqueFd client = listener.connect();
  EXPECT_EQ(poll_now(listener.fd(), POLLIN), POLLIN);
  const UniqueFd server = listener.accept();
  EXPECT_EQ(poll_now(listener.fd(), POLLIN), 0);
}

TEST(PollOther, OfNothingIsASleep) {
  const Stopwatch stopwatch;
  EXPECT_EQ(::poll(nullptr, 0, 30), 0);
  EXPECT_GE(stopwatch.milliseconds(), 29.0);
}

class PollBetweenProcesses : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, PollBetweenProcesses, every_situation(), situation_name);

TEST_P(PollBetweenProcesses, IsWokenByDataRoomAndEnd) {
  ForkedConnection connection = connect_to([](int fd) {
    sleep_a_moment();
    EXPECT_EQ(write_all(fd, "x"), 1U);
    EXPECT_EQ(wait_for(fd, POLLIN), POLLIN);
    sleep_a_moment();
    EXPECT_GE(read_exactly(fd, 100000).size(), 100000U);
    while (!read_available(fd).empty()) sleep_a_moment();
    sleep_a_moment();
  });
  const int fd = connection.mine.get();
  EXPECT_EQ(wait_for(fd, POLLIN), POLLIN);
  EXPECT_EQ(read_once(fd, 10), "x");
  const std::size_t queued = fill(fd);
  EXPECT_GE(queued, 100000U);
  EXPECT_EQ(wait_for(fd, POLLOUT), POLLOUT);
  EXPECT_EQ(wait_for(fd, POLLIN), POLLIN | POLLHUP);
  EXPECT_EQ(connection.peer.wait(), 0);
  EXPECT_EQ(poll_now(fd, kAll), kGone);
}

TEST_P(PollBetweenProcesses, PingPongsThroughPoll) {
  ForkedConnection connection = connect_to([](int fd) {
    set_nonblocking(fd, true);
    for (int i = 0; i < 1000; ++i) {
      EXPECT_EQ(wait_for(fd, POLLIN), POLLIN);
      EXPECT_EQ(read_once(fd, 100), "ping");
      EXPECT_EQ(write_all(fd, "pong"), 4U);
    }
  });
  const int fd = connection.mine.get();
  set_nonblocking(fd, true);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(write_all(fd, "ping"), 4U);
    ASSERT_NE(wait_for(fd, POLLIN) & POLLIN, 0);
    ASSERT_EQ(read_once(fd, 100), "pong");
  }
  EXPECT_EQ(connection.peer.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
