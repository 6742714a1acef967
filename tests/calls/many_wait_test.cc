// One thread that waits for many connections at a time, each of which is used now and then: whoever
// writes to one of them wakes it, and once awake it misses none of the others.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"

namespace tssx_test {
namespace {

constexpr std::size_t kConnections = 8;
constexpr std::size_t kMessages = 3000;

// Numbers that look random, and are the same each time.
class Numbers {
 public:
  std::uint32_t next(std::uint32_t bound) {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state_ >> 33U) % bound;
  }

 private:
  std::uint64_t state_ = 1;
};

// A child process uses the connections in any order, with pauses in which this process falls
// asleep. Each message is answered; up to one for each connection is under way.
class ManyWaits : public testing::Test {
 protected:
  void SetUp() override {
    const Listener listener;
    peer_ = Child([&listener] {
      std::vector<UniqueFd> clients;
      for (std::size_t i = 0; i < kConnections; ++i) {
        clients.push_back(listener.connect());
        warm_up_as_leader(clients.back().get());
      }
      Numbers numbers;
      std::vector<bool> waits(kConnections, false);
      for (std::size_t i = 0; i < kMessages; ++i) {
        const std::size_t chosen = numbers.next(kConnections);
        const int fd = clients[chosen].get();
        if (waits[chosen]) {
          ASSERT_EQ(read_once(fd, 10), "a");
        }
        if (numbers.next(4) == 0) ::usleep(numbers.next(300));
        ASSERT_EQ(write_all(fd, "q"), 1U);
        waits[chosen] = true;
      }
      for (std::size_t i = 0; i < kConnections; ++i) {
        if (waits[i]) {
          ASSERT_EQ(read_once(clients[i].get(), 10), "a");
        }
      }
    });
    for (std::size_t i = 0; i < kConnections; ++i) {
      servers_.push_back(listener.accept());
      warm_up_as_follower(servers_.back().get());
      set_nonblocking(servers_.back().get(), true);
    }
  }

  // Answers what `ready` tells of, until all is answered.
  void serve(const std::function<std::vector<std::size_t>()>& ready) {
    std::size_t served = 0;
    while (served < kMessages) {
      const std::vector<std::size_t> chosen = ready();
      ASSERT_FALSE(chosen.empty()) << "after " << served;
      for (const std::size_t i : chosen) {
        ASSERT_EQ(read_once(servers_[i].get(), 10), "q");
        ASSERT_EQ(write_all(servers_[i].get(), "a"), 1U);
        ++served;
      }
    }
    EXPECT_EQ(peer_.wait(), 0);
  }

  void serve_by_epoll(std::uint32_t events) {
    const EpollSet set;
    for (std::size_t i = 0; i < kConnections; ++i) {
      ASSERT_EQ(set.add(servers_[i].get(), events, i), 0);
    }
    serve([&set] {
      std::vector<std::size_t> ready;
      for (const auto& [i, what] : set.wait(10'000)) {
        if ((what & EPOLLIN) != 0) ready.push_back(i);
      }
      return ready;
    });
  }

  std::vector<UniqueFd> servers_;
  Child peer_;
};

TEST_F(ManyWaits, ByEpollMissNothing) { serve_by_epoll(EPOLLIN); }

TEST_F(ManyWaits, ByEpollOnEdgesMissNothing) { serve_by_epoll(EPOLLIN | EPOLLET); }

TEST_F(ManyWaits, ByPollMissNothing) {
  serve([this] {
    std::vector<pollfd> entries;
    for (const UniqueFd& server : servers_) entries.push_back({server.get(), POLLIN, 0});
    EXPECT_GT(::poll(entries.data(), entries.size(), 10'000), 0);
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if ((entries[i].revents & POLLIN) != 0) ready.push_back(i);
    }
    return ready;
  });
}

// The same connections in two sets: what one wait takes back, the other one still relies on.
TEST_F(ManyWaits, ByTwoSetsInTurnMissNothing) {
  const EpollSet sets[2];
  for (const EpollSet& set : sets) {
    for (std::size_t i = 0; i < kConnections; ++i) {
      ASSERT_EQ(set.add(servers_[i].get(), EPOLLIN, i), 0);
    }
  }
  std::size_t turn = 0;
  serve([&] {
    std::vector<std::size_t> ready;
    for (const auto& [i, what] : sets[turn++ % 2].wait(10'000, 2)) ready.push_back(i);
    return ready;
  });
}

// By poll() and by a set in turn.
TEST_F(ManyWaits, ByPollAndEpollInTurnMissNothing) {
  const EpollSet set;
  for (std::size_t i = 0; i < kConnections; ++i) {
    ASSERT_EQ(set.add(servers_[i].get(), EPOLLIN, i), 0);
  }
  std::size_t turn = 0;
  serve([&] {
    std::vector<std::size_t> ready;
    if (turn++ % 2 == 0) {
      for (const auto& [i, what] : set.wait(10'000)) ready.push_back(i);
      return ready;
    }
    std::vector<pollfd> entries;
    for (const UniqueFd& server : servers_) entries.push_back({server.get(), POLLIN, 0});
    EXPECT_GT(::poll(entries.data(), entries.size(), 10'000), 0);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].revents != 0) ready.push_back(i);
    }
    return ready;
  });
}

}  // namespace
}  // namespace tssx_test
