// Ancillary data: descriptors and credentials that travel with the bytes, and endpoints that
// travel themselves.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/pattern.h"
#include "tests/support/rights.h"

namespace tssx_test {
namespace {

// A pipe, one end to send away and the other to see whether it arrived.
struct Pipe {
  Pipe() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::pipe(ends), 0);
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  UniqueFd read;
  UniqueFd write;
};

bool leads_to(int write_end, const Pipe& pipe) {
  return write_all(write_end, "?") == 1 && read_exactly(pipe.read.get(), 1) == "?";
}

class Rights : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Rights, every_situation(), situation_name);

TEST_P(Rights, CarryADescriptor) {
  const Pipe pipe;
  ASSERT_EQ(send_with(peer(), "x", {pipe.write.get()}), 0);
  const Received got = receive(mine(), 10);
  EXPECT_EQ(got.bytes, "x");
  ASSERT_EQ(got.descriptors.size(), 1U);
  EXPECT_TRUE(leads_to(got.descriptors[0].get(), pipe));
  EXPECT_EQ(::fcntl(got.descriptors[0].get(), F_GETFD), 0);
  EXPECT_EQ(got.flags, 0);
}

TEST_P(Rights, CarryADescriptorAgainAndAgain) {
  const Pipe pipe;
  for (std::size_t i = 0; i < 50; ++i) {
    ASSERT_EQ(send_with(peer(), pattern(i, 100), {pipe.write.get()}), 0);
    const Received got = receive(mine(), 1000);
    ASSERT_EQ(got.bytes, pattern(i, 100));
    ASSERT_EQ(got.descriptors.size(), 1U);
    ASSERT_TRUE(leads_to(got.descriptors[0].get(), pipe));
    ASSERT_EQ(write_all(mine(), "thanks"), 6U);
    ASSERT_EQ(read_exactly(peer(), 6), "thanks");
  }
}

TEST_P(Rights, KeepTheirPlaceAmongTheBytes) {
  const Pipe pipe;
  ASSERT_EQ(write_all(peer(), "before"), 6U);
  ASSERT_EQ(send_with(peer(), "with", {pipe.write.get()}), 0);
  ASSERT_EQ(write_all(peer(), "after"), 5U);
  std::string bytes;
  std::size_t place = 0;
  std::size_t count = 0;
  while (bytes.size() < 15) {
    const Received got = receive(mine(), 100);
    if (!got.descriptors.empty()) {
      place = bytes.size() + got.bytes.size();
      count += got.descriptors.size();
    }
    bytes += got.bytes;
  }
  EXPECT_EQ(bytes, "beforewithafter");
  EXPECT_EQ(count, 1U);
  // The call that brings them may bring earlier bytes, but ends with their own.
  EXPECT_EQ(place, 10U);
}

TEST_P(Rights, StopAReadAtTheirBytes) {
  const Pipe pipe;
  ASSERT_EQ(send_with(peer(), "first", {pipe.write.get()}), 0);
  ASSERT_EQ(send_with(peer(), "second", {pipe.write.get()}), 0);
  const Received first = receive(mine(), 100);
  EXPECT_EQ(first.bytes, "first");
  EXPECT_EQ(first.descriptors.size(), 1U);
  const Received second = receive(mine(), 100);
  EXPECT_EQ(second.bytes, "second");
  EXPECT_EQ(second.descriptors.size(), 1U);
}

TEST_P(Rights, ComeWithTheFirstPartOfTheirBytes) {
  const Pipe pipe;
  ASSERT_EQ(send_with(peer(), "abcdef", {pipe.write.get()}), 0);
  const Received first = receive(mine(), 2);
  EXPECT_EQ(first.bytes, "ab");
  EXPECT_EQ(first.descriptors.size(), 1U);
  const Received rest = receive(mine(), 100);
  EXPECT_EQ(rest.bytes, "cdef");
  EXPECT_EQ(rest.descriptors.size(), 0U);
}

