// What a process has no more of: descriptors, memory, or the system calls that a filter of its own
// forbids. A connection then stays with, or goes back to, the kernel's socket, or the call fails as
// the kernel's would; no byte is lost, and nothing is left behind.
//
// ENFILE comes from the same calls as EMFILE. The system's limit can't be lowered for one process,
// so a filter answers in its place.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/echo.h"
#include "tests/support/epoll_set.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"
#include "tests/support/rights.h"

namespace tssx_test {
namespace {

// Uses up every number that is left; they are given back by destruction.
class FullTable {
 public:
  explicit FullTable(int from) {
    while (true) {
      const int fd = ::fcntl(from, F_DUPFD_CLOEXEC, 0);
      if (fd < 0) break;
      taken_.push_back(fd);
    }
    error_ = errno;
  }
  FullTable(const FullTable&) = delete;
  FullTable& operator=(const FullTable&) = delete;
  ~FullTable() {
    for (const int fd : taken_) ::close(fd);
  }
  [[nodiscard]] int error() const { return error_; }

 private:
  std::vector<int> taken_;
  int error_ = 0;
};

// A table small enough to be filled quickly.
void limit_descriptors(rlim_t most) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = most;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
}

int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    if (::syscall(SYS_fcntl, fd, F_GETFD) >= 0) ++count;
  }
  return count;
}

long address_space_pages() {
  std::ifstream statm("/proc/self/statm");
  long pages = 0;
  statm >> pages;
  return pages;
}

// Answers `calls` with `error` from now on. By prctl(), as programs do; or by the raw instruction,
// so that the library does not notice, as if the filter had been there before the program started.
bool refuse(const std::vector<unsigned>& calls, unsigned error, bool by_prctl) {
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const unsigned call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
#if defined(__x86_64__)
  if (!by_prctl) {
    long result = SYS_seccomp;
    asm volatile("syscall"
                 : "+a"(result)
                 : "D"(static_cast<long>(SECCOMP_SET_MODE_FILTER)), "S"(0L), "d"(&filter)
                 : "rcx", "r11", "memory");
    return result == 0;
  }
#endif
  return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Small and large, both ways, and waiting.
void converse(int mine, int peer) {
  warm_up(mine, peer);
  std::thread echo([peer] { EXPECT_EQ(write_all(peer, read_exactly(peer, 300000)), 300000U); });
  EXPECT_EQ(write_all(mine, pattern(0, 300000)), 300000U);
  EXPECT_TRUE(matches_pattern(read_exactly(mine, 300000), 0));
  echo.join();
  EXPECT_EQ(poll_now(mine, POLLIN | POLLOUT), POLLOUT);
}

// --- descriptors ---

class NoDescriptors : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, NoDescriptors, every_situation(), situation_name);

