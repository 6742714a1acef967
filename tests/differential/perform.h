// Performs steps: one call of libc each, or a few, and what is to be compared of their outcome.
//
// Thread safety: the threads of a process share one Performer; the steps are performed one at a
// time, but for the one in the background, which has its descriptor's number already.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "tests/differential/board.h"
#include "tests/differential/program.h"

namespace differential {

// Which streams a step's descriptors lead to, as the model knows: by the argument's number.
struct Ends {
  int in = -1;
  int out = -1;
};
using Route = std::array<Ends, kMaxArguments>;

class Performer {
 public:
  // `directory` is for listening sockets; `listener`, on `path`, is for pairs.
  Performer(Board& board, std::string directory, std::string path, int listener);

  // Everything but thread, fork, exit, reap and sync.
  Result perform(const Step& step, const Route& route);

  // Closes what this process holds.
  void close_all();

 private:
  [[nodiscard]] int fd(long name) const { return fds_[static_cast<std::size_t>(name)]; }
  int& slot(long name) { return fds_[static_cast<std::size_t>(name)]; }
  // Outcome of a call that made a descriptor.
  Result named(int descriptor, long name);

  bool perform_bytes(const Step& step, const Route& route, Result& result);
  bool perform_loop(const Step& step, const Route& route, Result& result);
  bool perform_readiness(const Step& step, Result& result);
  bool perform_state(const Step& step, Result& result);
  bool perform_descriptor(const Step& step, const Route& route, Result& result);

  Board& board_;
  std::string directory_;
  std::string path_;
  int listener_;
  std::array<int, kMaxNames> fds_;
};

// The value and errno of a call.
Result outcome(long value);

// Counts the SIGPIPEs of this thread; installed once for the process.
void count_sigpipes();
long sigpipes();

// A buffer of the thread, kMaxTransfer bytes and a little more.
char* scratch();

// Sending from and receiving into a stream with its pattern.
struct Outgoing {
  Board& board;
  int stream;
  [[nodiscard]] const char* bytes() const;
  void sent(long count) const;
};
struct Incoming {
  Board& board;
  int stream;
  // Whether the bytes are the stream's next ones (0: a hash of them is added too); `peeked`: they
  // stay there.
  void check(Result& result, const char* bytes, long count, bool peeked) const;
};

}  // namespace differential
