#include "tools/tssx-stat/snapshot.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <limits>

#include "tools/tssx-stat/load.h"

namespace tssx::stat_tool {
namespace {

bool plausible(const SegmentHeader& header) {
  return header.magic == kSegmentMagic && header.version == kProtocolVersion &&
         header.header_size == kHeaderSize && std::has_single_bit(header.capacity) &&
         header.capacity >= kMinCapacity && header.capacity <= kMaxCapacity &&
         header.size == kHeaderSize + 2 * header.capacity && header.path_length <= kPathSize;
}

// A name in the file system ends at its first NUL, an abstract one is all of path_length.
std::string path_of(const SegmentHeader& header) {
  std::string path(header.path, header.path + header.path_length);
  if (!path.empty() && path[0] != '\0') path.resize(std::min(path.size(), path.find('\0')));
  return path;
}

DirectionMode mode_of(std::uint32_t producer, std::uint32_t consumer) {
  constexpr auto kKernel = static_cast<std::uint32_t>(Mode::kernel);
  constexpr auto kRing = static_cast<std::uint32_t>(Mode::ring);
  if (producer > kRing || consumer > kRing) return DirectionMode::unknown;
  if (producer != consumer) return DirectionMode::moving;
  return producer == kKernel ? DirectionMode::kernel : DirectionMode::ring;
}

std::uint64_t add_saturating(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  return b > kMax - a ? kMax : a + b;
}

// The copy is not one instant: tail may be younger than head and then lie ahead of it, which is an
// empty ring; more in the ring than it can hold is impossible that way round.
struct Waiting {
  std::uint64_t bytes;
  bool possible;
};
Waiting waiting_of(std::uint64_t head, std::uint64_t tail, std::uint64_t capacity) {
  if (tail >= head) return {0, true};
  const std::uint64_t distance = head - tail;
  return {std::min(distance, capacity), distance <= capacity};
}

// The words of a Direction that matter here, each read once.
struct DirectionWords {
  DirectionWords(std::span<const std::uint8_t> page, std::size_t index) {
    const std::size_t at = kDirectionOffset + index * sizeof(Direction);
    head = load<std::uint64_t>(page, at + offsetof(Direction, producer.head));
    tail = load<std::uint64_t>(page, at + offsetof(Direction, consumer.tail));
    messages = load<std::uint64_t>(page, at + offsetof(Direction, producer.messages));
    data_bells = load<std::uint64_t>(page, at + offsetof(Direction, producer.bells));
    space_bells = load<std::uint64_t>(page, at + offsetof(Direction, consumer.bells));
    reads = load<std::uint64_t>(page, at + offsetof(Direction, consumer.messages));
    data_sleeps = load<std::uint64_t>(page, at + offsetof(Direction, consumer.sleeps));
    space_sleeps = load<std::uint64_t>(page, at + offsetof(Direction, producer.sleeps));
    flags = load<std::uint32_t>(page, at + offsetof(Direction, producer.flags));
    sending = load<std::uint32_t>(page, at + offsetof(Direction, producer.mode));
    receiving = load<std::uint32_t>(page, at + offsetof(Direction, consumer.mode));
    wait_word = load<std::uint32_t>(page, at + offsetof(Direction, data_wait.word));
  }

  std::uint64_t head;
  std::uint64_t tail;
  std::uint64_t messages;
  std::uint64_t data_bells;
  std::uint64_t space_bells;
  std::uint64_t reads;
  std::uint64_t data_sleeps;
  std::uint64_t space_sleeps;
  std::uint32_t flags;
  std::uint32_t sending;
  std::uint32_t receiving;
  std::uint32_t wait_word;
};

bool has_left_ring(const DirectionWords& words) {
  constexpr auto kKernel = static_cast<std::uint32_t>(Mode::kernel);
  if (words.sending != kKernel && words.receiving != kKernel) return false;
  const bool was_used = words.head != 0 || words.messages != 0;
  return (words.sending == kKernel && was_used) || (words.wait_word & (kWantKernel | kFrozen)) != 0;
}

DirectionSnapshot parse_direction(const DirectionWords& words, std::uint64_t capacity,
                                  bool& damaged) {
  const Waiting waiting = waiting_of(words.head, words.tail, capacity);
  DirectionSnapshot direction;
  direction.bytes = words.head;
  direction.messages = words.messages;
  direction.reads = words.reads;
  direction.data_sleeps = words.data_sleeps;
  direction.space_sleeps = words.space_sleeps;
  direction.waiting = waiting.bytes;
  direction.bells = add_saturating(words.data_bells, words.space_bells);
  direction.capacity = capacity;
  direction.mode = mode_of(words.sending, words.receiving);
  direction.left_ring = has_left_ring(words);
  direction.gone = (words.flags & kGone) != 0 || (words.wait_word & kReaderGone) != 0;
  direction.stays = (words.flags & kStays) != 0;
  if (!waiting.possible || direction.mode == DirectionMode::unknown) damaged = true;
  return direction;
}

SideSnapshot parse_side(std::span<const std::uint8_t> page, Role role, std::uint32_t original) {
  const std::size_t offset = kSideOffset + static_cast<std::size_t>(role) * sizeof(SideLine);
  return {load<std::uint32_t>(page, offset + offsetof(SideLine, pid)), original,
          load<std::uint32_t>(page, offset + offsetof(SideLine, holders))};
}

}  // namespace

bool is_on_rings(const SegmentSnapshot& snapshot) {
  return !snapshot.damaged &&
         std::all_of(snapshot.directions.begin(), snapshot.directions.end(),
                     [](const DirectionSnapshot& way) { return way.mode == DirectionMode::ring; });
}

std::optional<SegmentSnapshot> parse_segment(std::span<const std::uint8_t> page) {
  if (page.size() < kHeaderSize) return std::nullopt;
  const auto header = load<SegmentHeader>(page, 0);
  if (!plausible(header)) return std::nullopt;

  SegmentSnapshot snapshot;
  snapshot.path = path_of(header);
  snapshot.created_ns = header.created_ns;
  std::copy(std::begin(header.nonce), std::end(header.nonce), snapshot.nonce.begin());
  const auto answer = load<std::uint32_t>(page, kAnswerOffset + offsetof(AnswerLine, answer));
  if (answer <= static_cast<std::uint32_t>(Answer::withdrawn)) {
    snapshot.answer = static_cast<Answer>(answer);
  } else {
    snapshot.damaged = true;
  }
  snapshot.sides[0] = parse_side(page, Role::server, header.server_pid);
  snapshot.sides[1] = parse_side(page, Role::client, header.client_pid);
  for (std::size_t i = 0; i < snapshot.directions.size(); ++i) {
    snapshot.directions[i] = parse_direction({page, i}, header.capacity, snapshot.damaged);
  }
  return snapshot;
}

}  // namespace tssx::stat_tool