TEST_P(NoDescriptors, OfThePeerLoseNothing) {
  ForkedConnection connection = connect_to([](int fd) {
    limit_descriptors(64);
    const FullTable full(fd);
    EXPECT_EQ(full.error(), EMFILE);
    serve(fd);
  });
  expect_echo(connection.mine.get());
  EXPECT_EQ(::shutdown(connection.mine.get(), SHUT_WR), 0);
  EXPECT_EQ(read_to_end(connection.mine.get()), "");
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(NoDescriptors, OfThePeerLoseNothingInAnEventLoop) {
  ForkedConnection connection = connect_to([](int fd) {
    limit_descriptors(64);
    const EpollSet set;
    const FullTable full(fd);
    set_nonblocking(fd, true);
    ASSERT_EQ(set.add(fd, EPOLLIN | EPOLLET | EPOLLRDHUP, 1), 0);
    for (bool ended = false; !ended;) {
      ASSERT_EQ(set.wait(-1).size(), 1U);
      char bytes[4096];
      ssize_t n = 0;
      while ((n = ::read(fd, bytes, sizeof bytes)) > 0) {
        set_nonblocking(fd, false);
        EXPECT_EQ(write_all(fd, std::string_view(bytes, static_cast<std::size_t>(n))),
                  static_cast<std::size_t>(n));
        set_nonblocking(fd, true);
      }
      ended = n == 0;
    }
  });
  expect_echo(connection.mine.get());
  EXPECT_EQ(::shutdown(connection.mine.get(), SHUT_WR), 0);
  EXPECT_EQ(read_to_end(connection.mine.get()), "");
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST_P(NoDescriptors, AtASenderOfOneDoNoHarm) {
  ForkedConnection connection = connect_to([](int fd) {
    limit_descriptors(64);
    {
      const FullTable full(fd);
      EXPECT_EQ(send_with(fd, "before and after", {1}), 0);
    }
    serve(fd);
  });
  Received got = receive(connection.mine.get(), 16);
  EXPECT_EQ(got.bytes, "before and after");
  EXPECT_EQ(got.descriptors.size(), 1U);
  expect_echo(connection.mine.get());
  EXPECT_EQ(::shutdown(connection.mine.get(), SHUT_WR), 0);
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST(NoDescriptorsAtAll, FailAsTheKernelsAndLeaveNothingOpen) {
  Child child([] {
    limit_descriptors(128);
    const Listener listener;
    int after_first = 0;
    for (int round = 0; round < 20; ++round) {
      const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
      {
        const FullTable full(listener.fd());
        errno = 0;
        EXPECT_EQ(::socket(AF_UNIX, SOCK_STREAM, 0), -1);
        EXPECT_EQ(errno, EMFILE);
        errno = 0;
        EXPECT_EQ(::epoll_create1(0), -1);
        EXPECT_EQ(errno, EMFILE);
        const Address address(listener.path());
        EXPECT_EQ(::connect(client.get(), address.get(), address.length), 0);
        errno = 0;
        EXPECT_EQ(::accept(listener.fd(), nullptr, nullptr), -1);
        EXPECT_EQ(errno, EMFILE);
        errno = 0;
        EXPECT_EQ(::dup(client.get()), -1);
        EXPECT_EQ(errno, EMFILE);
      }
      const UniqueFd server(::accept(listener.fd(), nullptr, nullptr));
      ASSERT_TRUE(server.valid());
      {
        const FullTable full(listener.fd());
        warm_up(client.get(), server.get());
      }
      if (round == 0) after_first = open_descriptors();
      EXPECT_EQ(open_descriptors(), after_first);
    }
  });
  EXPECT_EQ(child.wait(), 0);
}

// --- memory ---

TEST(NoMemory, LeavesConnectionsWithTheKernel) {
  Child child([] {
    { const Connection warmed_up_code = make_connection(); }
    const Listener listener;
    std::vector<Connection> connections(20);
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_AS, &limit), 0);
    const rlimit unlimited = limit;
    // Threads, vectors and the like find what they need in what there is.
    std::string bytes(4096, ' ');
    limit.rlim_cur = static_cast<rlim_t>(address_space_pages() * 4096);
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
    EXPECT_EQ(::mmap(nullptr, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
    EXPECT_EQ(errno, ENOMEM);
    for (Connection& connection : connections) {
      connection.client = listener.connect();
      connection.server = listener.accept();
      warm_up(connection.client.get(), connection.server.get());
    }
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &unlimited), 0);
    EXPECT_EQ(accelerated_segments(), 0);
    for (const Connection& connection : connections) {
      converse(connection.client.get(), connection.server.get());
    }
    const Connection later = make_connection();
    converse(later.client.get(), later.server.get());
    EXPECT_EQ(accelerated_segments() > 0, preloaded());
  });
  EXPECT_EQ(child.wait(), 0);
}

class NoMemoryAtThePeer : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, NoMemoryAtThePeer, every_situation(), situation_name);

TEST_P(NoMemoryAtThePeer, LosesNothing) {
  ForkedConnection connection = connect_to([](int fd) {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = static_cast<rlim_t>(address_space_pages() * 4096);
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
    serve(fd);
  });
  expect_echo(connection.mine.get());
  EXPECT_EQ(::shutdown(connection.mine.get(), SHUT_WR), 0);
  EXPECT_EQ(read_to_end(connection.mine.get()), "");
  EXPECT_EQ(connection.peer.wait(), 0);
}

