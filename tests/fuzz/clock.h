// Time as core sees it in the fuzzers: it passes with each look at a clock. So an input does the
// same each time, and what waits for a deadline does not take long.
#pragma once

// Included before everything else in core (see CMakeLists.txt): the processor's counter too.
unsigned long long tssx_fuzz_ticks() noexcept;
#define __builtin_ia32_rdtsc tssx_fuzz_ticks
