// Reads the small text files of /proc.
//
// Thread safety: each object belongs to one thread.
#pragma once

#include <functional>
#include <string_view>

namespace tssx::stat_tool {

class UniqueFd {
 public:
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd();
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  explicit operator bool() const { return fd_ >= 0; }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

// The lines of one file, without their newline. Lines longer than 64 KiB are left out.
class LineReader {
 public:
  // directory: a descriptor; path: relative to it.
  LineReader(int directory, const char* path);

  // Calls visit with each line; with a needle, only for lines that contain it (and without looking
  // for lines at all in text that does not, which is what makes scanning large files cheap).
  void read(const std::function<void(std::string_view)>& visit, std::string_view needle = {});

  // errno of the open or read that failed, or 0.
  [[nodiscard]] int error() const { return error_; }

 private:
  UniqueFd fd_;
  int error_ = 0;
};

// A descriptor of /proc, or none, with errno.
[[nodiscard]] UniqueFd open_proc();

}  // namespace tssx::stat_tool
