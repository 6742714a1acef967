// Many connections between two processes, each served by one epoll set; what several scenarios
// start from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/tssx-bench/descriptor.h"
#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {

inline constexpr std::size_t kRequestSize = 64;

// The server's end: answers whatever comes. Its listening socket is in the set as well, as in most
// servers.
class ManyServer {
 public:
  explicit ManyServer(const std::string& path);

  // Serves until so many connections have sent a request that says it is their last.
  void serve(std::size_t lasts);
  // Until so many connections are there.
  void accept_all(std::size_t connections);

  [[nodiscard]] const std::vector<Descriptor>& connections() const { return connections_; }
  [[nodiscard]] int set() const { return set_.get(); }

 private:
  void add(int fd);
  void accept_one();
  // True if it was the last of its connection.
  bool answer(int fd);

  Listener listener_;
  Descriptor set_;
  std::vector<Descriptor> connections_;
};

class ManyClient {
 public:
  explicit ManyClient(std::string path);

  void connect_all(std::size_t connections);
  // So many requests on each of the connections from `first` on, a few connections at a time; the
  // last request of each says so.
  void warm(std::size_t first, int rounds);
  // Keeps one request under way on each of the first `busy` connections, from now until `end_ns`,
  // and one more that says it is the last. Returns the number of answers.
  std::uint64_t drive(std::size_t busy, std::uint64_t end_ns);

  [[nodiscard]] const std::vector<Descriptor>& connections() const { return connections_; }
  [[nodiscard]] int set() const { return set_.get(); }

 private:
  // One request and its answer on each of these.
  void exchange(std::size_t begin, std::size_t end, char what);

  std::string path_;
  Descriptor set_;
  std::vector<Descriptor> connections_;
};

}  // namespace tssx::bench
