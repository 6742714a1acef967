// A header page made by hand, for the tests of tssx-stat.
//
// The offsets are literals on purpose: they are what the programs of other builds write.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "tools/tssx-stat/snapshot.h"

namespace tssx::stat_tool {

inline constexpr std::size_t kMagicAt = 0;
inline constexpr std::size_t kVersionAt = 8;
inline constexpr std::size_t kHeaderSizeAt = 12;
inline constexpr std::size_t kSizeAt = 16;
inline constexpr std::size_t kCapacityAt = 24;
inline constexpr std::size_t kCreatedAt = 48;
inline constexpr std::size_t kServerPidAt = 56;
inline constexpr std::size_t kClientPidAt = 60;
inline constexpr std::size_t kPathLengthAt = 64;
inline constexpr std::size_t kPathAt = 72;
inline constexpr std::size_t kAnswerAt = 512;
inline constexpr std::size_t kSideAt[] = {640, 768};  // pid, holders
inline constexpr std::size_t kWayAt[] = {1024, 1536};
// Within a direction:
inline constexpr std::size_t kHead = 0;
inline constexpr std::size_t kFlags = 8;
inline constexpr std::size_t kSendingMode = 12;
inline constexpr std::size_t kMessages = 24;
inline constexpr std::size_t kDataBells = 32;
inline constexpr std::size_t kTail = 128;
inline constexpr std::size_t kReceivingMode = 136;
inline constexpr std::size_t kSpaceBells = 152;
inline constexpr std::size_t kWaitWord = 256;

class TestPage {
 public:
  // An accepted connection at /run/x.sock, server 100, client 200, nothing sent yet.
  TestPage() {
    std::memcpy(page_.data(), "TSSXSEG1", 8);
    put32(kVersionAt, 2).put32(kHeaderSizeAt, 4096).capacity(65536);
    put64(kCreatedAt, 5'000'000'000).put32(kServerPidAt, 100).put32(kClientPidAt, 200);
    path("/run/x.sock").put32(kAnswerAt, 1);
    for (std::size_t side = 0; side < 2; ++side) {
      put32(kSideAt[side], side == 0 ? 100 : 200).put32(kSideAt[side] + 4, 1);
    }
  }

  TestPage& put32(std::size_t offset, std::uint32_t value) { return put(offset, value); }
  TestPage& put64(std::size_t offset, std::uint64_t value) { return put(offset, value); }
  TestPage& capacity(std::uint64_t bytes) {
    return put64(kCapacityAt, bytes).put64(kSizeAt, 4096 + 2 * bytes);
  }
  TestPage& path(std::string_view bytes) {
    std::memcpy(page_.data() + kPathAt, bytes.data(), bytes.size());
    return put32(kPathLengthAt, static_cast<std::uint32_t>(bytes.size()));
  }
  TestPage& modes(std::size_t way, std::uint32_t sending, std::uint32_t receiving) {
    return put32(kWayAt[way] + kSendingMode, sending)
        .put32(kWayAt[way] + kReceivingMode, receiving);
  }
  TestPage& both_on_ring() { return modes(0, 1, 1).modes(1, 1, 1); }

  [[nodiscard]] const Page& page() const { return page_; }
  [[nodiscard]] Page& page() { return page_; }
  [[nodiscard]] std::optional<SegmentSnapshot> parse() const { return parse_segment(page_); }

 private:
  template <typename T>
  TestPage& put(std::size_t offset, T value) {
    std::memcpy(page_.data() + offset, &value, sizeof value);
    return *this;
  }

  Page page_{};
};

}  // namespace tssx::stat_tool