// --- calls that a filter refuses ---

struct Refusal {
  unsigned error;
  bool known;  // made by prctl(), which the library sees
};
void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.error; }

class Refused : public testing::TestWithParam<Refusal> {
 protected:
  static bool refuse_memory() {
    return refuse({SYS_memfd_create, SYS_eventfd2}, GetParam().error, GetParam().known);
  }
};
INSTANTIATE_TEST_SUITE_P(, Refused,
                         testing::Values(Refusal{EPERM, false}, Refusal{ENFILE, false},
                                         Refusal{ENOSYS, false}, Refusal{EPERM, true}),
                         [](const testing::TestParamInfo<Refusal>& one) {
                           return "With" + std::to_string(one.param.error) +
                                  (one.param.known ? "ByPrctl" : "");
                         });

TEST_P(Refused, MemfdsLeaveNewConnectionsWithTheKernel) {
  Child child([] {
    ASSERT_TRUE(refuse_memory());
    const Connection connection = make_connection();
    converse(connection.client.get(), connection.server.get());
    EXPECT_EQ(accelerated_segments(), 0);
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Refused, MemfdsDoNoHarmToConnectionsThatAreThere) {
  Child child([] {
    const Connection cold = make_connection();
    const Connection warm = make_connection();
    warm_up(warm.client.get(), warm.server.get());
    ASSERT_TRUE(refuse_memory());
    converse(cold.client.get(), cold.server.get());
    converse(warm.client.get(), warm.server.get());
    // By the kernel, and back.
    EXPECT_EQ(send_with(warm.client.get(), "hello", {0}), 0);
    Received got = receive(warm.server.get(), 5);
    EXPECT_EQ(got.bytes, "hello");
    EXPECT_EQ(got.descriptors.size(), 1U);
    converse(warm.client.get(), warm.server.get());
    EXPECT_EQ(::shutdown(warm.client.get(), SHUT_WR), 0);
    EXPECT_EQ(read_to_end(warm.server.get()), "");
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(Refused, EventfdsLeaveNoThreadAsleepInASet) {
  Child child([] {
    const Connection connection = make_connection();
    warm_up(connection.client.get(), connection.server.get());
    ASSERT_TRUE(refuse_memory());
    const EpollSet set;
    ASSERT_EQ(set.add(connection.server.get(), EPOLLIN, 1), 0);
    constexpr int kBytes = 200;
    std::atomic<int> read{0};
    const auto take = [&] {
      while (read < kBytes) {
        if (set.wait(1000).empty()) continue;
        char byte = 0;
        if (::recv(connection.server.get(), &byte, 1, MSG_DONTWAIT) == 1) ++read;
      }
    };
    std::thread first(take);
    std::thread second(take);
    for (int i = 0; i < kBytes; ++i) {
      if (i % 50 == 0) sleep_a_moment();
      ASSERT_EQ(write_all(connection.client.get(), "x"), 1U);
    }
    first.join();
    second.join();
    EXPECT_EQ(read, kBytes);
  });
  EXPECT_EQ(child.wait(), 0);
}

// --- /proc ---

// Bytes that the kernel has for this end: in the ring, none or a bell.
int unread_in_kernel(int fd) {
  int unread = -1;
  ::syscall(SYS_ioctl, fd, FIONREAD, &unread);
  return unread;
}

TEST(WithoutProc, ConnectionsMoveAndServeAllTheSame) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can take /proc away";
  Child child([] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::umount2("/proc", MNT_DETACH) != 0) {
      ::_exit(77);
    }
    EXPECT_EQ(::access("/proc/self", F_OK), -1);
    const Connection connection = make_connection();
    converse(connection.client.get(), connection.server.get());
    ASSERT_EQ(write_all(connection.client.get(), "unread"), 6U);
    EXPECT_EQ(unread_in_kernel(connection.server.get()) < 6, preloaded());
    EXPECT_EQ(read_exactly(connection.server.get(), 6), "unread");
    // A set that two processes use: who has registered what stands in fdinfo.
    const EpollSet set;
    ASSERT_EQ(set.add(connection.server.get(), EPOLLIN, 7), 0);
    int used[2];
    ASSERT_EQ(::pipe(used), 0);
    Child other([&] {
      EXPECT_EQ(set.look(), Events{});
      EXPECT_EQ(write_all(used[1], "!"), 1U);
      EXPECT_EQ(set.wait(-1), (Events{{7, EPOLLIN}}));
      EXPECT_EQ(read_exactly(connection.server.get(), 3), "one");
    });
    EXPECT_EQ(read_exactly(used[0], 1), "!");
    ASSERT_EQ(write_all(connection.client.get(), "one"), 3U);
    EXPECT_EQ(other.wait(), 0);
    ASSERT_EQ(write_all(connection.client.get(), "two"), 3U);
    EXPECT_EQ(set.wait(-1), (Events{{7, EPOLLIN}}));
    EXPECT_EQ(read_exactly(connection.server.get(), 3), "two");
  });
  const int status = child.wait();
  if (status == 77) GTEST_SKIP() << "no mount namespace to be had";
  EXPECT_EQ(status, 0);
}

// --- many ---

TEST(ManyConnections, TwentyThousandAtOnceWork) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  constexpr rlim_t kSpare = 1100;  // the library's own lie below the first 1024
  const rlimit before = limit;
  limit.rlim_cur = 20000 + kSpare;
  limit.rlim_max = std::max(limit.rlim_max, limit.rlim_cur);
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    limit.rlim_cur = limit.rlim_max = before.rlim_max;
    if (before.rlim_max < 2 * kSpare || ::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      GTEST_SKIP() << "no descriptors to be had";
    }
  }
  const auto count = static_cast<std::size_t>(limit.rlim_cur - kSpare);
  const Listener listener(512);
  Child server([&] {
    // An echo for each until it ends.
    const EpollSet set;
    std::vector<UniqueFd> connections(count);
    for (UniqueFd& connection : connections) {
      connection = listener.accept();
      ASSERT_TRUE(connection.valid());
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u64 = static_cast<std::uint64_t>(&connection - connections.data());
      ASSERT_EQ(::epoll_ctl(set.fd(), EPOLL_CTL_ADD, connection.get(), &event), 0);
    }
    for (std::size_t left = count; left != 0;) {
      epoll_event events[64];
      const int found = ::epoll_wait(set.fd(), events, 64, -1);
      ASSERT_GT(found, 0);
      for (int i = 0; i < found; ++i) {
        UniqueFd& connection = connections[events[i].data.u64];
        char bytes[64];
        const ssize_t n = ::read(connection.get(), bytes, sizeof bytes);
        if (n > 0) {
          ASSERT_EQ(::write(connection.get(), bytes, static_cast<std::size_t>(n)), n);
        } else {
          connection.reset();
          --left;
        }
      }
    }
  });
  {
    std::vector<UniqueFd> clients;
    for (std::size_t i = 0; i < count; ++i) clients.push_back(listener.connect());
    for (const UniqueFd& client : clients) {
      ASSERT_EQ(write_all(client.get(), "one"), 3U);
    }
    for (const UniqueFd& client : clients) ASSERT_EQ(read_exactly(client.get(), 3), "one");
    // Of some of them more: they move.
    for (std::size_t i = 0; i < count; i += 100) {
      for (int turn = 0; turn < 40; ++turn) {
        ASSERT_EQ(write_all(clients[i].get(), "more"), 4U);
        ASSERT_EQ(read_exactly(clients[i].get(), 4), "more");
      }
    }
    EXPECT_EQ(accelerated_segments() > 0, preloaded());
    for (const UniqueFd& client : clients) ASSERT_EQ(write_all(client.get(), "two"), 3U);
    for (const UniqueFd& client : clients) ASSERT_EQ(read_exactly(client.get(), 3), "two");
  }
  EXPECT_EQ(server.wait(), 0);
  EXPECT_EQ(accelerated_segments(), 0);
  ::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace tssx_test
