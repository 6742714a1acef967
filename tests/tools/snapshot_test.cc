#include "tools/tssx-stat/snapshot.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <string>

#include "tests/tools/test_page.h"

namespace tssx::stat_tool {
namespace {

constexpr std::uint64_t kMax64 = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint32_t kMax32 = std::numeric_limits<std::uint32_t>::max();

TEST(Snapshot, ReadsEveryFieldFromItsPlace) {
  TestPage page;
  page.both_on_ring().put64(kWayAt[0] + kHead, 1000).put64(kWayAt[0] + kTail, 900);
  page.put64(kWayAt[0] + kMessages, 7).put64(kWayAt[0] + kDataBells, 3);
  page.put64(kWayAt[0] + kSpaceBells, 2).put64(kWayAt[1] + kHead, 5);
  page.put32(kSideAt[0], 101).put32(kSideAt[0] + 4, 2).put32(kSideAt[1] + 4, 3);
  const auto snapshot = page.parse();
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->path, "/run/x.sock");
  EXPECT_EQ(snapshot->created_ns, 5'000'000'000U);
  EXPECT_EQ(snapshot->answer, Answer::accepted);
  EXPECT_FALSE(snapshot->damaged);
  EXPECT_EQ(snapshot->sides[0].pid, 101U);
  EXPECT_EQ(snapshot->sides[0].original_pid, 100U);
  EXPECT_EQ(snapshot->sides[0].holders, 2U);
  EXPECT_EQ(snapshot->sides[1].pid, 200U);
  EXPECT_EQ(snapshot->sides[1].holders, 3U);
  const DirectionSnapshot& way = snapshot->directions[0];
  EXPECT_EQ(way.bytes, 1000U);
  EXPECT_EQ(way.messages, 7U);
  EXPECT_EQ(way.waiting, 100U);
  EXPECT_EQ(way.bells, 5U);
  EXPECT_EQ(way.capacity, 65536U);
  EXPECT_EQ(way.mode, DirectionMode::ring);
  EXPECT_EQ(snapshot->directions[1].bytes, 5U);
}

TEST(Snapshot, RefusesHeadersThatMakeNoSense) {
  EXPECT_FALSE(parse_segment(Page{}));
  EXPECT_FALSE(TestPage().put64(kMagicAt, 0).parse());
  EXPECT_FALSE(TestPage().put32(kVersionAt, 1).parse());
  EXPECT_FALSE(TestPage().put32(kHeaderSizeAt, 4095).parse());
  EXPECT_FALSE(TestPage().put64(kSizeAt, 4096).parse());
  EXPECT_FALSE(TestPage().put32(kPathLengthAt, 109).parse());
  EXPECT_FALSE(TestPage().put32(kPathLengthAt, kMax32).parse());
  for (const std::uint64_t capacity :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2048}, std::uint64_t{65535},
        std::uint64_t{32} << 20U, std::uint64_t{1} << 63U, kMax64}) {
    EXPECT_FALSE(TestPage().capacity(capacity).parse()) << capacity;
  }
}

TEST(Snapshot, AcceptsTheLimitsOfCapacityAndPath) {
  EXPECT_TRUE(TestPage().capacity(4096).parse());
  EXPECT_TRUE(TestPage().capacity(16U << 20U).parse());
  EXPECT_EQ(TestPage().path(std::string(108, 'p')).parse()->path.size(), 108U);
  EXPECT_EQ(TestPage().path("").parse()->path, "");
}

TEST(Snapshot, RefusesTruncatedPages) {
  const TestPage page;
  const std::span<const std::uint8_t> whole(page.page());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(parse_segment(whole.first(size))) << size;
  }
  EXPECT_TRUE(parse_segment(whole));
}

TEST(Snapshot, EndsAFilePathAtItsFirstNulButNotAnAbstractName) {
  EXPECT_EQ(TestPage().path(std::string("/a\0b", 4)).parse()->path, "/a");
  EXPECT_EQ(TestPage().path(std::string("\0a\0b", 4)).parse()->path, std::string("\0a\0b", 4));
}

TEST(Snapshot, TakesATailAheadOfHeadForAnEmptyRing) {
  const auto snapshot =
      TestPage().put64(kWayAt[1] + kHead, 10).put64(kWayAt[1] + kTail, 30).parse();
  EXPECT_EQ(snapshot->directions[1].waiting, 0U);
  EXPECT_FALSE(snapshot->damaged);
}

