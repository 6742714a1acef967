#include "tools/tssx-bench/worker/floors.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/worker/place.h"
#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

constexpr std::size_t kLine = 128;

// Memory that all actors share.
template <typename T>
T& make_shared_memory() {
  void* memory =
      ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw_errno("mmap");
  return *new (memory) T{};
}

// A number that both raise in turn: even when it is the first one's turn.
struct alignas(kLine) Ball {
  std::atomic<std::uint64_t> number{0};
};

// How to wait for the other.
struct Pause {
  static void wait() { __builtin_ia32_pause(); }
};
struct Yield {
  static void wait() { ::sched_yield(); }
};

// On one line, a number with that bit ends the game.
constexpr std::uint64_t kOver = std::uint64_t{1} << 63U;

template <typename Waiting>
class Second : public Role {
 public:
  explicit Second(Ball& ball) : ball_(ball) {}
  void measure() override {
    for (std::uint64_t expected = 1;; expected += 2) {
      std::uint64_t seen = 0;
      // acquire and release as a ring would have them.
      while ((seen = ball_.number.load(std::memory_order_acquire)) < expected) Waiting::wait();
      if ((seen & kOver) != 0) return;
      ball_.number.store(seen + 1, std::memory_order_release);
    }
  }

 private:
  Ball& ball_;
};

template <typename Waiting>
class First : public Role {
 public:
  First(Ball& ball, double seconds, double& result)
      : ball_(ball), duration_ns_(to_ns(seconds)), result_(result) {}
  void measure() override {
    constexpr int kTripsAtOnce = 100;  // between two looks at the clock
    std::uint64_t number = 0;
    // Once to settle.
    for (const std::uint64_t duration : {duration_ns_ / 10, duration_ns_}) {
      const std::uint64_t begin = now_ns();
      std::uint64_t now = begin;
      std::uint64_t trips = 0;
      while (now - begin < duration) {
        for (int i = 0; i < kTripsAtOnce; ++i) {
          ball_.number.store(number + 1, std::memory_order_release);
          number += 2;
          while (ball_.number.load(std::memory_order_acquire) < number) Waiting::wait();
        }
        trips += kTripsAtOnce;
        now = now_ns();
      }
      result_ = static_cast<double>(now - begin) / static_cast<double>(trips);
    }
    ball_.number.store(kOver, std::memory_order_release);
  }

 private:
  Ball& ball_;
  std::uint64_t duration_ns_;
  double& result_;
};

template <typename Waiting>
Scenario make_game(const Place& place, double seconds, Board& board) {
  Ball& ball = make_shared_memory<Ball>();
  Scenario scenario;
  scenario.actors.push_back(
      {place.server, [&ball] { return std::make_unique<Second<Waiting>>(ball); }});
  scenario.actors.push_back({place.client, [&ball, seconds, &board] {
                               return std::make_unique<First<Waiting>>(ball, seconds,
                                                                       board.values[0]);
                             }});
  scenario.report = [](const Board& results) {
    return std::vector<Metric>{{"time", results.values[0]}};
  };
  return scenario;
}

// A ring without anything a socket needs. Positions only grow.
constexpr std::size_t kCapacity = 256 * 1024;
constexpr std::size_t kPiece = 32 * 1024;  // published at once, so that both copy at a time
struct Ring {
  alignas(kLine) std::atomic<std::uint64_t> head{0};
  alignas(kLine) std::atomic<std::uint64_t> tail{0};
  alignas(kLine) std::atomic<bool> over{false};
  alignas(kLine) char data[kCapacity];
};

// REQUIRES: kCapacity is a multiple of the piece, so that no piece goes over the end.
std::size_t piece_of(std::size_t size) { return std::min(size, kPiece); }

class Producer : public Role {
 public:
  Producer(Ring& ring, std::size_t size) : ring_(ring), buffer_(size) {}
  void measure() override {
    const std::size_t piece = piece_of(buffer_.size());
    std::uint64_t head = 0;
    for (;;) {
      for (std::size_t done = 0; done < buffer_.size(); done += piece) {
        while (head + piece - ring_.tail.load(std::memory_order_acquire) > kCapacity) {
          if (ring_.over.load(std::memory_order_relaxed)) return;
          __builtin_ia32_pause();
        }
        std::memcpy(ring_.data + head % kCapacity, buffer_.data() + done, piece);
        head += piece;
        ring_.head.store(head, std::memory_order_release);
      }
    }
  }

 private:
  Ring& ring_;
  std::vector<char> buffer_;
};

class Consumer : public Role {
 public:
  Consumer(Ring& ring, std::size_t size, double seconds, double& result)
      : ring_(ring), buffer_(size), duration_ns_(to_ns(seconds)), result_(result) {}
  void measure() override {
    for (const std::uint64_t duration : {duration_ns_ / 10, duration_ns_}) {
      const std::uint64_t before = tail_;
      const std::uint64_t begin = now_ns();
      std::uint64_t now = begin;
      while (now - begin < duration) {
        receive();
        now = now_ns();
      }
      result_ = static_cast<double>(tail_ - before) / static_cast<double>(now - begin);
    }
    ring_.over.store(true);
  }

 private:
  void receive() {
    const std::size_t piece = piece_of(buffer_.size());
    for (std::size_t done = 0; done < buffer_.size(); done += piece) {
      while (ring_.head.load(std::memory_order_acquire) - tail_ < piece) __builtin_ia32_pause();
      std::memcpy(buffer_.data() + done, ring_.data + tail_ % kCapacity, piece);
      tail_ += piece;
      ring_.tail.store(tail_, std::memory_order_release);
    }
  }

  Ring& ring_;
  std::vector<char> buffer_;
  std::uint64_t duration_ns_;
  double& result_;
  std::uint64_t tail_ = 0;
};

}  // namespace

Scenario make_bounce(const Job& job, Board& board) {
  return make_game<Pause>(place_of("two-cpus"), job.number("seconds"), board);
}

Scenario make_yields(const Job& job, Board& board) {
  return make_game<Yield>(place_of("one-cpu"), job.number("seconds"), board);
}

Scenario make_copies(const Job& job, Board& board) {
  const Place place = place_of("two-cpus");
  const std::size_t size = job.count("size");
  if (size == 0 || size % piece_of(size) != 0 || kCapacity % piece_of(size) != 0) {
    throw std::invalid_argument("copies: size");
  }
  const double seconds = job.number("seconds");
  Ring& ring = make_shared_memory<Ring>();
  Scenario scenario;
  scenario.actors.push_back(
      {place.server, [=, &ring] { return std::make_unique<Producer>(ring, size); }});
  scenario.actors.push_back({place.client, [=, &ring, &board] {
                               return std::make_unique<Consumer>(ring, size, seconds,
                                                                 board.values[0]);
                             }});
  scenario.report = [](const Board& results) {
    return std::vector<Metric>{{"throughput", results.values[0]}};
  };
  return scenario;
}

}  // namespace tssx::bench
