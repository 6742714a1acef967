// Small loops over read() and write() that most tests need, and the waits between them.
//
// Thread safety: no state. None of them touches gtest, so they serve in forked children as well.
#pragma once

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace tssx_test {

// Writes everything unless an error stops it; returns how much was written.
std::size_t write_all(int fd, std::string_view bytes);

// One read() of at most `size` bytes. An error gives "<errno name>".
std::string read_once(int fd, std::size_t size);

// Reads until `size` bytes have come, or end of file or an error; returns what came.
std::string read_exactly(int fd, std::size_t size);

// Reads until end of file or an error; returns what came.
std::string read_to_end(int fd);

// Reads until the socket would block, never waiting; returns what came.
std::string read_available(int fd);

// Writes pattern bytes from position `offset` on, `chunk` at a time and without waiting, until
// the socket would block; returns how many it took.
std::size_t fill(int fd, std::size_t chunk = 4096, std::size_t offset = 0);

// poll() with a timeout of 0 or, in `wait_for`, without end: the events that came, 0 if none.
short poll_now(int fd, short events);
short wait_for(int fd, short events);

void set_nonblocking(int fd, bool on);

// Long enough for a thread or child to have gone to sleep in its call; nothing depends on it but
// whether the interesting case is met.
inline constexpr std::chrono::milliseconds kAMoment{30};
void sleep_a_moment();

// Milliseconds since construction, by the monotonic clock.
class Stopwatch {
 public:
  Stopwatch() : start_(std::chrono::steady_clock::now()) {}
  [[nodiscard]] double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point start_;
};

}  // namespace tssx_test
