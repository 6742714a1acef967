#include "tests/differential/oracle.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "tests/differential/server.h"

namespace differential {
namespace {

std::string make_directory() {
  const char* parent = std::getenv("TMPDIR");
  std::string name = std::string(parent == nullptr ? "/tmp" : parent) + "/tssx-differential-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
  return name;
}

}  // namespace

ServerProcess::ServerProcess(const std::string& library) : directory_(make_directory()) {
  int commands[2], answers[2];
  if (::pipe2(commands, O_CLOEXEC) == -1 || ::pipe2(answers, O_CLOEXEC) == -1) {
    throw std::runtime_error("pipe2");
  }
  process_ = ::fork();
  if (process_ == -1) throw std::runtime_error("fork");
  if (process_ == 0) {
    ::dup2(commands[0], STDIN_FILENO);
    ::dup2(answers[1], STDOUT_FILENO);
    ::unsetenv("LD_PRELOAD");
    ::unsetenv("USE_TSSX");
    if (!library.empty()) {
      ::setenv("LD_PRELOAD", library.c_str(), 1);
      ::setenv("USE_TSSX", "*", 1);
    }
    ::execl("/proc/self/exe", "differential", "--serve", directory_.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(commands[0]);
  ::close(answers[1]);
  to_ = commands[1];
  from_ = answers[0];
  pipe_ = std::make_unique<PipeText>(from_, to_);
}

ServerProcess::~ServerProcess() {
  ::close(to_);
  ::close(from_);
  ::waitpid(process_, nullptr, 0);
  remove_directory(directory_);
}

void ServerProcess::ask(const std::string& command) {
  if (!pipe_->write(command)) throw std::runtime_error("a server has gone");
}

std::vector<std::uint64_t> ServerProcess::hashes(std::uint32_t count) {
  std::vector<std::uint64_t> all(count);
  for (std::uint64_t& one : all) {
    std::string line;
    if (!pipe_->read_line(line)) throw std::runtime_error("a server has gone");
    one = std::stoull(line, nullptr, 16);
  }
  return all;
}

std::vector<std::string> ServerProcess::transcript() {
  std::string size, text;
  if (!pipe_->read_line(size) || !pipe_->read(text, std::stoul(size))) {
    throw std::runtime_error("a server has gone");
  }
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

bool Difference::hung_on_kernel() const {
  return std::find(kernel.begin(), kernel.end(), "hung") != kernel.end();
}

Op Difference::op(const Program& program) const {
  return step < program.size() ? program[step].op : Op::kCount;
}

std::string Difference::print(const Program& program) const {
  std::string text;
  for (std::size_t i = 0; i <= program.size(); ++i) {
    std::string line = i < program.size() ? differential::print(program[i]) : "# left behind";
    line.resize(std::max(line.size() + 1, std::size_t{40}), ' ');
    text += line + "# ";
    text += kernel[i] == ours[i] ? kernel[i] : "KERNEL " + kernel[i] + "   OURS " + ours[i];
    text += '\n';
  }
  return text;
}

std::vector<std::uint32_t> Oracle::run(std::uint64_t seed, std::uint64_t first, std::uint32_t count,
                                       std::vector<std::uint32_t>& hung) {
  const std::string command = "run " + std::to_string(seed) + " " + std::to_string(first) + " " +
                              std::to_string(count) + "\n";
  kernel_.ask(command);
  ours_.ask(command);
  const std::vector<std::uint64_t> expected = kernel_.hashes(count), actual = ours_.hashes(count);
  std::vector<std::uint32_t> differ;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (expected[i] == kHung) {
      hung.push_back(i);
    } else if (expected[i] != kNotRun && actual[i] != kNotRun && expected[i] != actual[i]) {
      differ.push_back(i);
    }
  }
  return differ;
}

std::optional<Difference> Oracle::play(const Program& program, int patience) {
  const std::string text = print(program);
  const std::string command =
      "play " + std::to_string(patience) + " " + std::to_string(text.size()) + "\n" + text;
  kernel_.ask(command);
  ours_.ask(command);
  Difference difference{kernel_.transcript(), ours_.transcript(), 0};
  while (difference.step < difference.kernel.size() &&
         difference.kernel[difference.step] == difference.ours[difference.step]) {
    ++difference.step;
  }
  if (difference.step == difference.kernel.size()) return {};
  return difference;
}

}  // namespace differential
