// Sizes around every buffer's edge, and the two ends at different paces.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <thread>
#include <tuple>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

constexpr std::array<std::size_t, 20> kSizes{
    1,     2,      4095,   4096,   4097,   8192,   32767,  32768,  65535,  65536,
    65537, 131071, 131072, 131073, 212991, 212992, 262143, 262144, 262145, 1U << 20U};

class Volume : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Volume, every_situation(), situation_name);

TEST_P(Volume, OneWriteOfEachSizeArrivesWhole) {
  for (const std::size_t size : kSizes) {
    std::string got;
    std::thread reader([&] { got = read_exactly(peer(), size); });
    const std::string bytes = pattern(0, size);
    // A blocking write takes all of it.
    EXPECT_EQ(::write(mine(), bytes.data(), size), static_cast<ssize_t>(size));
    reader.join();
    ASSERT_EQ(got.size(), size);
    ASSERT_TRUE(matches_pattern(got, 0)) << size;
  }
}

TEST_P(Volume, EachSizeComesBackFromAnEcho) {
  std::thread echo([this] {
    for (const std::size_t size : kSizes) {
      EXPECT_EQ(write_all(peer(), read_exactly(peer(), size)), size);
    }
  });
  for (const std::size_t size : kSizes) {
    EXPECT_EQ(write_all(mine(), pattern(0, size, 3)), size);
    const std::string got = read_exactly(mine(), size);
    EXPECT_EQ(got.size(), size);
    EXPECT_TRUE(matches_pattern(got, 0, 3)) << size;
  }
  echo.join();
}

TEST_P(Volume, OneBigWriteIsReadInSmallPieces) {
  static constexpr std::size_t kSize = 1U << 20U;
  std::thread writer([this] {
    const std::string bytes = pattern(0, kSize);
    EXPECT_EQ(::write(peer(), bytes.data(), kSize), static_cast<ssize_t>(kSize));
  });
  std::size_t done = 0;
  for (std::size_t piece = 1; done < kSize; piece = piece % 997 + 1) {
    const std::string got = read_once(mine(), std::min(piece * 3, kSize - done));
    ASSERT_FALSE(got.empty());
    ASSERT_TRUE(matches_pattern(got, done));
    done += got.size();
  }
  writer.join();
}

TEST_P(Volume, SmallWritesAreReadInBigPieces) {
  static constexpr std::size_t kSize = 1U << 20U;
  std::thread writer([this] {
    std::size_t done = 0;
    for (std::size_t piece = 1; done < kSize; piece = piece % 997 + 1) {
      const std::size_t size = std::min(piece, kSize - done);
      ASSERT_EQ(write_all(peer(), pattern(done, size)), size);
      done += size;
    }
  });
  const std::string got = read_exactly(mine(), kSize);
  writer.join();
  ASSERT_EQ(got.size(), kSize);
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(Volume, OddSizedMessagesWrapWithoutLoss) {
  // 50 times more than any buffer holds would take long; several times is enough for every wrap.
  constexpr std::size_t kMessage = 12347;
  std::size_t position = 0;
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(write_all(mine(), pattern(position, kMessage)), kMessage);
    const std::string got = read_exactly(peer(), kMessage);
    ASSERT_EQ(got.size(), kMessage);
    ASSERT_TRUE(matches_pattern(got, position)) << "message " << i;
    position += kMessage;
  }
}

TEST_P(Volume, AStreamCrossesTheMoveInOrder) {
  // No round trips: data in flight in one direction while now and then a byte comes back.
  static constexpr std::size_t kSize = 4U << 20U;
  std::thread writer([this] {
    std::size_t done = 0;
    while (done < kSize) {
      ASSERT_EQ(write_all(mine(), pattern(done, 8192)), 8192U);
      done += 8192;
      if (done % 65536 == 0) {
        ASSERT_EQ(read_exactly(mine(), 1), "k");
      }
    }
  });
  for (std::size_t done = 0; done < kSize; done += 65536) {
    const std::string got = read_exactly(peer(), 65536);
    EXPECT_EQ(got.size(), 65536U);
    EXPECT_TRUE(matches_pattern(got, done));
    EXPECT_EQ(write_all(peer(), "k"), 1U);
  }
  writer.join();
}

