#include "shim/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/signals_blocked.h"
#include "core/sys.h"
#include "core/unique_fd.h"

namespace tssx {
namespace {

constexpr int kStandardError = 2;

LogLevel limit = LogLevel::warn;
// Points into the environment as it was at start-up: start-up is the only time it is used.
const char* file = nullptr;

void put_padded(LogText& out, std::uint64_t number, std::uint64_t smallest) noexcept {
  for (std::uint64_t power = smallest; power > 1 && number < power; power /= 10) out << "0";
  out << number;
}

// In UTC: localtime(3) reads a file and allocates.
void put_time(LogText& out) noexcept {
  using namespace std::chrono;
  const seconds now{static_cast<long>(sys::clock_ns(CLOCK_REALTIME) / 1'000'000'000U)};
  const sys_seconds time{now};
  const year_month_day date{floor<days>(time)};
  const hh_mm_ss clock{time - floor<days>(time)};
  out << static_cast<std::uint64_t>(static_cast<int>(date.year())) << "-";
  put_padded(out, static_cast<unsigned>(date.month()), 10);
  out << "-";
  put_padded(out, static_cast<unsigned>(date.day()), 10);
  out << "T";
  put_padded(out, static_cast<std::uint64_t>(clock.hours().count()), 10);
  out << ":";
  put_padded(out, static_cast<std::uint64_t>(clock.minutes().count()), 10);
  out << ":";
  put_padded(out, static_cast<std::uint64_t>(clock.seconds().count()), 10);
  out << "Z ";
}

// write(2), without the signals it may raise: SIGPIPE for a pipe that nobody reads, SIGXFSZ beyond
// RLIMIT_FSIZE, SIGTTOU for a terminal that stops background jobs. Blocked, the last is not raised
// at all; the other two are taken away again unless they were pending before.
long write_quietly(int fd, std::string_view text) noexcept {
  constexpr auto bit = [](int signal) { return std::uint64_t{1} << (signal - 1); };
  const SignalsBlocked blocked;
  std::uint64_t before = 0;
  sys::call(SYS_rt_sigpending, sys::word(&before), sizeof before);
  const long written =
      sys::call(SYS_write, fd, sys::word(text.data()), static_cast<long>(text.size()));
  const std::uint64_t raised = written == -EPIPE   ? bit(SIGPIPE)
                               : written == -EFBIG ? bit(SIGXFSZ)
                                                   : 0;
  if (const std::uint64_t ours = raised & ~before; ours != 0) {
    const timespec at_once{};
    sys::call(SYS_rt_sigtimedwait, sys::word(&ours), 0, sys::word(&at_once), sizeof ours);
  }
  return written;
}

// A pipe or terminal whose reader has stopped would stop the program as well.
bool would_block(int fd) noexcept {
  pollfd look{fd, POLLOUT, 0};
  const timespec at_once{};
  return sys::poll(&look, 1, &at_once) != 1;
}

void write_line(int fd, const LogText& prefix, std::string_view text) noexcept {
  char line[4096];
  std::size_t size = 0;
  for (const std::string_view part : {prefix.view(), text, std::string_view("\n")}) {
    const std::size_t length = std::min(part.size(), sizeof line - size);
    std::memcpy(line + size, part.data(), length);
    size += length;
  }
  if (!would_block(fd)) write_quietly(fd, {line, size});
}

// Who speaks: "postgres[4711]: ".
void put_speaker(LogText& out) noexcept {
  const char* name = program_invocation_short_name;
  out.quote(std::string_view(name, strnlen(name, 64)));
  out << "[" << static_cast<std::uint64_t>(sys::getpid()) << "]: ";
}

// False if the file can't be opened.
bool write_to_file(std::string_view text) noexcept {
  // Not waiting for a reader of a FIFO; never a controlling terminal.
  constexpr int kFlags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  const UniqueFd fd(
      static_cast<int>(sys::call(SYS_openat, AT_FDCWD, sys::word(file), kFlags, 0644)));
  if (!fd) return false;
  LogText prefix;
  put_time(prefix);
  put_speaker(prefix);
  write_line(fd.get(), prefix, text);
  return true;
}

bool take_level(std::string_view name) noexcept {
  if (name == "off") {
    limit = LogLevel::off;
  } else if (name == "warn") {
    limit = LogLevel::warn;
  } else if (name == "info") {
    limit = LogLevel::info;
  } else {
    return false;
  }
  return true;
}

}  // namespace

void LogText::put(char byte) noexcept {
  if (size_ < kCapacity - 3) {
    text_[size_++] = byte;
  } else if (!cut_) {
    cut_ = true;
    std::memcpy(text_ + size_, "...", 3);
    size_ += 3;
  }
}

LogText& LogText::operator<<(std::string_view text) noexcept {
  for (const char byte : text) put(byte);
  return *this;
}

LogText& LogText::operator<<(std::uint64_t number) noexcept {
  char digits[20];
  std::size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  while (count != 0) put(digits[--count]);
  return *this;
}

LogText& LogText::quote(std::string_view text) noexcept {
  constexpr const char* kDigits = "0123456789abcdef";
  for (const char byte : text) {
    const auto value = static_cast<unsigned char>(byte);
    if (value >= 0x20 && value < 0x7f) {
      put(byte);
    } else {
      *this << "\\x";
      put(kDigits[value >> 4U]);
      put(kDigits[value & 15U]);
    }
  }
  return *this;
}

void open_log() noexcept {
  const char* value = ::secure_getenv("TSSX_LOG");
  if (value == nullptr || *value == '\0') return;
  const char* colon = std::strchr(value, ':');
  const std::string_view level =
      colon == nullptr ? value : std::string_view(value, static_cast<std::size_t>(colon - value));
  if (!take_level(level)) {
    complain("TSSX_LOG", "the level is neither off, warn nor info; warn is used");
  } else if (colon != nullptr && colon[1] != '/') {
    complain("TSSX_LOG", "the file is no absolute path; standard error is used");
  } else if (colon != nullptr) {
    file = colon + 1;
  }
}

bool logs(LogLevel level) noexcept { return level <= limit; }

void log(LogLevel level, std::string_view text) noexcept {
  if (!logs(level)) return;
  if (file != nullptr) {
    if (write_to_file(text)) return;
    file = nullptr;
    complain("TSSX_LOG", "the file can't be written; standard error is used");
  }
  LogText prefix;
  prefix << "tssx: ";
  put_speaker(prefix);
  write_line(kStandardError, prefix, text);
}

void complain(const char* variable, const char* problem) noexcept {
  LogText text;
  text << variable << ": " << problem;
  log(LogLevel::warn, text.view());
}

}  // namespace tssx
