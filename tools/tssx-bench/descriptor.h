// Owns one descriptor, and closes it with libc's close(), as an application does.
//
// core's UniqueFd enters the kernel by itself: the preloaded library would not see it close.
#pragma once

#include <unistd.h>

#include <utility>

namespace tssx::bench {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, kNone)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    reset(std::exchange(other.fd_, kNone));
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  // -1 alone is none: the library may hand out other negative numbers (TSSX_IDS).
  explicit operator bool() const { return fd_ != kNone; }
  void reset(int fd = kNone) {
    if (fd_ != kNone) ::close(fd_);
    fd_ = fd;
  }

 private:
  static constexpr int kNone = -1;
  int fd_ = kNone;
};

}  // namespace tssx::bench
