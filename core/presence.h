// How a server learns, without a byte on the connection, whether a client can still follow an
// offer.
//
// A client that executes another program, or sends its descriptor to one, leaves a marked socket to
// somebody who may know nothing of marks. So a process that marks sockets keeps one datagram socket
// bound to an abstract name, its presence, and each mark contains its identity:
//
//   - A server sends an empty datagram to that name just before it offers. Nobody reads it.
//   - The name ends with the process: the socket is close-on-exec.
//   - Whoever of the fork family leaves a marked connection that has not moved to somebody else
//   revokes
//     the presence for all of them, by shutdown(2). Connections that have not moved yet stay in the
//     kernel then; later ones are marked with a presence of their own.
//
// Abstract names belong to a network namespace (unix(7)). A server in another one can't know, and
// offers.
//
// Thread safety: any number of threads and processes. May be called from: signal handlers too,
// where a call that interrupted another one of its thread fails.
#pragma once

#include <atomic>

#include "core/segment.h"

namespace tssx {

// The nonce of a new mark, which no other connection has, with what identifies this process's
// presence in front. False if the kernel has no random bytes yet, or there can be no presence: then
// the socket is not to be marked.
bool make_nonce(Nonce* nonce) noexcept;

// An endpoint that is marked and has not moved is left to somebody else.
void revoke_presence() noexcept;

// May the client with this mark be offered a segment?
// False with *failed, an errno, where that can't be asked.
bool is_present(const Nonce& nonce, int* failed = nullptr) noexcept;

// The number of the presence's socket, or -1; a hidden descriptor, above what applications use.
std::atomic<int>& presence_descriptor() noexcept;

// In the child of a fork: another thread of the parent may have been in make_nonce().
void reset_presence() noexcept;

// Bytes of a nonce: identity of the presence, network namespace, and what tells connections apart.
inline constexpr std::size_t kIdentitySize = 8;
inline constexpr std::size_t kNetworkSize = 4;
static_assert(kIdentitySize + kNetworkSize + sizeof(std::uint32_t) == kNonceSize);

}  // namespace tssx
