// syscall(): programs and runtimes that do not use libc's wrappers.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/pattern.h"
#include "tests/support/rights.h"

// Exported by glibc, declared in no header, or without saying that they are C.
extern "C" {
int __open(const char*, int, ...);
int __open64(const char*, int, ...);
int __open_2(const char*, int);
int __open64_2(const char*, int);
int __openat_2(int, const char*, int);
int __openat64_2(int, const char*, int);
int __pipe(int*);
int pidfd_open(pid_t, unsigned);
}

namespace tssx_test {
namespace {

class Syscall : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Syscall, every_situation(), situation_name);

TEST_P(Syscall, ReadsAndWrites) {
  TSSX_KNOWN_DIFFERENCE("raw system calls");
  ASSERT_EQ(write_all(peer(), "hello"), 5U);
  char bytes[16] = {};
  EXPECT_EQ(::syscall(SYS_read, mine(), bytes, sizeof bytes), 5);
  EXPECT_STREQ(bytes, "hello");
  EXPECT_EQ(::syscall(SYS_write, mine(), "back", 4), 4);
  EXPECT_EQ(read_once(peer(), 10), "back");
}

TEST_P(Syscall, MixesWithTheWrappers) {
  TSSX_KNOWN_DIFFERENCE("raw system calls");
  for (std::size_t i = 0; i < 50; ++i) {
    const std::string bytes = pattern(i, 10);
    ASSERT_EQ(::syscall(SYS_sendto, peer(), bytes.data(), 10UL, 0, nullptr, 0), 10);
    ASSERT_EQ(write_all(peer(), bytes), 10U);
    ASSERT_EQ(read_exactly(mine(), 10), bytes);
    char got[10];
    ASSERT_EQ(::syscall(SYS_recvfrom, mine(), got, 10UL, 0, nullptr, nullptr), 10);
    ASSERT_EQ(std::string_view(got, 10), bytes);
  }
}

TEST_P(Syscall, Closes) {
  if (mine() < -1) TSSX_KNOWN_DIFFERENCE("raw system calls");
  ASSERT_EQ(write_all(mine(), "last"), 4U);
  EXPECT_EQ(::syscall(SYS_close, mine_.release()), 0);
  EXPECT_EQ(read_once(peer(), 10), "last");
  EXPECT_EQ(read_once(peer(), 10), "");
}

// What makes descriptors but no sockets may return a number that a raw call closed.
struct Maker {
  const char* name;
  int (*make)();  // the number
};

int first_of_pipe(int (*make)(int*)) {
  int ends[2] = {-1, -1};
  EXPECT_EQ(make(ends), 0);
  ::close(ends[1]);
  return ends[0];
}

const Maker kMakers[] = {
    {"open", [] { return ::open("/dev/null", O_RDONLY); }},
    {"open64", [] { return ::open64("/dev/null", O_RDONLY); }},
    {"openat", [] { return ::openat(AT_FDCWD, "/dev/null", O_RDONLY); }},
    {"openat64", [] { return ::openat64(AT_FDCWD, "/dev/null", O_RDONLY); }},
    {"__open", [] { return ::__open("/dev/null", O_RDONLY); }},
    {"__open64", [] { return ::__open64("/dev/null", O_RDONLY); }},
    {"__open_2", [] { return ::__open_2("/dev/null", O_RDONLY); }},
    {"__open64_2", [] { return ::__open64_2("/dev/null", O_RDONLY); }},
    {"__openat_2", [] { return ::__openat_2(AT_FDCWD, "/dev/null", O_RDONLY); }},
    {"__openat64_2", [] { return ::__openat64_2(AT_FDCWD, "/dev/null", O_RDONLY); }},
    {"creat", [] { return ::creat("/dev/null", 0600); }},
    {"creat64", [] { return ::creat64("/dev/null", 0600); }},
    {"pipe", [] { return first_of_pipe([](int* ends) { return ::pipe(ends); }); }},
    {"__pipe", [] { return first_of_pipe([](int* ends) { return ::__pipe(ends); }); }},
    {"pipe2", [] { return first_of_pipe([](int* ends) { return ::pipe2(ends, 0); }); }},
    {"eventfd", [] { return ::eventfd(0, 0); }},
    {"timerfd_create", [] { return ::timerfd_create(CLOCK_MONOTONIC, 0); }},
    {"signalfd",
     [] {
       sigset_t none;
       ::sigemptyset(&none);
       return ::signalfd(-1, &none, 0);
     }},
    {"inotify_init", [] { return ::inotify_init(); }},
    {"inotify_init1", [] { return ::inotify_init1(0); }},
    {"memfd_create", [] { return ::memfd_create("test", 0); }},
    {"pidfd_open", [] { return ::pidfd_open(::getpid(), 0); }},
    {"posix_openpt", [] { return ::posix_openpt(O_RDWR | O_NOCTTY); }},
    {"getpt", [] { return ::getpt(); }},
    {"openpty",
     [] {
       int master = -1;
       int slave = -1;
       EXPECT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
       ::close(slave);
       return master;
     }},
    {"fopen", [] { return ::fopen("/dev/null", "r")->_fileno; }},
    {"fopen64", [] { return ::fopen64("/dev/null", "r")->_fileno; }},
    {"tmpfile", [] { return ::tmpfile()->_fileno; }},
    {"tmpfile64", [] { return ::tmpfile64()->_fileno; }},
    {"popen",
     [] {
       const int fd = ::popen("true", "r")->_fileno;
       ::wait(nullptr);
       return fd;
     }},
    {"epoll_create1", [] { return ::epoll_create1(0); }},
    {"socket", [] { return ::socket(AF_INET, SOCK_DGRAM, 0); }},
    {"dup", [] { return ::dup(1); }},
    {"fcntl F_DUPFD", [] { return ::fcntl(1, F_DUPFD, 0); }},
    {"mkstemp",
     [] {
       char name[] = "/tmp/tssx-calls-XXXXXX";
       const int fd = ::mkstemp(name);
       ::unlink(name);
       return fd;
     }},
    {"mkostemps",
     [] {
       char name[] = "/tmp/tssx-calls-XXXXXX.x";
       const int fd = ::mkostemps(name, 2, O_CLOEXEC);
       ::unlink(name);
       return fd;
     }},
    {"shm_open",
     [] {
       const std::string name = "/tssx-calls-" + std::to_string(::getpid());
       const int fd = ::shm_open(name.c_str(), O_RDWR | O_CREAT, 0600);
       ::shm_unlink(name.c_str());
       return fd;
     }},
    {"mq_open",
     [] {
       const std::string name = "/tssx-calls-" + std::to_string(::getpid());
       const int fd = ::mq_open(name.c_str(), O_RDWR | O_CREAT, 0600, nullptr);
       ::mq_unlink(name.c_str());
       return fd;
     }},
    {"recvmsg",
     [] {
       // The number comes by SCM_RIGHTS.
       int ends[2];
       EXPECT_EQ(::syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, ends), 0);
       EXPECT_EQ(send_with(ends[0], "x", {STDOUT_FILENO}), 0);
       // Its number is the lowest one: the socketpair must not stay below.
       const int high = ::fcntl(ends[1], F_DUPFD, 500);
       ::syscall(SYS_close, ends[0]);
       ::syscall(SYS_close, ends[1]);
       Received got = receive(high, 1);
       ::close(high);
       const int fd = got.descriptors.size() == 1 ? got.descriptors[0].release() : -1;
       return fd;
     }},
};

