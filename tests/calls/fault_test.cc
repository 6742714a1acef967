// Memory that faults: EFAULT from every call that reads or writes it, and nothing lost.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"
#include "tests/support/rights.h"

namespace tssx_test {
namespace {

// A page that can be read but not written, with a copy of a value at its beginning.
class ReadOnlyPage {
 public:
  template <class T>
  explicit ReadOnlyPage(const T& value)
      : base_(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    std::memcpy(base_, &value, sizeof value);
    ::mprotect(base_, 4096, PROT_READ);
  }
  ReadOnlyPage(const ReadOnlyPage&) = delete;
  ReadOnlyPage& operator=(const ReadOnlyPage&) = delete;
  ~ReadOnlyPage() { ::munmap(base_, 4096); }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(base_);
  }

 private:
  void* base_;
};

// The result of a call, with errno where it failed.
struct Result {
  ssize_t value;
  int error;
  bool operator==(const Result&) const = default;
};
void PrintTo(const Result& result, std::ostream* out) {
  *out << result.value << " (" << ::strerrorname_np(result.error) << ")";
}
template <class Call>
Result outcome_of(Call&& call) {
  errno = 0;
  const auto value = static_cast<ssize_t>(call());
  return {value, value == -1 ? errno : 0};
}
const Result kFault{-1, EFAULT};

class Fault : public ConnectionTest {
 protected:
  GuardedPage page_;
  char good_[64] = {};

  void send_precious() const { ASSERT_EQ(write_all(peer(), "precious"), 8U); }
  void expect_precious() const {
    EXPECT_EQ(read_once(mine(), 100), "precious");
    expect_alive();
  }
  // The connection works both ways, and nothing unasked for is on it.
  void expect_alive() const {
    ASSERT_EQ(write_all(mine(), "good"), 4U);
    EXPECT_EQ(read_once(peer(), 100), "good");
    ASSERT_EQ(write_all(peer(), "well"), 4U);
    EXPECT_EQ(read_once(mine(), 100), "well");
  }
  template <class T>
  [[nodiscard]] T* nowhere() const {
    return reinterpret_cast<T*>(page_.beyond());
  }
};
INSTANTIATE_TEST_SUITE_P(, Fault, every_situation(), situation_name);

// --- reading ---

TEST_P(Fault, ReadAcrossTheEdgeKeepsTheData) {
  for (const std::size_t before : {1U, 5U, 7U}) {
    send_precious();
    EXPECT_EQ(outcome_of([&] { return ::read(mine(), page_.beyond() - before, 8); }), kFault);
    expect_precious();
  }
}

TEST_P(Fault, ReadOfManyBytesAcrossTheEdgeKeepsThem) {
  const std::string bytes = pattern(0, 20000);
  for (const std::size_t before : {0U, 1U, 100U, 2048U, 4095U, 4096U}) {
    ASSERT_EQ(write_all(peer(), bytes), bytes.size());
    EXPECT_EQ(outcome_of([&] { return ::read(mine(), page_.beyond() - before, bytes.size()); }),
              kFault)
        << before;
    EXPECT_TRUE(matches_pattern(read_exactly(mine(), bytes.size()), 0)) << before;
  }
  expect_alive();
}

TEST_P(Fault, PeekKeepsTheData) {
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::recv(mine(), page_.beyond(), 8, MSG_PEEK); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::recv(mine(), page_.beyond() - 4, 8, MSG_PEEK); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::recv(mine(), page_.beyond() - 8, 8, MSG_PEEK); }),
            (Result{8, 0}));
  expect_precious();
}

TEST_P(Fault, ReadVWithABadMemberKeepsTheData) {
  const std::array<iovec, 2> good_first{{{good_, 4}, {page_.beyond(), 4}}};
  const std::array<iovec, 2> bad_first{{{page_.beyond(), 4}, {good_, 4}}};
  for (const auto& parts : {good_first, bad_first}) {
    send_precious();
    EXPECT_EQ(outcome_of([&] { return ::readv(mine(), parts.data(), 2); }), kFault);
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = 2;
    EXPECT_EQ(outcome_of([&] { return ::recvmsg(mine(), &message, 0); }), kFault);
    expect_precious();
  }
}

TEST_P(Fault, ReadVDoesNotTouchAMemberThatIsNotReached) {
  const std::array<iovec, 2> parts{{{good_, 8}, {page_.beyond(), 8}}};
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::readv(mine(), parts.data(), 2); }), (Result{8, 0}));
  EXPECT_STREQ(good_, "precious");
  expect_alive();
}

