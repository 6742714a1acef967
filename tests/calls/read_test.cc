// read(), readv() and their fortified names.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"

extern "C" ssize_t __read_chk(int fd, void* buffer, size_t size, size_t buffer_size);

namespace tssx_test {
namespace {

class Read : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Read, every_situation(), situation_name);

TEST_P(Read, ReturnsWhatIsThere) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  EXPECT_EQ(read_once(mine(), 100), "hello");
}

TEST_P(Read, ReturnsNoMoreThanAskedFor) {
  ASSERT_EQ(write_all(peer(), "abcdefgh"), 8U);
  EXPECT_EQ(read_once(mine(), 3), "abc");
  EXPECT_EQ(read_once(mine(), 3), "def");
  EXPECT_EQ(read_once(mine(), 3), "gh");
}

TEST_P(Read, GluesSeveralWritesTogether) {
  ASSERT_EQ(write_all(peer(), "one "), 4U);
  ASSERT_EQ(write_all(peer(), "two "), 4U);
  ASSERT_EQ(write_all(peer(), "three"), 5U);
  EXPECT_EQ(read_once(mine(), 100), "one two three");
}

TEST_P(Read, TakesAHundredSmallWritesInOneCall) {
  for (std::size_t i = 0; i < 100; ++i) ASSERT_EQ(write_all(peer(), pattern(i * 7, 7)), 7U);
  const std::string got = read_once(mine(), 4096);
  EXPECT_EQ(got.size(), 700U);
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(Read, TakesOneWriteByteByByte) {
  ASSERT_EQ(write_all(peer(), pattern(0, 300)), 300U);
  for (std::size_t i = 0; i < 300; ++i) ASSERT_EQ(read_once(mine(), 1), pattern(i, 1)) << i;
}

TEST_P(Read, LeavesErrnoAloneOnSuccess) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  char byte = 0;
  errno = EXDEV;
  EXPECT_EQ(::read(mine(), &byte, 1), 1);
  EXPECT_EQ(errno, EXDEV);
}

TEST_P(Read, OfNothingReturnsZeroAtOnce) {
  char byte = 0;
  EXPECT_EQ(::read(mine(), &byte, 0), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::read(mine(), &byte, 0), 0);
  EXPECT_EQ(read_once(mine(), 10), "x");
}

TEST_P(Read, IntoABadPointerFailsAndKeepsTheData) {
  ASSERT_EQ(write_all(peer(), "precious"), 8U);
  errno = 0;
  EXPECT_EQ(::read(mine(), bad_pointer(), 8), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(read_once(mine(), 100), "precious");
}

TEST_P(Read, IntoAnUnmappedPageFailsAndKeepsTheData) {
  const GuardedPage page;
  ASSERT_EQ(write_all(peer(), "precious"), 8U);
  errno = 0;
  EXPECT_EQ(::read(mine(), page.beyond(), 8), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(read_once(mine(), 100), "precious");
}

TEST_P(Read, IntoReadOnlyMemoryFailsAndKeepsTheData) {
  void* page = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  ASSERT_EQ(write_all(peer(), "precious"), 8U);
  errno = 0;
  EXPECT_EQ(::read(mine(), page, 8), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(read_once(mine(), 100), "precious");
  ::munmap(page, 4096);
}

TEST_P(Read, UpToTheEdgeOfMappedMemoryWorks) {
  const GuardedPage page;
  const std::string bytes = pattern(0, 100);
  ASSERT_EQ(write_all(peer(), bytes), 100U);
  // More is asked for than fits, but no more comes than does.
  EXPECT_EQ(::read(mine(), page.beyond() - 100, 5000), 100);
  EXPECT_EQ(std::memcmp(page.beyond() - 100, bytes.data(), 100), 0);
}

TEST_P(Read, AcceptsALengthBeyondTheLargestTransfer) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  // The kernel caps the length and looks at no byte that it does not fill; but the range must end
  // within the address space, which from the heap it does.
  std::string buffer(16, '\0');
  EXPECT_EQ(::read(mine(), buffer.data(), opaque<std::size_t>(3U << 30U)), 5);
  EXPECT_EQ(buffer.substr(0, 5), "hello");
}

TEST_P(Read, WaitsForTheFirstByte) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "late"), 4U);
  });
  EXPECT_EQ(read_once(mine(), 100), "late");
  writer.join();
}

