#include "tests/fuzz/scribble.h"

#include <atomic>
#include <cstddef>
#include <cstring>
#include <iterator>

namespace tssx::fuzz {
namespace {

struct Word {
  std::size_t offset;
  std::size_t size;
};

constexpr Word of(std::size_t direction, std::size_t offset, std::size_t size) {
  return {kDirectionOffset + direction * sizeof(Direction) + offset, size};
}

#define TSSX_WORDS(direction)                                \
  of(direction, offsetof(Direction, producer.head), 8),      \
      of(direction, offsetof(Direction, producer.flags), 4), \
      of(direction, offsetof(Direction, producer.mode), 4),  \
      of(direction, offsetof(Direction, producer.asks), 4),  \
      of(direction, offsetof(Direction, producer.cpu), 4),   \
      of(direction, offsetof(Direction, consumer.tail), 8),  \
      of(direction, offsetof(Direction, consumer.mode), 4),  \
      of(direction, offsetof(Direction, data_wait), 4),      \
      of(direction, offsetof(Direction, space_wait), 4)
constexpr Word kWords[] = {
    TSSX_WORDS(0),
    TSSX_WORDS(1),
    {kAnswerOffset, 4},
    {offsetof(SegmentHeader, capacity), 8},
    {offsetof(SegmentHeader, size), 8},
    {offsetof(SegmentHeader, path_length), 4},
    of(0, offsetof(Direction, consumer.end), 8),
    of(0, offsetof(Direction, consumer.claim), 8),
    of(1, offsetof(Direction, consumer.end), 8),
    of(1, offsetof(Direction, consumer.claim), 8),
};
#undef TSSX_WORDS

std::uint64_t read_word(const SegmentPage& page, Word word) {
  std::uint64_t value = 0;
  std::memcpy(&value, reinterpret_cast<const std::uint8_t*>(&page) + word.offset, word.size);
  return value;
}

void write_word(SegmentPage& page, Word word, std::uint64_t value) {
  std::memcpy(reinterpret_cast<std::uint8_t*>(&page) + word.offset, &value, word.size);
}

void change(SegmentPage& page, Word word, std::uint64_t capacity, Input& script) {
  const std::uint8_t how = script.byte();
  const std::uint64_t old = read_word(page, word);
  std::uint64_t value = 0;
  switch (how % 12) {
    case 0:
      value = 0;
      break;
    case 1:
      value = ~std::uint64_t{0};
      break;
    case 2:
      value = script.byte();
      break;
    case 3:
      value = script.word();
      break;
    case 4:
      value = old + script.byte();
      break;
    case 5:
      value = old - script.byte();
      break;
    case 6:
      value = old ^ (std::uint64_t{1} << script.byte() % 64);
      break;
    case 7:
      value = old + capacity;
      break;
    case 8:
      value = old - capacity;
      break;
    case 9:
      value = old + capacity + 1;
      break;
    case 10:  // what another word says
      value = read_word(page, kWords[script.byte() % std::size(kWords)]);
      break;
    case 11:
      value = old + capacity / 2 + script.byte();
      break;
  }
  write_word(page, word, value);
}

}  // namespace

void scribble(SegmentPage& page, std::uint64_t capacity, Input& script) {
  const std::uint8_t where = script.byte();
  Word word{};
  if (where < 250) {
    word = kWords[where % std::size(kWords)];
  } else {
    word = {script.half() % (kHeaderSize - 8), 8};
  }
  change(page, word, capacity, script);
}

void scribble_at(SegmentPage& page, std::size_t offset, std::uint64_t capacity, Input& script) {
  for (const Word word : kWords) {
    if (word.offset == offset) change(page, word, capacity, script);
  }
}

}  // namespace tssx::fuzz
