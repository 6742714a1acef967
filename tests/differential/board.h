// What the processes that run a program share: whose turn it is, what each step gave, how far each
// stream is. One shared mapping, made by the server before it forks the process that runs programs,
// so that it can see where that one hangs, and what it has done when it dies.
//
// Thread safety: `next` and `program` are atomic; all else is written by who has the turn (or, in
// the background, by one who has a stream's end to itself) and read after the turn has passed on.
#pragma once

#include <atomic>
#include <cstdint>

#include "tests/differential/model.h"
#include "tests/differential/program.h"

namespace differential {

// What a step gave, in a form that two runs can be compared by: no descriptor numbers, no counts
// that exclusions.h names. The first extras say whether the bytes were right.
struct Result {
  static constexpr int kMaxExtras = 20;
  bool done;
  long value;
  int error;  // errno where value is -1, otherwise 0
  int count;
  long extras[kMaxExtras];

  void add(long extra) {
    if (count < kMaxExtras) extras[count++] = extra;
  }
};

constexpr int kMaxBatch = 256;

struct Board {
  std::atomic<std::uint32_t> next;     // the step whose turn it is; a futex
  std::atomic<std::uint32_t> program;  // how many programs of the batch are done
  Result results[kMaxSteps + 1];       // the last: what is left behind
  long sent[kMaxStreams];
  long received[kMaxStreams];
  std::uint64_t hashes[kMaxBatch];  // of the results of each program
};

}  // namespace differential
