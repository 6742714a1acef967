// Connections under load: two processes, or threads, that block, wake each other and move between
// kernel and ring at random moments. Every byte is checked; a lost wake-up ends in the watchdog.
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/wakeup.h"
#include "tests/core/support/child.h"
#include "tests/core/support/endpoint.h"
#include "tests/core/support/stream.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kScale = 8;  // such a build is that much slower
#else
constexpr std::uint64_t kScale = 1;
#endif

// The longest piece that is checked at once, at every phase of the pattern's first period, so that
// the check costs a memcmp.
class Expected {
 public:
  static constexpr std::size_t kPeriod = 1U << 24U;  // of stream_byte()
  explicit Expected(std::uint64_t seed) : seed_(seed) {}
  std::string_view at(std::uint64_t position, std::size_t size) {
    const std::size_t start = static_cast<std::size_t>(position % kPeriod);
    if (bytes_.size() < start + size) {
      bytes_ += stream_bytes(bytes_.size(), start + size - bytes_.size() + (1U << 20U), seed_);
    }
    return std::string_view(bytes_).substr(start, size);
  }

 private:
  std::uint64_t seed_;
  std::string bytes_;
};

struct Load {
  std::uint64_t total;
  std::size_t largest;
  std::uint64_t leave_at = ~std::uint64_t{0};  // this many bytes have passed
};

void produce(Endpoint& endpoint, const Load& load, std::uint64_t seed) {
  Expected expected(seed);
  Random random(seed + 1);
  std::uint64_t sent = 0;
  bool left = load.leave_at > load.total;
  while (sent < load.total) {
    if (!left && sent >= load.leave_at) {
      left = endpoint.channel().leave_ring(endpoint.fd());
    }
    const std::size_t size = static_cast<std::size_t>(
        std::min<std::uint64_t>(random.between(1, load.largest), load.total - sent));
    ASSERT_TRUE(endpoint.send_all(expected.at(sent, size)));
    sent += size;
  }
}

void consume(Endpoint& endpoint, const Load& load, std::uint64_t seed) {
  Expected expected(seed);
  Random random(seed + 2);
  std::vector<char> buffer(load.largest);
  std::uint64_t got = 0;
  bool left = load.leave_at > load.total;
  while (got < load.total) {
    if (!left && got >= load.leave_at) {
      left = endpoint.channel().leave_ring(endpoint.fd());
    }
    const Outcome outcome = endpoint.receive_some(buffer.data(), random.between(1, load.largest));
    ASSERT_EQ(outcome.status, Status::done) << "after " << got;
    const std::string_view bytes(buffer.data(), outcome.bytes);
    if (bytes != expected.at(got, outcome.bytes)) {
      ASSERT_TRUE(is_stream(bytes, got, seed));
      FAIL() << "the expectation itself is wrong at " << got;
    }
    got += outcome.bytes;
  }
}

// Both directions by one thread, without blocking except for both at once: an event loop.
void exchange(Endpoint& endpoint, const Load& out, std::uint64_t out_seed, const Load& in,
              std::uint64_t in_seed) {
  Expected to_send(out_seed);
  Expected to_get(in_seed);
  Random random(out_seed + 3);
  std::vector<char> buffer(in.largest);
  std::uint64_t sent = 0;
  std::uint64_t got = 0;
  bool left = out.leave_at > out.total;
  while (sent < out.total || got < in.total) {
    bool moved = false;
    if (!left && sent + got >= out.leave_at) {
      left = endpoint.channel().leave_ring(endpoint.fd());
    }
    if (sent < out.total) {
      const std::size_t size = static_cast<std::size_t>(
          std::min<std::uint64_t>(random.between(1, out.largest), out.total - sent));
      const Outcome outcome = endpoint.try_send(to_send.at(sent, size));
      ASSERT_TRUE(outcome.status == Status::done || outcome.status == Status::would_block);
      sent += outcome.bytes;
      moved = outcome.bytes != 0;
    }
    if (got < in.total) {
      const Outcome outcome = endpoint.try_receive(buffer.data(), random.between(1, in.largest));
      ASSERT_TRUE(outcome.status == Status::done || outcome.status == Status::would_block);
      const std::string_view bytes(buffer.data(), outcome.bytes);
      if (bytes != to_get.at(got, outcome.bytes)) {
        ASSERT_TRUE(is_stream(bytes, got, in_seed));
      }
      got += outcome.bytes;
      moved = moved || outcome.bytes != 0;
    }
    if (!moved) endpoint.wait_for_either(sent < out.total);
  }
}

