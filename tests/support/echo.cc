#include "tests/support/echo.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string_view>

#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {

void serve(int fd) {
  char bytes[4096];
  ssize_t n = 0;
  while ((n = ::read(fd, bytes, sizeof bytes)) > 0) {
    EXPECT_EQ(write_all(fd, std::string_view(bytes, static_cast<std::size_t>(n))),
              static_cast<std::size_t>(n));
  }
  EXPECT_EQ(n, 0);
}

void expect_echo(int fd) {
  for (int i = 0; i < 100; ++i) {
    if (i % 40 == 0) sleep_a_moment();
    ASSERT_EQ(write_all(fd, "line"), 4U);
    ASSERT_EQ(read_exactly(fd, 4), "line");
  }
  ASSERT_EQ(write_all(fd, pattern(0, 100000)), 100000U);
  EXPECT_TRUE(matches_pattern(read_exactly(fd, 100000), 0));
}

}  // namespace tssx_test
