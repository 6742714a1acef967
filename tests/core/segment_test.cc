#include "core/segment.h"
#include "core/presence.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <utility>

#include "core/rendezvous.h"
#include "tests/core/support/child.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

constexpr int kSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
constexpr std::uint64_t kCapacity = 8192;

class Segments : public Watched {
 protected:
  Segments() { EXPECT_TRUE(make_nonce(&nonce_)); }

  [[nodiscard]] SegmentOrigin origin() const { return {nonce_, 123, "/run/x.sock", 11}; }
  // What a peer may send: a header of its own making, `size` bytes, sealed as told.
  [[nodiscard]] SegmentHeader header() const {
    SegmentHeader made{};
    made.magic = kSegmentMagic;
    made.version = kProtocolVersion;
    made.header_size = kHeaderSize;
    made.capacity = kCapacity;
    made.size = kHeaderSize + 2 * kCapacity;
    std::memcpy(made.nonce, nonce_.bytes, kNonceSize);
    return made;
  }
  static UniqueFd memfd(const SegmentHeader& header, std::uint64_t size, int seals,
                        unsigned flags = MFD_ALLOW_SEALING) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | flags));
    EXPECT_TRUE(fd);
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    EXPECT_EQ(::pwrite(fd.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
    EXPECT_EQ(seals == 0 ? 0 : ::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    return fd;
  }
  [[nodiscard]] int error_of(int fd) const {
    Result<SegmentView> mapped = map_segment(fd, nonce_);
    if (mapped) unmap_segment(mapped.value());
    return mapped.error();
  }
  [[nodiscard]] int error_of(const SegmentHeader& header, int seals = kSeals) const {
    return error_of(memfd(header, header.size, seals).get());
  }

  Nonce nonce_{};
};

TEST_F(Segments, AreCreatedAndMapped) {
  Result<NewSegment> made = create_segment(kCapacity, origin());
  ASSERT_TRUE(made) << made.error();
  const SegmentView& mine = made.value().view;
  EXPECT_EQ(mine.capacity, kCapacity);
  EXPECT_EQ(mine.size, kHeaderSize + 2 * kCapacity);
  EXPECT_EQ(mine.page->header.magic, kSegmentMagic);
  EXPECT_EQ(mine.page->header.server_pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(mine.page->header.client_pid, 123U);
  EXPECT_EQ(std::memcmp(mine.page->header.path, "/run/x.sock", 11), 0);
  EXPECT_EQ(mine.page->answer.answer.load(), 0U);

  Result<SegmentView> mapped = map_segment(made.value().fd.get(), nonce_);
  ASSERT_TRUE(mapped) << mapped.error();
  const SegmentView& theirs = mapped.value();
  EXPECT_EQ(theirs.capacity, kCapacity);
  EXPECT_NE(theirs.page, mine.page);
  for (const std::size_t direction : {0U, 1U}) {
    mine.data(direction)[kCapacity - 1] = static_cast<std::uint8_t>(17 + direction);
    EXPECT_EQ(theirs.data(direction)[kCapacity - 1], 17 + direction);
  }
  EXPECT_EQ(mine.data(1) - mine.data(0), static_cast<std::ptrdiff_t>(kCapacity));
  unmap_segment(theirs);
  unmap_segment(mine);
}

TEST_F(Segments, AreSealed) {
  Result<NewSegment> made = create_segment(kCapacity, origin());
  ASSERT_TRUE(made);
  const int fd = made.value().fd.get();
  EXPECT_EQ(::fcntl(fd, F_GET_SEALS) & kSeals, kSeals);
  EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(::ftruncate(fd, 4096), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(fd, 1 << 20), -1);
  EXPECT_EQ(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
  unmap_segment(made.value().view);
}

TEST_F(Segments, CommitNoMemoryForWhatNobodyTouched) {
  Result<NewSegment> made = create_segment(kMaxCapacity, origin());
  ASSERT_TRUE(made);
  struct stat info {};
  ASSERT_EQ(::fstat(made.value().fd.get(), &info), 0);
  EXPECT_LE(info.st_blocks * 512, 8192);
  unmap_segment(made.value().view);
}

TEST_F(Segments, HaveACapacityThatIsAPowerOfTwo) {
  for (const std::uint64_t capacity :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2048}, std::uint64_t{4097},
        std::uint64_t{12'288}, kMaxCapacity * 2, ~std::uint64_t{0}, std::uint64_t{1} << 63U}) {
    EXPECT_EQ(create_segment(capacity, origin()).error(), EINVAL) << capacity;
    SegmentHeader bad = header();
    bad.capacity = capacity;
    bad.size = kHeaderSize + 2 * capacity;
    const UniqueFd fd = memfd(bad, kHeaderSize + 2 * kCapacity, kSeals);
    EXPECT_EQ(error_of(fd.get()), EPROTO) << capacity;
  }
}

TEST_F(Segments, RefuseALongPath) {
  SegmentOrigin bad = origin();
  bad.path_length = kPathSize + 1;
  EXPECT_EQ(create_segment(kCapacity, bad).error(), EINVAL);
}

TEST_F(Segments, OfAPeersMakingAreAccepted) { EXPECT_EQ(error_of(header()), 0); }

TEST_F(Segments, OfAnotherConnectionAreNotOurs) {
  SegmentHeader bad = header();
  bad.nonce[3] ^= 1U;
  EXPECT_EQ(error_of(bad), EBADMSG);
}

TEST_F(Segments, WithoutTheMagicAreNotOurs) {
  SegmentHeader bad = header();
  bad.magic ^= 1U;
  EXPECT_EQ(error_of(bad), EBADMSG);
}

TEST_F(Segments, OfAnotherVersionAreRefused) {
  SegmentHeader bad = header();
  ++bad.version;
  EXPECT_EQ(error_of(bad), EPROTO);
}

TEST_F(Segments, WithAnotherHeaderSizeAreRefused) {
  SegmentHeader bad = header();
  bad.header_size = 8192;
  EXPECT_EQ(error_of(bad), EPROTO);
}

TEST_F(Segments, OfAnotherSizeThanTheySayAreRefused) {
  EXPECT_EQ(error_of(memfd(header(), header().size - 1, kSeals).get()), EPROTO);
  EXPECT_EQ(error_of(memfd(header(), header().size + 4096, kSeals).get()), EPROTO);
  SegmentHeader bad = header();
  bad.size += 4096;
  EXPECT_EQ(error_of(bad), EPROTO);
}

TEST_F(Segments, ShorterThanAHeaderAreNotOurs) {
  const UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(error_of(fd.get()), EBADMSG);
  EXPECT_EQ(::write(fd.get(), "TSSXSEG1", 8), 8);
  EXPECT_EQ(error_of(fd.get()), EBADMSG);
}

TEST_F(Segments, WithoutEachOfTheSealsAreRefused) {
  EXPECT_EQ(error_of(header(), 0), EPROTO);
  EXPECT_EQ(error_of(header(), F_SEAL_GROW | F_SEAL_SEAL), EPROTO) << "it could shrink: SIGBUS";
  EXPECT_EQ(error_of(header(), F_SEAL_SHRINK | F_SEAL_SEAL), EPROTO);
  EXPECT_EQ(error_of(header(), F_SEAL_SHRINK | F_SEAL_GROW), EPROTO);
  const SegmentHeader good = header();
  EXPECT_EQ(error_of(memfd(good, good.size, 0, 0).get()), EPROTO) << "not sealable at all";
}

TEST_F(Segments, SealedAgainstWritingAreRefused) {
  EXPECT_EQ(error_of(header(), kSeals | F_SEAL_WRITE), EPROTO);
  EXPECT_EQ(error_of(header(), kSeals | F_SEAL_FUTURE_WRITE), EPROTO);
}

TEST_F(Segments, OpenForReadingOnlyAreRefused) {
  const UniqueFd fd = memfd(header(), header().size, kSeals);
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  const UniqueFd read_only(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(read_only);
  EXPECT_NE(error_of(read_only.get()), 0);
}

TEST_F(Segments, OfHugePagesAreRefused) {
  const UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  if (!fd) GTEST_SKIP() << "no huge pages here";
  EXPECT_EQ(error_of(fd.get()), EBADMSG);
}

TEST_F(Segments, AreNothingElseThanMemfds) {
  const SegmentHeader good = header();
  char path[] = "/tmp/segment_test.XXXXXX";
  const UniqueFd file(::mkostemp(path, O_CLOEXEC));
  ASSERT_TRUE(file);
  ::unlink(path);
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(good.size)), 0);
  EXPECT_EQ(::pwrite(file.get(), &good, sizeof good, 0), static_cast<ssize_t>(sizeof good));
  EXPECT_NE(error_of(file.get()), 0) << "a file, on whatever file system";

  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  EXPECT_EQ(error_of(reader.get()), EBADMSG) << "an empty pipe would block a reader";
  EXPECT_EQ(error_of(writer.get()), EBADMSG);

  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  EXPECT_EQ(error_of(one.get()), EBADMSG);

  for (const char* const name : {"/dev/zero", "/dev/null", "/", "/proc/self/status"}) {
    const UniqueFd fd(::open(name, O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(fd) << name;
    EXPECT_EQ(error_of(fd.get()), EBADMSG) << name;
  }
  const UniqueFd path_only(::open("/dev/zero", O_PATH | O_CLOEXEC));
  EXPECT_EQ(error_of(path_only.get()), EBADMSG);
  EXPECT_EQ(error_of(-1), EBADMSG);
}

TEST_F(Segments, InAFifoDoNotBlock) {
  char directory[] = "/tmp/segment_test.XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const UniqueFd fifo(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  ::unlink(path.c_str());
  ::rmdir(directory);
  ASSERT_TRUE(fifo);
  EXPECT_EQ(error_of(fifo.get()), EBADMSG);
}

TEST_F(Segments, StayAwayFromAFileSizeLimit) {
  // Growing beyond it raises SIGXFSZ, which ends the process.
  Child child([this] {
    ::signal(SIGXFSZ, SIG_DFL);
    const rlimit small{kHeaderSize + 2 * kCapacity - 1, RLIM_INFINITY};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    EXPECT_EQ(create_segment(kCapacity, origin()).error(), EFBIG);
    Result<NewSegment> smaller = create_segment(kCapacity / 2, origin());
    EXPECT_TRUE(smaller);
  });
  EXPECT_EQ(child.wait(), 0);
}

// A sanitizer needs both for itself.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_F(Segments, NeedAddressSpace) {
  Child child([this] {
    const UniqueFd fd = memfd(header(), header().size, kSeals);
    const rlimit none{4096, 4096};
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &none), 0);
    const int created = create_segment(kCapacity, origin()).error();
    const int mapped = error_of(fd.get());
    const rlimit again{RLIM_INFINITY, 4096};
    ::setrlimit(RLIMIT_AS, &again);
    ::_exit(created == ENOMEM && mapped == ENOMEM ? 0 : 1);
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Segments, NeedADescriptor) {
  Child child([this] {
    const rlimit none{0, 0};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    EXPECT_EQ(create_segment(kCapacity, origin()).error(), EMFILE);
  });
  EXPECT_EQ(child.wait(), 0);
}
#endif

TEST_F(Segments, LeaveErrnoAlone) {
  errno = 77;
  EXPECT_EQ(error_of(-1), EBADMSG);
  EXPECT_EQ(create_segment(3, origin()).error(), EINVAL);
  EXPECT_EQ(errno, 77);
}

}  // namespace
}  // namespace tssx::test
