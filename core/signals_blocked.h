// Keeps signal handlers of this thread out of a few lines.
//
// Thread safety: of this thread alone. May be called from: anywhere.
#pragma once

#include <signal.h>

#include <cstdint>

#include "core/sys.h"

namespace tssx {

// No handler of this thread runs while it lives: what it does on the socket and what it notes of
// that belong together, and a handler that writes would come between.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    const std::uint64_t all = ~std::uint64_t{0};
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::word(&all), sys::word(&previous_), 8);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::word(&previous_), 0, 8); }

 private:
  std::uint64_t previous_ = 0;
};

}  // namespace tssx
