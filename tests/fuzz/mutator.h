// A peer that writes to the shared page between a check and the use of what was checked.
//
// The fuzzers' build of core calls a hook before each load (trace-loads of clang's coverage). So
// nothing in core knows of it, and an input decides at which load which word changes: the same
// input does the same each time, which no second thread would.
//
// Thread safety: none; the fuzzers have one thread.
#pragma once

#include "core/layout.h"
#include "tests/fuzz/guard.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/scribble.h"

namespace tssx::fuzz {

// While it lives, loads from `segment` take steps of the script.
class Mutator {
 public:
  Mutator(const GuardedSegment& segment, SegmentPage& page, std::uint64_t capacity, Input script);
  Mutator(const Mutator&) = delete;
  Mutator& operator=(const Mutator&) = delete;
  ~Mutator();

  void note_load(void* address);

 private:
  const GuardedSegment& segment_;
  SegmentPage& page_;
  std::uint64_t capacity_;
  Input script_;
  unsigned next_in_ = 0;
};

}  // namespace tssx::fuzz
