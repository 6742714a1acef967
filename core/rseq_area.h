// What this thread shares with the kernel about restartable sequences: the area that glibc
// registers (rseq(2), glibc 2.35), with the CPU the thread runs on.
//
// Thread safety: of this thread alone. May be called from: anywhere; no system call.
#pragma once

#include <sys/rseq.h>

namespace tssx {

// nullptr where glibc registers none. In a thread that it did not make, such as one of a raw
// clone(2), cpu_id is negative.
inline struct rseq* rseq_area() noexcept {
  if (__rseq_size == 0) return nullptr;
  return reinterpret_cast<struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) +
                                        __rseq_offset);
}

}  // namespace tssx
