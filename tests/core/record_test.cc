#include "core/record.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <string_view>

#include "core/channel.h"
#include "core/rendezvous.h"
#include "core/side.h"
#include "tests/core/support/endpoint.h"

namespace tssx::test {
namespace {

class Record : public ::testing::Test {
 protected:
  Record() {
    std::memset(nonce_.bytes, 7, sizeof nonce_.bytes);
    EXPECT_TRUE(channel_.open({Role::server, nonce_, "/run/x.sock", 11}));
  }
  ~Record() override {
    if (open_) channel_.close();
  }
  SideRecord& record() { return channel_.side().record; }

  Nonce nonce_{};
  Channel channel_;
  bool open_ = true;
};

TEST_F(Record, SaysWhoseItIsFromTheStartOfThePage) {
  EXPECT_EQ(static_cast<void*>(&record()), static_cast<void*>(&channel_.side()));
  EXPECT_EQ(record().magic.load(), kSideMagic);
  EXPECT_EQ(record().version, kRecordVersion);
  EXPECT_EQ(record().size, sizeof(Side));
  EXPECT_EQ(record().role, 0U);
  EXPECT_EQ(std::string_view(reinterpret_cast<char*>(record().path), record().path_length),
            "/run/x.sock");
  EXPECT_EQ(std::memcmp(record().nonce, nonce_.bytes, kNonceSize), 0);
  EXPECT_NE(record().created_ns, 0U);
  EXPECT_EQ(record().reason.load(), 0U);
}

TEST_F(Record, IsNoLongerThereWhenTheConnectionIsClosed) {
  Side& side = channel_.side();
  channel_.close();
  open_ = false;
  EXPECT_EQ(side.record.magic.load(), 0U) << "the page is kept for the next connection";
}

TEST_F(Record, KeepsTheFirstReason) {
  channel_.note_reason(Reason::none);
  EXPECT_EQ(record().reason.load(), 0U);
  channel_.note_reason(Reason::no_segment, 24);
  channel_.note_reason(Reason::executed);
  EXPECT_EQ(record().reason.load(), static_cast<std::uint32_t>(Reason::no_segment));
  EXPECT_EQ(record().detail.load(), 24U);
}

TEST_F(Record, CountsWhatWentAsideAndKnowsAnId) {
  channel_.note_aside();
  channel_.note_aside();
  channel_.note_negative();
  EXPECT_EQ(record().asides.load(), 2U);
  EXPECT_EQ(record().negative.load(), 1U);
}

TEST(RecordOfAPair, CountsEachMessageOfTheRingBySize) {
  Pair pair;
  pair.establish();
  const auto& sizes = pair.server.channel().counts().sent_sizes;
  const auto before = sizes[0].load();
  EXPECT_EQ(pair.server.try_send("x").bytes, 1U);
  EXPECT_EQ(pair.server.try_send(std::string(100, 'x')).bytes, 100U);
  EXPECT_EQ(sizes[0].load(), before + 1);
  EXPECT_EQ(sizes[bucket_of(100)].load(), 1U);
}

std::uint32_t number(Reason reason) { return static_cast<std::uint32_t>(reason); }

TEST(RecordOfAPair, TellsWhyAnOfferIsPutOff) {
  Pair pair;
  const SideRecord& record = pair.server.channel().side().record;
  for (int i = 0; i < 8; ++i) EXPECT_EQ(pair.server.try_send("x").bytes, 1U);
  EXPECT_EQ(record.postponed.load(), number(Reason::unread));
  EXPECT_EQ(record.reason.load(), 0U);
}

TEST(RecordOfAPair, TellsThatAnOfferWasNotAnswered) {
  Pair pair;
  const SideRecord& record = pair.server.channel().side().record;
  char bytes[16];
  for (int i = 0; i < 200 && record.reason.load() == 0; ++i) {
    EXPECT_EQ(pair.server.try_send("x").bytes, 1U);
    // As a program that knows nothing of offers.
    while (::recv(pair.client.fd(), bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
  }
  EXPECT_EQ(record.reason.load(), number(Reason::unanswered));
}

TEST(RecordOfAPair, TellsThatASecondProcessHoldsAnEnd) {
  Pair pair;
  pair.server.channel().prepare_fork();
  const SideRecord& record = pair.server.channel().side().record;
  for (int i = 0; i < 8; ++i) Pair::ping(pair.server, pair.client);
  EXPECT_EQ(record.postponed.load(), number(Reason::shared));
  pair.server.channel().undo_fork();
}

TEST(RecordLayout, IsPinned) {
  EXPECT_EQ(kSideMagic, 0x3144495358535354ULL);
  EXPECT_EQ(kProcessMagic, 0x3143525058535354ULL);
  EXPECT_EQ(offsetof(SideRecord, version), 8U);
  EXPECT_EQ(offsetof(SideRecord, nonce), 24U);
  EXPECT_EQ(offsetof(SideRecord, created_ns), 40U);
  EXPECT_EQ(offsetof(SideRecord, reason), 48U);
  EXPECT_EQ(offsetof(SideRecord, path), 72U);
  EXPECT_EQ(offsetof(ProcessRecord, library), 32U);
  EXPECT_EQ(offsetof(ProcessRecord, filtered), 48U);
}

TEST(RecordLayout, HasABucketForEachSize) {
  EXPECT_EQ(bucket_of(0), 0U);
  EXPECT_EQ(bucket_of(15), 0U);
  EXPECT_EQ(bucket_of(16), 1U);
  EXPECT_EQ(bucket_of(31), 1U);
  EXPECT_EQ(bucket_of(32), 2U);
  EXPECT_EQ(bucket_of((16U << 10U) - 1), 10U);
  EXPECT_EQ(bucket_of(16U << 10U), 11U);
  EXPECT_EQ(bucket_of(256U << 10U), 15U);
  EXPECT_EQ(bucket_of(~0ULL), 15U);
}

}  // namespace
}  // namespace tssx::test
