// stdio on a connection: fdopen(), dprintf(), fileno(). Inside libc, streams do not call read()
// and write() through the symbol table.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wchar.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/child.h"
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

TEST_P(Stdio, IgnoresTheEOfAMode) {
  // glibc's fdopen() knows no "e": the flag stays as it was.
  FILE* const stream = ::fdopen(mine(), "re");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(::fcntl(mine(), F_GETFD), 0);
  mine_.release();
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, TakesAModeWithLettersItDoesNotKnow) {
  FILE* const stream = ::fdopen(mine_.release(), "rxb+");
  ASSERT_NE(stream, nullptr);
  EXPECT_GE(::fputs("both", stream), 0);
  EXPECT_EQ(::fflush(stream), 0);
  EXPECT_EQ(read_once(peer(), 10), "both");
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, OpenedForAppendingAppends) {
  FILE* const stream = ::fdopen(mine(), "a");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(::fcntl(mine(), F_GETFL), O_RDWR | O_APPEND);
  mine_.release();
  EXPECT_GE(::fputs("appended", stream), 0);
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_to_end(peer()), "appended");
}

TEST_P(Stdio, RefusesWhatItsModeForbids) {
  FILE* const stream = ::fdopen(mine_.release(), "r");
  ASSERT_NE(stream, nullptr);
  errno = 0;
  EXPECT_EQ(::fputc('x', stream), EOF);
  EXPECT_EQ(errno, EBADF);
  EXPECT_NE(::ferror(stream), 0);
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, WritesWhenItsBufferIsFull) {
  // The buffer is as large as that of any FILE over a socket.
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(::fputc('x', stream), 'x');
  EXPECT_EQ(read_available(peer()), std::string(4096, 'x'));
  set_nonblocking(peer(), false);
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_to_end(peer()), std::string(5000 - 4096, 'x'));
}

TEST_P(Stdio, ReadsWithItsBuffer) {
  FILE* const stream = ::fdopen(mine(), "r");
  ASSERT_NE(stream, nullptr);
  ASSERT_EQ(write_all(peer(), std::string(5000, 'x')), 5000U);
  EXPECT_EQ(::fgetc(stream), 'x');
  EXPECT_EQ(read_once(mine(), 10000), std::string(5000 - 4096, 'x'));
  mine_.release();
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, UnbufferedWritesEachByte) {
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  ASSERT_EQ(::setvbuf(stream, nullptr, _IONBF, 0), 0);
  for (const char byte : {'a', 'b', 'c'}) {
    EXPECT_EQ(::fputc(byte, stream), byte);
    EXPECT_EQ(read_once(peer(), 10), std::string(1, byte));
  }
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, TakesABufferOfTheApplications) {
  char buffer[16];
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  ASSERT_EQ(::setvbuf(stream, buffer, _IOFBF, sizeof buffer), 0);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(::fputc('x', stream), 'x');
  EXPECT_EQ(read_available(peer()), std::string(16, 'x'));
  set_nonblocking(peer(), false);
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_to_end(peer()), "xxxx");
}

