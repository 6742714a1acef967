#include "shim/config.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/sys.h"
#include "core/wakeup.h"
#include "shim/log.h"

namespace tssx {

Config config;

namespace {

// Programs whose tolerance of negative descriptors a test proves (docs/compatibility.md).
constexpr const char* kToleratesNegative[] = {"postgres"};

bool program_tolerates_negative() noexcept {
  char path[4096];
  const long size = sys::call(SYS_readlink, sys::word("/proc/self/exe"), sys::word(path),
                              static_cast<long>(sizeof path - 1));
  if (size <= 0) return false;
  path[size] = '\0';
  const char* slash = std::strrchr(path, '/');
  const char* name = slash == nullptr ? path : slash + 1;
  for (const char* tolerant : kToleratesNegative) {
    if (std::strcmp(name, tolerant) == 0) return true;
  }
  return false;
}

}  // namespace

bool Config::load() noexcept {
  const char* listed = ::secure_getenv("USE_TSSX");
  if (listed == nullptr || *listed == '\0') return false;
  const std::size_t length = std::strlen(listed);
  // Shared, for tssx-stat: so it is seen in /proc/PID/maps, where private memory has no name.
  const std::size_t size = sizeof(ProcessRecord) + length + 1;
  record_ = static_cast<ProcessRecord*>(
      sys::mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1));
  if (record_ == nullptr) {
    complain("USE_TSSX", "no memory for the patterns; nothing is meant");
    return false;
  }
  char* const text = reinterpret_cast<char*>(record_ + 1);
  std::memcpy(text, listed, length + 1);

  char* start = text;
  for (char* at = text;; ++at) {
    if (*at == '\\' && at[1] != '\0') {
      ++at;  // fnmatch(3) takes the backslash off again
      continue;
    }
    if (*at != ' ' && *at != '\0') continue;
    const bool last = *at == '\0';
    *at = '\0';
    if (at != start) {
      if (count_ == kMaxPatterns) {
        complain("USE_TSSX", "more than 256 patterns; the rest is ignored");
        break;
      }
      if (std::strcmp(start, "*") == 0) every_path_ = true;
      patterns_[count_++] = start;
    }
    if (last) break;
    start = at + 1;
  }
  if (count_ == 0) return false;

  const char* ids = ::secure_getenv("TSSX_IDS");
  if (ids == nullptr) ids = "";
  if (std::strcmp(ids, "negative") == 0) {
    hands_out_ids_ = true;
  } else if (std::strcmp(ids, "kernel") != 0) {
    if (*ids != '\0' && std::strcmp(ids, "auto") != 0) {
      complain("TSSX_IDS", "neither auto, negative nor kernel; auto is used");
    }
    hands_out_ids_ = program_tolerates_negative();
  }

  if (const char* seccomp = ::secure_getenv("TSSX_SECCOMP");
      seccomp != nullptr && *seccomp != '\0') {
    traps_raw_calls_ = std::strcmp(seccomp, "trap") == 0;
    if (!traps_raw_calls_) complain("TSSX_SECCOMP", "not trap; ignored");
  }

  if (const char* spin = ::secure_getenv("TSSX_SPIN"); spin != nullptr && *spin != '\0') {
    char* end = nullptr;
    const int saved = errno;
    const unsigned long microseconds = std::strtoul(spin, &end, 10);
    errno = saved;
    if (*end != '\0' || *spin == '-' || microseconds > 1'000'000) {
      complain("TSSX_SPIN", "not a number of microseconds from 0 to 1000000; ignored");
    } else {
      spin_us_ = microseconds;
      set_spin_limit(std::uint64_t{microseconds} * 1000);
    }
  }
  write_record(size);
  return true;
}

void Config::write_record(std::size_t size) noexcept {
  record_->version = kRecordVersion;
  record_->protocol = kProtocolVersion;
  record_->size = static_cast<std::uint32_t>(size);
  record_->pattern_count = static_cast<std::uint32_t>(count_);
  record_->negative_ids = hands_out_ids_ ? 1 : 0;
  std::memcpy(record_->library, kLibraryVersion, sizeof kLibraryVersion);
  record_->magic = kProcessMagic;
}

void Config::note_filter() noexcept {
  if (record_ == nullptr) return;
  const auto process = static_cast<std::uint32_t>(sys::getpid());
  for (std::atomic<std::uint32_t>& slot : record_->filtered) {
    std::uint32_t known = 0;
    if (slot.compare_exchange_strong(known, process, std::memory_order_relaxed)) return;
    if (known == process) return;
  }
}

bool Config::is_listed(const sockaddr_un& address, socklen_t length) const noexcept {
  constexpr std::size_t kStart = offsetof(sockaddr_un, sun_path);
  if (length <= kStart || address.sun_family != AF_UNIX) return false;
  if (every_path_) return true;
  const std::size_t size = std::min<std::size_t>(length - kStart, sizeof address.sun_path);
  char name[sizeof address.sun_path + 1];
  std::memcpy(name, address.sun_path, size);
  name[size] = '\0';
  if (name[0] == '\0') name[0] = '@';
  const int saved = errno;
  bool found = false;
  for (std::size_t i = 0; i < count_ && !found; ++i) {
    found = ::fnmatch(patterns_[i], name, 0) == 0;
  }
  errno = saved;
  return found;
}

}  // namespace tssx
