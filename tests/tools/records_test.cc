#include "tools/tssx-stat/records.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string_view>
#include <vector>

#include "core/side.h"

namespace tssx::stat_tool {
namespace {

// As a process of this version writes it.
class EndPage {
 public:
  EndPage() {
    put(0, kSideMagic).put(8, kRecordVersion).put(12, static_cast<std::uint32_t>(sizeof(Side)));
    put(16, std::uint32_t{0}).path("/run/x.sock");
  }
  template <typename T>
  EndPage& put(std::size_t offset, T value) {
    std::memcpy(page_.data() + offset, &value, sizeof value);
    return *this;
  }
  EndPage& path(std::string_view bytes) {
    std::memcpy(page_.data() + 72, bytes.data(), bytes.size());
    return put(20, static_cast<std::uint32_t>(bytes.size()));
  }
  [[nodiscard]] std::optional<EndSnapshot> parse() const { return parse_end(page_); }
  Page& page() { return page_; }

 private:
  Page page_{};
};

TEST(EndRecord, IsReadAsTheLibraryWritesIt) {
  Side* side = acquire_side();
  SideRecord& record = side->record;
  record.version = kRecordVersion;
  record.size = sizeof(Side);
  record.role = 1;
  record.nonce[3] = 9;
  record.created_ns = 77;
  record.reason.store(static_cast<std::uint32_t>(Reason::executed));
  record.detail.store(5);
  record.negative.store(1);
  record.asides.store(4);
  record.magic.store(kSideMagic);
  side->phase.store(static_cast<std::uint32_t>(Phase::retired));
  side->sending.calls = 6;
  side->sending.kernel_bytes = 1000;
  side->counts.sent_sizes[2].store(8);
  side->counts.receiving.slept.store(3);
  Page page{};
  std::memcpy(page.data(), static_cast<const void*>(side), sizeof *side);
  release_side(side);

  const auto end = parse_end(page);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->role, Role::client);
  EXPECT_EQ(end->nonce[3], 9);
  EXPECT_EQ(end->created_ns, 77U);
  EXPECT_EQ(end->reason, Reason::executed);
  EXPECT_EQ(end->detail, 5U);
  EXPECT_TRUE(end->negative);
  EXPECT_EQ(end->asides, 4U);
  EXPECT_EQ(end->stage, EndSnapshot::Stage::retired);
  EXPECT_EQ(end->kernel_calls, 6U);
  EXPECT_EQ(end->kernel_bytes_sent, 1000U);
  EXPECT_EQ(end->sent_sizes[2], 8U);
  EXPECT_EQ(end->receiving.slept, 3U);
}

TEST(EndRecord, IsRefusedWhereItMakesNoSense) {
  EXPECT_TRUE(EndPage().parse());
  EXPECT_FALSE(EndPage().put(0, std::uint64_t{0}).parse()) << "in no use";
  EXPECT_FALSE(EndPage().put(8, std::uint32_t{2}).parse());
  EXPECT_FALSE(EndPage().put(12, std::uint32_t{100}).parse());
  EXPECT_FALSE(EndPage().put(16, std::uint32_t{2}).parse());
  EXPECT_FALSE(EndPage().put(20, std::uint32_t{109}).parse());
  EXPECT_FALSE(parse_end(std::span<const std::uint8_t>()));
  EXPECT_EQ(kind_of_record(EndPage().put(8, std::uint32_t{2}).page()), RecordKind::other_version);
}

TEST(EndRecord, KnowsReasonsOfNoVersion) {
  const auto end = EndPage().put(48, std::uint32_t{12345}).parse();
  ASSERT_TRUE(end);
  EXPECT_EQ(to_string(end->reason), "unknown");
  EXPECT_FALSE(sentence_of(end->reason).empty());
}

std::vector<std::uint8_t> process_record(std::string_view text, std::uint32_t count) {
  std::vector<std::uint8_t> bytes(sizeof(ProcessRecord) + text.size());
  const auto put = [&bytes](std::size_t offset, auto value) {
    std::memcpy(bytes.data() + offset, &value, sizeof value);
  };
  put(0, kProcessMagic);
  put(8, kRecordVersion);
  put(12, kProtocolVersion);
  put(16, static_cast<std::uint32_t>(bytes.size()));
  put(20, count);
  std::memcpy(bytes.data() + 32, "0.1.0", 5);
  put(48, std::uint32_t{42});
  std::memcpy(bytes.data() + sizeof(ProcessRecord), text.data(), text.size());
  return bytes;
}

TEST(ProcessRecords, HaveThePatterns) {
  using namespace std::string_view_literals;
  const auto settings = parse_process(process_record("/run/*\0\0@x\0"sv, 2));
  ASSERT_TRUE(settings);
  EXPECT_EQ(settings->patterns, (std::vector<std::string>{"/run/*", "@x"}));
  EXPECT_EQ(settings->library, "0.1.0");
  EXPECT_EQ(settings->filtered, std::vector<pid_t>{42});
  EXPECT_TRUE(lists(*settings, "/run/a/b"));
  EXPECT_TRUE(lists(*settings, "@x"));
  EXPECT_FALSE(lists(*settings, "/tmp/a"));
}

TEST(ProcessRecords, AreRefusedWhereTheyMakeNoSense) {
  using namespace std::string_view_literals;
  auto bytes = process_record("/run/*\0"sv, 1000);
  EXPECT_EQ(parse_process(bytes)->patterns.size(), 1U) << "a count too high";
  const std::uint32_t larger = static_cast<std::uint32_t>(bytes.size()) + 1;
  std::memcpy(bytes.data() + 16, &larger, sizeof larger);
  EXPECT_FALSE(parse_process(bytes)) << "longer than what there is";
  const std::uint32_t smaller = 10;
  std::memcpy(bytes.data() + 16, &smaller, sizeof smaller);
  EXPECT_FALSE(parse_process(bytes));
}

TEST(Records, OfRandomBytesAreReadWithinTheirLimits) {
  std::mt19937 random(3);
  int parsed = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::uint8_t> bytes(random() % 3 == 0 ? random() % 5000 : 4096);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    if (bytes.size() > 24) {
      const std::uint64_t magic = random() % 2 == 0 ? kSideMagic : kProcessMagic;
      std::memcpy(bytes.data(), &magic, sizeof magic);
      std::memcpy(bytes.data() + 8, &kRecordVersion, sizeof kRecordVersion);
      const std::uint32_t size =
          static_cast<std::uint32_t>(magic == kSideMagic ? sizeof(Side) : random() % 5000);
      std::memcpy(bytes.data() + (magic == kSideMagic ? 12 : 16), &size, sizeof size);
      if (magic == kSideMagic) {
        std::memset(bytes.data() + 17, 0, 3);
        bytes[16] &= 1U;
        std::memset(bytes.data() + 21, 0, 3);
      }
    }
    if (const auto end = parse_end(bytes)) {
      ++parsed;
      EXPECT_LE(end->path.size(), kPathSize);
    }
    if (const auto settings = parse_process(bytes)) {
      ++parsed;
      EXPECT_LE(settings->library.size(), 16U);
      EXPECT_LE(settings->filtered.size(), ProcessRecord::kFilterSlots);
    }
  }
  EXPECT_GT(parsed, 100);
}

}  // namespace
}  // namespace tssx::stat_tool
