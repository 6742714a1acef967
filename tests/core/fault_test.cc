#include "core/fault.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "core/ring.h"
#include "tests/core/support/stream.h"

namespace tssx::test {
namespace {

constexpr std::size_t kPage = 4096;

// Two pages, of which the second can be made to fault; and the handler that the shim would bring.
class Faults : public testing::Test {
 protected:
  void SetUp() override {
    memory_ = static_cast<char*>(
        ::mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory_, MAP_FAILED);
    forbid(PROT_NONE);
    struct sigaction action {};
    action.sa_sigaction = [](int number, siginfo_t* info, void* context) {
      if (!recover_from_fault(*info, context)) ::signal(number, SIG_DFL);
    };
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, &before_);
    set_faults_caught(true);
  }
  void TearDown() override {
    set_faults_caught(false);
    ::sigaction(SIGSEGV, &before_, nullptr);
    ::munmap(memory_, 3 * kPage);
  }
  void forbid(int protection) { ::mprotect(edge(), 2 * kPage, protection); }
  [[nodiscard]] char* edge() const { return memory_ + kPage; }

 private:
  char* memory_ = nullptr;
  struct sigaction before_ {};
};

TEST_F(Faults, CopiesOfEverySizeAndAlignmentAreRight) {
  const std::string in = stream_bytes(0, 3000);
  std::string out(3100, '\0');
  for (std::size_t size = 0; size <= 3000; size += size < 300 ? 1 : 37) {
    for (const std::size_t offset : {0U, 1U, 7U, 15U, 16U, 33U}) {
      std::fill(out.begin(), out.end(), '-');
      ASSERT_TRUE(copy_from_application(out.data() + offset, in.data(), size));
      ASSERT_EQ(out.substr(offset, size), in.substr(0, size)) << size << " at " << offset;
      ASSERT_EQ(out.find_first_not_of('-', offset + size), std::string::npos) << size;
      ASSERT_EQ(out.substr(0, offset), std::string(offset, '-')) << size;
      std::fill(out.begin(), out.end(), '-');
      ASSERT_TRUE(
          copy_to_application(out.data(), in.data() + offset, size - std::min(size, offset)));
      ASSERT_EQ(out.substr(0, size - std::min(size, offset)),
                in.substr(offset, size - std::min(size, offset)));
    }
  }
}

TEST_F(Faults, CopiesUpToTheEdgeSucceedAndBeyondItFail) {
  char buffer[3 * kPage] = {};
  for (std::size_t before = 1; before <= kPage; before += before < 200 ? 1 : 61) {
    ASSERT_TRUE(copy_from_application(buffer, edge() - before, before)) << before;
    ASSERT_TRUE(copy_to_application(edge() - before, buffer, before)) << before;
    for (const std::size_t beyond : {1U, 15U, 64U, 5000U}) {
      ASSERT_FALSE(copy_from_application(buffer, edge() - before, before + beyond)) << before;
      ASSERT_FALSE(copy_to_application(edge() - before, buffer, before + beyond)) << before;
    }
  }
  for (std::size_t size = 1; size < 300; ++size) {
    ASSERT_FALSE(copy_from_application(buffer, edge(), size)) << size;
    ASSERT_FALSE(copy_to_application(edge(), buffer, size)) << size;
  }
}

TEST_F(Faults, ReadOnlyMemoryCanBeReadFromButNotWrittenTo) {
  forbid(PROT_READ);
  char buffer[100] = {};
  EXPECT_TRUE(copy_from_application(buffer, edge() - 50, 100));
  EXPECT_FALSE(copy_to_application(edge() - 50, buffer, 100));
  EXPECT_TRUE(is_readable(edge(), 2 * kPage));
  EXPECT_FALSE(is_writable(edge(), 1));
  EXPECT_FALSE(is_writable(edge() - 1, 2));
}

TEST_F(Faults, ProbesLookAtEveryPage) {
  EXPECT_TRUE(is_readable(edge() - 10, 10));
  EXPECT_FALSE(is_readable(edge() - 10, 11));
  EXPECT_FALSE(is_readable(edge() - kPage, 2 * kPage));
  EXPECT_EQ(readable_size(edge() - 10, 5000), 10U);
  EXPECT_EQ(readable_size(edge(), 5000), 0U);
  EXPECT_TRUE(is_writable(edge() - 10, 10));
  EXPECT_FALSE(is_writable(edge() - 10, 11));
  EXPECT_TRUE(is_readable(nullptr, 0));
  EXPECT_FALSE(is_readable(nullptr, 1));
  edge()[-1] = 'k';
  EXPECT_TRUE(is_writable(edge() - 1, 1));
  EXPECT_EQ(edge()[-1], 'k');
}

TEST_F(Faults, FaultOfTheOtherSideIsNotForgiven) {
  // The ring's side: whatever is wrong there is our own mistake, and must show.
  EXPECT_EXIT(
      {
        char buffer[100] = {};
        [[maybe_unused]] const bool copied = copy_from_application(edge(), buffer, 100);
      },
      [](int status) { return WIFSIGNALED(status) || WEXITSTATUS(status) != 0; }, "");
}

TEST_F(Faults, GatheringAndScatteringStopAtABadPart) {
  constexpr std::uint64_t kCapacity = 64;
  std::uint8_t ring[kCapacity] = {};
  char good[] = "0123456789";
  const iovec parts[] = {{good, 10}, {edge() - 5, 10}};
  PartCursor from(parts, 2, 0);
  EXPECT_EQ(from.total(100), 20U);
  EXPECT_EQ(from.total(13), 13U);
  EXPECT_TRUE(gather_into_ring(ring, kCapacity, 60, from, 15));
  EXPECT_FALSE(gather_into_ring(ring, kCapacity, 75, from, 5));
  PartCursor to(parts, 2, 0);
  EXPECT_TRUE(scatter_from_ring(ring, kCapacity, 60, to, 15));
  EXPECT_STREQ(good, "0123456789");
  PartCursor again(parts, 2, 0);
  EXPECT_FALSE(scatter_from_ring(ring, kCapacity, 60, again, 16));
}

TEST_F(Faults, EarlyCopiesNeedNoHandler) {
  set_faults_caught(false);
  char buffer[16] = {};
  std::memcpy(edge() - 8, "precious", 8);
  EXPECT_TRUE(copy_early(buffer, edge() - 8, 8));
  EXPECT_STREQ(buffer, "precious");
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(SIGSEGV, &standard, nullptr);
  EXPECT_FALSE(copy_early(buffer, edge() - 8, 9));
  EXPECT_FALSE(copy_early(buffer, edge(), 1));
}

TEST(KernelAddresses, AreNotTheApplications) {
  char here = 0;
  EXPECT_FALSE(is_kernel_address(&here, 1));
  EXPECT_FALSE(is_kernel_address(nullptr, 1));
  EXPECT_TRUE(is_kernel_address(reinterpret_cast<void*>(~std::uintptr_t{0}), 1));
  EXPECT_TRUE(is_kernel_address(&here, ~std::size_t{0}));
}

}  // namespace
}  // namespace tssx::test
