#include "tools/tssx-stat/output.h"

#include <fmt/format.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace tssx::stat_tool {

bool print(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

void complain(std::string_view text) {
  (void)print(STDERR_FILENO, fmt::format("tssx-stat: {}\n", text));
}

TextStyle style_of_output() {
  TextStyle style;
  style.human = ::isatty(STDOUT_FILENO) == 1;
  style.unicode = std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  style.colour = style.human && (no_colour == nullptr || *no_colour == '\0') &&
                 (terminal == nullptr || std::strcmp(terminal, "dumb") != 0);
  winsize size{};
  if (style.human && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) style.width = size.ws_col;
  return style;
}

}  // namespace tssx::stat_tool