TEST_P(Rights, MixWithATrafficOfBytes) {
  const Pipe pipe;
  std::thread sender([&] {
    for (std::size_t i = 0; i < 100; ++i) {
      if (i % 10 == 3) {
        EXPECT_EQ(send_with(peer(), pattern(i * 1000, 1000), {pipe.write.get()}), 0);
      } else {
        EXPECT_EQ(write_all(peer(), pattern(i * 1000, 1000)), 1000U);
      }
    }
  });
  std::size_t position = 0;
  std::size_t count = 0;
  while (position < 100000) {
    const Received got = receive(mine(), 700);
    EXPECT_TRUE(matches_pattern(got.bytes, position));
    if (!got.descriptors.empty()) {
      // Within the message that carried it.
      EXPECT_EQ((position + got.bytes.size() - 1) / 1000 % 10, 3U);
    }
    position += got.bytes.size();
    count += got.descriptors.size();
  }
  sender.join();
  EXPECT_EQ(count, 10U);
}

TEST_P(Rights, CarrySeveralInOrder) {
  const Pipe pipes[3];
  ASSERT_EQ(
      send_with(peer(), "x", {pipes[0].write.get(), pipes[1].write.get(), pipes[2].write.get()}),
      0);
  const Received got = receive(mine(), 10);
  ASSERT_EQ(got.descriptors.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(leads_to(got.descriptors[i].get(), pipes[i]));
  }
}

TEST_P(Rights, AreCutToTheRoomThereIs) {
  const Pipe pipe;
  ASSERT_EQ(send_with(peer(), "x", {pipe.write.get(), pipe.write.get(), pipe.write.get()}), 0);
  const Received got = receive(mine(), 10, 0, CMSG_LEN(sizeof(int)));
  EXPECT_EQ(got.bytes, "x");
  EXPECT_EQ(got.descriptors.size(), 1U);
  EXPECT_EQ(got.flags, MSG_CTRUNC);
}

TEST_P(Rights, AreDroppedWithoutRoom) {
  Pipe pipe;
  ASSERT_EQ(send_with(peer(), "x", {pipe.write.get()}), 0);
  pipe.write.reset();
  const Received got = receive(mine(), 10, 0, 0);
  EXPECT_EQ(got.bytes, "x");
  EXPECT_EQ(got.flags, MSG_CTRUNC);
  EXPECT_EQ(read_once(pipe.read.get(), 1), "");  // nobody holds it any more
}

TEST_P(Rights, AreDroppedByAPlainRead) {
  Pipe pipe;
  ASSERT_EQ(send_with(peer(), "bytes", {pipe.write.get()}), 0);
  pipe.write.reset();
  EXPECT_EQ(read_once(mine(), 100), "bytes");
  EXPECT_EQ(read_once(pipe.read.get(), 1), "");
}

TEST_P(Rights, AreCloseOnExecIfAskedFor) {
  const Pipe pipe;
  ASSERT_EQ(send_with(peer(), "x", {pipe.write.get()}), 0);
  const Received got = receive(mine(), 10, MSG_CMSG_CLOEXEC);
  ASSERT_EQ(got.descriptors.size(), 1U);
  EXPECT_EQ(::fcntl(got.descriptors[0].get(), F_GETFD), FD_CLOEXEC);
}

TEST_P(Rights, AreClonedByAPeek) {
  const Pipe pipe;
  ASSERT_EQ(send_with(peer(), "x", {pipe.write.get()}), 0);
  const Received peeked = receive(mine(), 10, MSG_PEEK);
  ASSERT_EQ(peeked.descriptors.size(), 1U);
  EXPECT_TRUE(leads_to(peeked.descriptors[0].get(), pipe));
  const Received got = receive(mine(), 10);
  ASSERT_EQ(got.descriptors.size(), 1U);
  EXPECT_TRUE(leads_to(got.descriptors[0].get(), pipe));
}

TEST_P(Rights, WakeABlockedReader) {
  const Pipe pipe;
  std::thread sender([&] {
    sleep_a_moment();
    EXPECT_EQ(send_with(peer(), "x", {pipe.write.get()}), 0);
  });
  const Received got = receive(mine(), 10);
  EXPECT_EQ(got.descriptors.size(), 1U);
  sender.join();
}