TEST_P(Fault, ReadWithAllOfItWantedStopsAtBadMemory) {
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::recv(mine(), page_.beyond() - 4, 8, MSG_WAITALL); }), kFault);
  expect_precious();
}

TEST_P(Fault, ReadWhenThereIsNothingDoesNotLookAtTheBuffer) {
  set_nonblocking(mine(), true);
  EXPECT_EQ(outcome_of([&] { return ::read(mine(), page_.beyond(), 8); }), (Result{-1, EAGAIN}));
  set_nonblocking(mine(), false);
  EXPECT_EQ(outcome_of([&] { return ::read(mine(), page_.beyond(), 0); }), (Result{0, 0}));
  peer_.reset();
  EXPECT_EQ(outcome_of([&] { return ::read(mine(), page_.beyond(), 8); }), (Result{0, 0}));
}

TEST_P(Fault, AddressOfTheKernelIsRefusedBeforeAnythingElse) {
  auto* const kernel = reinterpret_cast<char*>(opaque(std::uintptr_t{0xffff888000000000}));
  set_nonblocking(mine(), true);
  EXPECT_EQ(outcome_of([&] { return ::read(mine(), kernel, 8); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::write(mine(), kernel, 8); }), kFault);
  const std::array<iovec, 2> parts{{{good_, 8}, {kernel, 8}}};
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::readv(mine(), parts.data(), 2); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::writev(mine(), parts.data(), 2); }), kFault);
  set_nonblocking(mine(), false);
  expect_precious();
}

TEST_P(Fault, ReadIntoAMappedFileThatWasCutShortKeepsTheData) {
  const int file = ::memfd_create("short", 0);
  ASSERT_EQ(::ftruncate(file, 4096), 0);
  void* const memory = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ASSERT_NE(memory, MAP_FAILED);
  char* const edge = static_cast<char*>(memory) + 4096;
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::read(mine(), edge, 8); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::read(mine(), edge - 3, 8); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::write(mine(), edge, 8); }), kFault);
  expect_precious();
  ::munmap(memory, 8192);
  ::close(file);
}

// --- writing ---

TEST_P(Fault, WriteFromAnUnmappedPageSendsNothing) {
  EXPECT_EQ(outcome_of([&] { return ::write(mine(), page_.beyond(), 8); }), kFault);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  expect_alive();
}

TEST_P(Fault, WriteAcrossTheEdgeSendsNothing) {
  for (const std::size_t before : {1U, 9U, 17U, 33U, 65U, 1000U, 4000U}) {
    for (const std::size_t beyond : {1U, 30U, 5000U}) {
      EXPECT_EQ(
          outcome_of([&] { return ::write(mine(), page_.beyond() - before, before + beyond); }),
          kFault);
    }
  }
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  expect_alive();
}

TEST_P(Fault, WriteVWithABadMemberSendsNothing) {
  const std::array<iovec, 2> good_first{{{good_, 4}, {page_.beyond(), 4}}};
  const std::array<iovec, 2> bad_first{{{page_.beyond(), 4}, {good_, 4}}};
  for (const auto& parts : {good_first, bad_first}) {
    EXPECT_EQ(outcome_of([&] { return ::writev(mine(), parts.data(), 2); }), kFault);
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = 2;
    EXPECT_EQ(outcome_of([&] { return ::sendmsg(mine(), &message, 0); }), kFault);
    EXPECT_EQ(poll_now(peer(), POLLIN), 0);
    expect_alive();
  }
}

// How much of a large write goes before the bad page depends on how it is cut into messages; that
// what is told has been sent, and nothing else, does not.
TEST_P(Fault, LargeWriteTellsWhatWasSentBeforeTheFault) {
  constexpr std::size_t kGood = 160U << 10U;
  auto* const memory = static_cast<char*>(
      ::mmap(nullptr, kGood + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::mprotect(memory + kGood, 4096, PROT_NONE), 0);
  pattern(0, kGood).copy(memory, kGood);
  set_nonblocking(mine(), true);
  const Result result = outcome_of([&] { return ::write(mine(), memory, kGood + 4096); });
  ASSERT_GE(result.value, 32 << 10);
  ASSERT_LE(result.value, static_cast<ssize_t>(kGood));
  set_nonblocking(mine(), false);
  const auto sent = static_cast<std::size_t>(result.value);
  EXPECT_TRUE(matches_pattern(read_exactly(peer(), sent), 0));
  expect_alive();
  ::munmap(memory, kGood + 4096);
}

TEST_P(Fault, WriteToAClosedPeerIsABrokenPipeWhateverTheBuffer) {
  peer_.reset();
  EXPECT_EQ(outcome_of([&] { return ::send(mine(), page_.beyond(), 8, MSG_NOSIGNAL); }),
            (Result{-1, EPIPE}));
}

// --- the structures of the calls ---

TEST_P(Fault, BadVectorIsRefused) {
  auto* const vector = nowhere<iovec>();
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::readv(mine(), vector, 2); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::writev(mine(), vector, 2); }), kFault);
  // The first entry is there, the second is not.
  EXPECT_EQ(outcome_of([&] { return ::readv(mine(), vector - 1, 2); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::writev(mine(), vector - 1, 2); }), kFault);
  msghdr message{};
  message.msg_iov = vector;
  message.msg_iovlen = 1;
  EXPECT_EQ(outcome_of([&] { return ::recvmsg(mine(), &message, 0); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::sendmsg(mine(), &message, 0); }), kFault);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  expect_precious();
}

