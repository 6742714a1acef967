// Signal handlers, masks and timers that put back what they changed.
#pragma once

#include <signal.h>

namespace tssx_test {

// Installs a handler for the lifetime of the object. flags as in sigaction.
class ScopedHandler {
 public:
  ScopedHandler(int signal, void (*handler)(int), int flags = 0);
  ScopedHandler(const ScopedHandler&) = delete;
  ScopedHandler& operator=(const ScopedHandler&) = delete;
  ~ScopedHandler();

 private:
  int signal_;
  struct sigaction previous_ {};
};

// Blocks one signal in this thread.
class ScopedBlock {
 public:
  explicit ScopedBlock(int signal);
  ScopedBlock(const ScopedBlock&) = delete;
  ScopedBlock& operator=(const ScopedBlock&) = delete;
  ~ScopedBlock();

 private:
  sigset_t previous_{};
};

// Takes a blocked signal that is pending for this thread or process; whether there was one.
bool take_pending(int signal);

// SIGALRM after `milliseconds`, and then every `milliseconds` until destroyed, so that one that
// comes too early for the call it should interrupt does no harm.
class PeriodicAlarm {
 public:
  explicit PeriodicAlarm(int milliseconds);
  PeriodicAlarm(const PeriodicAlarm&) = delete;
  PeriodicAlarm& operator=(const PeriodicAlarm&) = delete;
  ~PeriodicAlarm();
};

// Handler that counts into signals_seen.
void count_signal(int signal);
extern volatile sig_atomic_t signals_seen;

}  // namespace tssx_test
