// Durations counted in buckets whose width grows with the value: recording one is an increment in
// memory that is there already.
//
// Thread safety: one thread records; others may read once that one has stopped.
//
// Invariants:
//  1. A value is known to 1/64 of itself; values below 128 are known exactly.
//  2. Plain data without pointers, zero when empty, so it may lie in memory that processes share.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace tssx::bench {

class Histogram {
 public:
  void record(std::uint64_t value) {
    ++counts_[bucket_of(value)];
    ++count_;
  }
  void clear();
  void add(const Histogram& other);

  [[nodiscard]] std::uint64_t count() const { return count_; }

  // The smallest recorded value that at least `percent` of all recorded values do not exceed, as
  // the middle of its bucket; 0 when nothing was recorded.
  [[nodiscard]] double percentile(double percent) const;

 private:
  static constexpr unsigned kLinearBits = 7;  // values below 1 << kLinearBits are exact
  static constexpr unsigned kHalf = 1U << (kLinearBits - 1);
  static constexpr unsigned kLongest = 42;  // bits; 2^42 ns are 73 minutes
  static constexpr std::size_t kBuckets = (kLongest - kLinearBits) * kHalf + 2 * kHalf;

  static std::size_t bucket_of(std::uint64_t value) {
    constexpr std::uint64_t kMost = (std::uint64_t{1} << kLongest) - 1;
    if (value > kMost) value = kMost;
    const auto bits = static_cast<unsigned>(std::bit_width(value));
    const unsigned shift = bits > kLinearBits ? bits - kLinearBits : 0;
    return shift * kHalf + static_cast<std::size_t>(value >> shift);
  }
  static double middle_of(std::size_t bucket);

  std::uint64_t count_ = 0;
  std::array<std::uint64_t, kBuckets> counts_{};
};

}  // namespace tssx::bench
