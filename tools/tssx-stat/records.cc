#include "tools/tssx-stat/records.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <limits>

#include "core/side.h"
#include "tools/tssx-stat/glob.h"
#include "tools/tssx-stat/load.h"

namespace tssx::stat_tool {
namespace {

constexpr std::size_t kLargestRecord = std::size_t{256} << 10U;

std::uint32_t word(std::span<const std::uint8_t> page, std::size_t offset) {
  return load<std::uint32_t>(page, offset);
}
std::uint64_t quad(std::span<const std::uint8_t> page, std::size_t offset) {
  return load<std::uint64_t>(page, offset);
}

WaitSnapshot waits_at(std::span<const std::uint8_t> page, std::size_t offset) {
  return {quad(page, offset + offsetof(WaitCounts, spun)),
          quad(page, offset + offsetof(WaitCounts, yielded)),
          quad(page, offset + offsetof(WaitCounts, slept))};
}

EndSnapshot::Stage stage_of(std::uint32_t phase) {
  using Stage = EndSnapshot::Stage;
  switch (static_cast<Phase>(phase)) {
    case Phase::candidate:
      return Stage::candidate;
    case Phase::offered:
      return Stage::offered;
    case Phase::established:
      return Stage::established;
    case Phase::retired:
      return Stage::retired;
  }
  return Stage::unknown;
}

struct ReasonText {
  Reason reason;
  std::string_view name;
  std::string_view sentence;
};

constexpr std::array kReasons{
    ReasonText{Reason::none, "none", "no reason is known"},
    ReasonText{Reason::shared, "shared", "more than one process holds this end"},
    ReasonText{Reason::unread, "unread", "the peer has not read what was sent to it"},
    ReasonText{Reason::busy, "busy", "another thread was in the middle of a send or a fork"},
    ReasonText{Reason::no_queue, "no-queue", "the offer could not be sent"},
    ReasonText{Reason::option, "option",
               "the socket has an option or mode that only the kernel can honour"},
    ReasonText{Reason::too_late, "too-late",
               "8 MiB were sent before there was a moment to offer shared memory"},
    ReasonText{Reason::peer_absent, "peer-absent",
               "the client's process may have left its end to another program"},
    ReasonText{Reason::no_segment, "no-segment",
               "the shared memory could not be created or mapped"},
    ReasonText{Reason::small_segment, "small-segment",
               "the client's send buffer is larger than the server's segment"},
    ReasonText{Reason::unanswered, "unanswered", "the client did not answer the offer"},
    ReasonText{Reason::forked, "forked", "the process forked while its offer was under way"},
    ReasonText{Reason::no_descriptor, "no-descriptor",
               "no descriptor was free when the offer came"},
    ReasonText{Reason::no_offer, "no-offer",
               "the server has sent so much without an offer that none will come"},
    ReasonText{Reason::executed, "executed", "another program inherited the descriptor"},
    ReasonText{Reason::passed, "passed", "the descriptor was passed to another process"},
    ReasonText{Reason::urgent, "urgent", "MSG_OOB was used"},
    ReasonText{Reason::shut_down, "shut-down", "it was shut down"},
    ReasonText{Reason::libc_inside, "libc-inside",
               "libc itself uses the descriptor (standard streams, stdio, aio)"},
    ReasonText{Reason::own_filter, "own-filter",
               "the program restricts its own system calls by seccomp"},
    ReasonText{Reason::epoll_set, "epoll-set",
               "it is in an epoll set that can't be followed (shared by processes, or too deep)"},
    ReasonText{Reason::several_users, "several-users",
               "several processes used this end at the same time, or too often in turn"},
};

const ReasonText* find(Reason reason) {
  const auto found =
      std::find_if(kReasons.begin(), kReasons.end(),
                   [reason](const ReasonText& text) { return text.reason == reason; });
  return found == kReasons.end() ? nullptr : &*found;
}

}  // namespace

RecordKind kind_of_record(std::span<const std::uint8_t> page) {
  if (page.size() < sizeof(ProcessRecord)) return RecordKind::none;
  const std::uint64_t magic = quad(page, 0);
  static_assert(offsetof(SideRecord, version) == 8 && offsetof(ProcessRecord, version) == 8);
  if (magic != kSideMagic && magic != kProcessMagic) return RecordKind::none;
  if (word(page, 8) != kRecordVersion) return RecordKind::other_version;
  if (magic == kProcessMagic) return RecordKind::process;
  return word(page, offsetof(SideRecord, size)) == sizeof(Side) ? RecordKind::end
                                                                : RecordKind::other_version;
}

std::optional<EndSnapshot> parse_end(std::span<const std::uint8_t> page) {
  if (page.size() < sizeof(Side) || kind_of_record(page) != RecordKind::end) return std::nullopt;
  const std::uint32_t role = word(page, offsetof(SideRecord, role));
  const std::uint32_t length = word(page, offsetof(SideRecord, path_length));
  if (role > static_cast<std::uint32_t>(Role::client) || length > kPathSize) return std::nullopt;

  EndSnapshot end;
  end.role = static_cast<Role>(role);
  end.nonce = load<NonceBytes>(page, offsetof(SideRecord, nonce));
  const auto* path = page.data() + offsetof(SideRecord, path);
  end.path.assign(path, path + length);
  end.created_ns = quad(page, offsetof(SideRecord, created_ns));
  end.stage = stage_of(word(page, offsetof(Side, phase)));
  end.reason = static_cast<Reason>(word(page, offsetof(SideRecord, reason)));
  end.detail = word(page, offsetof(SideRecord, detail));
  end.postponed = static_cast<Reason>(word(page, offsetof(SideRecord, postponed)));
  end.negative = word(page, offsetof(SideRecord, negative)) == 1;
  end.asides = word(page, offsetof(SideRecord, asides));
  end.returns = word(page, offsetof(Side, sending.returns));
  end.kernel_calls = word(page, offsetof(Side, sending.calls));
  end.kernel_bytes_sent = quad(page, offsetof(Side, sending.kernel_bytes));
  end.kernel_bytes_received = quad(page, offsetof(Side, receiving.kernel_bytes));
  for (std::size_t i = 0; i < kSizeBuckets; ++i) {
    end.sent_sizes[i] = quad(page, offsetof(Side, counts.sent_sizes) + i * sizeof(std::uint64_t));
  }
  end.receiving = waits_at(page, offsetof(Side, counts.receiving));
  end.sending = waits_at(page, offsetof(Side, counts.sending));
  return end;
}

std::size_t process_record_size(std::span<const std::uint8_t> page) {
  if (kind_of_record(page) != RecordKind::process) return 0;
  return std::min<std::size_t>(word(page, offsetof(ProcessRecord, size)), kLargestRecord);
}

std::optional<ProcessSettings> parse_process(std::span<const std::uint8_t> bytes) {
  const std::size_t size = process_record_size(bytes);
  if (size < sizeof(ProcessRecord) || size > bytes.size()) return std::nullopt;
  ProcessSettings settings;
  settings.protocol = word(bytes, offsetof(ProcessRecord, protocol));
  settings.negative_ids = word(bytes, offsetof(ProcessRecord, negative_ids)) == 1;
  const auto library = load<std::array<char, 16>>(bytes, offsetof(ProcessRecord, library));
  settings.library.assign(library.begin(), std::find(library.begin(), library.end(), '\0'));
  for (std::size_t i = 0; i < ProcessRecord::kFilterSlots; ++i) {
    const std::uint32_t pid =
        word(bytes, offsetof(ProcessRecord, filtered) + i * sizeof(std::uint32_t));
    if (pid == 0) break;
    if (pid <= static_cast<std::uint32_t>(std::numeric_limits<pid_t>::max())) {
      settings.filtered.push_back(static_cast<pid_t>(pid));
    }
  }
  // Between the patterns lie the NULs that took the place of spaces, one or more.
  std::span<const std::uint8_t> text =
      bytes.subspan(sizeof(ProcessRecord), size - sizeof(ProcessRecord));
  const std::uint32_t count = word(bytes, offsetof(ProcessRecord, pattern_count));
  while (!text.empty() && settings.patterns.size() < count) {
    const auto end = std::find(text.begin(), text.end(), std::uint8_t{0});
    if (end != text.begin()) settings.patterns.emplace_back(text.begin(), end);
    if (end == text.end()) break;
    text = text.subspan(static_cast<std::size_t>(end - text.begin()) + 1);
  }
  return settings;
}

bool lists(const ProcessSettings& settings, std::string_view path) {
  return std::any_of(settings.patterns.begin(), settings.patterns.end(),
                     [path](const std::string& pattern) { return matches(pattern, path); });
}

std::string_view to_string(Reason reason) {
  const ReasonText* text = find(reason);
  return text != nullptr ? text->name : "unknown";
}

std::string_view sentence_of(Reason reason) {
  const ReasonText* text = find(reason);
  return text != nullptr ? text->sentence : "a reason that this version does not know";
}

std::string_view to_string(EndSnapshot::Stage stage) {
  switch (stage) {
    case EndSnapshot::Stage::candidate:
      return "candidate";
    case EndSnapshot::Stage::offered:
      return "offered";
    case EndSnapshot::Stage::established:
      return "established";
    case EndSnapshot::Stage::retired:
      return "retired";
    case EndSnapshot::Stage::unknown:
      break;
  }
  return "unknown";
}

}  // namespace tssx::stat_tool
