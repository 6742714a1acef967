#include "tests/support/signals.h"

#include <pthread.h>
#include <sys/time.h>

namespace tssx_test {

volatile sig_atomic_t signals_seen = 0;

void count_signal(int /*signal*/) { signals_seen = signals_seen + 1; }

ScopedHandler::ScopedHandler(int signal, void (*handler)(int), int flags) : signal_(signal) {
  signals_seen = 0;
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigaction(signal, &action, &previous_);
}

ScopedHandler::~ScopedHandler() { ::sigaction(signal_, &previous_, nullptr); }

ScopedBlock::ScopedBlock(int signal) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, &previous_);
}

ScopedBlock::~ScopedBlock() { ::pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }

bool take_pending(int signal) {
  sigset_t only;
  ::sigemptyset(&only);
  ::sigaddset(&only, signal);
  const timespec at_once{0, 0};
  return ::sigtimedwait(&only, nullptr, &at_once) == signal;
}

PeriodicAlarm::PeriodicAlarm(int milliseconds) {
  const timeval every{milliseconds / 1000, (milliseconds % 1000) * 1000L};
  const itimerval timer{every, every};
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

PeriodicAlarm::~PeriodicAlarm() {
  const itimerval off{};
  ::setitimer(ITIMER_REAL, &off, nullptr);
}

}  // namespace tssx_test
