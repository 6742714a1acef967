// Both ends of a connection go to programs that know nothing of shared memory, from two processes:
// nobody is left then who could send again what was written and not yet read.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"
#include "tests/support/pipe.h"
#include "tests/support/rights.h"

namespace tssx_test {
namespace {

constexpr int kConnection = 9;  // numbers that a shell can redirect
constexpr int kOutput = 8;

// Executes a shell without the library, with the connection as 9 and `output` as 8.
[[noreturn]] void become(int connection, int output, const std::string& command) {
  // Neither may be in the other's way.
  connection = ::fcntl(connection, F_DUPFD_CLOEXEC, 50);
  output = ::fcntl(output, F_DUPFD_CLOEXEC, 50);
  ::dup2(connection, kConnection);
  ::dup2(output, kOutput);
  ::unsetenv("LD_PRELOAD");
  ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
  ::_exit(127);
}

std::string read_some(std::size_t size) {
  return "exec head -c " + std::to_string(size) + " <&9 >&8";
}

// Two processes, each with one end of a connection. The one under test leaves first, and has left
// when the gate of the other opens.
class BothLeave : public testing::TestWithParam<Situation> {
 protected:
  using Body = std::function<void(int fd, int output)>;

  // What the two wrote to their outputs, which end with the last program that has them.
  struct Outputs {
    std::string first;
    std::string second;
  };

  Outputs run(const Body& first, const Body& second) {
    gate_ = Pipe();
    Listener listener;
    Pipe outputs[2];
    Child children[2];
    for (const bool is_first : {true, false}) {
      Pipe& output = outputs[is_first ? 0 : 1];
      children[is_first ? 0 : 1] = Child([&] {
        for (Pipe& each : outputs) each.read.reset();
        outputs[is_first ? 1 : 0].write.reset();
        if (!is_first) gate_.write.reset();
        const bool is_server = GetParam().server == is_first;
        const UniqueFd end = is_server ? listener.accept() : listener.connect();
        listener.close();
        if (GetParam().warm && is_server) warm_up_as_follower(end.get());
        if (GetParam().warm && !is_server) warm_up_as_leader(end.get());
        (is_first ? first : second)(end.get(), output.write.get());
        ::_exit(0);
      });
    }
    gate_.write.reset();
    for (Pipe& output : outputs) output.write.reset();
    // Short enough for a pipe, or read in this order.
    Outputs got;
    got.second = read_to_end(outputs[1].read.get());
    got.first = read_to_end(outputs[0].read.get());
    for (Child& child : children) EXPECT_EQ(child.wait(), 0);
    return got;
  }

  // Returns when the other process has executed its next program, or ended.
  void wait_until_the_first_has_left() const { EXPECT_EQ(read_once(gate_.read.get(), 1), ""); }

