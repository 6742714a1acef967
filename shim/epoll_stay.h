// A thread's sleep in an epoll set, or in the set's front.
//
// Thread safety: each stay is one thread's. May be called from: signal handlers.
#pragma once

#include <cstdint>

#include "shim/epoll_set.h"

namespace tssx {

// A thread asleep in a set: counted while the kernel has it. The count is also ended where the
// thread is cancelled, and, at its next sleep, where a signal handler left the sleep by siglongjmp.
class SetStay {
 public:
  SetStay(const SetStay&) = delete;
  SetStay& operator=(const SetStay&) = delete;
  // `soon`: it will end by itself before long.
  explicit SetStay(EpollSet& set, bool soon = false) noexcept;
  ~SetStay();
  int front() const noexcept { return front_; }

 private:
  static thread_local SetStay* innermost;
  static thread_local EpollSet* innermost_set;
  static thread_local std::uint64_t innermost_cookie;
  static thread_local bool innermost_in_set;
  static thread_local bool innermost_soon;
  static thread_local std::uint64_t last_cookie;

  EpollSet& set_;
  volatile std::uint64_t cookie_;
  bool soon_;
  int front_ = -1;
  SetStay* outer_ = nullptr;
  EpollSet* outer_set_ = nullptr;
  std::uint64_t outer_cookie_ = 0;
  bool outer_in_set_ = false;
  bool outer_soon_ = false;
};

}  // namespace tssx
