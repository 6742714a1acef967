// A program of socket calls: a list of steps, each for one of a few actors (threads or processes).
// The steps happen one after the other, whoever's they are; only a step in the background lets the
// next ones go on while it blocks.
//
// The text form, a step a line, '#' begins a comment:
//
//   0 pair f0 f1             actor 0 makes a connection, f0 the client's end, f1 the server's
//   0 thread 1               actor 1 is a thread
//   1& read f1 100           '&': in the background; awaited by actor 1's next step
//   0 send f0 4096 DONTWAIT
//   1 sync
//
// The steps and their arguments: ops.def.
//
// Thread safety: plain data.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace differential {

enum class Op : std::uint8_t {
#define DIFFERENTIAL_OP(name, arguments, what) name##_,
#include "tests/differential/ops.def"
#undef DIFFERENTIAL_OP
  kCount,
};

// Limits of a program; parse() refuses more.
constexpr int kMaxSteps = 96;
constexpr int kMaxNames = 32;
constexpr int kMaxActors = 4;
constexpr int kMaxArguments = 14;

struct Step {
  Op op = Op::sync_;
  std::uint8_t actor = 0;
  bool background = false;
  std::vector<long> arguments;

  [[nodiscard]] long operator[](std::size_t i) const { return arguments[i]; }
  bool operator==(const Step&) const = default;
};

using Program = std::vector<Step>;

// The name of an operation, and the kinds of its arguments as in ops.def.
const char* name(Op op);
std::string_view pattern(Op op);

// The letter of ops.def for the argument with that number.
char kind_of(Op op, std::size_t argument);

// How many arguments come before the ones that repeat, and how many repeat together (0: none).
std::size_t fixed_arguments(Op op);
std::size_t repeated_arguments(Op op);

std::string print(const Step& step);
std::string print(const Program& program);

struct ParseError : std::runtime_error {
  using runtime_error::runtime_error;
};
// Throws ParseError with the line's number for what is not a program.
Program parse(std::string_view text);

// Socket options are numbered by their place in this table.
struct SocketOption {
  const char* name;
  int value;
  bool time;  // a timeval
};
extern const SocketOption kSocketOptions[];
extern const long kSocketOptionCount;

}  // namespace differential
