// stdio on a connection: fdopen(), dprintf(), fileno(). Inside libc, streams do not call read()
// and write() through the symbol table.
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <string>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

class Stdio : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Stdio, every_situation(), situation_name);

TEST_P(Stdio, WritesWhatIsFlushed) {
  FILE* const stream = ::fdopen(mine(), "w");
  ASSERT_NE(stream, nullptr);
  mine_.release();
  EXPECT_GT(::fprintf(stream, "number %d\n", 42), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  EXPECT_EQ(::fflush(stream), 0);
  EXPECT_EQ(read_once(peer(), 100), "number 42\n");
  EXPECT_GT(::fputs("last", stream), 0);
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_to_end(peer()), "last");
}

TEST_P(Stdio, ReadsLines) {
  FILE* const stream = ::fdopen(mine(), "r");
  ASSERT_NE(stream, nullptr);
  mine_.release();
  ASSERT_EQ(write_all(peer(), "first\nsecond\nno newline"), 23U);
  peer_.reset();
  char line[100];
  EXPECT_NE(::fgets(line, sizeof line, stream), nullptr);
  EXPECT_STREQ(line, "first\n");
  EXPECT_NE(::fgets(line, sizeof line, stream), nullptr);
  EXPECT_STREQ(line, "second\n");
  EXPECT_NE(::fgets(line, sizeof line, stream), nullptr);
  EXPECT_STREQ(line, "no newline");
  EXPECT_EQ(::fgets(line, sizeof line, stream), nullptr);
  EXPECT_NE(::feof(stream), 0);
  EXPECT_EQ(::ferror(stream), 0);
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, WaitsForALine) {
  FILE* const stream = ::fdopen(mine(), "r");
  ASSERT_NE(stream, nullptr);
  mine_.release();
  std::thread writer([this] {
    EXPECT_EQ(write_all(peer(), "in two "), 7U);
    sleep_a_moment();
    EXPECT_EQ(write_all(peer(), "pieces\n"), 7U);
  });
  char* line = nullptr;
  std::size_t room = 0;
  EXPECT_EQ(::getline(&line, &room, stream), 14);
  EXPECT_STREQ(line, "in two pieces\n");
  std::free(line);
  writer.join();
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, KnowsItsDescriptor) {
  const int number = mine();
  FILE* const stream = ::fdopen(mine_.release(), "r+");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(::fileno(stream), number);
  EXPECT_EQ(::fileno_unlocked(stream), number);
  EXPECT_EQ(::fclose(stream), 0);
  char byte = 0;
  errno = 0;
  EXPECT_EQ(::read(number, &byte, 1), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(read_once(peer(), 1), "");
}

TEST_P(Stdio, TalksBothWaysOverTwoStreams) {
  // The usual shape: one stream per direction, over a duplicate.
  FILE* const in = ::fdopen(::dup(mine()), "r");
  FILE* const out = ::fdopen(mine_.release(), "w");
  ASSERT_NE(in, nullptr);
  ASSERT_NE(out, nullptr);
  ::setvbuf(out, nullptr, _IOLBF, BUFSIZ);
  std::thread echo([this] {
    for (int i = 0; i < 100; ++i) {
      std::string line;
      while (!line.ends_with('\n')) line += read_once(peer(), 1);
      EXPECT_EQ(write_all(peer(), line), line.size());
    }
  });
  for (int i = 0; i < 100; ++i) {
    EXPECT_GT(::fprintf(out, "line %d\n", i), 0);
    char line[100];
    EXPECT_NE(::fgets(line, sizeof line, in), nullptr);
    EXPECT_EQ(line, "line " + std::to_string(i) + "\n");
  }
  echo.join();
  EXPECT_EQ(::fclose(out), 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  EXPECT_EQ(::fclose(in), 0);
  EXPECT_EQ(read_once(peer(), 1), "");
}

TEST_P(Stdio, TalksBothWaysOverOneStream) {
  FILE* const stream = ::fdopen(mine_.release(), "r+");
  ASSERT_NE(stream, nullptr);
  for (int i = 0; i < 20; ++i) {
    EXPECT_GT(::fputs("request\n", stream), 0);
    EXPECT_EQ(::fflush(stream), 0);
    EXPECT_EQ(read_exactly(peer(), 8), "request\n");
    EXPECT_EQ(write_all(peer(), "reply\n"), 6U);
    char line[100];
    EXPECT_NE(::fgets(line, sizeof line, stream), nullptr);
    EXPECT_STREQ(line, "reply\n");
    ::clearerr(stream);
  }
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, MovesBigBlocks) {
  static constexpr std::size_t kSize = 1U << 20U;
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  std::thread writer([&] {
    const std::string bytes = pattern(0, kSize);
    EXPECT_EQ(::fwrite(bytes.data(), 1, kSize, stream), kSize);
    EXPECT_EQ(::fclose(stream), 0);
  });
  const std::string got = read_to_end(peer());
  writer.join();
  EXPECT_EQ(got.size(), kSize);
  EXPECT_TRUE(matches_pattern(got, 0));
}

TEST_P(Stdio, MixesWithPlainCallsAfterAFlush) {
  const int number = mine();
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(write_all(number, "one "), 4U);
  EXPECT_GT(::fputs("two ", stream), 0);
  EXPECT_EQ(::fflush(stream), 0);
  EXPECT_EQ(write_all(number, "three"), 5U);
  EXPECT_EQ(read_exactly(peer(), 13), "one two three");
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, TellsAWriteErrorWhenThePeerIsGone) {
  const ScopedHandler handler(SIGPIPE, SIG_IGN);
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  peer_.reset();
  EXPECT_GT(::fputs("lost", stream), 0);
  errno = 0;
  EXPECT_EQ(::fflush(stream), EOF);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_NE(::ferror(stream), 0);
  ::fclose(stream);
}

TEST_P(Stdio, TellsThatItWouldBlock) {
  set_nonblocking(mine(), true);
  FILE* const stream = ::fdopen(mine_.release(), "r");
  ASSERT_NE(stream, nullptr);
  errno = 0;
  EXPECT_EQ(::fgetc(stream), EOF);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_NE(::ferror(stream), 0);
  ::clearerr(stream);
  EXPECT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::fgetc(stream), 'x');
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, CannotSeek) {
  FILE* const stream = ::fdopen(mine_.release(), "r+");
  ASSERT_NE(stream, nullptr);
  errno = 0;
  EXPECT_EQ(::fseek(stream, 0, SEEK_SET), -1);
  EXPECT_EQ(errno, ESPIPE);
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, OfABadModeIsRefused) {
  errno = 0;
  EXPECT_EQ(::fdopen(mine(), "x"), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(write_all(mine(), "x"), 1U);
  EXPECT_EQ(read_once(peer(), 1), "x");
}

__attribute__((format(printf, 2, 3))) int print_by_list(int fd, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = ::vdprintf(fd, format, arguments);
  va_end(arguments);
  return result;
}

TEST_P(Stdio, DprintfWritesAtOnce) {
  EXPECT_EQ(::dprintf(mine(), "number %d and %s\n", 42, "text"), 19);
  EXPECT_EQ(read_once(peer(), 100), "number 42 and text\n");
  EXPECT_EQ(print_by_list(mine(), "%05d", 42), 5);
  EXPECT_EQ(read_once(peer(), 100), "00042");
  EXPECT_EQ(::write(mine(), "next", 4), 4);
  EXPECT_EQ(read_once(peer(), 100), "next");
}

TEST_P(Stdio, DprintfWritesMuch) {
  const std::string text(50000, 'x');
  EXPECT_EQ(::dprintf(mine(), "<%s>", text.c_str()), 50002);
  EXPECT_EQ(read_exactly(peer(), 50002), "<" + text + ">");
}

}  // namespace
}  // namespace tssx_test
