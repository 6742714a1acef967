// A library that was loaded with RTLD_DEEPBIND finds libc's own calls, past anything preloaded.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <string>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"

namespace tssx_test {
namespace {

class DeepBound : public ConnectionTest {
 protected:
  void SetUp() override {
    ConnectionTest::SetUp();
    library_ = ::dlopen(TSSX_DEEPBIND_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    ASSERT_NE(library_, nullptr) << ::dlerror();
    read_ = reinterpret_cast<Read*>(::dlsym(library_, "deepbind_read"));
    write_ = reinterpret_cast<Write*>(::dlsym(library_, "deepbind_write"));
    ASSERT_NE(read_, nullptr);
    ASSERT_NE(write_, nullptr);
  }
  void TearDown() override { ::dlclose(library_); }

  using Read = ssize_t(int, void*, std::size_t);
  using Write = ssize_t(int, const void*, std::size_t);
  void* library_ = nullptr;
  Read* read_ = nullptr;
  Write* write_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(, DeepBound, every_situation(), situation_name);

TEST_P(DeepBound, LibraryReadsAndWritesTheConnection) {
  if (GetParam().warm) TSSX_KNOWN_DIFFERENCE("calls the library does not see");
  char bytes[10];
  ASSERT_EQ(write_all(peer(), "there"), 5U);
  ASSERT_EQ(read_(mine(), bytes, sizeof bytes), 5);
  EXPECT_EQ(std::string(bytes, 5), "there");
  ASSERT_EQ(write_(mine(), "back", 4), 4);
  EXPECT_EQ(read_exactly(peer(), 4), "back");
}

TEST_P(DeepBound, LibraryMayUseADescriptorOfItsOwn) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  char bytes[10];
  ASSERT_EQ(write_(ends[1], "own", 3), 3);
  ASSERT_EQ(read_(ends[0], bytes, sizeof bytes), 3);
  ASSERT_EQ(write_all(mine(), "there"), 5U);
  EXPECT_EQ(read_exactly(peer(), 5), "there");
}

TEST_P(DeepBound, LibraryThatAlwaysDidAllOfItKeepsItInTheKernel) {
  const Connection fresh = make_connection();
  const int before = accelerated_segments();
  char bytes[10];
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(write_(fresh.client.get(), "ping", 4), 4);
    ASSERT_EQ(read_(fresh.server.get(), bytes, sizeof bytes), 4);
    ASSERT_EQ(write_(fresh.server.get(), "pong", 4), 4);
    ASSERT_EQ(read_(fresh.client.get(), bytes, sizeof bytes), 4);
    ASSERT_EQ(std::string(bytes, 4), "pong");
  }
  EXPECT_EQ(accelerated_segments(), before);
}

}  // namespace
}  // namespace tssx_test
