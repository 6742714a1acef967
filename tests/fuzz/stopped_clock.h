// While it lives, time passes by looks at a clock (clock.h).
#pragma once

#include <cstdint>

namespace tssx::fuzz {

class StoppedClock {
 public:
  StoppedClock();
  StoppedClock(const StoppedClock&) = delete;
  StoppedClock& operator=(const StoppedClock&) = delete;
  ~StoppedClock();

  static void advance(std::uint64_t nanoseconds);
};

}  // namespace tssx::fuzz
