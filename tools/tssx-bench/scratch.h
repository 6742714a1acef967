// A directory of our own for sockets, removed with all that is in it.
#pragma once

#include <string>

namespace tssx::bench {

class ScratchDirectory {
 public:
  // Under $TMPDIR or /tmp. Throws std::system_error.
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  // A name in it that nobody had before: a worker that was killed leaves its socket behind.
  [[nodiscard]] std::string new_path() const;
  // What USE_TSSX must be for the sockets in it.
  [[nodiscard]] std::string pattern() const;

 private:
  std::string path_;
  mutable unsigned names_ = 0;
};

}  // namespace tssx::bench