TEST_P(Fault, BadMessageHeaderIsRefused) {
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::recvmsg(mine(), nowhere<msghdr>(), 0); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::sendmsg(mine(), nowhere<msghdr>(), 0); }), kFault);
  auto* const half = reinterpret_cast<msghdr*>(page_.beyond() - offsetof(msghdr, msg_control));
  EXPECT_EQ(outcome_of([&] { return ::recvmsg(mine(), half, 0); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::sendmsg(mine(), half, 0); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::recvmmsg(mine(), nowhere<mmsghdr>(), 2, 0, nullptr); }),
            kFault);
  EXPECT_EQ(outcome_of([&] { return ::sendmmsg(mine(), nowhere<mmsghdr>(), 2, 0); }), kFault);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  expect_precious();
}

TEST_P(Fault, SecondOfTwoMessageHeadersMayBeBad) {
  auto* const messages = nowhere<mmsghdr>() - 1;
  iovec part{good_, 4};
  *messages = mmsghdr{};
  messages->msg_hdr.msg_iov = &part;
  messages->msg_hdr.msg_iovlen = 1;
  std::memcpy(good_, "four", 4);
  EXPECT_EQ(outcome_of([&] { return ::sendmmsg(mine(), messages, 2, 0); }), (Result{1, 0}));
  EXPECT_EQ(messages->msg_len, 4U);
  EXPECT_EQ(read_once(peer(), 100), "four");
  expect_alive();
}

// The header is read before and written after, by when the data have been taken
// (____sys_recvmsg()).
TEST_P(Fault, ReadOnlyMessageHeaderLosesTheData) {
  msghdr message{};
  iovec part{good_, sizeof good_};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const ReadOnlyPage header(message);
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::recvmsg(mine(), header.as<msghdr>(), 0); }), kFault);
  EXPECT_STREQ(good_, "precious");
  EXPECT_EQ(poll_now(mine(), POLLIN), 0);
  expect_alive();
  // Sending only reads it.
  EXPECT_EQ(outcome_of([&] { return ::sendmsg(mine(), header.as<msghdr>(), 0); }),
            (Result{sizeof good_, 0}));
}

TEST_P(Fault, BadControlBufferOfASendIsRefused) {
  iovec part{good_, 4};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = page_.beyond();
  message.msg_controllen = CMSG_SPACE(sizeof(int));
  EXPECT_EQ(outcome_of([&] { return ::sendmsg(mine(), &message, 0); }), kFault);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
  expect_alive();
}

TEST_P(Fault, BadControlBufferOfAReceiveLosesTheDescriptors) {
  ASSERT_EQ(send_with(peer(), "x", {STDERR_FILENO}), 0);
  msghdr received{};
  iovec into{good_, 4};
  received.msg_iov = &into;
  received.msg_iovlen = 1;
  received.msg_control = page_.beyond();
  received.msg_controllen = CMSG_SPACE(sizeof(int));
  EXPECT_EQ(outcome_of([&] { return ::recvmsg(mine(), &received, 0); }), (Result{1, 0}));
  EXPECT_EQ(good_[0], 'x');
  EXPECT_NE(received.msg_flags & MSG_CTRUNC, 0);
  expect_alive();
}