TEST_P(Stdio, TakesBackWhatWasPushedBack) {
  FILE* const stream = ::fdopen(mine_.release(), "r");
  ASSERT_NE(stream, nullptr);
  ASSERT_EQ(write_all(peer(), "bc"), 2U);
  EXPECT_EQ(::fgetc(stream), 'b');
  EXPECT_EQ(::ungetc('B', stream), 'B');
  EXPECT_EQ(::ungetc('A', stream), 'A');
  EXPECT_EQ(::fgetc(stream), 'A');
  EXPECT_EQ(::fgetc(stream), 'B');
  EXPECT_EQ(::fgetc(stream), 'c');
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, ItsEndIsSticky) {
  FILE* const stream = ::fdopen(mine_.release(), "r");
  ASSERT_NE(stream, nullptr);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  ASSERT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(::fgetc(stream), 'x');
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(::fgetc(stream), EOF);
    EXPECT_NE(::feof(stream), 0);
    EXPECT_EQ(::ferror(stream), 0);
  }
  ::clearerr(stream);
  EXPECT_EQ(::feof(stream), 0);
  EXPECT_EQ(::fgetc(stream), EOF);
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, ItsErrorIsSticky) {
  set_nonblocking(mine(), true);
  FILE* const stream = ::fdopen(mine_.release(), "r");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(::fgetc(stream), EOF);
  EXPECT_NE(::ferror(stream), 0);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::fgetc(stream), 'x');  // it does not keep from reading
  EXPECT_NE(::ferror(stream), 0);
  ::clearerr(stream);
  EXPECT_EQ(::ferror(stream), 0);
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, IsInterruptedByASignal) {
  const ScopedHandler handler(SIGALRM, count_signal);
  FILE* const stream = ::fdopen(mine_.release(), "r");
  ASSERT_NE(stream, nullptr);
  {
    const PeriodicAlarm alarm(20);
    errno = 0;
    EXPECT_EQ(::fgetc(stream), EOF);
    EXPECT_EQ(errno, EINTR);
    EXPECT_NE(::ferror(stream), 0);
  }
  ::clearerr(stream);
  ASSERT_EQ(write_all(peer(), "x"), 1U);
  EXPECT_EQ(::fgetc(stream), 'x');
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, WouldBlockWhereThePeerReadsNothing) {
  set_nonblocking(mine(), true);
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  const std::string bytes = pattern(0, 4U << 20U);
  errno = 0;
  const std::size_t taken = ::fwrite(bytes.data(), 1, bytes.size(), stream);
  EXPECT_LT(taken, bytes.size());
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_NE(::ferror(stream), 0);
  const std::string got = read_available(peer());
  EXPECT_GE(got.size(), 100000U);
  EXPECT_TRUE(matches_pattern(got, 0));
  set_nonblocking(::fileno(stream), false);
  ::__fpurge(stream);
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, HasNoPosition) {
  FILE* const stream = ::fdopen(mine_.release(), "r+");
  ASSERT_NE(stream, nullptr);
  errno = 0;
  EXPECT_EQ(::ftell(stream), -1);
  EXPECT_EQ(errno, ESPIPE);
  fpos_t position;
  errno = 0;
  EXPECT_EQ(::fgetpos(stream, &position), -1);
  EXPECT_EQ(errno, ESPIPE);
  EXPECT_EQ(::fseeko(stream, 1, SEEK_END), -1);
  ::rewind(stream);
  EXPECT_EQ(::ferror(stream), 0);
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, TakesWideCharacters) {
  if (mine() < -1) GTEST_SKIP() << "libc's own FILE can't have a negative ID for a number";
  FILE* const stream = ::fdopen(mine(), "r+");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(::fwide(stream, 0), 0);
  EXPECT_GT(::fwprintf(stream, L"%ls %d\n", L"wide", 42), 0);
  EXPECT_GT(::fwide(stream, 0), 0);
  EXPECT_EQ(::fflush(stream), 0);
  EXPECT_EQ(read_exactly(peer(), 8), "wide 42\n");
  ASSERT_EQ(write_all(peer(), "a line\n17 more"), 14U);
  ASSERT_EQ(::shutdown(peer(), SHUT_WR), 0);
  wchar_t line[32];
  ASSERT_NE(::fgetws(line, 32, stream), nullptr);
  EXPECT_STREQ(line, L"a line\n");
  int number = 0;
  EXPECT_EQ(::fwscanf(stream, L"%d", &number), 1);
  EXPECT_EQ(number, 17);
  EXPECT_EQ(::fgetwc(stream), L' ');
  EXPECT_EQ(::ungetwc(L'_', stream), L'_');
  EXPECT_EQ(::getwc(stream), L'_');
  EXPECT_EQ(::fgetc(stream), EOF);  // bytes are refused now
  EXPECT_EQ(::fileno(stream), mine());
  mine_.release();
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_once(peer(), 1), "");
}

TEST_P(Stdio, TakesNoWideCharactersAfterBytes) {
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(::fputc('x', stream), 'x');
  EXPECT_LT(::fwide(stream, 1), 0);
  EXPECT_EQ(::fputwc(L'y', stream), WEOF);
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_to_end(peer()), "x");
}

