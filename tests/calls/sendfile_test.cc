// sendfile() and splice(): bytes that the kernel moves itself.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

UniqueFd file_of(const std::string& bytes) {
  UniqueFd file(::memfd_create("source", MFD_CLOEXEC));
  EXPECT_EQ(write_all(file.get(), bytes), bytes.size());
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
  return file;
}

class SendFile : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, SendFile, every_situation(), situation_name);

TEST_P(SendFile, SendsAFileAndMovesItsPosition) {
  const UniqueFd file = file_of(pattern(0, 5000));
  EXPECT_EQ(::sendfile(mine(), file.get(), nullptr, 2000), 2000);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), 2000);
  EXPECT_EQ(::sendfile(mine(), file.get(), nullptr, 10000), 3000);
  EXPECT_EQ(::sendfile(mine(), file.get(), nullptr, 10000), 0);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), 5000), 0));
}

TEST_P(SendFile, SendsFromAnOffsetAndLeavesThePosition) {
  const UniqueFd file = file_of(pattern(0, 5000));
  off_t offset = 1000;
  EXPECT_EQ(::sendfile(mine(), file.get(), &offset, 500), 500);
  EXPECT_EQ(offset, 1500);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), 0);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), 500), 1000));
}

TEST_P(SendFile, UnderIts64BitNameIsTheSame) {
  const UniqueFd file = file_of(pattern(0, 5000));
  off64_t offset = 1000;
  EXPECT_EQ(::sendfile64(mine(), file.get(), &offset, 500), 500);
  EXPECT_EQ(offset, 1500);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), 500), 1000));
}

TEST_P(SendFile, KeepsItsPlaceAmongWrites) {
  const UniqueFd file = file_of("middle ");
  ASSERT_EQ(write_all(mine(), "first "), 6U);
  EXPECT_EQ(::sendfile(mine(), file.get(), nullptr, 7), 7);
  ASSERT_EQ(write_all(mine(), "last"), 4U);
  EXPECT_EQ(read_exactly(peer(), 17), "first middle last");
}

TEST_P(SendFile, SendsMoreThanFits) {
  static constexpr std::size_t kSize = 2U << 20U;
  const UniqueFd file = file_of(pattern(0, kSize));
  std::string got;
  std::thread reader([&] { got = read_exactly(peer(), kSize); });
  std::size_t sent = 0;
  while (sent < kSize) {
    const ssize_t n = ::sendfile(mine(), file.get(), nullptr, kSize - sent);
    ASSERT_GT(n, 0);
    sent += static_cast<std::size_t>(n);
  }
  reader.join();
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(SendFile, NonblockingFillsThenWouldBlock) {
  const UniqueFd file = file_of(pattern(0, 8U << 20U));
  set_nonblocking(mine(), true);
  std::size_t sent = 0;
  for (;;) {
    const ssize_t n = ::sendfile(mine(), file.get(), nullptr, 1U << 20U);
    if (n == -1) break;
    ASSERT_GT(n, 0);
    sent += static_cast<std::size_t>(n);
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), static_cast<off_t>(sent));
  const std::string got = read_available(peer());
  EXPECT_EQ(got.size(), sent);
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(SendFile, ToAClosedPeerFails) {
  const UniqueFd file = file_of("lost");
  peer_.reset();
  Child child([&] {
    ::signal(SIGPIPE, SIG_IGN);
    errno = 0;
    EXPECT_EQ(::sendfile(mine(), file.get(), nullptr, 4), -1);
    EXPECT_EQ(errno, EPIPE);
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(SendFile, FromAConnectionIsRefused) {
  const UniqueFd file = file_of("");
  ASSERT_EQ(write_all(peer(), "kept"), 4U);
  errno = 0;
  EXPECT_EQ(::sendfile(file.get(), mine(), nullptr, 4), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(read_once(mine(), 10), "kept");
}

class Splice : public ConnectionTest {
 protected:
  void SetUp() override {
    ConnectionTest::SetUp();
    int ends[2] = {-1, -1};
    ASSERT_EQ(::pipe(ends), 0);
    pipe_read_.reset(ends[0]);
    pipe_write_.reset(ends[1]);
  }
  UniqueFd pipe_read_;
  UniqueFd pipe_write_;
};
INSTANTIATE_TEST_SUITE_P(, Splice, every_situation(), situation_name);

TEST_P(Splice, MovesFromAPipe) {
  ASSERT_EQ(write_all(pipe_write_.get(), pattern(0, 3000)), 3000U);
  ASSERT_EQ(write_all(mine(), "first"), 5U);
  EXPECT_EQ(::splice(pipe_read_.get(), nullptr, mine(), nullptr, 10000, 0), 3000);
  ASSERT_EQ(write_all(mine(), "last"), 4U);
  EXPECT_EQ(read_exactly(peer(), 5), "first");
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), 3000), 0));
  EXPECT_EQ(read_exactly(peer(), 4), "last");
}

TEST_P(Splice, LeavesThePipeAloneWhereANonBlockingConnectionIsFull) {
  ASSERT_EQ(::fcntl(mine(), F_SETFL, O_NONBLOCK), 0);
  const std::string filler(4096, 'f');
  std::size_t filled = 0;
  for (;;) {
    const ssize_t n = ::write(mine(), filler.data(), filler.size());
    if (n < 0) break;
    filled += static_cast<std::size_t>(n);
  }
  ASSERT_EQ(errno, EAGAIN);
  ASSERT_EQ(write_all(pipe_write_.get(), pattern(0, 3000)), 3000U);
  EXPECT_EQ(::splice(pipe_read_.get(), nullptr, mine(), nullptr, 10000, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(read_exactly(peer(), filled).size(), filled);
  EXPECT_EQ(::splice(pipe_read_.get(), nullptr, mine(), nullptr, 10000, 0), 3000);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), 3000), 0));
}

TEST_P(Splice, DoesNotWaitForAnEmptyPipeIfToldSo) {
  errno = 0;
  EXPECT_EQ(::splice(pipe_read_.get(), nullptr, mine(), nullptr, 100, SPLICE_F_NONBLOCK), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_P(Splice, MovesIntoAPipe) {
  ASSERT_EQ(write_all(peer(), pattern(0, 3000)), 3000U);
  std::size_t moved = 0;
  while (moved < 2500) {
    const ssize_t n = ::splice(mine(), nullptr, pipe_write_.get(), nullptr, 2500 - moved, 0);
    ASSERT_GT(n, 0);
    moved += static_cast<std::size_t>(n);
  }
  EXPECT_TRUE(matches_pattern(read_exactly(pipe_read_.get(), 2500), 0));
  EXPECT_TRUE(matches_pattern(read_exactly(mine(), 500), 2500));
}

TEST_P(Splice, WaitsForDataAndSeesTheEnd) {
  std::thread writer([this] {
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "late"), 4U);
  });
  EXPECT_EQ(::splice(mine(), nullptr, pipe_write_.get(), nullptr, 100, 0), 4);
  writer.join();
  EXPECT_EQ(read_once(pipe_read_.get(), 10), "late");
  errno = 0;
  EXPECT_EQ(::splice(mine(), nullptr, pipe_write_.get(), nullptr, 100, SPLICE_F_NONBLOCK), -1);
  EXPECT_EQ(errno, EAGAIN);
  peer_.reset();
  EXPECT_EQ(::splice(mine(), nullptr, pipe_write_.get(), nullptr, 100, 0), 0);
}

}  // namespace
}  // namespace tssx_test
