// Labelled points at which a test ends this process, or holds it up: what is left behind by a
// process that dies there is for the others to live with.
//
//     TSSX_FAULT_POINT(head_published);
//
// The macro is nothing at all unless TSSX_FAULT_POINTS is defined, and that is so in the library
// libtssx-fault.so of the tests alone. Labels are identifiers, each used once; tests/fault finds
// them in the sources and walks all of them.
//
// In that library the environment says what happens:
//
//   TSSX_FAULT=label:count:action   when the processes that share this program's memory by fork
//   have
//                                   come to `label` for the `count`th time in all, whoever comes
//                                   there does the action, once:
//                                     kill, abort, segv   it ends by that signal
//                                     hold                it sleeps there for 20 ms; `count` is 0
//                                                         for every time
//   TSSX_FAULT_COUNTS=path          a file of FaultCount, which is mapped and counts every label
//
// Thread safety: that is what it is for. May be called from: anywhere; no malloc, no stdio.
#pragma once

#if defined(TSSX_FAULT_POINTS)

#include <atomic>
#include <cstdint>

namespace tssx {

struct FaultCount {
  std::atomic<std::uint64_t> count;
  char label[56];  // ends with NUL
};

void reach_fault_point(const char* label) noexcept;

}  // namespace tssx

#define TSSX_FAULT_POINT(label) ::tssx::reach_fault_point(#label)

#else

#define TSSX_FAULT_POINT(label)

#endif
