// What the library's own records (core/record.h) say, parsed strictly, without a system call.
//
// Like a segment's header page they are copies of memory that other users write.
//
// Thread safety: pure functions over the caller's bytes.
//
// Invariant: any byte string may be passed; the result is nullopt or within its limits.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/record.h"
#include "tools/tssx-stat/snapshot.h"

namespace tssx::stat_tool {

struct WaitSnapshot {
  std::uint64_t spun = 0;
  std::uint64_t yielded = 0;
  std::uint64_t slept = 0;
};

// One side of a connection, as its own processes see it.
struct EndSnapshot {
  enum class Stage { candidate, offered, established, retired, unknown };

  NonceBytes nonce{};
  Role role = Role::server;
  std::string path;  // server: any bytes; an abstract name starts with NUL
  std::uint64_t created_ns = 0;
  Stage stage = Stage::unknown;
  Reason reason = Reason::none;     // for good; a number of a later version is possible
  std::uint32_t detail = 0;         // an errno
  Reason postponed = Reason::none;  // not yet
  bool negative = false;
  std::uint64_t asides = 0;
  std::uint64_t returns = 0;
  std::uint64_t kernel_calls = 0;  // before the move: what decides about an offer
  std::uint64_t kernel_bytes_sent = 0;
  std::uint64_t kernel_bytes_received = 0;
  std::array<std::uint64_t, kSizeBuckets> sent_sizes{};
  WaitSnapshot receiving;
  WaitSnapshot sending;
};

enum class RecordKind { none, end, process, other_version };

// What a page holds, by its first bytes.
[[nodiscard]] RecordKind kind_of_record(std::span<const std::uint8_t> page);

[[nodiscard]] std::optional<EndSnapshot> parse_end(std::span<const std::uint8_t> page);

// What the environment of a process asked for.
struct ProcessSettings {
  std::uint32_t protocol = 0;
  std::string library;  // its version; any bytes
  std::vector<std::string> patterns;
  bool negative_ids = false;
  std::vector<pid_t> filtered;  // restricted their own system calls; in their own pid namespace
};

[[nodiscard]] std::optional<ProcessSettings> parse_process(std::span<const std::uint8_t> bytes);

// The size that a process record claims, of which the first page is given; at most 256 KiB.
[[nodiscard]] std::size_t process_record_size(std::span<const std::uint8_t> page);

// Is a listening socket's name listed? An abstract one starts with @.
[[nodiscard]] bool lists(const ProcessSettings& settings, std::string_view path);

// A short name, and a sentence. Unknown numbers have "unknown".
[[nodiscard]] std::string_view to_string(Reason reason);
[[nodiscard]] std::string_view sentence_of(Reason reason);
[[nodiscard]] std::string_view to_string(EndSnapshot::Stage stage);

}  // namespace tssx::stat_tool
