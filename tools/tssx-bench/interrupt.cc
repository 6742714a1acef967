#include "tools/tssx-bench/interrupt.h"

#include <initializer_list>

namespace tssx::bench {
namespace {

volatile sig_atomic_t came = 0;

void note(int signal) { came = signal; }

}  // namespace

void catch_interruptions() {
  struct sigaction action {};
  action.sa_handler = note;  // no SA_RESTART
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  // A worker that died shows as a failed write.
  ::signal(SIGPIPE, SIG_IGN);
}

int interrupted() { return came; }

sigset_t interruptions() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, signal);
  return set;
}

}  // namespace tssx::bench
