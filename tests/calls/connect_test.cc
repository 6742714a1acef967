// socket(), bind(), connect(): the ways to fail, and what a socket is good for afterwards.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

UniqueFd stream_socket(int flags = 0) {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | flags, 0));
}

int connect_error(int fd, const std::string& name) {
  const Address address(name);
  errno = 0;
  return ::connect(fd, address.get(), address.length) == 0 ? 0 : errno;
}

int bind_error(int fd, const std::string& name) {
  const Address address(name);
  errno = 0;
  return ::bind(fd, address.get(), address.length) == 0 ? 0 : errno;
}

std::string own_name(int fd) {
  sockaddr_un address{};
  socklen_t length = sizeof address;
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  return length == sizeof(sa_family_t) ? "unnamed" : address.sun_path;
}

int pending_error(int fd) {
  int error = -1;
  socklen_t length = sizeof error;
  EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  return error;
}

void expect_traffic(int client, int server) {
  ASSERT_EQ(write_all(client, "request"), 7U);
  ASSERT_EQ(read_exactly(server, 7), "request");
  ASSERT_EQ(write_all(server, "reply"), 5U);
  ASSERT_EQ(read_exactly(client, 5), "reply");
  warm_up(client, server);
}

TEST(Connect, SucceedsBeforeAccept) {
  const Listener listener;
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), listener.path()), 0);
  ASSERT_EQ(write_all(client.get(), "early"), 5U);
  const UniqueFd server = listener.accept();
  EXPECT_EQ(read_once(server.get(), 10), "early");
}

TEST(Connect, NonblockingSucceedsAtOnce) {
  const Listener listener;
  const UniqueFd client = stream_socket(SOCK_NONBLOCK | SOCK_CLOEXEC);
  EXPECT_EQ(connect_error(client.get(), listener.path()), 0);
  EXPECT_EQ(::fcntl(client.get(), F_GETFL), O_RDWR | O_NONBLOCK);
  EXPECT_EQ(::fcntl(client.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(read_once(client.get(), 10), "<EAGAIN>");
  const UniqueFd server = listener.accept();
  EXPECT_EQ(::fcntl(server.get(), F_GETFL), O_RDWR);
}

TEST(Connect, ToNoFileFails) {
  const TemporaryDirectory directory;
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), directory.path("nothing")), ENOENT);
  EXPECT_EQ(own_name(client.get()), "unnamed");
  EXPECT_EQ(pending_error(client.get()), 0);
}

TEST(Connect, ToASocketThatNobodyListensOnIsRefused) {
  const TemporaryDirectory directory;
  const UniqueFd bound = stream_socket();
  ASSERT_EQ(bind_error(bound.get(), directory.path("socket")), 0);
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), directory.path("socket")), ECONNREFUSED);
  EXPECT_EQ(own_name(client.get()), "unnamed");
}

// After an attempt that failed the socket is used in a way that tells nobody of the attempt.
class AfterARefusal : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(connect_error(client_.get(), listener_.path() + ".no"), ENOENT);
    const Address address(listener_.path() + ".no");
    const UniqueFd bound = stream_socket();
    ASSERT_EQ(::bind(bound.get(), address.get(), address.length), 0);
    ASSERT_EQ(connect_error(client_.get(), listener_.path() + ".no"), ECONNREFUSED);
  }
  void TearDown() override { ::unlink((listener_.path() + ".no").c_str()); }
  // Both ends talk; `reader` is another number for the client's end.
  void talk(int client, int reader) {
    const UniqueFd server = listener_.accept();
    for (std::size_t i = 0; i < 60; ++i) {
      ASSERT_EQ(write_all(client, pattern(i, 10)), 10U);
      ASSERT_EQ(read_exactly(server.get(), 10), pattern(i, 10));
      ASSERT_EQ(write_all(server.get(), pattern(i, 20)), 20U);
      ASSERT_EQ(read_exactly(reader, 20), pattern(i, 20));
    }
  }
  Listener listener_;
  UniqueFd client_ = stream_socket();
};

TEST_F(AfterARefusal, ConnectsAtTheSecondAttempt) {
  ASSERT_EQ(connect_error(client_.get(), listener_.path()), 0);
  talk(client_.get(), client_.get());
}

TEST_F(AfterARefusal, ADuplicateConnectsForBoth) {
  const UniqueFd other(::dup(client_.get()));
  ASSERT_EQ(connect_error(other.get(), listener_.path()), 0);
  talk(client_.get(), other.get());
}