 private:
  Pipe gate_;
};
INSTANTIATE_TEST_SUITE_P(, BothLeave, every_situation(), situation_name);

TEST_P(BothLeave, WithAFewBytesUnreadInBothDirections) {
  Pipe written;
  const Outputs got = run(
      [&](int fd, int output) {
        write_all(fd, "to the second");
        read_exactly(written.read.get(), 1);
        become(fd, output, read_some(12));
      },
      [&](int fd, int output) {
        write_all(fd, "to the first");
        write_all(written.write.get(), "w");
        wait_until_the_first_has_left();
        become(fd, output, read_some(13));
      });
  EXPECT_EQ(got.first, "to the first");
  EXPECT_EQ(got.second, "to the second");
}

TEST_P(BothLeave, WithManyBytesUnreadInBothDirections) {
  constexpr std::size_t kSize = 150'000;
  Pipe written;
  const Outputs got = run(
      [&](int fd, int output) {
        write_all(fd, pattern(0, kSize, 1));
        read_exactly(written.read.get(), 1);
        become(fd, output, read_some(kSize));
      },
      [&](int fd, int output) {
        write_all(fd, pattern(0, kSize, 2));
        write_all(written.write.get(), "w");
        wait_until_the_first_has_left();
        write_all(output, read_exactly(fd, 10'000));
        become(fd, output, read_some(kSize - 10'000));
      });
  EXPECT_EQ(got.first.size(), kSize);
  EXPECT_TRUE(matches_pattern(got.first, 0, 2));
  EXPECT_EQ(got.second.size(), kSize);
  EXPECT_TRUE(matches_pattern(got.second, 0, 1));
}

TEST_P(BothLeave, AtTheSameTime) {
  for (int round = 0; round < 10; ++round) {
    Pipe written[2];
    const auto leave = [&](int fd, int output, int me) {
      write_all(fd, pattern(0, 40'000, static_cast<unsigned>(me)));
      write_all(written[me].write.get(), "w");
      read_exactly(written[1 - me].read.get(), 1);
      become(fd, output, read_some(40'000));
    };
    const Outputs got = run([&](int fd, int output) { leave(fd, output, 0); },
                            [&](int fd, int output) { leave(fd, output, 1); });
    EXPECT_EQ(got.first.size(), 40'000U);
    EXPECT_TRUE(matches_pattern(got.first, 0, 1));
    EXPECT_EQ(got.second.size(), 40'000U);
    EXPECT_TRUE(matches_pattern(got.second, 0, 0));
  }
}

TEST_P(BothLeave, WhileTheSecondReads) {
  for (std::size_t round = 0; round < 20; ++round) {
    const std::size_t size = 30'000 + round * 20'000;
    const std::size_t own = round * round * 500;  // what the second reads itself
    const Outputs got = run(
        [&](int fd, int output) {
          for (std::size_t sent = 0; sent < size; sent += 1'000) {
            write_all(fd, pattern(sent, 1'000));
          }
          become(fd, output, "printf tail >&9");
        },
        [&](int fd, int output) {
          for (std::size_t read = 0; read < own;) {
            const std::string piece = read_once(fd, std::min<std::size_t>(own - read, 700));
            write_all(output, piece);
            read += piece.size();
          }
          become(fd, output, "exec cat <&9 >&8");
        });
    ASSERT_GE(got.second.size(), size + 4) << round;
    EXPECT_TRUE(matches_pattern(got.second.substr(0, size), 0)) << own << " read before";
    EXPECT_EQ(got.second.substr(size), "tail");
  }
}

TEST_P(BothLeave, AfterAnEndOfWriting) {
  const Outputs got = run(
      [&](int fd, int output) {
        write_all(fd, "the last");
        EXPECT_EQ(::shutdown(fd, SHUT_WR), 0);
        become(fd, output, "exec cat <&9 >&8");
      },
      [&](int fd, int output) {
        wait_until_the_first_has_left();
        become(fd, output, "cat <&9 >&8; printf answer >&9");
      });
  EXPECT_EQ(got.first, "answer");
  EXPECT_EQ(got.second, "the last");
}

TEST_P(BothLeave, OneByAnOptionAndLivesOn) {
  Pipe option_set;
  const Outputs got = run(
      [&](int fd, int) {
        write_all(fd, "before ");
        const int on = 1;
        EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
        write_all(fd, "after");
        write_all(option_set.write.get(), "o");
        EXPECT_EQ(read_exactly(fd, 4), "done");
      },
      [&](int fd, int output) {
        read_exactly(option_set.read.get(), 1);
        become(fd, output, "head -c 12 <&9 >&8; printf done >&9");
      });
  EXPECT_EQ(got.second, "before after");
}

TEST_P(BothLeave, AsideOfAMessageWithADescriptor) {
  Pipe sent;
  const Outputs got = run(
      [&](int fd, int) {
        write_all(fd, "before ");
        EXPECT_EQ(send_with(fd, "with it ", {sent.read.get()}), 0);
        write_all(fd, "after");
        write_all(sent.write.get(), "s");
        EXPECT_EQ(read_exactly(fd, 4), "done");
      },
      [&](int fd, int output) {
        read_exactly(sent.read.get(), 1);
        become(fd, output, "head -c 20 <&9 >&8; printf done >&9");
      });
  EXPECT_EQ(got.second, "before with it after");
}

// The ends go to the test's own process, over sockets that are nobody's business.
TEST_P(BothLeave, ByPassingThemOn) {
  int carriers[2][2];
  for (auto& carrier : carriers) {
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, carrier), 0);
  }
  Pipe written;
  run(
      [&](int fd, int) {
        write_all(fd, pattern(0, 20'000, 1));
        read_exactly(written.read.get(), 1);
        EXPECT_EQ(send_with(carriers[0][1], "x", {fd}), 0);
      },
      [&](int fd, int) {
        write_all(fd, pattern(0, 30'000, 2));
        write_all(written.write.get(), "w");
        wait_until_the_first_has_left();
        EXPECT_EQ(read_exactly(fd, 5'000), pattern(0, 5'000, 1));
        EXPECT_EQ(send_with(carriers[1][1], "x", {fd}), 0);
      });
  for (auto& carrier : carriers) ::close(carrier[1]);
  const Received first = receive(carriers[0][0], 1);
  const Received second = receive(carriers[1][0], 1);
  for (auto& carrier : carriers) ::close(carrier[0]);
  ASSERT_EQ(first.descriptors.size(), 1U);
  ASSERT_EQ(second.descriptors.size(), 1U);
  const std::string to_second = read_exactly(second.descriptors[0].get(), 15'000);
  EXPECT_EQ(to_second.size(), 15'000U);
  EXPECT_TRUE(matches_pattern(to_second, 5'000, 1));
  const std::string to_first = read_exactly(first.descriptors[0].get(), 30'000);
  EXPECT_EQ(to_first.size(), 30'000U);
  EXPECT_TRUE(matches_pattern(to_first, 0, 2));
}

}  // namespace
}  // namespace tssx_test
