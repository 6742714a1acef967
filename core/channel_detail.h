// What the parts of Channel share: shorthands, and looks at a message.
//
// Thread safety: functions of their arguments. May be called from: anywhere; no malloc, no stdio.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/channel.h"
#include "core/rendezvous.h"
#include "core/signals_blocked.h"
#include "core/socket_look.h"
#include "core/sys.h"

namespace tssx::channel_detail {

inline constexpr auto relaxed = std::memory_order_relaxed;
inline constexpr auto acquire = std::memory_order_acquire;
inline constexpr auto release = std::memory_order_release;
inline constexpr auto seq_cst = std::memory_order_seq_cst;

constexpr std::uint32_t word_of(Mode mode) noexcept { return static_cast<std::uint32_t>(mode); }

// A statistic: one writer at a time, read by tssx-stat.
template <class T>
void bump(std::atomic<T>& counter) noexcept {
  counter.store(counter.load(relaxed) + 1, relaxed);
}

struct Descriptors {
  int fds[kMaxDescriptors];
  std::size_t count = 0;
};

inline void collect(msghdr& message, Descriptors* found) noexcept {
  if (message.msg_control == nullptr) return;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count && found->count < kMaxDescriptors; ++i) {
      std::memcpy(&found->fds[found->count++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    }
  }
}

inline std::size_t room_of(const msghdr& message) noexcept {
  std::size_t room = 0;
  for (std::size_t i = 0; i < message.msg_iovlen; ++i) room += message.msg_iov[i].iov_len;
  return room;
}

// Where the byte at `position` of what was received lies.
inline char* place_of(const msghdr& message, std::size_t position) noexcept {
  std::size_t i = 0;
  while (position >= message.msg_iov[i].iov_len) position -= message.msg_iov[i++].iov_len;
  return static_cast<char*>(message.msg_iov[i].iov_base) + position;
}

inline void close_all(const Descriptors& found) noexcept {
  for (std::size_t i = 0; i < found.count; ++i) sys::close(found.fds[i]);
}

}  // namespace tssx::channel_detail
