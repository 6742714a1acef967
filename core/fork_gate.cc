#include "core/fork_gate.h"

#include <atomic>
#include <cstdint>

#include "core/sys.h"

namespace tssx {
namespace {

// seq_cst on both: one who enters sees the closed gate, or the one who closes sees him inside.
std::atomic<std::uint32_t> inside{0};
std::atomic<std::uint32_t> closed{0};
thread_local std::uint32_t own_depth = 0;

}  // namespace

SetUpScope::SetUpScope() noexcept : entered_(true) {
  ++own_depth;
  inside.fetch_add(1, std::memory_order_seq_cst);
  if (closed.load(std::memory_order_seq_cst) != 0) {
    inside.fetch_sub(1, std::memory_order_seq_cst);
    --own_depth;
    entered_ = false;
  }
}

SetUpScope::~SetUpScope() {
  if (!entered_) return;
  inside.fetch_sub(1, std::memory_order_seq_cst);
  --own_depth;
}

void close_fork_gate() noexcept {
  closed.fetch_add(1, std::memory_order_seq_cst);
  // Nobody inside sleeps, so this is short.
  while (inside.load(std::memory_order_seq_cst) > own_depth) sys::sched_yield();
}

void open_fork_gate(bool in_child) noexcept {
  if (in_child) {
    inside.store(own_depth, std::memory_order_relaxed);
    closed.store(0, std::memory_order_seq_cst);
  } else {
    closed.fetch_sub(1, std::memory_order_seq_cst);
  }
}

}  // namespace tssx