TEST_P(Read, DoesNotWaitForMoreThanTheFirstByte) {
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(read_once(mine(), 100000), "x");
}

TEST_P(Read, FortifiedNameReads) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char buffer[16] = {};
  EXPECT_EQ(__read_chk(mine(), buffer, sizeof buffer, sizeof buffer), 5);
  EXPECT_STREQ(buffer, "hello");
}

TEST_P(Read, FortifiedNameAbortsOnOverflow) {
  testing::FLAGS_gtest_death_test_style = "fast";
  char buffer[16] = {};
  EXPECT_DEATH(__read_chk(mine(), buffer, 17, sizeof buffer), "buffer overflow detected");
}

TEST_P(Read, BothWaysAtOnceKeepsTheDirectionsApart) {
  ASSERT_EQ(write_all(peer(), "to me"), 5U);
  ASSERT_EQ(write_all(mine(), "to you"), 6U);
  EXPECT_EQ(read_once(mine(), 100), "to me");
  EXPECT_EQ(read_once(peer(), 100), "to you");
}

class ReadV : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, ReadV, every_situation(), situation_name);

TEST_P(ReadV, FillsBuffersInOrder) {
  ASSERT_EQ(write_all(peer(), "abcdefghij"), 10U);
  char first[3];
  char second[4];
  char third[10] = {};
  const std::array<iovec, 3> parts{{{first, 3}, {second, 4}, {third, 10}}};
  EXPECT_EQ(::readv(mine(), parts.data(), 3), 10);
  EXPECT_EQ(std::memcmp(first, "abc", 3), 0);
  EXPECT_EQ(std::memcmp(second, "defg", 4), 0);
  EXPECT_STREQ(third, "hij");
}

TEST_P(ReadV, SkipsEmptyBuffers) {
  ASSERT_EQ(write_all(peer(), "abcd"), 4U);
  char first[2];
  char second[2];
  const std::array<iovec, 5> parts{
      {{nullptr, 0}, {first, 2}, {nullptr, 0}, {second, 2}, {nullptr, 0}}};
  EXPECT_EQ(::readv(mine(), parts.data(), 5), 4);
  EXPECT_EQ(std::memcmp(first, "ab", 2), 0);
  EXPECT_EQ(std::memcmp(second, "cd", 2), 0);
}

TEST_P(ReadV, OfNoBuffersReturnsZero) {
  const iovec none{nullptr, 0};
  EXPECT_EQ(::readv(mine(), &none, 0), 0);
  EXPECT_EQ(::readv(mine(), &none, 1), 0);
}

TEST_P(ReadV, RefusesABadCount) {
  char byte = 0;
  const iovec part{&byte, 1};
  errno = 0;
  EXPECT_EQ(::readv(mine(), &part, opaque(-1)), -1);
  EXPECT_EQ(errno, EINVAL);
  std::vector<iovec> many(IOV_MAX + 1, part);
  errno = 0;
  EXPECT_EQ(::readv(mine(), many.data(), opaque(IOV_MAX + 1)), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_P(ReadV, TakesTheLargestCount) {
  std::string bytes(IOV_MAX, '\0');
  std::vector<iovec> parts;
  for (char& byte : bytes) parts.push_back({&byte, 1});
  ASSERT_EQ(write_all(peer(), pattern(0, bytes.size())), bytes.size());
  std::size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t n = ::readv(mine(), parts.data() + got, static_cast<int>(parts.size() - got));
    ASSERT_GT(n, 0);
    got += static_cast<std::size_t>(n);
  }
  EXPECT_TRUE(matches_pattern(bytes, 0));
}

TEST_P(ReadV, WithABadVectorFailsAndKeepsTheData) {
  ASSERT_EQ(write_all(peer(), "precious"), 8U);
  errno = 0;
  EXPECT_EQ(::readv(mine(), static_cast<iovec*>(bad_pointer()), 2), -1);
  EXPECT_EQ(errno, EFAULT);
  const iovec bad{bad_pointer(), 8};
  errno = 0;
  EXPECT_EQ(::readv(mine(), &bad, 1), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(read_once(mine(), 100), "precious");
}

}  // namespace
}  // namespace tssx_test
