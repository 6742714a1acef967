#include "tests/differential/pipe_text.h"

#include <unistd.h>

#include <cerrno>

namespace differential {

bool PipeText::fill() {
  char piece[16384];
  ssize_t count = -1;
  do {
    count = ::read(in_, piece, sizeof piece);
  } while (count == -1 && errno == EINTR);
  if (count <= 0) return false;
  buffer_.append(piece, static_cast<std::size_t>(count));
  return true;
}

bool PipeText::read_line(std::string& line) {
  std::size_t end = 0;
  while ((end = buffer_.find('\n')) == std::string::npos) {
    if (!fill()) return false;
  }
  line = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  return true;
}

bool PipeText::read(std::string& text, std::size_t size) {
  while (buffer_.size() < size) {
    if (!fill()) return false;
  }
  text = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return true;
}

bool PipeText::write(const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::write(out_, text.data() + done, text.size() - done);
    if (count == -1 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace differential
