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

// A connect(2) under way on a socket that bears a mark. As long as this lives the mark stays,
// whatever other threads do, as a connect(2) that has begun goes on with the socket it began with.
class MarkedConnect {
 public:
  // Marks `fd` if it may bear a mark.
  explicit MarkedConnect(int fd) noexcept;
  MarkedConnect(const MarkedConnect&) = delete;
  MarkedConnect& operator=(const MarkedConnect&) = delete;
  ~MarkedConnect();
  // After success: the endpoint, which `fd` stands for from now on; nullptr if it bears no mark, or
  // another thread has closed `fd` meanwhile.
  Endpoint* establish() noexcept;

 private:
  int fd_;
  Endpoint* endpoint_;
};

// If `fd` bears a mark and was never connected: puts a fresh socket in its place, with the options
// that matter before a connection. Where a connect(2) is under way in another thread, that goes on,
// and its connection stays in the kernel.
void drop_mark(int fd) noexcept;
// The same for all of them: the process is about to fork, or to execute another program.
void drop_marks() noexcept;
// In the child of a fork: what other threads of the parent were connecting is a connection, if any.
void adopt_marks() noexcept;

}  // namespace tssx