// One process at each end. What one side does by `server` and the other by `client` must fit.
template <class Server, class Client>
void run_processes(Server&& server, Client&& client, bool established) {
  Pair pair;
  if (established) pair.establish();
  Child child([&] {
    ::close(pair.server.fd());
    client(pair.client);
    pair.client.close();
  });
  ::close(pair.client.fd());
  server(pair.server);
  pair.server.close();
  EXPECT_EQ(child.wait(), 0);
  // Its descriptor is closed already; the memory goes with the process.
  pair.client.forget();
}

// Without this, a wait would spend its time in spinning and hardly ever sleep.
class Stress : public testing::Test {
 protected:
  void SetUp() override { set_spin_limit(0); }

 private:
  Watchdog watchdog_{30};
};

TEST_F(Stress, OneWayBetweenProcesses) {
  const Load load{100'000'000 / kScale, 200'000};
  run_processes([&](Endpoint& server) { produce(server, load, 1); },
                [&](Endpoint& client) { consume(client, load, 1); }, true);
}

TEST_F(Stress, OneWayTowardsTheServer) {
  const Load load{60'000'000 / kScale, 200'000};
  run_processes([&](Endpoint& server) { consume(server, load, 1); },
                [&](Endpoint& client) { produce(client, load, 1); }, true);
}

TEST_F(Stress, OneWayFromTheFirstByte) {
  // The reader's own direction stays the kernel's until it has to ring.
  const Load load{30'000'000 / kScale, 100'000};
  run_processes([&](Endpoint& server) { consume(server, load, 1); },
                [&](Endpoint& client) { produce(client, load, 1); }, false);
}

TEST_F(Stress, SmallMessagesOneWay) {
  const Load load{2'000'000 / kScale, 60};
  run_processes([&](Endpoint& server) { produce(server, load, 1); },
                [&](Endpoint& client) { consume(client, load, 1); }, true);
}

TEST_F(Stress, PingPong) {
  constexpr int kRounds = 20'000 / static_cast<int>(kScale);
  const auto play = [](Endpoint& endpoint, bool first) {
    for (int i = 0; i < kRounds; ++i) {
      const auto sent = static_cast<char>(i);
      ASSERT_TRUE(!first || endpoint.send_all(std::string_view(&sent, 1)));
      char got = 0;
      ASSERT_EQ(endpoint.receive_some(&got, 1).status, Status::done);
      ASSERT_EQ(got, sent) << i;
      ASSERT_TRUE(first || endpoint.send_all(std::string_view(&sent, 1)));
    }
  };
  run_processes([&](Endpoint& server) { play(server, true); },
                [&](Endpoint& client) { play(client, false); }, false);
}

// The ring stays half full, so that every single byte decides whether the producer may go on: it
// announces itself in the very moment in which the consumer makes room.
TEST_F(Stress, SpaceIsAnnouncedByteByByte) {
  constexpr int kRounds = 30'000 / static_cast<int>(kScale);
  Pair pair;
  pair.establish();
  const std::size_t half = pair.server.channel().view().capacity / 2;
  ASSERT_TRUE(pair.server.send_all(std::string(half, 'h')));
  std::atomic<int> sent{0};
  std::thread consumer([&] {
    Random random(5);
    for (int i = 0; i < kRounds; ++i) {
      for (int looks = 0; sent.load() == i; ++looks) {
        if (looks > 1000) ::sched_yield();
      }
      for (std::size_t pause = random.between(0, 40); pause != 0; --pause) relax();
      char byte = 0;
      if (pair.client.try_receive(&byte, 1).bytes != 1) ADD_FAILURE() << i;
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    EXPECT_EQ(pair.server.try_send("x").bytes, 1U);
    sent.store(i + 1);
    // At once: the announcement must meet the consumer's publication.
    if (pair.server.channel().arm_space()) {
      pollfd control{pair.server.fd(), POLLIN, 0};
      ::poll(&control, 1, -1);
      pair.server.channel().woken();
      pair.server.look();
    }
    while (!pair.server.channel().may_send()) pair.server.wait_for_space();
  }
  consumer.join();
}

TEST_F(Stress, BothWaysByEventLoops) {
  const Load load{40'000'000 / kScale, 200'000};
  run_processes([&](Endpoint& server) { exchange(server, load, 1, load, 2); },
                [&](Endpoint& client) { exchange(client, load, 2, load, 1); }, false);
}

TEST_F(Stress, LeavesTheRingAtARandomMoment) {
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    Random random(seed);
    const std::uint64_t total = 4'000'000 / kScale;
    const Load staying{total, 100'000};
    const Load leaving{total, 100'000, random.between(0, static_cast<std::size_t>(total))};
    switch (seed % 4) {
      case 0:
        run_processes([&](Endpoint& server) { produce(server, leaving, seed); },
                      [&](Endpoint& client) { consume(client, staying, seed); }, seed % 8 != 0);
        break;
      case 1:
        run_processes([&](Endpoint& server) { consume(server, leaving, seed); },
                      [&](Endpoint& client) { produce(client, staying, seed); }, seed % 8 != 1);
        break;
      case 2:
        run_processes([&](Endpoint& server) { exchange(server, leaving, seed, staying, seed + 1); },
                      [&](Endpoint& client) { exchange(client, staying, seed + 1, leaving, seed); },
                      true);
        break;
      default:
        run_processes([&](Endpoint& server) { exchange(server, leaving, seed, leaving, seed + 1); },
                      [&](Endpoint& client) { exchange(client, leaving, seed + 1, leaving, seed); },
                      false);
    }
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

// Two threads at each end, one for each direction, all in one process.
void run_threads(const Load& down, const Load& up) {
  Pair pair;
  std::thread threads[] = {
      std::thread([&] { produce(pair.server, down, 1); }),
      std::thread([&] { consume(pair.client, down, 1); }),
      std::thread([&] { produce(pair.client, up, 2); }),
      std::thread([&] { consume(pair.server, up, 2); }),
  };
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Stress, BothWaysByThreads) {
  const Load load{30'000'000 / kScale, 200'000};
  run_threads(load, load);
}

TEST_F(Stress, ThreadsLeaveTheRingAtARandomMoment) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Random random(seed * 77);
    const std::uint64_t total = 3'000'000 / kScale;
    const Load down{total, 100'000, random.between(0, static_cast<std::size_t>(total))};
    const Load up{total, 100'000, seed % 2 == 0 ? ~std::uint64_t{0} : down.leave_at / 2};
    run_threads(down, up);
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

TEST_F(Stress, SeveralReadersAndWritersOfOneEnd) {
  // Which thread gets which bytes is open; none may be lost, and nobody may sleep for ever.
  constexpr std::uint64_t kTotal = 8'000'000 / kScale;
  constexpr std::size_t kPiece = 1000;
  Pair pair;
  pair.establish();
  std::atomic<std::uint64_t> sum{0};
  std::atomic<std::uint64_t> count{0};
  const auto read = [&] {
    std::vector<char> buffer(50'000);
    for (;;) {
      const Outcome got = pair.client.receive_some(buffer.data(), buffer.size());
      if (got.status != Status::done) break;
      std::uint64_t part = 0;
      for (std::size_t i = 0; i < got.bytes; ++i) part += static_cast<unsigned char>(buffer[i]);
      sum += part;
      count += got.bytes;
    }
  };
  const auto write = [&] {
    const std::string piece(kPiece, 'z');
    for (std::uint64_t i = 0; i < kTotal / kPiece / 2; ++i) {
      ASSERT_TRUE(pair.server.send_all(piece));
    }
  };
  {
    std::thread readers[] = {std::thread(read), std::thread(read)};
    std::thread writers[] = {std::thread(write), std::thread(write)};
    for (std::thread& thread : writers) thread.join();
    pair.server.close();
    for (std::thread& thread : readers) thread.join();
  }
  EXPECT_EQ(count.load(), kTotal / kPiece / 2 * kPiece * 2);
  EXPECT_EQ(sum.load(), count.load() * 'z');
}

TEST_F(Stress, CloseComesAfterAllBytes) {
  // The end of each connection is as good a moment for a lost wake-up as any.
  for (std::uint64_t seed = 1; seed <= 100 / kScale; ++seed) {
    Random random(seed);
    const std::string bytes = stream_bytes(0, random.between(1, 300'000));
    run_processes([&](Endpoint& server) { ASSERT_TRUE(server.send_all(bytes)); },
                  [&](Endpoint& client) {
                    EXPECT_EQ(client.receive_exactly(bytes.size()), bytes);
                    char byte = 0;
                    EXPECT_EQ(client.receive_some(&byte, 1).status, Status::end_of_file);
                  },
                  seed % 2 == 0);
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace tssx::test
