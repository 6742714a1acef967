// Connections to test on: an AF_UNIX stream socket bound to a path of its own, connected to and
// accepted, cold (just made) or warm (with enough traffic both ways that under the preload it has
// moved to shared memory).
//
// Thread safety: each object belongs to one thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <functional>
#include <ostream>
#include <string>

#include "tests/support/child.h"
#include "tests/support/unique_fd.h"

namespace tssx_test {

// A fresh directory under /tmp, removed with everything in it (files and sockets, no folders).
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();
  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A path as a sockaddr_un; a leading '@' makes it an abstract name.
struct Address {
  explicit Address(const std::string& name);
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr_un storage{};
  socklen_t length = 0;
};

// A listening socket on a path in its own temporary directory.
class Listener {
 public:
  explicit Listener(int backlog = 16, int type_flags = 0);
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] UniqueFd connect() const;
  [[nodiscard]] UniqueFd accept() const;
  void close() { fd_.reset(); }

 private:
  TemporaryDirectory directory_;
  std::string path_;
  UniqueFd fd_;
};

struct Connection {
  UniqueFd server;  // what accept() returned
  UniqueFd client;  // what connect() used
  std::string path;
};

// Both ends in this process, the listener gone.
Connection make_connection();

// 64 round trips of a few bytes between two ends in this process, all blocking.
void warm_up(int a, int b);

// One end's part of the same: the leader writes first. For ends in different processes.
void warm_up_as_leader(int fd);
void warm_up_as_follower(int fd);

// How many segments are mapped into this process: 0 natively.
int accelerated_segments();

// Whether the run claims to have the shim loaded.
bool preloaded();

// What every behaviour is tried with: before and after the move, on either end.
struct Situation {
  bool warm;
  bool server;  // the end under test is the accepted one
};
void PrintTo(const Situation& situation, std::ostream* out);
std::string situation_name(const testing::TestParamInfo<Situation>& info);
inline auto every_situation() {
  return testing::Values(Situation{false, true}, Situation{false, false}, Situation{true, true},
                         Situation{true, false});
}

// The fixture of the suites that run in every situation. A suite is declared by
//   class Read : public ConnectionTest {};
//   INSTANTIATE_TEST_SUITE_P(, Read, every_situation(), situation_name);
class ConnectionTest : public testing::TestWithParam<Situation> {
 protected:
  void SetUp() override;
  // The end under test, and the other.
  [[nodiscard]] int mine() const { return mine_.get(); }
  [[nodiscard]] int peer() const { return peer_.get(); }
  UniqueFd mine_;
  UniqueFd peer_;
  std::string path_;
};

// The same with the peer in a forked child, where `body` runs with the peer's end. Warm: the
// child takes part in the warming before `body` starts.
struct ForkedConnection {
  UniqueFd mine;
  Child peer;
};
ForkedConnection make_forked_connection(Situation situation,
                                        const std::function<void(int fd)>& body);
class ForkedPeerTest : public testing::TestWithParam<Situation> {
 protected:
  ForkedConnection connect_to(const std::function<void(int fd)>& body) {
    return make_forked_connection(GetParam(), body);
  }
};

}  // namespace tssx_test
