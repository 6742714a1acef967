// What the environment asks for; read once, at start-up.
//
// USE_TSSX   space-separated patterns of socket paths, as fnmatch(3) without FNM_PATHNAME; a
//            backslash keeps a space in a path; abstract names are matched as "@name"
// TSSX_IDS   auto | negative | kernel: what accept() hands out
// TSSX_SPIN  longest waiting phase in microseconds; 0 forbids spinning
// TSSX_SECCOMP  trap: system calls that bypass the symbol table with an ID are carried out too
// (TSSX_LOG is read by shim/log.h.)
//
// Thread safety: immutable after start-up. A setuid program gets no configuration
// (secure_getenv(3)).
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/socket.h>
#include <sys/un.h>

#include "core/record.h"

namespace tssx {

class Config {
 public:
  // False if this process is to be left alone.
  bool load() noexcept;

  // Is the name listed? `address` as bind(2) or connect(2) got it, or getsockname(2) gave it.
  bool is_listed(const sockaddr_un& address, socklen_t length) const noexcept;
  bool hands_out_ids() const noexcept { return hands_out_ids_; }
  // This process restricts its own system calls: what it makes from now on stays in the kernel.
  // For tssx-stat.
  void note_filter() noexcept;
  bool traps_raw_calls() const noexcept { return traps_raw_calls_ && hands_out_ids_; }
  void trap_nothing() noexcept { traps_raw_calls_ = false; }
  std::uint64_t spin_us() const noexcept { return spin_us_; }

 private:
  void write_record(std::size_t size) noexcept;

  static constexpr std::size_t kMaxPatterns = 256;
  ProcessRecord* record_ = nullptr;  // and the patterns behind it, each ended by NUL
  const char* patterns_[kMaxPatterns]{};
  std::size_t count_ = 0;
  bool every_path_ = false;
  bool hands_out_ids_ = false;
  bool traps_raw_calls_ = false;
  std::uint64_t spin_us_ = 50;  // core/wakeup.cc
};

extern Config config;

}  // namespace tssx
