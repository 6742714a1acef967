// The signal mask of a call like ppoll(2), which holds for the whole of it, where we sleep more
// than once: between the sleeps no signal gets through, so each of them meets the caller's mask.
//
// Thread safety: a thread's own mask. May be called from: signal handlers too.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace tssx {

class HeldSignals {
 public:
  HeldSignals() noexcept = default;
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;
  ~HeldSignals() {
    if (held_) ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  // To be called before each sleep with the caller's mask; null does nothing.
  void hold(const sigset_t* mask) noexcept {
    if (mask == nullptr || held_) return;
    sigset_t all;
    ::sigfillset(&all);
    // libc leaves out the signal by which it cancels threads.
    held_ = ::pthread_sigmask(SIG_SETMASK, &all, &before_) == 0;
  }

 private:
  bool held_ = false;
  sigset_t before_;
};

}  // namespace tssx