TEST_P(Volume, VectorsOfUnevenBuffersArriveInOrder) {
  static constexpr std::size_t kSize = 300000;
  std::string bytes = pattern(0, kSize);
  std::vector<iovec> parts;
  for (std::size_t at = 0, size = 1; at < kSize; size = size * 3 % 7919 + 1) {
    const std::size_t length = std::min(size, kSize - at);
    parts.push_back({bytes.data() + at, length});
    at += length;
  }
  ASSERT_LE(parts.size(), 1024U);
  std::string got;
  std::thread reader([&] { got = read_exactly(peer(), kSize); });
  EXPECT_EQ(::writev(mine(), parts.data(), static_cast<int>(parts.size())),
            static_cast<ssize_t>(kSize));
  reader.join();
  ASSERT_EQ(got.size(), kSize);
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(Volume, AProgramMayWriteTwoHundredKilobytesBeforeAnyoneReads) {
  const std::string bytes = pattern(0, 200000);
  ASSERT_EQ(::write(mine(), bytes.data(), 100000), 100000);
  ASSERT_EQ(::write(mine(), bytes.data() + 100000, 100000), 100000);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), 200000), 0));
}

class VolumeBetweenProcesses : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, VolumeBetweenProcesses, every_situation(), situation_name);

TEST_P(VolumeBetweenProcesses, EachSizeComesBackFromAnEcho) {
  ForkedConnection connection = connect_to([](int fd) {
    for (const std::size_t size : kSizes) {
      EXPECT_EQ(write_all(fd, read_exactly(fd, size)), size);
    }
  });
  for (const std::size_t size : kSizes) {
    EXPECT_EQ(write_all(connection.mine.get(), pattern(0, size, 5)), size);
    const std::string got = read_exactly(connection.mine.get(), size);
    EXPECT_EQ(got.size(), size);
    EXPECT_TRUE(matches_pattern(got, 0, 5)) << size;
  }
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(VolumeBetweenProcesses, TenMegabytesFlowToThePeer) {
  static constexpr std::size_t kSize = 10U << 20U;
  ForkedConnection connection = connect_to([](int fd) {
    for (std::size_t done = 0; done < kSize; done += 65536) {
      ASSERT_TRUE(matches_pattern(read_exactly(fd, 65536), done));
    }
    EXPECT_EQ(write_all(fd, "done"), 4U);
  });
  for (std::size_t done = 0; done < kSize; done += 32768) {
    ASSERT_EQ(write_all(connection.mine.get(), pattern(done, 32768)), 32768U);
  }
  EXPECT_EQ(read_exactly(connection.mine.get(), 4), "done");
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(VolumeBetweenProcesses, FiveThousandRoundTrips) {
  ForkedConnection connection = connect_to([](int fd) {
    for (int i = 0; i < 5000; ++i) {
      const std::string got = read_exactly(fd, 8);
      ASSERT_EQ(got.size(), 8U);
      ASSERT_EQ(write_all(fd, got), 8U);
    }
  });
  for (std::size_t i = 0; i < 5000; ++i) {
    ASSERT_EQ(write_all(connection.mine.get(), pattern(i, 8)), 8U);
    ASSERT_EQ(read_exactly(connection.mine.get(), 8), pattern(i, 8));
  }
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(VolumeBetweenProcesses, AMegabyteIsThereForAReaderWhoComesLate) {
  static constexpr std::size_t kSize = 1U << 20U;
  ForkedConnection connection = connect_to([](int fd) {
    const std::string bytes = pattern(0, kSize);
    EXPECT_EQ(::write(fd, bytes.data(), kSize), static_cast<ssize_t>(kSize));
  });
  sleep_a_moment();
  EXPECT_TRUE(matches_pattern(read_exactly(connection.mine.get(), kSize), 0));
  EXPECT_EQ(read_once(connection.mine.get(), 1), "");
  EXPECT_EQ(connection.peer.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
