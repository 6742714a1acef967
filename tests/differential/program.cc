#include "tests/differential/program.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <charconv>
#include <sstream>

namespace differential {
namespace {

struct OpEntry {
  const char* name;
  std::string_view pattern;
};
constexpr OpEntry kOps[] = {
#define DIFFERENTIAL_OP(name, arguments, what) {#name, arguments},
#include "tests/differential/ops.def"
#undef DIFFERENTIAL_OP
};

struct Word {
  const char* name;
  long value;
};
constexpr Word kMessageFlags[] = {
    {"PEEK", MSG_PEEK},
    {"WAITALL", MSG_WAITALL},
    {"DONTWAIT", MSG_DONTWAIT},
    {"TRUNC", MSG_TRUNC},
    {"OOB", MSG_OOB},
    {"NOSIGNAL", MSG_NOSIGNAL},
    {"EOR", MSG_EOR},
    {"MORE", MSG_MORE},
    {"CMSG_CLOEXEC", MSG_CMSG_CLOEXEC},
    {"WAITFORONE", MSG_WAITFORONE},
};
constexpr Word kPollEvents[] = {
    {"IN", POLLIN},         {"OUT", POLLOUT},       {"PRI", POLLPRI},       {"RDHUP", POLLRDHUP},
    {"RDNORM", POLLRDNORM}, {"WRNORM", POLLWRNORM}, {"RDBAND", POLLRDBAND},
};
constexpr Word kEpollEvents[] = {
    {"IN", EPOLLIN},       {"OUT", EPOLLOUT}, {"PRI", EPOLLPRI},
    {"RDHUP", EPOLLRDHUP}, {"ET", EPOLLET},   {"ONESHOT", EPOLLONESHOT},
};
constexpr Word kHow[] = {{"RD", SHUT_RD}, {"WR", SHUT_WR}, {"RDWR", SHUT_RDWR}};
constexpr Word kControl[] = {
    {"ADD", EPOLL_CTL_ADD}, {"MOD", EPOLL_CTL_MOD}, {"DEL", EPOLL_CTL_DEL}};

template <std::size_t N>
std::string print_flags(const Word (&words)[N], long value) {
  std::string text;
  for (const Word& word : words) {
    if ((value & word.value) != word.value) continue;
    value &= ~word.value;
    if (!text.empty()) text += '|';
    text += word.name;
  }
  if (value != 0 || text.empty()) {
    if (!text.empty()) text += '|';
    text += std::to_string(value);
  }
  return text;
}

template <std::size_t N>
std::string print_word(const Word (&words)[N], long value) {
  for (const Word& word : words) {
    if (word.value == value) return word.name;
  }
  return std::to_string(value);
}

bool parse_number(std::string_view text, long& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

template <std::size_t N>
bool parse_word(const Word (&words)[N], std::string_view text, long& value) {
  for (const Word& word : words) {
    if (text == word.name) {
      value = word.value;
      return true;
    }
  }
  return parse_number(text, value);
}

template <std::size_t N>
bool parse_flags(const Word (&words)[N], std::string_view text, long& value) {
  value = 0;
  for (;;) {
    const std::size_t bar = text.find('|');
    long one = 0;
    if (!parse_word(words, text.substr(0, bar), one)) return false;
    value |= one;
    if (bar == std::string_view::npos) return true;
    text.remove_prefix(bar + 1);
  }
}

std::string print_argument(char kind, long value) {
  switch (kind) {
    case 'd':
    case 'D':
      return "f" + std::to_string(value);
    case 'm':
      return print_flags(kMessageFlags, value);
    case 'p':
      return print_flags(kPollEvents, value);
    case 'e':
      return print_flags(kEpollEvents, value);
    case 'h':
      return print_word(kHow, value);
    case 'c':
      return print_word(kControl, value);
    case 'o':
      return kSocketOptions[value].name;
    default:
      return std::to_string(value);
  }
}

bool parse_argument(char kind, std::string_view text, long& value) {
  switch (kind) {
    case 'd':
    case 'D':
      return text.starts_with('f') && parse_number(text.substr(1), value) && value >= 0 &&
             value < kMaxNames;
    case 'a':
      return parse_number(text, value) && value > 0 && value < kMaxActors;
    case 'm':
      return parse_flags(kMessageFlags, text, value);
    case 'p':
      return parse_flags(kPollEvents, text, value);
    case 'e':
      return parse_flags(kEpollEvents, text, value);
    case 'h':
      return parse_word(kHow, text, value);
    case 'c':
      return parse_word(kControl, text, value);
    case 'o':
      for (value = 0; value < kSocketOptionCount; ++value) {
        if (text == kSocketOptions[value].name) return true;
      }
      return false;
    case 'n':
      return parse_number(text, value) && value >= 0;
    default:
      return parse_number(text, value);
  }
}

// The step in a line that is not empty; an exception's text says what is wrong.
Step parse_step(const std::string& line) {
  std::istringstream words(line);
  std::string who, what;
  words >> who >> what;
  Step step;
  if (who.ends_with('&')) {
    step.background = true;
    who.pop_back();
  }
  long actor = 0;
  if (!parse_number(who, actor) || actor < 0 || actor >= kMaxActors) {
    throw ParseError("not an actor: " + who);
  }
  step.actor = static_cast<std::uint8_t>(actor);
  std::size_t op = 0;
  while (op < std::size(kOps) && what != kOps[op].name) ++op;
  if (op == std::size(kOps)) throw ParseError("no such step: " + what);
  step.op = static_cast<Op>(op);
  for (std::string word; words >> word;) {
    const char kind = kind_of(step.op, step.arguments.size());
    long value = 0;
    if (kind == '\0') throw ParseError("one argument too many: " + word);
    if (!parse_argument(kind, word, value)) throw ParseError("not an argument: " + word);
    step.arguments.push_back(value);
  }
  const std::size_t fixed = fixed_arguments(step.op), more = repeated_arguments(step.op);
  const std::size_t count = step.arguments.size();
  if (count < fixed || count > kMaxArguments || (more != 0 && (count - fixed) % more != 0)) {
    throw ParseError("wrong number of arguments");
  }
  return step;
}

}  // namespace

const SocketOption kSocketOptions[] = {
    {"SO_ERROR", SO_ERROR, false},           {"SO_TYPE", SO_TYPE, false},
    {"SO_DOMAIN", SO_DOMAIN, false},         {"SO_PROTOCOL", SO_PROTOCOL, false},
    {"SO_ACCEPTCONN", SO_ACCEPTCONN, false}, {"SO_SNDBUF", SO_SNDBUF, false},
    {"SO_RCVBUF", SO_RCVBUF, false},         {"SO_RCVTIMEO", SO_RCVTIMEO, true},
    {"SO_SNDTIMEO", SO_SNDTIMEO, true},      {"SO_RCVLOWAT", SO_RCVLOWAT, false},
    {"SO_PASSCRED", SO_PASSCRED, false},     {"SO_PEEK_OFF", SO_PEEK_OFF, false},
    {"SO_KEEPALIVE", SO_KEEPALIVE, false},   {"SO_REUSEADDR", SO_REUSEADDR, false},
};
const long kSocketOptionCount = static_cast<long>(std::size(kSocketOptions));

const char* name(Op op) { return kOps[static_cast<std::size_t>(op)].name; }
std::string_view pattern(Op op) { return kOps[static_cast<std::size_t>(op)].pattern; }

std::size_t fixed_arguments(Op op) { return std::min(pattern(op).find('('), pattern(op).size()); }

std::size_t repeated_arguments(Op op) {
  const std::size_t fixed = fixed_arguments(op);
  return fixed == pattern(op).size() ? 0 : pattern(op).size() - fixed - 2;
}

char kind_of(Op op, std::size_t argument) {
  const std::size_t fixed = fixed_arguments(op), more = repeated_arguments(op);
  if (argument < fixed) return pattern(op)[argument];
  return more == 0 ? '\0' : pattern(op)[fixed + 1 + (argument - fixed) % more];
}

std::string print(const Step& step) {
  std::string text = std::to_string(step.actor) + (step.background ? "& " : " ") + name(step.op);
  for (std::size_t i = 0; i < step.arguments.size(); ++i) {
    text += ' ' + print_argument(kind_of(step.op, i), step[i]);
  }
  return text;
}

std::string print(const Program& program) {
  std::string text;
  for (const Step& step : program) text += print(step) + '\n';
  return text;
}

Program parse(std::string_view text) {
  Program program;
  std::istringstream lines{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    line.resize(std::min(line.find('#'), line.size()));
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      program.push_back(parse_step(line));
    } catch (const ParseError& error) {
      throw ParseError("line " + std::to_string(number) + ": " + error.what());
    }
    if (program.size() > kMaxSteps)
      throw ParseError("more than " + std::to_string(kMaxSteps) + " steps");
  }
  return program;
}

}  // namespace differential
