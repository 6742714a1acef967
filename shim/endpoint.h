// An endpoint of this process: the channel, and how many descriptors and calls refer to it.
//
// Thread safety: reference counts. An Endpoint is closed by whoever drops the last of them, so a
// call in one thread outlives a close() in another, as in the kernel.
// May be called from: signal handlers, before main, after fork.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/channel.h"

namespace tssx {

struct Member;  // of an epoll set, see epoll_set.h

struct Endpoint {
  std::atomic<std::uint32_t> taken;  // by the pool
  // Descriptors of this process that refer to it, plus calls under way. The endpoint is closed
  // when it falls to 0 (acq_rel: the closer sees all that the others did).
  std::atomic<std::uint32_t> references;
  std::atomic<std::uint32_t> descriptors;
  std::atomic<Member*> members;    // registrations in epoll sets; guarded by members_lock
  std::atomic<bool> managed;       // those registrations are ours, not the application's
  std::atomic<bool> rung;          // bells were consumed outside of epoll sets
  std::atomic<bool> tells_writes;  // to a set that has to know of the next write: note_write()
  RobustLock members_lock;
  // The number under which calls go on that began before their own was closed, or -1. A relaxed
  // word: those calls look at it whenever they come back from a sleep.
  alignas(8) std::atomic<int> kept_fd;
  Channel channel;
};

// A fresh endpoint with one descriptor, or nullptr.
Endpoint* open_endpoint(const ChannelOrigin& origin) noexcept;

void add_descriptor(Endpoint& endpoint) noexcept;
// True if that was this process's last descriptor.
bool drop_descriptor(Endpoint& endpoint) noexcept;
void drop_reference(Endpoint& endpoint) noexcept;

// Is `fd` the endpoint's own socket still? The number may have been closed while a duplicate was
// open, and be another file's by now. The mark tells: only this connection bears it.
bool is_socket_of(const Channel& channel, int fd) noexcept;

// The descriptor `kernel_fd` of the endpoint is about to be closed. If calls of other threads are
// under way they must be able to finish on the same socket, as in the kernel, which counts a file's
// users: keeps a hidden duplicate until the last of them is done. `own`: references of the
// caller's.
void keep_for_calls(Endpoint& endpoint, int kernel_fd, std::uint32_t own = 0) noexcept;

}  // namespace tssx
