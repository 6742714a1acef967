// Two processes of one side share a connection over fork(): when the first is killed with requests
// outstanding, the second finishes them.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <string>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

constexpr std::size_t kRecord = 64;
constexpr std::size_t kOutstanding = 15;
constexpr std::size_t kServedBefore = 7;

// A request says which it is in its first byte; its answer is the request, turned round.
std::string request(std::size_t number) {
  return static_cast<char>(number) + pattern(number * kRecord, kRecord - 1);
}
std::string answer_to(const std::string& one) { return {one.rbegin(), one.rend()}; }

// False at the end of the connection.
bool serve_one(int fd) {
  const std::string one = read_exactly(fd, kRecord);
  if (one.empty()) return false;
  EXPECT_EQ(one, request(static_cast<unsigned char>(one[0])));
  EXPECT_EQ(write_all(fd, answer_to(one)), kRecord);
  return !testing::Test::HasFailure();
}

struct TwoPipes {
  TwoPipes() { EXPECT_EQ(::pipe(ends), 0); }
  ~TwoPipes() {
    for (const int end : ends) ::close(end);
  }
  int ends[2];
};

class Takeover : public testing::TestWithParam<Situation> {
 protected:
  // The other end of connection() is held by two processes. The first serves some requests and then
  // waits, with what `leaves` says; the second waits for the first one's end, and serves the rest.
  void share(void (*leaves)(int fd)) {
    Listener listener;
    primary_ = Child([&] {
      UniqueFd fd = GetParam().server ? listener.connect() : listener.accept();
      listener.close();
      if (GetParam().warm) warm_up_as_follower(fd.get());
      // Ends with the process, however that ends.
      int alive[2];
      ASSERT_EQ(::pipe(alive), 0);
      // No Child: that would end with its parent.
      if (::fork() == 0) {
        guard_child();
        ::close(alive[1]);
        read_to_end(alive[0]);
        while (serve_one(fd.get())) {
        }
        const char verdict = testing::Test::HasFailure() ? 'x' : '.';
        ::_exit(::write(done_.ends[1], &verdict, 1) == 1 ? 0 : 1);
      }
      ::close(alive[0]);
      for (std::size_t i = 0; i < kServedBefore; ++i) ASSERT_TRUE(serve_one(fd.get()));
      leaves(fd.get());
    });
    mine_ = GetParam().server ? listener.accept() : listener.connect();
    listener.close();
    if (GetParam().warm) {
      warm_up_as_leader(mine_.get());
      EXPECT_EQ(accelerated_segments() > 0, preloaded());
    }
  }

  void ask(std::size_t first, std::size_t count) {
    for (std::size_t i = first; i < first + count; ++i) {
      ASSERT_EQ(write_all(mine_.get(), request(i)), kRecord);
    }
  }
  void expect_answers(std::size_t first, std::size_t count) {
    for (std::size_t i = first; i < first + count; ++i) {
      ASSERT_EQ(read_exactly(mine_.get(), kRecord), answer_to(request(i))) << "request " << i;
    }
  }
  // The second process has found nothing wrong, and is about to end.
  void expect_well_done() {
    mine_.reset();
    char verdict = 0;
    EXPECT_EQ(::read(done_.ends[0], &verdict, 1), 1);
    EXPECT_EQ(verdict, '.');
  }

  TwoPipes done_;
  Child primary_;
  UniqueFd mine_;
};
INSTANTIATE_TEST_SUITE_P(, Takeover, every_situation(), situation_name);

TEST_P(Takeover, SecondaryFinishesWhatThePrimaryHadNotRead) {
  share([](int fd) {
    // All requests are there before it is killed, and it has read none of them.
    int unread = 0;
    while (unread != static_cast<int>(kOutstanding * kRecord)) {
      ASSERT_EQ(::ioctl(fd, FIONREAD, &unread), 0);
      ::usleep(200);
    }
    ::raise(SIGKILL);
  });
  ask(0, kServedBefore);
  expect_answers(0, kServedBefore);
  ask(kServedBefore, kOutstanding);
  EXPECT_EQ(primary_.wait(), 128 + SIGKILL);
  expect_answers(kServedBefore, kOutstanding);
  // And the connection goes on.
  ask(40, 60);
  expect_answers(40, 60);
  expect_well_done();
}

TEST_P(Takeover, PeerThatSleepsIsWokenByTheSecondary) {
  share([](int /*fd*/) { ::pause(); });
  ask(0, kServedBefore);
  expect_answers(0, kServedBefore);
  ask(kServedBefore, kOutstanding);
  Child killer([pid = primary_.pid()] {
    sleep_a_moment();  // the peer is asleep by then
    ::kill(pid, SIGKILL);
  });
  expect_answers(kServedBefore, kOutstanding);
  EXPECT_EQ(killer.wait(), 0);
  EXPECT_EQ(primary_.wait(), 128 + SIGKILL);
  expect_well_done();
}

}  // namespace
}  // namespace tssx_test
