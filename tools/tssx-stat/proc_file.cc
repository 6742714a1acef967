#include "tools/tssx-stat/proc_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace tssx::stat_tool {
namespace {

constexpr std::size_t kBufferSize = std::size_t{64} << 10U;

// REQUIRES: text is whole lines.
void visit_lines(std::string_view text, std::string_view needle,
                 const std::function<void(std::string_view)>& visit) {
  while (!text.empty()) {
    const std::size_t hit = text.find(needle);
    if (hit == std::string_view::npos) return;
    const std::size_t before = hit == 0 ? std::string_view::npos : text.rfind('\n', hit - 1);
    const std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
    const std::size_t end = text.find('\n', hit);
    visit(text.substr(begin, end - begin));
    text.remove_prefix(end + 1);
  }
}

}  // namespace

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

UniqueFd open_proc() { return UniqueFd(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

LineReader::LineReader(int directory, const char* path)
    : fd_(::openat(directory, path, O_RDONLY | O_CLOEXEC)) {
  if (!fd_) error_ = errno;
}

void LineReader::read(const std::function<void(std::string_view)>& visit, std::string_view needle) {
  if (!fd_) return;
  const auto buffer = std::make_unique_for_overwrite<char[]>(kBufferSize);
  std::size_t kept = 0;   // bytes of an unfinished line, at the front
  bool skipping = false;  // inside a line that is too long
  for (;;) {
    const ssize_t count = ::read(fd_.get(), buffer.get() + kept, kBufferSize - kept);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) error_ = errno;
    if (count <= 0) return;
    std::string_view text(buffer.get(), kept + static_cast<std::size_t>(count));
    if (skipping) {
      const std::size_t newline = text.find('\n');
      if (newline == std::string_view::npos) {
        kept = 0;
        continue;
      }
      text.remove_prefix(newline + 1);
      skipping = false;
    }
    const std::size_t last = text.rfind('\n');
    const std::size_t whole = last == std::string_view::npos ? 0 : last + 1;
    visit_lines(text.substr(0, whole), needle, visit);
    text.remove_prefix(whole);
    skipping = text.size() == kBufferSize;
    kept = skipping ? 0 : text.size();
    std::memmove(buffer.get(), text.data(), kept);
  }
}

}  // namespace tssx::stat_tool
