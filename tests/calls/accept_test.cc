// accept() and accept4().
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "tests/support/connection.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

TEST(Accept, OfANonblockingListenerWouldBlock) {
  const Listener listener(4, SOCK_NONBLOCK);
  errno = 0;
  EXPECT_EQ(::accept(listener.fd(), nullptr, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
  const UniqueFd client = listener.connect();
  const UniqueFd server = listener.accept();
  EXPECT_EQ(::fcntl(server.get(), F_GETFL), O_RDWR);  // not inherited
}

TEST(Accept, WaitsForAClient) {
  const Listener listener;
  std::thread late([&] {
    sleep_a_moment();
    const UniqueFd client = listener.connect();
    EXPECT_EQ(read_once(client.get(), 10), "hello");
  });
  const UniqueFd server = listener.accept();
  EXPECT_EQ(write_all(server.get(), "hello"), 5U);
  late.join();
}

TEST(Accept, FourTakesFlags) {
  const Listener listener;
  for (const int flags : {0, static_cast<int>(SOCK_NONBLOCK), static_cast<int>(SOCK_CLOEXEC),
                          SOCK_NONBLOCK | SOCK_CLOEXEC}) {
    const UniqueFd client = listener.connect();
    const UniqueFd server(::accept4(listener.fd(), nullptr, nullptr, flags));
    ASSERT_TRUE(server.valid());
    EXPECT_EQ(::fcntl(server.get(), F_GETFL),
              (flags & SOCK_NONBLOCK) != 0 ? O_RDWR | O_NONBLOCK : O_RDWR);
    EXPECT_EQ(::fcntl(server.get(), F_GETFD), (flags & SOCK_CLOEXEC) != 0 ? FD_CLOEXEC : 0);
    set_nonblocking(server.get(), false);
    warm_up(client.get(), server.get());
  }
  errno = 0;
  EXPECT_EQ(::accept4(listener.fd(), nullptr, nullptr, 1), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Accept, OfWhatDoesNotListenFails) {
  const Connection connection = make_connection();
  for (int i = 0; i < 2; ++i) {
    errno = 0;
    EXPECT_EQ(::accept(connection.server.get(), nullptr, nullptr), -1);
    EXPECT_EQ(errno, EINVAL);
    errno = 0;
    EXPECT_EQ(::accept(connection.client.get(), nullptr, nullptr), -1);
    EXPECT_EQ(errno, EINVAL);
    warm_up(connection.client.get(), connection.server.get());
  }
  const UniqueFd file(::open("/dev/null", O_RDWR));
  errno = 0;
  EXPECT_EQ(::accept(file.get(), nullptr, nullptr), -1);
  EXPECT_EQ(errno, ENOTSOCK);
  const UniqueFd datagram(::socket(AF_UNIX, SOCK_DGRAM, 0));
  errno = 0;
  EXPECT_EQ(::accept(datagram.get(), nullptr, nullptr), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST(Accept, IsInterruptedBySignals) {
  const Listener listener;
  const ScopedHandler handler(SIGALRM, count_signal);
  const PeriodicAlarm alarm(60);
  errno = 0;
  EXPECT_EQ(::accept(listener.fd(), nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST(Accept, EndsWhenTheListenerIsShutDown) {
  const Listener listener;
  std::thread stopper([&] {
    sleep_a_moment();
    EXPECT_EQ(::shutdown(listener.fd(), SHUT_RD), 0);
  });
  errno = 0;
  EXPECT_EQ(::accept(listener.fd(), nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  stopper.join();
}

TEST(Accept, WithTheTableFullFailsAndKeepsTheClient) {
  const Listener listener;
  const UniqueFd client = listener.connect();
  rlimit previous{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &previous), 0);
  const int lowest_free = ::dup(client.get());
  ::close(lowest_free);
  rlimit tight = previous;
  tight.rlim_cur = static_cast<rlim_t>(lowest_free);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  errno = 0;
  EXPECT_EQ(::accept(listener.fd(), nullptr, nullptr), -1);
  EXPECT_EQ(errno, EMFILE);
  // One place is enough for a connection, also for one that moves.
  tight.rlim_cur = static_cast<rlim_t>(lowest_free) + 1;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const UniqueFd server(::accept(listener.fd(), nullptr, nullptr));
  EXPECT_TRUE(server.valid());
  warm_up(client.get(), server.get());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &previous), 0);
  warm_up(client.get(), server.get());
}

TEST(Accept, FromAnEventLoopTakesAllThatWait) {
  const Listener listener(64, SOCK_NONBLOCK);
  const EpollSet set;
  ASSERT_EQ(set.add(listener.fd(), EPOLLIN | EPOLLET, 1), 0);
  for (int round = 0; round < 3; ++round) {
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 10; ++i) clients.push_back(listener.connect());
    EXPECT_EQ(set.wait(-1), (Events{{1, EPOLLIN}}));
    std::vector<UniqueFd> servers;
    for (;;) {
      UniqueFd server(::accept(listener.fd(), nullptr, nullptr));
      if (!server.valid()) break;
      servers.push_back(std::move(server));
    }
    EXPECT_EQ(errno, EAGAIN);
    EXPECT_EQ(servers.size(), 10U);
  }
}

TEST(Accept, InTwoThreadsGivesEachItsOwn) {
  const Listener listener;
  std::vector<std::thread> servers;
  for (int i = 0; i < 2; ++i) {
    servers.emplace_back([&] {
      for (int n = 0; n < 10; ++n) {
        const UniqueFd server = listener.accept();
        warm_up_as_follower(server.get());
      }
    });
  }
  for (int n = 0; n < 20; ++n) {
    const UniqueFd client = listener.connect();
    warm_up_as_leader(client.get());
  }
  for (std::thread& server : servers) server.join();
}

TEST(Accept, OnAListenerInheritedByAChildWorks) {
  const Listener listener;
  Child child([&] {
    const UniqueFd server = listener.accept();
    warm_up_as_follower(server.get());
    EXPECT_EQ(accelerated_segments() > 0, preloaded());
  });
  const UniqueFd client = listener.connect();
  warm_up_as_leader(client.get());
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
  EXPECT_EQ(child.wait(), 0);
}

TEST(Accept, OnADuplicatedListenerWorks) {
  Listener listener;
  const UniqueFd copy(::dup(listener.fd()));
  const UniqueFd client = listener.connect();
  listener.close();
  const UniqueFd server(::accept(copy.get(), nullptr, nullptr));
  ASSERT_TRUE(server.valid());
  warm_up(client.get(), server.get());
  EXPECT_EQ(accelerated_segments() > 0, preloaded());
}

}  // namespace
}  // namespace tssx_test
