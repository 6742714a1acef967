// An epoll instance whose members and reports read well in a test.
#pragma once

#include <sys/epoll.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <vector>

#include "tests/support/unique_fd.h"

namespace tssx_test {

class EpollSet {
 public:
  EpollSet() : fd_(::epoll_create1(EPOLL_CLOEXEC)) {}

  [[nodiscard]] int fd() const { return fd_.get(); }

  // 0, or the errno of epoll_ctl().
  [[nodiscard]] int control(int operation, int fd, std::uint32_t events, std::uint64_t data) const {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    return ::epoll_ctl(fd_.get(), operation, fd, &event) == 0 ? 0 : errno;
  }
  [[nodiscard]] int add(int fd, std::uint32_t events, std::uint64_t data) const {
    return control(EPOLL_CTL_ADD, fd, events, data);
  }
  [[nodiscard]] int modify(int fd, std::uint32_t events, std::uint64_t data) const {
    return control(EPOLL_CTL_MOD, fd, events, data);
  }
  [[nodiscard]] int remove(int fd) const { return control(EPOLL_CTL_DEL, fd, 0, 0); }

  // One epoll_wait(): the events by data. Members that a test tells apart have different data.
  [[nodiscard]] std::map<std::uint64_t, std::uint32_t> wait(int timeout, int limit = 64) const {
    std::vector<epoll_event> events(static_cast<std::size_t>(limit));
    int n = 0;
    do {
      n = ::epoll_wait(fd_.get(), events.data(), limit, timeout);
    } while (n == -1 && errno == EINTR);
    std::map<std::uint64_t, std::uint32_t> result;
    for (int i = 0; i < n; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      result[event.data.u64] |= event.events;
    }
    return result;
  }
  // The same without waiting.
  [[nodiscard]] std::map<std::uint64_t, std::uint32_t> look() const { return wait(0); }
  // Takes what is pending, whatever it is.
  void forget() const { [[maybe_unused]] const auto events = look(); }

 private:
  UniqueFd fd_;
};

using Events = std::map<std::uint64_t, std::uint32_t>;

}  // namespace tssx_test
