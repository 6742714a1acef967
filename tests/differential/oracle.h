// The two servers, and what they say about programs.
//
// Thread safety: one thread for each object.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/differential/pipe_text.h"
#include "tests/differential/program.h"

namespace differential {

// A server as a child process, with a directory of its own for its sockets.
class ServerProcess {
 public:
  // `library`: what to preload, empty for the kernel's own sockets. Throws std::runtime_error.
  explicit ServerProcess(const std::string& library);
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;
  ~ServerProcess();

  void ask(const std::string& command);
  std::vector<std::uint64_t> hashes(std::uint32_t count);
  std::vector<std::string> transcript();

 private:
  std::string directory_;
  pid_t process_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::unique_ptr<PipeText> pipe_;
};

// Two transcripts of a program that are not the same.
struct Difference {
  std::vector<std::string> kernel;  // a line for each step, and one for what is left behind
  std::vector<std::string> ours;
  std::size_t step;  // the first that differs

  [[nodiscard]] bool hung_on_kernel() const;
  // The operation that differs, kCount for what is left behind.
  [[nodiscard]] Op op(const Program& program) const;
  // The program as text, each step with what it gave, and both where that differs.
  [[nodiscard]] std::string print(const Program& program) const;
};

class Oracle {
 public:
  explicit Oracle(const std::string& library) : kernel_(""), ours_(library) {}

  // Runs programs made from a seed in both; the places, from 0 on, of those that differ.
  // `hung`: of those that did so on the kernel, where nothing may: the model is wrong about them.
  std::vector<std::uint32_t> run(std::uint64_t seed, std::uint64_t first, std::uint32_t count,
                                 std::vector<std::uint32_t>& hung);

  // Runs one program in both, in fresh processes. `patience` in milliseconds.
  std::optional<Difference> play(const Program& program, int patience);

 private:
  ServerProcess kernel_;
  ServerProcess ours_;
};

}  // namespace differential
