// Starts this program again as a worker (worker/lead.h), talks to it, and ends it and all that it
// started, whatever state they are in.
//
// Thread safety: none. Invariant: when a WorkerProcess is gone, so are the processes of its group.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tools/tssx-bench/descriptor.h"
#include "tools/tssx-bench/job.h"

namespace tssx::bench {

// What a measurement runs on.
struct Side {
  std::string name;
  std::string library;  // preloaded; empty: the kernel's sockets
  std::string beside;   // a command that runs while it is measured; empty: none
};

class WorkerProcess {
 public:
  // pattern: for USE_TSSX. Throws std::system_error.
  WorkerProcess(const Side& side, const std::string& pattern, const Job& job);
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  // The next line. Throws std::runtime_error at the deadline (CLOCK_MONOTONIC), if the worker ended
  // without a word, and when this program was interrupted.
  [[nodiscard]] std::string read_line(std::uint64_t deadline_ns);
  void answer(char what);

  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  Descriptor to_;
  Descriptor from_;
  std::string unread_;
};

// Orphans of workers become our children, which makes it possible to wait for them. Once, at the
// start.
void adopt_orphans();

}  // namespace tssx::bench
