#include "tools/tssx-stat/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/tssx-stat/output.h"

namespace tssx::stat_tool {
namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J";
constexpr std::string_view kLeave = "\x1b[0m\x1b[?25h\x1b[?1049l";

}  // namespace

bool Terminal::enter() {
  if (entered_) return true;
  has_keys_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
  if (has_keys_) {
    termios raw = before_;
    // Signals stay: ^C and ^Z do what they always do.
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    (void)::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
  }
  entered_ = true;
  return print(STDOUT_FILENO, kEnter);
}

void Terminal::leave() {
  if (!entered_) return;
  entered_ = false;
  (void)print(STDOUT_FILENO, kLeave);
  if (has_keys_) (void)::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
}

bool Terminal::draw(const std::vector<std::string>& lines) {
  std::string text = "\x1b[H";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    text += lines[i];
    text += "\x1b[K";
    if (i + 1 < lines.size()) text += "\r\n";
  }
  text += "\x1b[J";
  return print(STDOUT_FILENO, text);
}

bool Terminal::size(std::size_t& rows, std::size_t& columns) {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
    return false;
  }
  rows = size.ws_row;
  columns = size.ws_col;
  return true;
}

}  // namespace tssx::stat_tool