TEST_P(Syscall, ClosesWhatAnyCallMayOpenAgain) {
  for (const Maker& maker : kMakers) {
    Connection connection = make_connection();
    if (GetParam().warm) warm_up(connection.client.get(), connection.server.get());
    // The lowest number that is free, so that the next file gets it.
    const int number = ::dup(GetParam().server ? connection.server.get() : connection.client.get());
    ASSERT_NE(number, -1);
    ASSERT_EQ(::syscall(SYS_close, number), 0);
    const int made = maker.make();
    ASSERT_EQ(made, number) << maker.name;
    // The kernel's answer, and not that of a connection: nobody can shut anything but a socket
    // down, and a connection says ENOTCONN or succeeds.
    errno = 0;
    const int result = ::shutdown(made, SHUT_RD);
    EXPECT_EQ(result, -1) << maker.name;
    EXPECT_TRUE(errno == ENOTSOCK || errno == ENOTCONN) << maker.name << ": " << errno;
    // Nor is it polled as one: a raw poll is the judge.
    pollfd by_libc{made, POLLIN | POLLOUT, 0};
    pollfd raw = by_libc;
    EXPECT_EQ(::poll(&by_libc, 1, 0), ::syscall(SYS_poll, &raw, 1, 0)) << maker.name;
    EXPECT_EQ(by_libc.revents, raw.revents) << maker.name;
    EXPECT_EQ(::close(made), 0) << maker.name;
  }
}

}  // namespace
}  // namespace tssx_test
