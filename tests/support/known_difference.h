// A difference from the kernel that docs/limitations.md names: the case stays, as the kernel's
// behaviour is the goal, and is skipped where the library is preloaded.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#define TSSX_KNOWN_DIFFERENCE(what)                                         \
  if (std::getenv("TSSX_TEST_PRELOADED") != nullptr) {                      \
    GTEST_SKIP() << "differs from the kernel (docs/limitations.md): " what; \
  }                                                                         \
  static_assert(true)