TEST_F(AfterARefusal, ADuplicateByFcntlReadsWhatTheFirstAskedFor) {
  const UniqueFd other(::fcntl(client_.get(), F_DUPFD_CLOEXEC, 100));
  ASSERT_EQ(connect_error(client_.get(), listener_.path()), 0);
  talk(client_.get(), other.get());
}

TEST_F(AfterARefusal, AChildReadsWhatTheParentAskedFor) {
  int go[2];
  ASSERT_EQ(::pipe(go), 0);
  Child child([&] {
    ASSERT_EQ(read_exactly(go[0], 1), "g");
    for (std::size_t i = 0; i < 60; ++i) {
      ASSERT_EQ(read_exactly(client_.get(), 20), pattern(i, 20));
    }
  });
  ASSERT_EQ(connect_error(client_.get(), listener_.path()), 0);
  const UniqueFd server = listener_.accept();
  ASSERT_EQ(write_all(go[1], "g"), 1U);
  for (std::size_t i = 0; i < 60; ++i) {
    ASSERT_EQ(write_all(client_.get(), pattern(i, 10)), 10U);
    ASSERT_EQ(read_exactly(server.get(), 10), pattern(i, 10));
    ASSERT_EQ(write_all(server.get(), pattern(i, 20)), 20U);
  }
  EXPECT_EQ(child.wait(), 0);
  ::close(go[0]);
  ::close(go[1]);
}

TEST(Connect, ToALeftOverPathIsRefused) {
  const TemporaryDirectory directory;
  {
    const UniqueFd bound = stream_socket();
    ASSERT_EQ(bind_error(bound.get(), directory.path("socket")), 0);
    ASSERT_EQ(::listen(bound.get(), 1), 0);
  }
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), directory.path("socket")), ECONNREFUSED);
}

TEST(Connect, ToAnUnknownAbstractNameIsRefused) {
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), "@tssx-calls-no-such-name"), ECONNREFUSED);
}

TEST(Connect, WithoutPermissionFails) {
  const Listener listener;
  ASSERT_EQ(::chmod(listener.path().c_str(), 0), 0);
  Child child([&] {
    // Root may do anything, so be nobody.
    if (::geteuid() == 0) {
      ASSERT_EQ(::setresuid(65534, 65534, 65534), 0);
    }
    const UniqueFd client = stream_socket();
    EXPECT_EQ(connect_error(client.get(), listener.path()), EACCES);
    EXPECT_EQ(own_name(client.get()), "unnamed");
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST(Connect, ToAPlainFileIsRefused) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("file");
  const UniqueFd file(::open(path.c_str(), O_CREAT | O_RDWR, 0600));
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), path), ECONNREFUSED);
}

TEST(Connect, ToADatagramSocketFails) {
  const TemporaryDirectory directory;
  const UniqueFd datagram(::socket(AF_UNIX, SOCK_DGRAM, 0));
  ASSERT_EQ(bind_error(datagram.get(), directory.path("socket")), 0);
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), directory.path("socket")), EPROTOTYPE);
}

TEST(Connect, TwiceFails) {
  const Listener listener;
  const UniqueFd client = listener.connect();
  EXPECT_EQ(connect_error(client.get(), listener.path()), EISCONN);
  const UniqueFd server = listener.accept();
  EXPECT_EQ(connect_error(client.get(), listener.path()), EISCONN);
  EXPECT_EQ(connect_error(client.get(), "/nowhere/at/all"), ENOENT);  // the path is looked up first
  expect_traffic(client.get(), server.get());
  EXPECT_EQ(connect_error(client.get(), listener.path()), EISCONN);
  EXPECT_EQ(connect_error(server.get(), listener.path()), EISCONN);
  expect_traffic(client.get(), server.get());
  EXPECT_EQ(poll_now(listener.fd(), POLLIN), 0);
}

TEST(Connect, OfAListenerFails) {
  const Listener listener;
  const Listener other;
  EXPECT_EQ(connect_error(listener.fd(), other.path()), EINVAL);
}

