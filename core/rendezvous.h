// How two shims find each other through nothing but the connection itself.
//
//   client                                   server
//   bind(abstract mark)
//   connect()  ----------------------------> accept() sees the mark as the peer's name
//   ... plain kernel bytes both ways ...
//              <--- 1 byte + segment memfd - offer
//   maps it, answers in the segment
//              ---- 1 byte + token: to_ring > from here on client -> server runs in the ring
//              <--- 1 byte + token: to_ring - and so does server -> client
//
// A message of ours is one byte with a descriptor. A recvmsg(2) may glue earlier plain bytes to it
// but always stops right after it (unix_stream_read_generic in the kernel's net/unix/af_unix.c), so
// our byte is the last one of what that call returned.
//
// Thread safety: the functions share nothing. May be called from: anywhere; no malloc, no stdio.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>

#include "core/layout.h"
#include "core/segment.h"

namespace tssx {

// --- the mark ---

// "\0tssx/2/" and the nonce in hexadecimal.
inline constexpr char kMarkFamily[] = "tssx/";  // of every protocol version, after the NUL

// Fills the abstract address of a mark; returns its length for bind(2).
socklen_t make_mark(const Nonce& nonce, sockaddr_un* address) noexcept;

enum class Mark { none, foreign_version, ours };

// What the name of a peer says. `length` as accept(2) or getsockname(2) gave it.
Mark parse_mark(const sockaddr_un& address, socklen_t length, Nonce* nonce) noexcept;

// --- messages ---

enum class Notice {
  foreign,    // the application's own descriptor
  segment,    // an offer
  to_ring,    // the cut: what follows lies in the ring, the socket carries bells
  to_kernel,  // the cut in the other sense
};

// What a received descriptor means on the connection that `nonce` belongs to.
Notice classify(int fd, const Nonce& nonce) noexcept;

// The one byte of a message of ours.
inline constexpr char kNoticeByte = 'T';

// Sends one kNoticeByte with `attached`. Never blocks, never raises SIGPIPE. Returns 0 or -errno.
int send_with_descriptor(int socket, int attached) noexcept;

// Makes a token and sends it. Returns 0 or -errno.
int send_token(int socket, TokenKind kind, const Nonce& nonce) noexcept;

// Room for all the descriptors that one message can carry (SCM_MAX_FD of the kernel is 253), and
// for credentials beside them.
inline constexpr std::size_t kMaxDescriptors = 253;
inline constexpr std::size_t kControlRoom =
    CMSG_SPACE(kMaxDescriptors * sizeof(int)) + CMSG_SPACE(32) + CMSG_SPACE(512);

}  // namespace tssx
