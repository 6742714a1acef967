#include "tools/tssx-bench/scratch.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace tssx::bench {

ScratchDirectory::ScratchDirectory() {
  const char* parent = std::getenv("TMPDIR");
  path_ = parent != nullptr && *parent != '\0' ? parent : "/tmp";
  path_ += "/tssx-bench.XXXXXX";
  if (::mkdtemp(path_.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(), path_);
  }
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ScratchDirectory::new_path() const { return path_ + "/" + std::to_string(++names_); }

std::string ScratchDirectory::pattern() const {
  std::string result;
  for (const char one : path_) {
    if (std::string_view(" *?[\\").find(one) != std::string_view::npos) result += '\\';
    result += one;
  }
  return result + "/*";
}

}  // namespace tssx::bench
