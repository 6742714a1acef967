// Listening and connecting, as ordinary programs do it. Everything throws std::system_error.
#pragma once

#include <string>

#include "tools/tssx-bench/descriptor.h"

namespace tssx::bench {

[[noreturn]] void throw_errno(const char* what);

// A listening socket; its file is removed with it.
class Listener {
 public:
  explicit Listener(std::string path);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] Descriptor accept() const;
  [[nodiscard]] int get() const { return socket_.get(); }

 private:
  std::string path_;
  Descriptor socket_;
};

// Waits for the server to listen.
[[nodiscard]] Descriptor connect_to(const std::string& path);

void make_nonblocking(int fd);

// Lets this process open so many descriptors; throws Skip if it may not.
void allow_descriptors(std::size_t count);

}  // namespace tssx::bench