TEST(Connect, WithAFullBacklogWouldBlock) {
  const Listener listener(1);
  std::vector<UniqueFd> clients;
  int error = 0;
  while (error == 0 && clients.size() < 10) {
    clients.push_back(stream_socket(SOCK_NONBLOCK));
    error = connect_error(clients.back().get(), listener.path());
  }
  EXPECT_EQ(error, EAGAIN);
  EXPECT_EQ(own_name(clients.back().get()), "unnamed");
  const UniqueFd first = listener.accept();
  // There is room for the one that was refused now.
  EXPECT_EQ(connect_error(clients.back().get(), listener.path()), 0);
  set_nonblocking(clients.back().get(), false);
  for (std::size_t i = 1; i < clients.size() - 1; ++i) listener.accept().reset();
  const UniqueFd last = listener.accept();
  expect_traffic(clients.back().get(), last.get());
}

TEST(Connect, WithAFullBacklogWaitsForAnAccept) {
  const Listener listener(0);
  const UniqueFd first = listener.connect();
  std::thread late([&] {
    const UniqueFd second = listener.connect();
    EXPECT_EQ(read_once(second.get(), 10), "welcome");
  });
  sleep_a_moment();
  listener.accept().reset();
  const UniqueFd server = listener.accept();
  ASSERT_EQ(write_all(server.get(), "welcome"), 7U);
  late.join();
}

// One thread waits in connect(2) for a full backlog while another does something else.
class ConnectInAThread : public testing::Test {
 protected:
  // `meanwhile` gets the number of the descriptor that is being connected.
  void connect_while(const std::function<void(int)>& meanwhile) {
    const Listener listener(0);
    const UniqueFd first = listener.connect();
    UniqueFd client = stream_socket();
    const int number = client.get();
    std::thread other([&] { EXPECT_EQ(connect_error(number, listener.path()), 0); });
    sleep_a_moment();
    meanwhile(number);
    listener.accept().reset();
    server_ = listener.accept();
    other.join();
    client_ = std::move(client);
  }

  UniqueFd client_;
  UniqueFd server_;
};

TEST_F(ConnectInAThread, GoesOnWhileAnotherForks) {
  connect_while([](int) { EXPECT_EQ(Child([] {}).wait(), 0); });
  expect_traffic(client_.get(), server_.get());
}

TEST_F(ConnectInAThread, GoesOnWhileAnotherStartsAProgram) {
  connect_while([](int) { EXPECT_EQ(std::system("true"), 0); });
  expect_traffic(client_.get(), server_.get());
}

TEST_F(ConnectInAThread, IsAlsoTheConnectionOfAForkedChild) {
  Child child;
  connect_while([&](int number) {
    child = Child([number] {
      sleep_a_moment();
      sleep_a_moment();
      EXPECT_EQ(read_exactly(number, 4), "read");
      EXPECT_EQ(write_all(number, "by the child"), 12U);
    });
  });
  ASSERT_EQ(write_all(server_.get(), "read"), 4U);
  EXPECT_EQ(read_exactly(server_.get(), 12), "by the child");
  EXPECT_EQ(child.wait(), 0);
  expect_traffic(client_.get(), server_.get());
}

TEST_F(ConnectInAThread, GoesOnWhereAnotherDuplicatesIt) {
  UniqueFd copy;
  connect_while([&](int number) { copy.reset(::dup(number)); });
  expect_traffic(client_.get(), server_.get());
  expect_traffic(copy.get(), server_.get());
}

TEST_F(ConnectInAThread, OfANumberThatAnotherClosesLeavesNothingThere) {
  int number = -1;
  connect_while([&](int fd) {
    number = fd;
    ::close(fd);
  });
  // Another file has the number now.
  client_.release();
  const UniqueFd file(::memfd_create("other", MFD_CLOEXEC));
  const UniqueFd there(::dup2(file.get(), number));
  ASSERT_EQ(there.get(), number);
  EXPECT_EQ(write_all(number, "to a file"), 9U);
  EXPECT_EQ(::lseek(number, 0, SEEK_SET), 0);
  EXPECT_EQ(read_exactly(number, 9), "to a file");
}

