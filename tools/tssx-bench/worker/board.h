// The memory that the processes of one measurement share: orders, results, and nothing that is
// touched on the way of a measured byte.
//
// Thread safety: each member says who writes it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tools/tssx-bench/histogram.h"

namespace tssx::bench {

inline constexpr std::size_t kMostHistograms = 16;
inline constexpr std::size_t kMostValues = 32;

enum class Action : std::uint32_t { warm, measure, quit };

class Board {
 public:
  // Shared with all later children, zeroed, never unmapped. Throws std::system_error.
  static Board& make();

  // --- the lead's side ---

  // Gives an order to all actors, who number `actors`; wait_for_all() follows.
  void order(Action action);
  // Sleeps until all actors have arrived; returns false every half second before that, so that
  // the caller can look after them.
  bool wait_for_all(std::uint32_t actors);

  // --- an actor's side ---

  // Reports that it did as ordered (or, the first time, that it is there), and sleeps until the
  // next order.
  Action arrive();
  // The first failure of all is kept.
  void fail(bool skip, std::string_view why);

  // --- results ---

  // How the measurement failed; empty if it did not. The view lasts.
  [[nodiscard]] std::string_view failure() const;
  [[nodiscard]] bool skipped() const { return skipped_.load(std::memory_order_acquire) != 0; }

  // Written by the actor to whom the scenario gives them; read by the lead afterwards.
  std::array<Histogram, kMostHistograms> histograms{};
  std::array<double, kMostValues> values{};

  // Application bytes that went over connections during Action::measure, in all directions.
  std::atomic<std::uint64_t> payload{0};

  // For scenarios whose actors must tell each other something: "stop", "sent so much".
  alignas(128) std::atomic<std::uint32_t> stop{0};
  alignas(128) std::array<std::atomic<std::uint64_t>, 2> sent{};

 private:
  static constexpr std::size_t kLongestFailure = 400;

  alignas(128) std::atomic<std::uint32_t> orders_{0};  // the lead counts; actors sleep on it
  std::atomic<Action> action_{Action::warm};           // valid once orders_ has changed
  std::atomic<std::uint32_t> arrived_{0};              // actors count; the lead sleeps on it
  std::atomic<std::uint32_t> failed_{0};               // 0, 1: being written, 2: written
  std::atomic<std::uint32_t> skipped_{0};
  std::array<char, kLongestFailure> failure_{};
};

}  // namespace tssx::bench
