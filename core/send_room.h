// A larger send buffer for a scope, in which what lay in the ring is sent by the socket.
//
// Thread safety: who holds the sending lock. May be called from: anywhere; no malloc, no stdio.
#pragma once

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdint>

#include "core/socket_look.h"
#include "core/sys.h"

namespace tssx {

class SendRoom {
 public:
  // Room for `bytes` beside what the peer has not read yet, whatever the socket was set to, if the
  // system allows it (net.core.wmem_max of socket(7)).
  SendRoom(int fd, std::uint64_t bytes) noexcept : fd_(fd) {
    if (bytes == 0 || fits() >= bytes) return;
    changed_ = true;
    before_ = option_of(fd, SO_SNDBUF, 0);
    const std::uint64_t wanted = static_cast<std::uint64_t>(used()) + bytes + bytes / 4 + kSlack;
    set(SO_SNDBUF, wanted);
    if (fits() < bytes) set(SO_SNDBUFFORCE, wanted);
  }
  SendRoom(const SendRoom&) = delete;
  SendRoom& operator=(const SendRoom&) = delete;
  ~SendRoom() {
    // The kernel doubles what it is given (socket(7)).
    if (!changed_) return;
    set(SO_SNDBUF, static_cast<std::uint64_t>(before_) / 2);
    if (option_of(fd_, SO_SNDBUF, 0) != before_) {
      set(SO_SNDBUFFORCE, static_cast<std::uint64_t>(before_) / 2);
    }
  }

  // So many bytes certainly go now. The kernel counts the buffers that they are in, each a little
  // larger than what it holds.
  std::uint64_t fits() const noexcept {
    const std::int64_t left = std::int64_t{option_of(fd_, SO_SNDBUF, 0)} - used();
    return left <= kSlack ? 0 : static_cast<std::uint64_t>(left - kSlack) / 8 * 7;
  }

 private:
  static constexpr std::int64_t kSlack = 16384;

  int used() const noexcept {
    int bytes = 0;
    return sys::call(SYS_ioctl, fd_, SIOCOUTQ, sys::word(&bytes)) == 0 ? bytes : 0;
  }
  void set(int option, std::uint64_t bytes) const noexcept {
    constexpr std::uint64_t kMost = 1U << 29U;
    const int value = static_cast<int>(bytes < kMost ? bytes : kMost);
    sys::call(SYS_setsockopt, fd_, SOL_SOCKET, option, sys::word(&value), sizeof value);
  }

  int fd_;
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace tssx