TEST_P(Rights, WakeAnEventLoop) {
  const Pipe pipe;
  const EpollSet set;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, 1), 0);
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(send_with(peer(), "x", {pipe.write.get()}), 0);
    ASSERT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
    const Received got = receive(mine(), 10, MSG_DONTWAIT);
    ASSERT_EQ(got.descriptors.size(), 1U);
    ASSERT_EQ(receive(mine(), 10, MSG_DONTWAIT).bytes, "<EAGAIN>");
    ASSERT_EQ(write_all(peer(), "y"), 1U);
    ASSERT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
    ASSERT_EQ(receive(mine(), 10, MSG_DONTWAIT).bytes, "y");
  }
}

TEST_P(Rights, OfABadDescriptorFailAndSendNothing) {
  EXPECT_EQ(send_with(peer(), "x", {12345}), EBADF);
  EXPECT_EQ(poll_now(mine(), POLLIN), 0);
  ASSERT_EQ(write_all(peer(), "y"), 1U);
  EXPECT_EQ(read_once(mine(), 10), "y");
}

TEST_P(Rights, OfTooManyFailAndSendNothing) {
  const Pipe pipe;
  EXPECT_EQ(send_with(peer(), "x", std::vector<int>(254, pipe.write.get())), EINVAL);
  EXPECT_EQ(poll_now(mine(), POLLIN), 0);
}

TEST_P(Rights, InFlightAreClosedWithTheConnection) {
  Pipe pipe;
  ASSERT_EQ(send_with(peer(), "x", {pipe.write.get()}), 0);
  pipe.write.reset();
  EXPECT_EQ(poll_now(pipe.read.get(), POLLIN), 0);
  mine_.reset();
  EXPECT_EQ(read_once(pipe.read.get(), 1), "");
}

TEST_P(Rights, GoBothWaysAtOnce) {
  const Pipe pipe;
  ASSERT_EQ(send_with(peer(), "to me", {pipe.write.get()}), 0);
  ASSERT_EQ(send_with(mine(), "to you", {pipe.write.get()}), 0);
  const Received to_me = receive(mine(), 100);
  EXPECT_EQ(to_me.bytes, "to me");
  EXPECT_EQ(to_me.descriptors.size(), 1U);
  const Received to_you = receive(peer(), 100);
  EXPECT_EQ(to_you.bytes, "to you");
  EXPECT_EQ(to_you.descriptors.size(), 1U);
}

TEST_P(Rights, OfAMemfdAreTheApplicationsOwn) {
  // Also descriptors of the kind that a shim uses itself must come through.
  const UniqueFd memory(::memfd_create("application", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memory.get(), 8192), 0);
  ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), 0);
  ASSERT_EQ(send_with(peer(), "x", {memory.get()}), 0);
  const Received got = receive(mine(), 10);
  EXPECT_EQ(got.bytes, "x");
  ASSERT_EQ(got.descriptors.size(), 1U);
  struct stat status {};
  ASSERT_EQ(::fstat(got.descriptors[0].get(), &status), 0);
  EXPECT_EQ(status.st_size, 8192);
}

class Credentials : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Credentials, every_situation(), situation_name);

void pass_credentials(int fd, int on) {
  ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
}

TEST_P(Credentials, ComeWithTheBytesOnceAskedFor) {
  pass_credentials(mine(), 1);
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  const Received got = receive(mine(), 100);
  EXPECT_EQ(got.bytes, "hello");
  ASSERT_TRUE(got.credentials.has_value());
  EXPECT_EQ(got.credentials->pid, ::getpid());
  EXPECT_EQ(got.credentials->uid, ::getuid());
  EXPECT_EQ(got.credentials->gid, ::getgid());
  pass_credentials(mine(), 0);
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  EXPECT_FALSE(receive(mine(), 100).credentials.has_value());
}

TEST_P(Credentials, DoNotComeUnasked) {
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  EXPECT_FALSE(receive(mine(), 100).credentials.has_value());
}

