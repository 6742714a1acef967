// core/presence.h: a server learns whether a client can still follow an offer.
#include "core/presence.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/rendezvous.h"
#include "tests/core/support/child.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

class Presence : public Watched {
 protected:
  static Nonce marked() {
    Nonce nonce{};
    EXPECT_TRUE(make_nonce(&nonce));
    return nonce;
  }
};

TEST_F(Presence, OfAProcessThatMarksIsTold) {
  const Nonce nonce = marked();
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(is_present(nonce)) << "however often, as nobody reads";
}

TEST_F(Presence, IsSharedByConnectionsThatDiffer) {
  const Nonce one = marked();
  const Nonce other = marked();
  EXPECT_FALSE(one == other);
  EXPECT_TRUE(is_present(one));
  EXPECT_TRUE(is_present(other));
}

TEST_F(Presence, OfNobodyIsNotTold) {
  Nonce nonce = marked();
  nonce.bytes[0] = static_cast<std::uint8_t>(nonce.bytes[0] ^ 1U);
  EXPECT_FALSE(is_present(nonce));
}

TEST_F(Presence, EndsWhenItIsRevoked) {
  const Nonce before = marked();
  revoke_presence();
  EXPECT_FALSE(is_present(before));
  const Nonce after = marked();
  EXPECT_TRUE(is_present(after)) << "the next mark has a new one";
  EXPECT_FALSE(is_present(before));
}

TEST_F(Presence, IsRevokedForTheWholeFamily) {
  const Nonce nonce = marked();
  Child child([] {
    reset_presence();
    revoke_presence();
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_FALSE(is_present(nonce)) << "the child left a connection of ours to somebody else";
  EXPECT_TRUE(is_present(marked()));
}

TEST_F(Presence, EndsWithItsProcess) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Child child([&] {
    revoke_presence();  // what it shares with this process
    const Nonce nonce = marked();
    EXPECT_EQ(::write(ends[1], nonce.bytes, sizeof nonce.bytes),
              static_cast<ssize_t>(sizeof nonce.bytes));
  });
  Nonce nonce{};
  ASSERT_EQ(::read(ends[0], nonce.bytes, sizeof nonce.bytes),
            static_cast<ssize_t>(sizeof nonce.bytes));
  EXPECT_EQ(child.wait(), 0);
  EXPECT_FALSE(is_present(nonce));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(Presence, EndsWithAnExec) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  int quit[2];
  ASSERT_EQ(::pipe(quit), 0);
  Child child([&] {
    revoke_presence();  // what it shares with this process
    const Nonce nonce = marked();
    EXPECT_EQ(::write(ends[1], nonce.bytes, sizeof nonce.bytes),
              static_cast<ssize_t>(sizeof nonce.bytes));
    ::dup2(quit[0], STDIN_FILENO);
    ::close(quit[1]);
    ::execl("/bin/sh", "sh", "-c", "echo >&\"$0\"; read line", std::to_string(ends[1]).c_str(),
            nullptr);
  });
  Nonce nonce{};
  ASSERT_EQ(::read(ends[0], nonce.bytes, sizeof nonce.bytes),
            static_cast<ssize_t>(sizeof nonce.bytes));
  char byte = 0;
  ASSERT_EQ(::read(ends[0], &byte, 1), 1) << "the next program runs";
  EXPECT_FALSE(is_present(nonce));
  for (const int fd : {ends[0], ends[1], quit[0], quit[1]}) ::close(fd);
}

TEST_F(Presence, SurvivesThatItsNumberWasTakenFromIt) {
  const Nonce nonce = marked();
  const int number = presence_descriptor().load();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::dup2(ends[1], number), number);  // unseen, and so the socket is gone
  EXPECT_FALSE(is_present(nonce));
  revoke_presence();
  EXPECT_EQ(::write(number, "x", 1), 1) << "it is the application's now";
  ::close(number);
  EXPECT_TRUE(is_present(marked()));
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace tssx::test
