// Several threads in one epoll set, while connections come, move to the ring, are modified and
// close: every message must be answered, none may be lost in a sleep.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

constexpr auto kForABit = std::chrono::milliseconds(1500);
constexpr auto kForLong = std::chrono::seconds(60);
constexpr std::uint64_t kStop = ~std::uint64_t{0};

bool is_long() { return std::getenv("TSSX_TEST_LONG") != nullptr; }

// How the workers' set is watched.
enum class Way { directly, in_another_set, by_poll };

// An echo service: workers share a set, each connection is a ONESHOT member, which the worker that
// served it arms again.
class Service {
 public:
  Service(int workers, Way way) : way_(way), stop_(::eventfd(0, 0)) {
    EXPECT_EQ(set_.add(stop_.get(), EPOLLIN, kStop), 0);
    if (way == Way::in_another_set) {
      EXPECT_EQ(outer_.add(set_.fd(), EPOLLIN, 1), 0);
    }
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service() {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(stop_.get(), &one, sizeof one), 8);
    for (std::thread& thread : threads_) thread.join();
  }
  // Takes over `fd`, and closes it at the end of its stream.
  void serve(UniqueFd fd, bool edge) {
    set_nonblocking(fd.get(), true);
    const int number = fd.release();
    const std::uint64_t data = static_cast<std::uint64_t>(number) << 1U | (edge ? 1U : 0U);
    EXPECT_EQ(set_.add(number, events_of(data), data), 0);
  }

 private:
  static std::uint32_t events_of(std::uint64_t data) {
    return EPOLLIN | EPOLLRDHUP | EPOLLONESHOT | ((data & 1U) != 0 ? EPOLLET : 0U);
  }

  void wait_outside() const {
    if (way_ == Way::in_another_set) {
      EXPECT_EQ(outer_.wait(-1), (Events{{1, EPOLLIN}}));
    } else if (way_ == Way::by_poll) {
      EXPECT_EQ(wait_for(set_.fd(), POLLIN), POLLIN);
    }
  }

  void work() {
    for (;;) {
      wait_outside();
      // From outside, another worker may have been faster.
      const Events events = set_.wait(way_ == Way::directly ? -1 : 0, 3);
      for (const auto& [data, bits] : events) {
        if (data == kStop) return;
        const int fd = static_cast<int>(data >> 1U);
        const std::string got = read_available(fd);
        EXPECT_EQ(write_all(fd, got), got.size());
        if ((bits & (EPOLLRDHUP | EPOLLHUP)) != 0 && got.empty()) {
          ::close(fd);  // without EPOLL_CTL_DEL
          continue;
        }
        EXPECT_EQ(set_.modify(fd, events_of(data), data), 0);
      }
    }
  }

  const Way way_;
  const UniqueFd stop_;
  const EpollSet set_;
  const EpollSet outer_;
  std::vector<std::thread> threads_;
};

// A client that sends messages of random sizes at random moments and waits for each answer in one
// way or another; a lost wake-up ends it in the watchdog.
void be_a_client(const Listener& listener, Service& service, std::mutex& accepting, unsigned seed,
                 std::chrono::steady_clock::time_point end) {
  std::mt19937 random(seed);
  const EpollSet answers;
  while (std::chrono::steady_clock::now() < end) {
    UniqueFd client;
    {
      const std::lock_guard lock(accepting);
      client = listener.connect();
      service.serve(listener.accept(), random() % 2 == 0);
    }
    const bool by_epoll = random() % 2 == 0;
    if (by_epoll) {
      ASSERT_EQ(answers.add(client.get(), EPOLLIN | (random() % 2 == 0 ? EPOLLET : 0U), 1), 0);
    }
    // Some are gone before they move, others stay long enough.
    const int messages = random() % 3 == 0 ? 5 : 60;
    for (int i = 0; i < messages; ++i) {
      const std::size_t size = random() % 8 == 0 ? 3000 : 1 + random() % 40;
      const std::string message = pattern(random() % 1000, size);
      if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
      ASSERT_EQ(write_all(client.get(), message), size);
      std::string got;
      while (got.size() < size) {
        if (by_epoll) {
          ASSERT_EQ(answers.wait(-1).count(1), 1U);
        } else if (random() % 2 == 0) {
          ASSERT_NE(wait_for(client.get(), POLLIN) & POLLIN, 0);
        }
        got += read_once(client.get(), size - got.size());
      }
      ASSERT_EQ(got, message);
    }
  }
}

class EpollStress : public testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(, EpollStress,
                         testing::Values(Way::directly, Way::in_another_set, Way::by_poll),
                         [](const testing::TestParamInfo<Way>& way) {
                           return way.param == Way::directly         ? "Directly"
                                  : way.param == Way::in_another_set ? "InAnotherSet"
                                                                     : "ByPoll";
                         });

TEST_P(EpollStress, LosesNoMessage) {
  const Listener listener;
  Service service(3, GetParam());
  std::mutex accepting;
  const auto end = std::chrono::steady_clock::now() + (is_long() ? kForLong : kForABit);
  std::vector<std::thread> clients;
  for (unsigned i = 0; i < 3; ++i) {
    clients.emplace_back([&, i] { be_a_client(listener, service, accepting, 1000 + i, end); });
  }
  for (std::thread& client : clients) client.join();
}

// Readers take bytes, and bells, past a set in which others sleep.
TEST(EpollStressReaders, LeaveTheWaitersAwake) {
  const Connection connection = make_connection();
  const int mine = connection.server.get();
  const int peer = connection.client.get();
  set_nonblocking(mine, true);
  const EpollSet set;
  ASSERT_EQ(set.add(mine, EPOLLIN, 1), 0);
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> taken{0};
  std::thread thief([&] {
    while (!stop) {
      char byte = 0;
      if (::read(mine, &byte, 1) == 1) taken += 1;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  std::thread waiter([&] {
    while (!stop) {
      if (set.wait(-1).count(1) == 0) continue;
      taken += read_available(mine).size();
    }
  });
  const auto end = std::chrono::steady_clock::now() + (is_long() ? kForLong : kForABit);
  std::size_t sent = 0;
  while (std::chrono::steady_clock::now() < end) {
    ASSERT_EQ(write_all(peer, "xyz"), 3U);
    sent += 3;
    while (taken < sent) std::this_thread::yield();
    if (sent % 10 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    // Traffic the other way moves it to the ring.
    ASSERT_EQ(write_all(mine, "z"), 1U);
    ASSERT_EQ(read_exactly(peer, 1), "z");
  }
  stop = true;
  ASSERT_EQ(write_all(peer, "x"), 1U);
  ASSERT_EQ(::shutdown(peer, SHUT_WR), 0);
  thief.join();
  waiter.join();
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
}

}  // namespace
}  // namespace tssx_test