TEST(Connect, WithABadAddressFails) {
  const UniqueFd client = stream_socket();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
  errno = 0;
  EXPECT_EQ(::connect(client.get(), generic, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::connect(client.get(), generic, sizeof(sa_family_t)), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::connect(client.get(), generic, sizeof address + 1), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(::connect(client.get(), static_cast<const sockaddr*>(bad_pointer()), sizeof address),
            -1);
  EXPECT_EQ(errno, EFAULT);
  address.sun_family = AF_INET;
  std::strcpy(address.sun_path, "/nowhere");
  errno = 0;
  EXPECT_EQ(::connect(client.get(), generic, sizeof address), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(own_name(client.get()), "unnamed");
}

TEST(Connect, OfWhatIsNoSocketFails) {
  const UniqueFd file(::open("/dev/null", O_RDWR));
  EXPECT_EQ(connect_error(file.get(), "/nowhere"), ENOTSOCK);
  EXPECT_EQ(connect_error(12345, "/nowhere"), EBADF);
}

TEST(Connect, AfterAFailureWorks) {
  const TemporaryDirectory directory;
  const Listener listener;
  const UniqueFd client = stream_socket();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(connect_error(client.get(), directory.path("nothing")), ENOENT);
  }
  EXPECT_EQ(connect_error(client.get(), listener.path()), 0);
  const UniqueFd server = listener.accept();
  expect_traffic(client.get(), server.get());
  EXPECT_EQ(own_name(client.get()), "unnamed");
}

TEST(Connect, AfterAFailureKeepsWhatTheSocketWas) {
  const TemporaryDirectory directory;
  const UniqueFd client = stream_socket(SOCK_NONBLOCK | SOCK_CLOEXEC);
  int size = 40000;
  ASSERT_EQ(::setsockopt(client.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  EXPECT_EQ(connect_error(client.get(), directory.path("nothing")), ENOENT);
  EXPECT_EQ(::fcntl(client.get(), F_GETFL), O_RDWR | O_NONBLOCK);
  EXPECT_EQ(::fcntl(client.get(), F_GETFD), FD_CLOEXEC);
  socklen_t length = sizeof size;
  ASSERT_EQ(::getsockopt(client.get(), SOL_SOCKET, SO_SNDBUF, &size, &length), 0);
  EXPECT_EQ(size, 80000);
}

TEST(Connect, AfterAFailureOfADuplicateWorksForBoth) {
  const TemporaryDirectory directory;
  const Listener listener;
  const UniqueFd client = stream_socket();
  const UniqueFd copy(::dup(client.get()));
  EXPECT_EQ(connect_error(client.get(), directory.path("nothing")), ENOENT);
  EXPECT_EQ(connect_error(copy.get(), listener.path()), 0);
  const UniqueFd server = listener.accept();
  expect_traffic(client.get(), server.get());
  expect_traffic(copy.get(), server.get());
}

TEST(Connect, ThroughADuplicateConnectsBoth) {
  const Listener listener;
  UniqueFd client = stream_socket();
  const UniqueFd copy(::dup(client.get()));
  EXPECT_EQ(connect_error(client.get(), listener.path()), 0);
  const UniqueFd server = listener.accept();
  expect_traffic(copy.get(), server.get());
  client.reset();
  expect_traffic(copy.get(), server.get());
}

TEST(Connect, InAChildServesTheParentToo) {
  const Listener listener;
  const UniqueFd client = stream_socket();
  Child child([&] { EXPECT_EQ(connect_error(client.get(), listener.path()), 0); });
  ASSERT_EQ(child.wait(), 0);
  const UniqueFd server = listener.accept();
  expect_traffic(client.get(), server.get());
}

TEST(Connect, ByARelativePathWorks) {
  const TemporaryDirectory directory;
  const UniqueFd here(::open(".", O_RDONLY | O_DIRECTORY));
  ASSERT_EQ(::chdir(directory.path(".").c_str()), 0);
  const UniqueFd listener = stream_socket();
  EXPECT_EQ(bind_error(listener.get(), "relative"), 0);
  EXPECT_EQ(::listen(listener.get(), 4), 0);
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), "./relative"), 0);
  ASSERT_EQ(::fchdir(here.get()), 0);
  const UniqueFd server(::accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(server.valid());
  expect_traffic(client.get(), server.get());
  EXPECT_EQ(own_name(server.get()), "relative");
}

TEST(Connect, ByAPathWithoutItsNulWorks) {
  const Listener listener;
  const UniqueFd client = stream_socket();
  const Address address(listener.path());
  EXPECT_EQ(::connect(client.get(), address.get(), address.length - 1), 0);
  const UniqueFd server = listener.accept();
  expect_traffic(client.get(), server.get());
}

TEST(Connect, ThroughASymbolicLinkWorks) {
  const Listener listener;
  const TemporaryDirectory directory;
  ASSERT_EQ(::symlink(listener.path().c_str(), directory.path("link").c_str()), 0);
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), directory.path("link")), 0);
  const UniqueFd server = listener.accept();
  expect_traffic(client.get(), server.get());
}

