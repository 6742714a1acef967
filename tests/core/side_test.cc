#include "core/side.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <set>
#include <thread>
#include <vector>

#include "tests/core/support/child.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

class Sides : public Watched {};

TEST_F(Sides, StartWithOneHolderAndNothingElse) {
  Side* const side = acquire_side();
  ASSERT_NE(side, nullptr);
  EXPECT_EQ(side->holders.load(), 1U);
  EXPECT_EQ(side->user.load(), static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(side->phase.load(), static_cast<std::uint32_t>(Phase::candidate));
  EXPECT_EQ(side->state.receive_timeout_ns.load(), kUnknownTimeout);
  EXPECT_EQ(side->state.send_timeout_ns.load(), kUnknownTimeout);
  EXPECT_EQ(side->receiving.mode.load(), 0U);
  EXPECT_EQ(side->sending.head.load(), 0U);
  release_side(side);
}

TEST_F(Sides, AreRecycledClean) {
  Side* const first = acquire_side();
  first->sending.head.store(7);
  first->state.hung_up.store(1);
  first->holders.store(3);
  EXPECT_EQ(first->receiving.lock.acquire(false), Hold::fresh);
  release_side(first);
  Side* const second = acquire_side();
  EXPECT_EQ(second, first);
  EXPECT_EQ(second->sending.head.load(), 0U);
  EXPECT_EQ(second->state.hung_up.load(), 0U);
  EXPECT_EQ(second->holders.load(), 1U);
  EXPECT_EQ(second->receiving.lock.acquire(false), Hold::fresh);
  second->receiving.lock.release();
  release_side(second);
}

TEST_F(Sides, AreNotRecycledAfterAForkSharedThem) {
  Side* const first = acquire_side();
  first->inherited.store(1);
  Side* const other = acquire_side();
  release_side(first);
  release_side(other);
  EXPECT_EQ(acquire_side(), other);
  EXPECT_NE(acquire_side(), other);
}

TEST_F(Sides, InTwoHandsAreDifferent) {
  std::set<Side*> all;
  for (int i = 0; i < 100; ++i) all.insert(acquire_side());
  EXPECT_EQ(all.size(), 100U);
  EXPECT_EQ(all.count(nullptr), 0U);
  for (Side* side : all) release_side(side);  // more than are kept
  std::set<Side*> again;
  for (int i = 0; i < 100; ++i) again.insert(acquire_side());
  EXPECT_EQ(again.size(), 100U);
  for (Side* side : again) release_side(side);
}

TEST_F(Sides, AreSharedWithAChild) {
  Side* const side = acquire_side();
  side->inherited.store(1);
  Child child([&] { side->sending.head.store(42); });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(side->sending.head.load(), 42U);
  release_side(side);
}

TEST_F(Sides, KeptOnesAreNotTheChilds) {
  Side* const kept = acquire_side();
  release_side(kept);
  Child child([] {
    Side* const own = acquire_side();
    own->sending.head.store(42);
  });
  EXPECT_EQ(child.wait(), 0);
  Side* const side = acquire_side();
  EXPECT_EQ(side, kept);
  EXPECT_EQ(side->sending.head.load(), 0U);
  release_side(side);
}

TEST_F(Sides, AreNeverHandedOutTwiceToThreads) {
  const auto work = [] {
    for (int i = 0; i < 5000; ++i) {
      Side* const side = acquire_side();
      if (side->sending.calls++ != 0) ADD_FAILURE() << "somebody else has this one";
      release_side(side);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tssx::test