TEST_P(Stdio, MayBeDecidedToBeOfBytes) {
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  EXPECT_LT(::fwide(stream, -1), 0);
  EXPECT_EQ(::fputwc(L'y', stream), WEOF);
  EXPECT_GE(::fputs("bytes", stream), 0);
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_to_end(peer()), "bytes");
}

TEST_P(Stdio, ReopenedIsAnotherFile) {
  const TemporaryDirectory directory;
  const std::string name = directory.path("file");
  const int number = mine();
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  EXPECT_GE(::fputs("to the peer", stream), 0);
  ASSERT_EQ(::freopen(name.c_str(), "w+", stream), stream);
  EXPECT_EQ(read_to_end(peer()), "to the peer");
  if (number >= 0) {
    EXPECT_EQ(::fileno(stream), number);
  }
  EXPECT_GE(::fputs("to the file", stream), 0);
  EXPECT_EQ(::fflush(stream), 0);
  char text[32] = {};
  EXPECT_EQ(::pread(::fileno(stream), text, sizeof text, 0), 11);
  EXPECT_STREQ(text, "to the file");
  // The number is the file's now, for every call.
  EXPECT_EQ(::lseek(::fileno(stream), 3, SEEK_SET), 3);
  EXPECT_EQ(read_once(::fileno(stream), 3), "the");
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, ReopenedTakesWideCharacters) {
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(::fputc('x', stream), 'x');
  ASSERT_EQ(::freopen("/dev/null", "w", stream), stream);
  EXPECT_EQ(::fputwc(L'y', stream), static_cast<wint_t>(L'y'));
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, ReopenedInVainIsClosed) {
  FILE* const stream = ::fdopen(mine_.release(), "w");
  ASSERT_NE(stream, nullptr);
  EXPECT_GE(::fputs("last", stream), 0);
  errno = 0;
  EXPECT_EQ(::freopen("/nonexistent/file", "w", stream), nullptr);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(read_to_end(peer()), "last");
}

// A program whose standard streams become a connection, as inetd would start it.
class StandardStreams : public ConnectionTest {
 protected:
  // Puts the connection on 0 and 1 in a child, by `put`, and runs `body` there.
  Child with_streams(const std::function<void(int fd)>& put, const std::function<void()>& body) {
    std::fflush(nullptr);
    return Child([&] {
      const int connection = mine_.release();
      peer_.reset();
      put(connection);
      body();
      std::fflush(nullptr);
      ::close(0);
      ::close(1);
    });
  }
  static void by_dup2(int fd) {
    ::dup2(fd, 0);
    ::dup2(fd, 1);
    ::close(fd);
  }
  static void by_close_and_dup(int fd) {
    ::close(0);
    EXPECT_EQ(::dup(fd), 0);
    ::close(1);
    EXPECT_EQ(::fcntl(fd, F_DUPFD, 1), 1);
    ::close(fd);
  }
  static void by_dup3(int fd) {
    ::dup3(fd, 0, O_CLOEXEC);
    ::dup3(fd, 1, 0);
    ::close(fd);
  }
  static void converse() {
    char* line = nullptr;
    std::size_t room = 0;
    while (::getline(&line, &room, stdin) > 0) {
      std::printf("got %s", line);
      std::fflush(stdout);
    }
    std::free(line);
    EXPECT_NE(::feof(stdin), 0);
    ::clearerr(stdin);
  }
};
INSTANTIATE_TEST_SUITE_P(, StandardStreams, every_situation(), situation_name);

TEST_P(StandardStreams, ConverseOverAConnection) {
  for (const auto put : {by_dup2, by_close_and_dup, by_dup3}) {
    Connection connection = make_connection();
    if (GetParam().warm) warm_up(connection.client.get(), connection.server.get());
    mine_ = std::move(GetParam().server ? connection.server : connection.client);
    peer_ = std::move(GetParam().server ? connection.client : connection.server);
    ASSERT_EQ(write_all(peer(), "early\n"), 6U);
    // What the child closes of its copies must not look like the end: the parent keeps its own
    // end until the conversation is over.
    const int kept = ::dup(peer());
    Child child = with_streams(put, converse);
    mine_.reset();
    EXPECT_EQ(read_exactly(kept, 10), "got early\n");
    for (int i = 0; i < 50; ++i) {
      ASSERT_EQ(write_all(kept, "line\n"), 5U);
      ASSERT_EQ(read_exactly(kept, 9), "got line\n");
    }
    EXPECT_EQ(::shutdown(kept, SHUT_WR), 0);
    EXPECT_EQ(read_once(kept, 10), "");
    EXPECT_EQ(child.wait(), 0);
    peer_.reset();
    ::close(kept);
  }
}

