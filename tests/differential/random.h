// Numbers that look random and are the same on every machine.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

namespace differential {

class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t stream)
      : state_(seed * 0x9E3779B97F4A7C15U ^ (stream + 1) * 0xD1B54A32D192ED03U) {
    next();
  }

  // splitmix64
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  // 0 to limit - 1
  long below(long limit) { return static_cast<long>(next() % static_cast<std::uint64_t>(limit)); }
  bool one_in(long chances) { return below(chances) == 0; }
  bool percent(long chance) { return below(100) < chance; }
  template <typename T>
  T pick(const std::vector<T>& from) {
    return from[static_cast<std::size_t>(below(static_cast<long>(from.size())))];
  }
  template <typename T>
  T pick(std::initializer_list<T> from) {
    return from.begin()[below(static_cast<long>(from.size()))];
  }

 private:
  std::uint64_t state_;
};

}  // namespace differential