TEST_P(Credentials, TellTheProcessThatWrote) {
  pass_credentials(mine(), 1);
  Child child([this] { EXPECT_EQ(write_all(peer(), "from the child"), 14U); });
  const pid_t pid = child.pid();
  const Received got = receive(mine(), 100);
  EXPECT_EQ(got.bytes, "from the child");
  ASSERT_TRUE(got.credentials.has_value());
  EXPECT_EQ(got.credentials->pid, pid);
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Credentials, KeepTheWritersApart) {
  pass_credentials(mine(), 1);
  ASSERT_EQ(write_all(peer(), "parent "), 7U);
  Child child([this] { EXPECT_EQ(write_all(peer(), "child "), 6U); });
  const pid_t pid = child.pid();
  ASSERT_EQ(child.wait(), 0);
  const Received first = receive(mine(), 100);
  EXPECT_EQ(first.bytes, "parent ");
  ASSERT_TRUE(first.credentials.has_value());
  EXPECT_EQ(first.credentials->pid, ::getpid());
  const Received second = receive(mine(), 100);
  EXPECT_EQ(second.bytes, "child ");
  ASSERT_TRUE(second.credentials.has_value());
  EXPECT_EQ(second.credentials->pid, pid);
}

TEST_P(Credentials, SentExplicitlyArrive) {
  pass_credentials(mine(), 1);
  char bytes[] = "hello";
  iovec part{bytes, 5};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_CREDENTIALS;
  header->cmsg_len = CMSG_LEN(sizeof(ucred));
  const ucred own{::getpid(), ::getuid(), ::getgid()};
  std::memcpy(CMSG_DATA(header), &own, sizeof own);
  ASSERT_EQ(::sendmsg(peer(), &message, 0), 5);
  const Received got = receive(mine(), 100);
  EXPECT_EQ(got.bytes, "hello");
  ASSERT_TRUE(got.credentials.has_value());
  EXPECT_EQ(got.credentials->pid, ::getpid());
}