TEST_P(Fault, BadAddressOfAReceiveLosesTheData) {
  socklen_t length = sizeof(sockaddr_un);
  send_precious();
  // Only a client is told a name: that of the server's socket.
  const Result expected = GetParam().server ? Result{8, 0} : kFault;
  EXPECT_EQ(
      outcome_of([&] { return ::recvfrom(mine(), good_, 8, 0, nowhere<sockaddr>(), &length); }),
      expected);
  EXPECT_STREQ(good_, "precious");
  send_precious();
  sockaddr_un name{};
  EXPECT_EQ(outcome_of([&] {
              return ::recvfrom(mine(), good_, 8, 0, reinterpret_cast<sockaddr*>(&name),
                                nowhere<socklen_t>());
            }),
            kFault);
  send_precious();
  EXPECT_EQ(outcome_of([&] {
              return ::recvfrom(mine(), good_, 8, 0, reinterpret_cast<sockaddr*>(&name), nullptr);
            }),
            kFault);
  send_precious();
  length = static_cast<socklen_t>(-1);
  EXPECT_EQ(outcome_of([&] {
              return ::recvfrom(mine(), good_, 8, 0, reinterpret_cast<sockaddr*>(&name), &length);
            }),
            (Result{-1, EINVAL}));
  EXPECT_EQ(poll_now(mine(), POLLIN), 0);
  expect_alive();
}

TEST_P(Fault, BadTimeoutOfRecvMMsgIsRefused) {
  mmsghdr message{};
  iovec part{good_, 8};
  message.msg_hdr.msg_iov = &part;
  message.msg_hdr.msg_iovlen = 1;
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::recvmmsg(mine(), &message, 1, 0, nowhere<timespec>()); }),
            kFault);
  expect_precious();
}

TEST_P(Fault, NamesAndOptionsAndCountsAreRefused) {
  sockaddr_un name{};
  auto* const address = reinterpret_cast<sockaddr*>(&name);
  socklen_t length = sizeof name;
  int value = 0;
  auto* const nothing = nowhere<sockaddr>();
  EXPECT_EQ(outcome_of([&] { return ::getsockname(mine(), nothing, &length); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::getsockname(mine(), address, nowhere<socklen_t>()); }),
            kFault);
  length = sizeof name;
  EXPECT_EQ(outcome_of([&] { return ::getpeername(mine(), nothing, &length); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::getpeername(mine(), address, nowhere<socklen_t>()); }),
            kFault);
  length = sizeof value;
  EXPECT_EQ(
      outcome_of([&] { return ::getsockopt(mine(), SOL_SOCKET, SO_ERROR, nothing, &length); }),
      kFault);
  EXPECT_EQ(outcome_of([&] {
              return ::getsockopt(mine(), SOL_SOCKET, SO_ERROR, &value, nowhere<socklen_t>());
            }),
            kFault);
  EXPECT_EQ(outcome_of([&] { return ::setsockopt(mine(), SOL_SOCKET, SO_RCVTIMEO, nothing, 16); }),
            kFault);
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::ioctl(mine(), FIONREAD, nothing); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::ioctl(mine(), FIONBIO, nothing); }), kFault);
  ASSERT_EQ(::ioctl(mine(), FIONREAD, &value), 0);
  EXPECT_EQ(value, 8);
  expect_precious();
}

TEST(FaultOfAccept, DropsTheConnection) {
  const GuardedPage page;
  const Listener listener;
  sockaddr_un name{};
  socklen_t length = sizeof name;
  {
    const UniqueFd client = listener.connect();
    EXPECT_EQ(outcome_of([&] {
                return ::accept(listener.fd(), reinterpret_cast<sockaddr*>(page.beyond()), &length);
              }),
              kFault);
    EXPECT_EQ(read_once(client.get(), 1), "");
  }
  {
    const UniqueFd client = listener.connect();
    EXPECT_EQ(outcome_of([&] {
                return ::accept(listener.fd(), reinterpret_cast<sockaddr*>(&name),
                                reinterpret_cast<socklen_t*>(page.beyond()));
              }),
              kFault);
    EXPECT_EQ(read_once(client.get(), 1), "");
  }
}

TEST(FaultOfConnect, LeavesTheSocketUnconnected) {
  const GuardedPage page;
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(outcome_of([&] {
              return ::connect(socket.get(), reinterpret_cast<sockaddr*>(page.beyond()),
                               sizeof(sockaddr_un));
            }),
            kFault);
  const Listener listener;
  const Address address(listener.path());
  EXPECT_EQ(::connect(socket.get(), address.get(), address.length), 0);
}

