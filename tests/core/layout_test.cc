// Two builds of different age meet in this memory: what stands where must never move by accident.
#include "core/layout.h"

#include <gtest/gtest.h>

#include <cstddef>

namespace tssx {
namespace {

TEST(Layout, HeaderIsPinned) {
  EXPECT_EQ(offsetof(SegmentHeader, magic), 0U);
  EXPECT_EQ(offsetof(SegmentHeader, version), 8U);
  EXPECT_EQ(offsetof(SegmentHeader, header_size), 12U);
  EXPECT_EQ(offsetof(SegmentHeader, size), 16U);
  EXPECT_EQ(offsetof(SegmentHeader, capacity), 24U);
  EXPECT_EQ(offsetof(SegmentHeader, nonce), 32U);
  EXPECT_EQ(offsetof(SegmentHeader, created_ns), 48U);
  EXPECT_EQ(offsetof(SegmentHeader, server_pid), 56U);
  EXPECT_EQ(offsetof(SegmentHeader, client_pid), 60U);
  EXPECT_EQ(offsetof(SegmentHeader, path_length), 64U);
  EXPECT_EQ(offsetof(SegmentHeader, path), 72U);
  EXPECT_EQ(sizeof(SegmentHeader), 184U);
}

TEST(Layout, PageIsPinned) {
  EXPECT_EQ(offsetof(SegmentPage, header), 0U);
  EXPECT_EQ(offsetof(SegmentPage, answer), 512U);
  EXPECT_EQ(offsetof(SegmentPage, side), 640U);
  EXPECT_EQ(offsetof(SegmentPage, direction), 1024U);
  EXPECT_EQ(sizeof(SideLine), 128U);
  EXPECT_EQ(sizeof(Direction), 512U);
  EXPECT_EQ(kHeaderSize, 4096U);
}

TEST(Layout, DirectionIsPinned) {
  EXPECT_EQ(offsetof(Direction, producer), 0U);
  EXPECT_EQ(offsetof(Direction, consumer), 128U);
  EXPECT_EQ(offsetof(Direction, data_wait), 256U);
  EXPECT_EQ(offsetof(Direction, space_wait), 384U);

  EXPECT_EQ(offsetof(ProducerLine, head), 0U);
  EXPECT_EQ(offsetof(ProducerLine, flags), 8U);
  EXPECT_EQ(offsetof(ProducerLine, mode), 12U);
  EXPECT_EQ(offsetof(ProducerLine, cpu), 16U);
  EXPECT_EQ(offsetof(ProducerLine, asks), 20U);
  EXPECT_EQ(offsetof(ProducerLine, messages), 24U);
  EXPECT_EQ(offsetof(ProducerLine, bells), 32U);
  EXPECT_EQ(offsetof(ProducerLine, sleeps), 40U);

  EXPECT_EQ(offsetof(ConsumerLine, tail), 0U);
  EXPECT_EQ(offsetof(ConsumerLine, mode), 8U);
  EXPECT_EQ(offsetof(ConsumerLine, cpu), 12U);
  EXPECT_EQ(offsetof(ConsumerLine, messages), 16U);
  EXPECT_EQ(offsetof(ConsumerLine, bells), 24U);
  EXPECT_EQ(offsetof(ConsumerLine, sleeps), 32U);
  EXPECT_EQ(offsetof(ConsumerLine, end), 40U);
  EXPECT_EQ(offsetof(ConsumerLine, claim), 48U);

  EXPECT_EQ(offsetof(SideLine, pid), 0U);
  EXPECT_EQ(offsetof(SideLine, holders), 4U);
  EXPECT_EQ(offsetof(SideLine, fenced), 8U);
}

TEST(Layout, TokenIsPinned) {
  EXPECT_EQ(offsetof(Token, magic), 0U);
  EXPECT_EQ(offsetof(Token, version), 8U);
  EXPECT_EQ(offsetof(Token, kind), 12U);
  EXPECT_EQ(offsetof(Token, nonce), 16U);
  EXPECT_EQ(sizeof(Token), 32U);
}

TEST(Layout, ValuesArePinned) {
  EXPECT_EQ(kProtocolVersion, 2U);
  EXPECT_EQ(kSegmentMagic, 0x3147455358535354ULL);
  EXPECT_EQ(kTokenMagic, 0x314b4f5458535354ULL);
  EXPECT_EQ(static_cast<int>(Mode::kernel), 0);
  EXPECT_EQ(static_cast<int>(Mode::ring), 1);
  EXPECT_EQ(static_cast<int>(Answer::none), 0);
  EXPECT_EQ(static_cast<int>(Answer::accepted), 1);
  EXPECT_EQ(static_cast<int>(Answer::withdrawn), 2);
  EXPECT_EQ(static_cast<int>(TokenKind::to_ring), 2);
  EXPECT_EQ(static_cast<int>(TokenKind::to_kernel), 3);
  EXPECT_EQ(kFin, 1U);
  EXPECT_EQ(kGone, 2U);
  EXPECT_EQ(kStays, 4U);
  EXPECT_EQ(kWaiting, 1U);
  EXPECT_EQ(kWantKernel, 2U);
  EXPECT_EQ(kFrozen, 4U);
  EXPECT_EQ(kShut, 8U);
  EXPECT_EQ(kReaderGone, 16U);
  EXPECT_EQ(kTellReads, 1U);
  EXPECT_EQ(kEnding, 2U);
  EXPECT_EQ(kEndCut, 1U);
  EXPECT_EQ(kEndFrozen, 2U);
  EXPECT_EQ(kEndCalled, 4U);
  EXPECT_EQ(end_word(5, kEndCut), 41U);
  EXPECT_EQ(end_position(41), 5U);
}

TEST(Layout, DirectionsAreEachOthersOpposite) {
  EXPECT_EQ(outgoing(Role::server), incoming(Role::client));
  EXPECT_EQ(outgoing(Role::client), incoming(Role::server));
  EXPECT_NE(outgoing(Role::server), outgoing(Role::client));
}

}  // namespace
}  // namespace tssx
