// Lines and blocks of text over a pair of pipes, without stdio: its buffers would be forked.
//
// Thread safety: one thread for each object.
#pragma once

#include <string>

namespace differential {

class PipeText {
 public:
  // Borrows the descriptors.
  PipeText(int in, int out) : in_(in), out_(out) {}

  // False at the end of the input. Without the newline.
  bool read_line(std::string& line);
  bool read(std::string& text, std::size_t size);
  bool write(const std::string& text);

 private:
  bool fill();

  int in_;
  int out_;
  std::string buffer_;
};

}  // namespace differential
