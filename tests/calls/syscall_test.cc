// syscall(): programs and runtimes that do not use libc's wrappers.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

class Syscall : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Syscall, every_situation(), situation_name);

TEST_P(Syscall, ReadsAndWrites) {
  TSSX_KNOWN_DIFFERENCE("raw system calls");
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char bytes[16] = {};
  EXPECT_EQ(::syscall(SYS_read, mine(), bytes, sizeof bytes), 5);
  EXPECT_STREQ(bytes, "hello");
  EXPECT_EQ(::syscall(SYS_write, mine(), "back", 4), 4);
  EXPECT_EQ(read_once(peer(), 10), "back");
}

TEST_P(Syscall, MixesWithTheWrappers) {
  TSSX_KNOWN_DIFFERENCE("raw system calls");
  for (std::size_t i = 0; i < 50; ++i) {
    const std::string bytes = pattern(i, 10);
    ASSERT_EQ(::syscall(SYS_sendto, peer(), bytes.data(), 10UL, 0, nullptr, 0), 10);
    ASSERT_EQ(write_all(peer(), bytes), 10U);
    ASSERT_EQ(read_exactly(mine(), 10), bytes);
    char got[10];
    ASSERT_EQ(::syscall(SYS_recvfrom, mine(), got, 10UL, 0, nullptr, nullptr), 10);
    ASSERT_EQ(std::string_view(got, 10), bytes);
  }
}

TEST_P(Syscall, Closes) {
  ASSERT_EQ(write_all(mine(), "last"), 4U);
  EXPECT_EQ(::syscall(SYS_close, mine_.release()), 0);
  EXPECT_EQ(read_once(peer(), 10), "last");
  EXPECT_EQ(read_once(peer(), 10), "");
}

}  // namespace
}  // namespace tssx_test
