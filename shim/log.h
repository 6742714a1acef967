// What the library says to the operator: TSSX_LOG.
//
//   TSSX_LOG=LEVEL[:FILE]   off | warn | info; FILE is an absolute path, standard error without
//
// Lines are written at start-up only, one write(2) each, and no descriptor stays open. Saying
// something never stops the program: where a line would block or raise a signal it is dropped.
//
// Thread safety: of the constructor's thread. May be called from: start-up; no malloc, no stdio.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tssx {

enum class LogLevel : unsigned char { off, warn, info };

// Text of a limited size; what does not fit is cut, and ends in "...".
class LogText {
 public:
  LogText& operator<<(std::string_view text) noexcept;
  LogText& operator<<(std::uint64_t number) noexcept;
  // Bytes that are no printable ASCII as \xNN: a value of the environment may hold anything.
  LogText& quote(std::string_view text) noexcept;
  std::string_view view() const noexcept { return {text_, size_}; }

 private:
  void put(char byte) noexcept;
  static constexpr std::size_t kCapacity = 2000;  // with a prefix in PIPE_BUF: lines stay whole
  char text_[kCapacity];
  std::size_t size_ = 0;
  bool cut_ = false;
};

// Reads TSSX_LOG, which a setuid program doesn't have (secure_getenv(3)). A value that makes no
// sense gets its line.
void open_log() noexcept;
bool logs(LogLevel level) noexcept;
// One line, without its newline. Dropped unless the level is on.
void log(LogLevel level, std::string_view text) noexcept;

// One line about a variable, of level warn: "<variable>: <problem>".
void complain(const char* variable, const char* problem) noexcept;

}  // namespace tssx
