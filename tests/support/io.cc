#include "tests/support/io.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tests/support/pattern.h"

namespace tssx_test {

std::size_t write_all(int fd, std::string_view bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n == -1 && errno == EINTR) continue;
    if (n == -1) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

std::string read_once(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  ssize_t n = 0;
  do {
    n = ::read(fd, bytes.data(), size);
  } while (n == -1 && errno == EINTR);
  if (n == -1) return std::string("<") + ::strerrorname_np(errno) + ">";
  bytes.resize(static_cast<std::size_t>(n));
  return bytes;
}

std::string read_exactly(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(fd, bytes.data() + done, size - done);
    if (n == -1 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

std::string read_to_end(int fd) {
  std::string bytes;
  char block[16384];
  for (;;) {
    const ssize_t n = ::read(fd, block, sizeof block);
    if (n == -1 && errno == EINTR) continue;
    if (n <= 0) return bytes;
    bytes.append(block, static_cast<std::size_t>(n));
  }
}

std::string read_available(int fd) {
  std::string bytes;
  char block[16384];
  for (;;) {
    const ssize_t n = ::recv(fd, block, sizeof block, MSG_DONTWAIT);
    if (n == -1 && errno == EINTR) continue;
    if (n <= 0) return bytes;
    bytes.append(block, static_cast<std::size_t>(n));
  }
}

std::size_t fill(int fd, std::size_t chunk, std::size_t offset) {
  std::size_t total = 0;
  for (;;) {
    const std::string bytes = pattern(offset + total, chunk);
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == -1 && errno == EINTR) continue;
    if (n <= 0) return total;
    total += static_cast<std::size_t>(n);
  }
}

namespace {

short poll_one(int fd, short events, int timeout) {
  pollfd entry{fd, events, 0};
  int n = 0;
  do {
    n = ::poll(&entry, 1, timeout);
  } while (n == -1 && errno == EINTR);
  return n == 1 ? entry.revents : short{0};
}

}  // namespace

short poll_now(int fd, short events) { return poll_one(fd, events, 0); }
short wait_for(int fd, short events) { return poll_one(fd, events, -1); }

void set_nonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

void sleep_a_moment() {
  timespec left{0, std::chrono::nanoseconds(kAMoment).count()};
  while (::nanosleep(&left, &left) == -1 && errno == EINTR) {
  }
}

}  // namespace tssx_test
