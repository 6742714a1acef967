#include "shim/file_numbers.h"

#include <atomic>
#include <cstdint>

namespace tssx {
namespace {

constexpr int kBits = 64;
// The standard streams' numbers are set before any code of ours runs.
constinit std::atomic<std::uint64_t> words[kMaxFileNumber / kBits] = {0b111};

constexpr std::uint64_t bit(int fd) noexcept { return std::uint64_t{1} << (fd % kBits); }

}  // namespace

bool is_file_number(int fd) noexcept {
  return fd >= 0 && fd < kMaxFileNumber &&
         (words[fd / kBits].load(std::memory_order_relaxed) & bit(fd)) != 0;
}

void note_file_number(int fd) noexcept {
  if (fd < 0 || fd >= kMaxFileNumber || is_file_number(fd)) return;
  words[fd / kBits].fetch_or(bit(fd), std::memory_order_relaxed);
}

void forget_file_number(int fd) noexcept {
  if (!is_file_number(fd)) return;
  words[fd / kBits].fetch_and(~bit(fd), std::memory_order_relaxed);
}

}  // namespace tssx
