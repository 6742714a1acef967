// Messages of a known size over one connection, waiting in one of the ways programs wait in.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tools/tssx-bench/descriptor.h"

namespace tssx::bench {

enum class Wait { blocking, poll, epoll_level, epoll_edge };

// "blocking", "poll", "epoll-level", "epoll-edge"; throws std::invalid_argument for others.
[[nodiscard]] Wait wait_of(const std::string& name);

// Not for several threads. Failures throw std::system_error; so does the end of the connection.
class Talk {
 public:
  Talk(Descriptor socket, Wait wait, std::size_t message_size);

  // The message lies in data() afterwards. As programs with an event loop do, the buffer offers
  // more room than the message takes, so a read that gets all there is ends short of it.
  void receive();
  void send();

  [[nodiscard]] char* data() { return buffer_.data(); }
  [[nodiscard]] int socket() const { return socket_.get(); }

 private:
  void wait_to_read();
  void wait_to_write();

  Descriptor socket_;
  Descriptor set_;  // with epoll
  Wait wait_;
  std::size_t size_;
  std::vector<char> buffer_;
};

}  // namespace tssx::bench
