// The terminal, as a screen for --watch: taken over, and given back however that ends.
//
// Plain control sequences of xterm(1) and its kin; no terminfo.
//
// Thread safety: one object, in the only thread.
#pragma once

#include <termios.h>

#include <cstddef>
#include <string>
#include <vector>

namespace tssx::stat_tool {

class Terminal {
 public:
  Terminal() = default;
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() { leave(); }

  // Another screen, no cursor, and keys as they are typed. False, with errno, if it can't be
  // written to.
  bool enter();
  // As it was before.
  void leave();

  // The whole screen. False, with errno, if it can't be written.
  [[nodiscard]] bool draw(const std::vector<std::string>& lines);

  // What is typed can be read from descriptor 0.
  [[nodiscard]] bool has_keys() const { return has_keys_; }

  // False where the terminal does not tell.
  static bool size(std::size_t& rows, std::size_t& columns);

 private:
  bool entered_ = false;
  bool has_keys_ = false;
  termios before_{};
};

}  // namespace tssx::stat_tool