TEST_P(StandardStreams, ScanAndPrint) {
  Child child = with_streams(by_dup2, [] {
    int a = 0;
    int b = 0;
    EXPECT_EQ(std::scanf("%d %d", &a, &b), 2);
    std::printf("%d\n", a + b);
    std::puts("and a line");
    std::fflush(stdout);
    EXPECT_EQ(std::getchar(), '\n');
    EXPECT_EQ(std::getchar(), EOF);
    ::clearerr(stdin);
    ::dprintf(1, "%s", "by number");
  });
  mine_.reset();
  ASSERT_EQ(write_all(peer(), "17 25\n"), 6U);
  EXPECT_EQ(read_exactly(peer(), 14), "42\nand a line\n");
  EXPECT_EQ(::shutdown(peer(), SHUT_WR), 0);
  EXPECT_EQ(read_to_end(peer()), "by number");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(StandardStreams, ReopenedLeaveTheConnection) {
  Child child = with_streams(by_dup2, [] {
    EXPECT_NE(std::freopen("/dev/zero", "r", stdin), nullptr);
    char bytes[4] = {1, 1, 1, 1};
    EXPECT_EQ(std::fread(bytes, 1, 4, stdin), 4U);
    EXPECT_EQ(bytes[3], 0);
    EXPECT_EQ(::read(0, bytes, 4), 4);
    std::puts("still out");
    std::fflush(stdout);
    EXPECT_NE(std::freopen("/dev/null", "w", stdout), nullptr);
    std::puts("nowhere");
    ::sleep(0);
  });
  mine_.reset();
  EXPECT_EQ(read_to_end(peer()), "still out\n");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(StandardStreams, ClosedFreeTheirNumbers) {
  Child child = with_streams(by_dup2, [] {
    EXPECT_EQ(std::fclose(stdin), 0);
    EXPECT_EQ(::open("/dev/zero", O_RDONLY), 0);
    char bytes[4] = {1, 1, 1, 1};
    EXPECT_EQ(::read(0, bytes, 4), 4);
    EXPECT_EQ(bytes[3], 0);
    EXPECT_EQ(std::fclose(stdout), 0);
    int ends[2];
    ::close(0);
    EXPECT_EQ(::pipe(ends), 0);
    EXPECT_EQ(ends[1], 1);
    EXPECT_EQ(::write(1, "pipe", 4), 4);
    EXPECT_EQ(::read(0, bytes, 4), 4);
  });
  mine_.reset();
  EXPECT_EQ(read_to_end(peer()), "");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(StandardStreams, AreWhereAnAcceptedConnectionMayLand) {
  // 0 and 1 are closed when the connection is made: socket() and accept() return them.
  Listener listener;
  std::fflush(nullptr);
  Child child([&] {
    mine_.reset();
    peer_.reset();
    ::close(0);
    if (GetParam().server) {
      const UniqueFd accepted = listener.accept();
      if (accepted.get() >= 0) {
        EXPECT_EQ(accepted.get(), 0);
      } else {
        EXPECT_EQ(::dup(accepted.get()), 0);
      }
      ::dup2(0, 1);
      converse();
    } else {
      const UniqueFd connected = listener.connect();
      EXPECT_EQ(connected.get(), 0);
      ::dup2(0, 1);
      converse();
    }
    ::close(1);
  });
  UniqueFd other = GetParam().server ? listener.connect() : listener.accept();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write_all(other.get(), "line\n"), 5U);
    ASSERT_EQ(read_exactly(other.get(), 9), "got line\n");
  }
  EXPECT_EQ(::shutdown(other.get(), SHUT_WR), 0);
  EXPECT_EQ(read_once(other.get(), 10), "");
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Stdio, OfAnyFileMayGetAConnection) {
  // A FILE that exists already, whose number the application asks for.
  FILE* const stream = ::fopen("/dev/null", "w");
  ASSERT_NE(stream, nullptr);
  ASSERT_NE(::dup2(mine(), ::fileno(stream)), -1);
  mine_.reset();
  for (int i = 0; i < 50; ++i) {
    EXPECT_GT(::fputs("line\n", stream), 0);
    EXPECT_EQ(::fflush(stream), 0);
    ASSERT_EQ(read_exactly(peer(), 5), "line\n");
    // The other way moves as well, so the connection would be in the ring by now.
    ASSERT_EQ(write_all(peer(), "x"), 1U);
    ASSERT_EQ(read_once(::fileno(stream), 10), "x");
  }
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(Stdio, OpenedBeforeTheConnectionServesIt) {
  const Listener listener;
  UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  FILE* const out = ::fdopen(client.get(), "w");
  FILE* const in = ::fdopen(::dup(client.get()), "r");
  ASSERT_NE(out, nullptr);
  ASSERT_NE(in, nullptr);
  const Address address(listener.path());
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  const UniqueFd server = listener.accept();
  for (int i = 0; i < 50; ++i) {
    EXPECT_GT(::fputs("line\n", out), 0);
    EXPECT_EQ(::fflush(out), 0);
    ASSERT_EQ(read_exactly(server.get(), 5), "line\n");
    ASSERT_EQ(write_all(server.get(), "back\n"), 5U);
    char line[16];
    ASSERT_NE(::fgets(line, sizeof line, in), nullptr);
    ASSERT_STREQ(line, "back\n");
  }
  client.release();
  EXPECT_EQ(::fclose(out), 0);
  EXPECT_EQ(::fclose(in), 0);
  EXPECT_EQ(read_once(server.get(), 10), "");
}

TEST_P(Stdio, OpenedAfterAFailedConnectServesTheNext) {
  UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  const Address nowhere(path_ + ".nowhere");
  ASSERT_EQ(::connect(client.get(), nowhere.get(), nowhere.length), -1);
  FILE* const stream = ::fdopen(client.get(), "r+");
  ASSERT_NE(stream, nullptr);
  const Listener listener;
  const Address address(listener.path());
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  const UniqueFd server = listener.accept();
  for (int i = 0; i < 50; ++i) {
    ASSERT_GT(::fputs("line\n", stream), 0);
    ASSERT_EQ(::fflush(stream), 0);
    ASSERT_EQ(read_exactly(server.get(), 5), "line\n");
    ASSERT_EQ(write_all(server.get(), "x"), 1U);
    ASSERT_EQ(read_once(client.get(), 10), "x");
  }
  client.release();
  EXPECT_EQ(::fclose(stream), 0);
}

TEST_P(Stdio, IsFlushedAtExit) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  ASSERT_NE(pid, -1);
  if (pid == 0) {
    guard_child();
    peer_.reset();
    FILE* const stream = ::fdopen(mine_.release(), "w");
    std::fprintf(stream, "not flushed by the program");
    std::exit(stream == nullptr ? 1 : 0);
  }
  mine_.reset();
  EXPECT_EQ(read_to_end(peer()), "not flushed by the program");
  EXPECT_EQ(wait_for_exit(pid), 0);
}

TEST_P(Stdio, OfALibcFileThatClosesAConnectionsNumberFreesIt) {
  FILE* const stream = ::fopen("/dev/null", "r");
  ASSERT_NE(stream, nullptr);
  const int number = ::dup2(mine(), ::fileno(stream));
  ASSERT_NE(number, -1);
  mine_.reset();
  EXPECT_EQ(::fclose(stream), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
  UniqueFd file(::open("/dev/zero", O_RDONLY));
  ASSERT_NE(::dup2(file.get(), number), -1);
  EXPECT_EQ(read_once(number, 3), std::string(3, '\0'));
  if (number != file.get()) ::close(number);
}

}  // namespace
}  // namespace tssx_test