TEST(Bind, AfterAFailedConnectGivesThatName) {
  const TemporaryDirectory directory;
  const UniqueFd socket = stream_socket();
  EXPECT_EQ(connect_error(socket.get(), directory.path("nothing")), ENOENT);
  EXPECT_EQ(bind_error(socket.get(), directory.path("mine")), 0);
  EXPECT_EQ(own_name(socket.get()), directory.path("mine"));
  EXPECT_EQ(bind_error(socket.get(), directory.path("again")), EINVAL);
}

TEST(Bind, AfterAFailedConnectMakesAListener) {
  const TemporaryDirectory directory;
  const UniqueFd listener = stream_socket();
  EXPECT_EQ(connect_error(listener.get(), directory.path("socket")), ENOENT);
  EXPECT_EQ(bind_error(listener.get(), directory.path("socket")), 0);
  EXPECT_EQ(::listen(listener.get(), 4), 0);
  const UniqueFd client = stream_socket();
  EXPECT_EQ(connect_error(client.get(), directory.path("socket")), 0);
  const UniqueFd server(::accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(server.valid());
  expect_traffic(client.get(), server.get());
}

TEST(Bind, ToAnExistingPathFails) {
  const Listener listener;
  const UniqueFd socket = stream_socket();
  EXPECT_EQ(bind_error(socket.get(), listener.path()), EADDRINUSE);
}

TEST(Listen, OfAnUnboundSocketFails) {
  const UniqueFd socket = stream_socket();
  errno = 0;
  EXPECT_EQ(::listen(socket.get(), 1), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Listen, OfAConnectedSocketFails) {
  const Connection connection = make_connection();
  for (int i = 0; i < 2; ++i) {
    errno = 0;
    EXPECT_EQ(::listen(connection.client.get(), 1), -1);
    EXPECT_EQ(errno, EINVAL);
    errno = 0;
    EXPECT_EQ(::listen(connection.server.get(), 1), -1);
    EXPECT_EQ(errno, EINVAL);
    warm_up(connection.client.get(), connection.server.get());
  }
}

TEST(Unconnected, CannotReadOrWrite) {
  const UniqueFd socket = stream_socket();
  EXPECT_EQ(read_once(socket.get(), 1), "<EINVAL>");
  errno = 0;
  EXPECT_EQ(::send(socket.get(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, ENOTCONN);
  errno = 0;
  EXPECT_EQ(::shutdown(socket.get(), SHUT_RDWR), 0);
}

// What is not ours stays as it is.

void expect_echo(int first, int second) {
  ASSERT_EQ(write_all(first, "there"), 5U);
  EXPECT_EQ(read_once(second, 10), "there");
  ASSERT_EQ(write_all(second, "back"), 4U);
  EXPECT_EQ(read_once(first, 10), "back");
}

TEST(OtherSockets, PairsWork) {
  for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, type, 0, pair), 0);
    const UniqueFd first(pair[0]);
    const UniqueFd second(pair[1]);
    for (int i = 0; i < 50; ++i) expect_echo(first.get(), second.get());
  }
  EXPECT_EQ(accelerated_segments(), 0);
}

TEST(OtherSockets, SeqpacketKeepsItsBoundaries) {
  const TemporaryDirectory directory;
  const UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
  ASSERT_EQ(bind_error(listener.get(), directory.path("socket")), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  const UniqueFd client(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
  ASSERT_EQ(connect_error(client.get(), directory.path("socket")), 0);
  const UniqueFd server(::accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(server.valid());
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(write_all(client.get(), "one"), 3U);
    ASSERT_EQ(write_all(client.get(), "two"), 3U);
    ASSERT_EQ(read_once(server.get(), 100), "one");
    ASSERT_EQ(read_once(server.get(), 100), "two");
    expect_echo(server.get(), client.get());
  }
  EXPECT_EQ(accelerated_segments(), 0);
}

TEST(OtherSockets, TcpWorks) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(::listen(listener.get(), 4), 0);  // bound to an ephemeral port of all addresses
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::getsockname(listener.get(), generic, &length), 0);
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
  if (::connect(client.get(), generic, length) != 0) GTEST_SKIP() << "no loopback";
  const UniqueFd server(::accept(listener.get(), generic, &length));
  ASSERT_TRUE(server.valid());
  EXPECT_EQ(address.ss_family, AF_INET);
  for (int i = 0; i < 50; ++i) expect_echo(client.get(), server.get());
  EXPECT_EQ(accelerated_segments(), 0);
}

}  // namespace
}  // namespace tssx_test
