// The clocks of the fuzzers, see clock.h.
#include <sys/syscall.h>
#include <time.h>

#include <cstdint>

#include "core/sys.h"
#include "tests/fuzz/stopped_clock.h"

namespace tssx::fuzz {
namespace {

bool stopped = false;
std::uint64_t nanoseconds = 0;
unsigned long long ticks = 0;

}  // namespace

StoppedClock::StoppedClock() {
  stopped = true;
  nanoseconds = 1'000'000'000'000;
  ticks = 0;
}

StoppedClock::~StoppedClock() { stopped = false; }

void StoppedClock::advance(std::uint64_t by) {
  nanoseconds += by;
  ticks += by * 3;
}

}  // namespace tssx::fuzz

unsigned long long tssx_fuzz_ticks() noexcept { return tssx::fuzz::ticks += 1000; }

// The time of day stays what it is: libFuzzer asks for it, to see that an input takes too long.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  if (!tssx::fuzz::stopped || clock != CLOCK_MONOTONIC) {
    return static_cast<int>(tssx::sys::call(SYS_clock_gettime, clock, tssx::sys::word(now)));
  }
  *now = tssx::sys::timespec_of(tssx::fuzz::nanoseconds += 20'000);
  return 0;
}
