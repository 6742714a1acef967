#include "tests/fuzz/guard.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/core/support/endpoint.h"

namespace tssx::fuzz {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kMostSegment = kHeaderSize + 2 * kMaxCapacity;
constexpr std::size_t kWatched = 64;
constexpr std::uint8_t kPattern = 0xa5;

std::uint8_t* reserve(std::uint8_t* where, std::size_t size) {
  const int fixed = where != nullptr ? MAP_FIXED : 0;
  void* const got =
      ::mmap(where, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
  check(got != MAP_FAILED, "no address space");
  return static_cast<std::uint8_t*>(got);
}

}  // namespace

GuardedBuffer::GuardedBuffer() {
  std::uint8_t* const area = reserve(nullptr, kMost + 3 * kPage);
  check(::mprotect(area + kPage, kMost + kPage, PROT_READ | PROT_WRITE) == 0, "no memory");
  end_ = area + kPage + kMost + kPage;
}

std::uint8_t* GuardedBuffer::take(std::size_t size) {
  begin_ = end_ - std::min(size, kMost);
  std::memset(begin_ - kWatched, kPattern, kWatched);
  return begin_;
}

bool GuardedBuffer::is_intact() const {
  return begin_ == nullptr ||
         std::all_of(begin_ - kWatched, begin_, [](std::uint8_t byte) { return byte == kPattern; });
}

GuardedSegment::GuardedSegment() : base_(reserve(nullptr, kMostSegment + 2 * kPage) + kPage) {}

void GuardedSegment::adopt(Channel& channel) {
  SegmentView& view = ChannelTestAccess::view(channel);
  if (view.page == nullptr || reinterpret_cast<std::uint8_t*>(view.page) == base_) return;
  check(view.size <= kMostSegment && view.size == kHeaderSize + 2 * view.capacity,
        "a segment of a wrong size was mapped");
  void* const moved =
      ::mremap(view.page, view.size, view.size, MREMAP_MAYMOVE | MREMAP_FIXED, base_);
  if (moved != base_) std::perror("mremap");
  check(moved == base_, "the segment can't be moved");
  view.page = static_cast<SegmentPage*>(moved);
  used_ = view.size;
}

void GuardedSegment::reserve_again() {
  if (used_ != 0) reserve(base_, used_);
  used_ = 0;
}

void fail(const char* what) {
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

}  // namespace tssx::fuzz
