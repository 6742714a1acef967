// The process that tssx-bench starts, preloaded or not, for one measurement: it forks the actors,
// gives them their orders, and reports. While they measure, it sleeps.
//
// It speaks in lines on standard output and waits for one byte on standard input after each stop:
//
//   actors PID PID...      the processes there are
//   warm CONNECTIONS       stop; 'w': warm up once more, 'g': go on
//   done BYTES CONNECTIONS stop, with all connections open; BYTES of payload went over them
//   metric NAME VALUE
//   end
//   skip TEXT | error TEXT instead of any of these, as the last one
#pragma once

#include <string>
#include <vector>

namespace tssx::bench {

// words: a Job. Returns the process's exit status.
int run_worker(const std::vector<std::string>& words);

}  // namespace tssx::bench
