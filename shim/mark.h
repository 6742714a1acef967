// The client's mark: a name by which the server knows that this end can follow to a ring.
//
// A mark is put on a socket just before connect(). Where the attempt fails it stays for the next
// one; everything else that can happen to the socket must find it as the application left it, so
// the mark is dropped first, by a fresh socket under the same number.
//
// Thread safety: as connect(2). May be called from: anywhere; no malloc.
#pragma once

#include "shim/endpoint.h"

namespace tssx {

bool is_unix_stream(int fd) noexcept;

// May `fd` bear a mark? Returns an endpoint bound to its mark, or nullptr.
Endpoint* mark_client(int fd) noexcept;

// If `fd` bears a mark and was never connected: puts a fresh socket in its place, with the options
// that matter before a connection.
void drop_mark(int fd) noexcept;
// The same for all of them: the process is about to fork, or to execute another program.
void drop_marks() noexcept;

}  // namespace tssx