TEST(Snapshot, ClampsImpossiblePositionsAndSaysSo) {
  const auto full = TestPage().put64(kWayAt[0] + kHead, 65536).parse();
  EXPECT_EQ(full->directions[0].waiting, 65536U);
  EXPECT_FALSE(full->damaged);
  for (const std::uint64_t head : {std::uint64_t{65537}, kMax64}) {
    const auto snapshot = TestPage().put64(kWayAt[0] + kHead, head).parse();
    ASSERT_TRUE(snapshot);
    EXPECT_EQ(snapshot->directions[0].waiting, 65536U);
    EXPECT_TRUE(snapshot->damaged);
  }
}

TEST(Snapshot, SaturatesTheSumOfBells) {
  TestPage page;
  page.put64(kWayAt[0] + kDataBells, kMax64).put64(kWayAt[0] + kSpaceBells, 5);
  EXPECT_EQ(page.parse()->directions[0].bells, kMax64);
}

TEST(Snapshot, MarksUnknownModesAndAnswersAsDamage) {
  EXPECT_TRUE(TestPage().put32(kAnswerAt, 3).parse()->damaged);
  const auto snapshot = TestPage().modes(1, 1, kMax32).parse();
  EXPECT_TRUE(snapshot->damaged);
  EXPECT_EQ(snapshot->directions[1].mode, DirectionMode::unknown);
}

TEST(Snapshot, TellsJoiningTheRingFromLeavingIt) {
  TestPage page;
  page.put64(kWayAt[0] + kHead, 10);
  const auto way = [&] { return page.parse()->directions[0]; };
  page.modes(0, 1, 0);
  EXPECT_EQ(way().mode, DirectionMode::moving);
  EXPECT_FALSE(way().left_ring);
  page.modes(0, 1, 1);
  EXPECT_FALSE(way().left_ring);
  page.modes(0, 0, 1);
  EXPECT_EQ(way().mode, DirectionMode::moving);
  EXPECT_TRUE(way().left_ring);
  page.modes(0, 0, 0);
  EXPECT_EQ(way().mode, DirectionMode::kernel);
  EXPECT_TRUE(way().left_ring);
  EXPECT_FALSE(page.parse()->directions[1].left_ring);
}

TEST(Snapshot, SeesEitherEndsGoneMark) {
  EXPECT_FALSE(TestPage().put32(kWayAt[0] + kFlags, 1).parse()->directions[0].gone);
  EXPECT_TRUE(TestPage().put32(kWayAt[0] + kFlags, 2).parse()->directions[0].gone);
  EXPECT_TRUE(TestPage().put32(kWayAt[0] + kWaitWord, 16).parse()->directions[0].gone);
}

void expect_invariants(const SegmentSnapshot& snapshot) {
  EXPECT_LE(snapshot.path.size(), kPathSize);
  for (const DirectionSnapshot& way : snapshot.directions) {
    EXPECT_LE(way.waiting, way.capacity);
    EXPECT_LE(way.capacity, kMaxCapacity);
    EXPECT_GE(way.capacity, kMinCapacity);
  }
}

TEST(Snapshot, SurvivesRandomPages) {
  std::mt19937_64 random(20240229);
  for (int round = 0; round < 2000; ++round) {
    Page page;
    for (std::uint8_t& byte : page) byte = static_cast<std::uint8_t>(random());
    if (const auto snapshot = parse_segment(page)) expect_invariants(*snapshot);
  }
}

TEST(Snapshot, SurvivesRandomWordsBehindASoundHeader) {
  std::mt19937_64 random(19700101);
  int understood = 0;
  for (int round = 0; round < 20000; ++round) {
    TestPage page;
    page.both_on_ring();
    for (int change = 0; change < 4; ++change) {
      // Mostly in the area behind the header, now and then anywhere.
      const std::size_t first = random() % 8 == 0 ? 0 : 72;
      page.put64(first + random() % (4096 - 8 - first), random());
    }
    if (const auto snapshot = page.parse()) {
      ++understood;
      expect_invariants(*snapshot);
    }
  }
  EXPECT_GT(understood, 0);
}

}  // namespace
}  // namespace tssx::stat_tool