TEST_P(Credentials, OfABadKindAreRefused) {
  char byte = 'x';
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = 77;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  errno = 0;
  EXPECT_EQ(::sendmsg(peer(), &message, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(poll_now(mine(), POLLIN), 0);
}

// The endpoint is what is sent.

class PassedEndpoint : public ConnectionTest {
 protected:
  void SetUp() override {
    ConnectionTest::SetUp();
    int pair[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    near_.reset(pair[0]);
    far_.reset(pair[1]);
  }
  UniqueFd near_;
  UniqueFd far_;
};
INSTANTIATE_TEST_SUITE_P(, PassedEndpoint, every_situation(), situation_name);

void serve(int fd, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    const std::string request = read_exactly(fd, 50);
    ASSERT_EQ(request.size(), 50U) << "round " << i;
    ASSERT_EQ(write_all(fd, request), 50U);
  }
}

void ask(int fd, std::size_t rounds) {
  for (std::size_t i = 0; i < rounds; ++i) {
    ASSERT_EQ(write_all(fd, pattern(i, 50)), 50U);
    ASSERT_EQ(read_exactly(fd, 50), pattern(i, 50)) << "round " << i;
  }
}

TEST_P(PassedEndpoint, ServesInAChildThatWasThereBefore) {
  // The child holds nothing of the connection but what it is sent.
  Child child([this] {
    mine_.reset();
    peer_.reset();
    near_.reset();
    const Received got = receive(far_.get(), 10);
    ASSERT_EQ(got.descriptors.size(), 1U);
    serve(got.descriptors[0].get(), 100);
  });
  far_.reset();
  ASSERT_EQ(send_with(near_.get(), "x", {mine()}), 0);
  mine_.reset();
  ask(peer(), 100);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(PassedEndpoint, KeepsTheDataInFlight) {
  ASSERT_EQ(write_all(peer(), "before "), 7U);
  ASSERT_EQ(write_all(mine(), "from the parent "), 16U);
  ASSERT_EQ(send_with(near_.get(), "x", {mine()}), 0);
  mine_.reset();
  ASSERT_EQ(write_all(peer(), "after"), 5U);
  const Received got = receive(far_.get(), 10);
  ASSERT_EQ(got.descriptors.size(), 1U);
  const int received = got.descriptors[0].get();
  EXPECT_EQ(read_exactly(received, 12), "before after");
  ASSERT_EQ(write_all(received, "and the other"), 13U);
  EXPECT_EQ(read_exactly(peer(), 29), "from the parent and the other");
}

TEST_P(PassedEndpoint, ServesBesideTheOriginal) {
  ASSERT_EQ(send_with(near_.get(), "x", {mine()}), 0);
  const Received got = receive(far_.get(), 10);
  ASSERT_EQ(got.descriptors.size(), 1U);
  const int received = got.descriptors[0].get();
  ASSERT_EQ(write_all(peer(), "abcdef"), 6U);
  EXPECT_EQ(read_exactly(received, 3), "abc");
  EXPECT_EQ(read_exactly(mine(), 3), "def");
  ASSERT_EQ(write_all(received, "one "), 4U);
  ASSERT_EQ(write_all(mine(), "two"), 3U);
  EXPECT_EQ(read_exactly(peer(), 7), "one two");
  warm_up(received, peer());
  warm_up(mine(), peer());
}

TEST_P(PassedEndpoint, OnItsWayHoldsTheConnectionOpen) {
  ASSERT_EQ(send_with(near_.get(), "x", {mine()}), 0);
  mine_.reset();
  EXPECT_EQ(poll_now(peer(), POLLIN | POLLRDHUP), 0);
  ASSERT_EQ(write_all(peer(), "to whom it may concern"), 22U);
  {
    const Received got = receive(far_.get(), 10);
    ASSERT_EQ(got.descriptors.size(), 1U);
    EXPECT_EQ(read_once(got.descriptors[0].get(), 100), "to whom it may concern");
    EXPECT_EQ(poll_now(peer(), POLLIN | POLLRDHUP), 0);
  }
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(PassedEndpoint, DroppedOnItsWayEndsTheConnection) {
  ASSERT_EQ(send_with(near_.get(), "x", {mine()}), 0);
  mine_.reset();
  far_.reset();
  EXPECT_EQ(read_once(peer(), 10), "");
}

TEST_P(PassedEndpoint, TravelsOverAnotherConnection) {
  Connection carrier = make_connection();
  if (GetParam().warm) warm_up(carrier.client.get(), carrier.server.get());
  ASSERT_EQ(send_with(carrier.client.get(), "x", {mine()}), 0);
  mine_.reset();
  const Received got = receive(carrier.server.get(), 10);
  ASSERT_EQ(got.descriptors.size(), 1U);
  std::thread server([&] { serve(got.descriptors[0].get(), 50); });
  ask(peer(), 50);
  server.join();
  warm_up(carrier.client.get(), carrier.server.get());
}

TEST_P(PassedEndpoint, TravelsOverItself) {
  ASSERT_EQ(send_with(peer(), "x", {mine()}), 0);
  const Received got = receive(mine(), 10);
  ASSERT_EQ(got.descriptors.size(), 1U);
  mine_.reset();
  std::thread server([&] { serve(got.descriptors[0].get(), 50); });
  ask(peer(), 50);
  server.join();
}

TEST_P(PassedEndpoint, MayBeBoth) {
  ASSERT_EQ(send_with(near_.get(), "x", {mine(), peer()}), 0);
  mine_.reset();
  peer_.reset();
  const Received got = receive(far_.get(), 10);
  ASSERT_EQ(got.descriptors.size(), 2U);
  std::thread server([&] { serve(got.descriptors[0].get(), 50); });
  ask(got.descriptors[1].get(), 50);
  server.join();
}

TEST(PassedListener, AcceptsForWhoeverHoldsIt) {
  Listener listener;
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const UniqueFd near(pair[0]);
  UniqueFd far(pair[1]);
  Child child([&] {
    listener.close();
    const Received got = receive(far.get(), 10);
    ASSERT_EQ(got.descriptors.size(), 1U);
    const UniqueFd server(::accept(got.descriptors[0].get(), nullptr, nullptr));
    warm_up_as_follower(server.get());
  });
  ASSERT_EQ(send_with(near.get(), "x", {listener.fd()}), 0);
  const UniqueFd client = listener.connect();
  warm_up_as_leader(client.get());
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
