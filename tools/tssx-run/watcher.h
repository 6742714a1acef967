// --verify: a process that looks at the program from outside for a moment, and says what it saw.
//
// Thread safety: for a process with one thread.
//
// Invariants:
//  1. The program keeps its process, and finds no child, no signal and no descriptor of ours: the
//     watcher is a grandchild whose parent has ended, made by clone(2) without an exit signal.
//  2. The watcher holds standard error alone, and no longer than the program lives or it was told
//     to wait: whoever reads the program's output to its end does not wait for it.
#pragma once

#include <string>

#include "core/unique_fd.h"

namespace tssx::run_tool {

class Watcher {
 public:
  // program: the name it is called by. Throws std::runtime_error where there can be no watcher: it
  // would be a child of the program's, or there is no memory or process for it.
  Watcher(const std::string& program, const std::string& library, double seconds);
  // Ends it without a word: there will be no program.
  void dismiss() noexcept;

 private:
  UniqueFd gate_;  // closed by execve(2), which is what the watcher waits for
};

}  // namespace tssx::run_tool
