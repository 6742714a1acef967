// A command that runs beside a measurement, and whose cost that measurement shows.
//
// Thread safety: none. Invariant: when a Companion is gone, so are the processes of its group.
#pragma once

#include <sys/types.h>

#include <string>

namespace tssx::bench {

class Companion {
 public:
  // Started by sh(1), without the library, with nothing to read and its output thrown away; what it
  // says on standard error is seen. An empty command starts nothing. Throws std::system_error.
  explicit Companion(const std::string& command);
  ~Companion();
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;

  // Throws std::runtime_error if the command has ended by itself: then nothing was beside it.
  void check() const;

 private:
  pid_t pid_ = -1;
};

}  // namespace tssx::bench
