// One end of a connection, with every byte checked: each says by its value where in which stream it
// belongs. When the peer is gone, what came is compared with what the peer's account says it wrote.
//
// Thread safety: one thread writes and one reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/fault/ledger.h"

namespace fault {

// Thrown by get() at the end of the stream, and by both where the connection is broken.
struct PeerGone {};

enum class Calls {
  plain,    // read() and write()
  parts,    // readv() and writev() of three
  poll,     // non-blocking, with poll(), or epoll_wait() after wait_in()
  timeout,  // recv() and send() under SO_RCVTIMEO and SO_SNDTIMEO
};

class Stream {
 public:
  Stream(int fd, Connection& connection, Role role, std::uint64_t seed);

  void put(std::size_t size, Calls calls = Calls::plain);
  void get(std::size_t size, Calls calls = Calls::plain);
  // At most so many bytes, without waiting: how many it were.
  std::size_t try_put(std::size_t size);
  std::size_t try_get(std::size_t size);
  // The same as put() and get(), in one message that brings a descriptor, which is closed.
  void put_with_descriptor(std::size_t size);
  void get_with_descriptor(std::size_t size);
  // Not by the connection: until the peer has read all that was put, or has written so many bytes
  // more than were got; or until the run is to end.
  void await_reader(const Ledger& ledger) const;
  void await_writer(const Ledger& ledger, std::uint64_t size) const;
  // The peer ends first: reads to the end, closes, and checks how it ended.
  void finish(Ledger& ledger);
  // This end ends first.
  void close();
  // The end was not told well enough to be judged: this end shut something down itself.
  void forgive_end() { judges_end_ = false; }
  // What the peer had written to the ring and this end had not read when it went back for good, the
  // peer sends again; if it dies before, that is lost (docs/limitations.md, "Bytes unread").
  void forgive_loss() { may_lose_ = true; }
  void move_to(int fd) { fd_ = fd; }
  // Calls::poll waits in this set, of which the connection is a member; -1: by poll(2).
  void wait_in(int epfd) { epfd_ = epfd; }
  int fd() const { return fd_; }

 private:
  void take(const unsigned char* bytes, std::size_t size);
  void wait(short events);
  [[noreturn]] void fail(const char* call);
  void judge(Ledger& ledger, bool reset);

  int fd_;
  int epfd_ = -1;
  Account& mine_;
  Account& theirs_;
  Role role_;
  std::uint64_t out_;  // seeds
  std::uint64_t in_;
  std::vector<unsigned char> sent_;
  std::vector<unsigned char> received_;
  std::atomic<bool> reset_{false};  // ECONNRESET was told
  std::atomic<bool> dropped_error_{false};
  bool judges_end_ = true;
  bool may_lose_ = false;
  std::uint64_t rounds_ = 0;
};

}  // namespace fault
