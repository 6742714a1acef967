// Pages of other processes, many with one call.
#include "tools/tssx-stat/segment_reader.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace tssx::stat_tool {
namespace {

constexpr std::size_t kPages = 1000;

// Own pages, each of which is full of its number.
class Pages : public ::testing::Test {
 protected:
  void SetUp() override {
    void* memory = ::mmap(nullptr, kPages * sizeof(Page), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    memory_ = static_cast<Page*>(memory);
    for (std::size_t i = 0; i < kPages; ++i) {
      memory_[i].fill(number(i));
      mappings_.push_back({::getpid(), reinterpret_cast<std::uintptr_t>(&memory_[i])});
    }
  }
  void TearDown() override { ::munmap(memory_, kPages * sizeof(Page)); }

  static std::uint8_t number(std::size_t i) { return static_cast<std::uint8_t>(i * 7 + i / 256); }

  // Reads all; each must come once, in its order, and with what is its own. Those that failed.
  std::vector<std::size_t> failed() {
    std::vector<std::size_t> result;
    std::size_t next = 0;
    read_pages(mappings_, [&](std::size_t i, const Page* page) {
      EXPECT_EQ(i, next++);
      if (page == nullptr) {
        result.push_back(i);
        return;
      }
      EXPECT_TRUE(std::all_of(page->begin(), page->end(), [i](std::uint8_t byte) {
        return byte == number(i);
      })) << i;
    });
    EXPECT_EQ(next, mappings_.size());
    return result;
  }

  Page* memory_ = nullptr;
  std::vector<Mapper> mappings_;
};

TEST_F(Pages, AreAllRead) {
  EXPECT_TRUE(failed().empty());
  mappings_.clear();
  EXPECT_TRUE(failed().empty());
}

TEST_F(Pages, ThatCannotBeReadKeepNoneOfTheOthersFromBeingRead) {
  const std::vector<std::size_t> gone{0, 1, 127, 128, 129, 500, kPages - 1};
  // Not unmapped: something else could be mapped there before they are read.
  for (const std::size_t i : gone) ASSERT_EQ(::mprotect(&memory_[i], sizeof(Page), PROT_NONE), 0);
  EXPECT_EQ(failed(), gone);
}

TEST_F(Pages, OfAProcessThatIsGoneFailAlone) {
  for (std::size_t i = 100; i < 300; ++i) mappings_[i].pid = 2147483647;
  const std::vector<std::size_t> result = failed();
  ASSERT_EQ(result.size(), 200U);
  EXPECT_EQ(result.front(), 100U);
  EXPECT_EQ(result.back(), 299U);
}

}  // namespace
}  // namespace tssx::stat_tool
