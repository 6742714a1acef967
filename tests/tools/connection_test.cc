#include "tools/tssx-stat/connection.h"

#include <gtest/gtest.h>

#include <array>
#include <initializer_list>
#include <string>
#include <unordered_set>

#include "tests/tools/test_page.h"

namespace tssx::stat_tool {
namespace {

using Sides = std::array<int, 2>;

FoundSegment mapped_by(std::initializer_list<pid_t> pids) {
  FoundSegment segment{{0, 1, 42}, {}};
  for (const pid_t pid : pids) segment.mappers.push_back({pid, 0x1000});
  return segment;
}

Process process(pid_t pid, pid_t parent, const char* program = "program") {
  return {parent, pid, program, "somebody"};
}

Sides match(std::initializer_list<pid_t> pids, const TestPage& page,
            const ProcessTable& processes = {}) {
  return match_sides(mapped_by(pids), *page.parse(), processes);
}

TEST(Sides, AreFoundByTheProcessThatUsedThemLast) {
  EXPECT_EQ(match({100, 200}, TestPage()), (Sides{0, 1}));
  EXPECT_EQ(match({50, 100, 150, 200}, TestPage().put32(kSideAt[0], 150)), (Sides{2, 3}));
}

TEST(Sides, FallBackOnTheProcessThatMadeTheConnection) {
  EXPECT_EQ(match({100, 200}, TestPage().put32(kSideAt[0], 999).put32(kSideAt[1], 0)),
            (Sides{0, 1}));
}

TEST(Sides, MayBeOneProcessThatTalksToItself) {
  TestPage page;
  page.put32(kClientPidAt, 100).put32(kSideAt[1], 100);
  EXPECT_EQ(match({100}, page), (Sides{0, 0}));
}

TEST(Sides, AreToldApartWhereTwoNamespacesUseTheSameNumber) {
  TestPage page;
  page.put32(kSideAt[0], 1).put32(kSideAt[1], 1).put32(kServerPidAt, 1).put32(kClientPidAt, 0);
  const ProcessTable processes{{1000, {999, 1, "a", "u"}}, {2000, {1999, 1, "b", "u"}}};
  EXPECT_EQ(match({1000, 2000}, page, processes), (Sides{0, 1}));
}

TEST(Sides, PassToAChildThatHasNotUsedThemYet) {
  const ProcessTable processes{{300, process(300, 100)}, {200, process(200, 100)}};
  EXPECT_EQ(match({200, 300}, TestPage(), processes), (Sides{1, 0}));
}

TEST(Sides, AreNotInventedFromTheOtherSidesHolders) {
  TestPage page;
  page.put32(kSideAt[0] + 4, 2);
  EXPECT_EQ(match({100, 300}, page), (Sides{0, -1}));
  page.put32(kSideAt[0] + 4, 1);
  EXPECT_EQ(match({100, 300}, page), (Sides{0, 1}));
}

TEST(Sides, SurviveHostilePids) {
  TestPage page;
  page.put32(kSideAt[0], 0xffffffff).put32(kServerPidAt, 0x80000000);
  EXPECT_EQ(match({200}, page), (Sides{-1, 0}));
}

State state(const TestPage& page, bool side_missing = false) {
  return state_of(*page.parse(), side_missing);
}

TEST(State, FollowsTheLifeOfAConnection) {
  TestPage page;
  EXPECT_EQ(state(page.put32(kAnswerAt, 0)), State::offered);
  EXPECT_EQ(state(page, true), State::offered);
  EXPECT_EQ(state(page.put32(kAnswerAt, 1)), State::handshake);
  page.put64(kWayAt[0] + kHead, 10);
  EXPECT_EQ(state(page.modes(0, 1, 0)), State::handshake);
  EXPECT_EQ(state(page.modes(0, 1, 1)), State::handshake);
  EXPECT_EQ(state(page.modes(1, 1, 1)), State::ring);
  EXPECT_EQ(state(page.modes(0, 0, 1)), State::mixed);
  EXPECT_EQ(state(page.modes(0, 0, 0)), State::mixed);
  EXPECT_EQ(state(page.modes(1, 0, 0)), State::kernel);
}

TEST(State, TellsAnEndFromALife) {
  EXPECT_EQ(state(TestPage().put32(kAnswerAt, 2)), State::withdrawn);
  EXPECT_EQ(state(TestPage().both_on_ring(), true), State::closing);
  EXPECT_EQ(state(TestPage().both_on_ring().put32(kWayAt[1] + kFlags, 2)), State::closing);
  EXPECT_EQ(state(TestPage().put32(kAnswerAt, 0).put32(kWayAt[0] + kFlags, 2)), State::closing);
  EXPECT_EQ(state(TestPage().modes(0, 9, 9)), State::damaged);
}

class Description : public ::testing::Test {
 protected:
  Connection describe_mapped_by(std::initializer_list<pid_t> pids) {
    return describe(mapped_by(pids), *page_.parse(), {processes_, hidden_, true, now_ns_});
  }

  TestPage page_ = TestPage().both_on_ring();
  ProcessTable processes_{{100, process(100, 1, "server")}, {200, process(200, 1, "client")}};
  std::unordered_set<pid_t> hidden_;
  std::uint64_t now_ns_ = 6'500'000'000;
};

TEST_F(Description, NamesBothProcesses) {
  const Connection connection = describe_mapped_by({100, 200});
  EXPECT_EQ(connection.state, State::ring);
  EXPECT_EQ(connection.parties[0].program, "server");
  EXPECT_EQ(connection.parties[1].pid, 200);
  EXPECT_EQ(connection.parties[1].user, "somebody");
  EXPECT_DOUBLE_EQ(connection.age_seconds, 1.5);
  EXPECT_EQ(connection.mappers.size(), 2U);
}

TEST_F(Description, DoesNotBelieveAPidThatDoesNotMapTheSegment) {
  const Connection connection = describe_mapped_by({100});
  EXPECT_EQ(connection.state, State::closing);
  EXPECT_EQ(connection.parties[1].pid, 200);
  EXPECT_EQ(connection.parties[1].program, "");
}

TEST_F(Description, NamesAHiddenPeerAndDoesNotCallItGone) {
  hidden_.insert(200);
  const Connection connection = describe_mapped_by({100});
  EXPECT_EQ(connection.state, State::ring);
  EXPECT_EQ(connection.parties[1].program, "client");
}

TEST_F(Description, LooksForAHiddenPeerByItsOwnNumberToo) {
  hidden_.insert(5000);
  processes_[5000] = {1, 200, "inside", "root"};
  EXPECT_EQ(describe_mapped_by({100}).state, State::ring);
}

TEST_F(Description, DoesNotCallAPeerGoneThatEvenTheCreatorCouldNotSee) {
  page_.put32(kClientPidAt, 0).put32(kSideAt[1], 7);
  EXPECT_EQ(describe_mapped_by({100}).state, State::ring);
}

TEST_F(Description, ShowsAnAbstractNameWithAnAtSign) {
  page_.path(std::string("\0name", 5));
  EXPECT_EQ(describe_mapped_by({100, 200}).path, "@name");
}

TEST_F(Description, HasNoNegativeAge) {
  now_ns_ = 1;
  EXPECT_EQ(describe_mapped_by({100, 200}).age_seconds, 0.0);
}

}  // namespace
}  // namespace tssx::stat_tool