// Before the first connection: what the library looks at must not fault either.
TEST(FaultWithoutAConnection, IsRefused) {
  const GuardedPage page;
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM, 0));
  auto* const nowhere = page.beyond();
  EXPECT_EQ(
      outcome_of([&] { return ::sendmsg(socket.get(), reinterpret_cast<msghdr*>(nowhere), 0); }),
      kFault);
  EXPECT_EQ(outcome_of([&] {
              return ::sendmmsg(socket.get(), reinterpret_cast<mmsghdr*>(nowhere), 2, 0);
            }),
            kFault);
  EXPECT_EQ(outcome_of([&] { return ::poll(reinterpret_cast<pollfd*>(nowhere), 1, 0); }), kFault);
  timeval now{};
  EXPECT_EQ(outcome_of([&] {
              return ::select(8, reinterpret_cast<fd_set*>(nowhere), nullptr, nullptr, &now);
            }),
            kFault);
  const EpollSet set;
  EXPECT_EQ(outcome_of([&] {
              return ::epoll_ctl(set.fd(), EPOLL_CTL_ADD, socket.get(),
                                 reinterpret_cast<epoll_event*>(nowhere));
            }),
            kFault);
}

// --- waiting ---

TEST_P(Fault, PollRefusesBadPointers) {
  pollfd entry{mine(), POLLIN, 0};
  EXPECT_EQ(outcome_of([&] { return ::poll(nowhere<pollfd>(), 1, 0); }), kFault);
  auto* const first = nowhere<pollfd>() - 1;
  *first = entry;
  EXPECT_EQ(outcome_of([&] { return ::poll(first, 2, 0); }), kFault);
  // libc itself reads the timeouts of ppoll() and select(), and crashes where they are bad.
  const timespec now{0, 0};
  EXPECT_EQ(outcome_of([&] { return ::ppoll(&entry, 1, &now, nowhere<sigset_t>()); }), kFault);
  send_precious();
  const ReadOnlyPage constant(entry);
  EXPECT_EQ(outcome_of([&] { return ::poll(constant.as<pollfd>(), 1, 0); }), kFault);
  EXPECT_EQ(outcome_of([&] { return ::poll(first, 1, 0); }), (Result{1, 0}));
  expect_precious();
}

TEST_P(Fault, SelectRefusesBadSets) {
  if (mine() < 0) GTEST_SKIP() << "an ID can't be put in a set";
  timeval now{0, 0};
  fd_set set;
  FD_ZERO(&set);
  FD_SET(mine(), &set);
  const int nfds = mine() + 1;
  EXPECT_EQ(outcome_of([&] { return ::select(nfds, nowhere<fd_set>(), &set, nullptr, &now); }),
            kFault);
  EXPECT_EQ(outcome_of([&] { return ::select(nfds, &set, nowhere<fd_set>(), nullptr, &now); }),
            kFault);
  const ReadOnlyPage constant(set);
  send_precious();
  EXPECT_EQ(
      outcome_of([&] { return ::select(nfds, constant.as<fd_set>(), nullptr, nullptr, &now); }),
      kFault);
  expect_precious();
}

TEST_P(Fault, EpollRefusesBadEvents) {
  const EpollSet set;
  EXPECT_EQ(outcome_of([&] {
              return ::epoll_ctl(set.fd(), EPOLL_CTL_ADD, mine(), nowhere<epoll_event>());
            }),
            kFault);
  ASSERT_EQ(set.add(mine(), EPOLLIN, 7), 0);
  EXPECT_EQ(outcome_of([&] {
              return ::epoll_ctl(set.fd(), EPOLL_CTL_MOD, mine(), nowhere<epoll_event>());
            }),
            kFault);
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::epoll_wait(set.fd(), nowhere<epoll_event>(), 4, 0); }),
            kFault);
  // Memory for one is enough for one.
  auto* const last = nowhere<epoll_event>() - 1;
  EXPECT_EQ(outcome_of([&] { return ::epoll_wait(set.fd(), last, 4, 0); }), (Result{1, 0}));
  EXPECT_EQ(last->data.u64, 7U);
  EXPECT_EQ(set.look(), (Events{{7, EPOLLIN}}));
  expect_precious();
}

// The event is not used up by a call that could not tell it.
TEST_P(Fault, EpollKeepsAnEdgeThatItCouldNotTell) {
  const EpollSet set;
  ASSERT_EQ(set.add(mine(), EPOLLIN | EPOLLET, 7), 0);
  set.forget();
  send_precious();
  EXPECT_EQ(outcome_of([&] { return ::epoll_wait(set.fd(), nowhere<epoll_event>(), 4, 0); }),
            kFault);
  EXPECT_EQ(set.look(), (Events{{7, EPOLLIN}}));
  EXPECT_EQ(set.look(), Events{});
}

}  // namespace
}  // namespace tssx_test
