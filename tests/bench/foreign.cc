// What a call costs on descriptors that are none of the library's business. scripts/bench-foreign
// runs this natively and preloaded in turn and tells the difference.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace {

// A call that fails would be quick, and prove nothing.
void require(bool succeeded) {
  if (!succeeded) std::abort();
}

struct Pair {
  int ends[2];
};

Pair make_pipe() {
  Pair pair{};
  require(::pipe2(pair.ends, O_NONBLOCK) == 0);
  return pair;
}

Pair make_sockets() {
  Pair pair{};
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair.ends) == 0);
  return pair;
}

void drop(const Pair& pair) {
  ::close(pair.ends[0]);
  ::close(pair.ends[1]);
}

void eventfd_write(benchmark::State& state) {
  const int fd = ::eventfd(0, EFD_NONBLOCK);
  const std::uint64_t one = 1;
  for (auto _ : state) require(::write(fd, &one, sizeof one) == sizeof one);
  ::close(fd);
}
BENCHMARK(eventfd_write);

void eventfd_read(benchmark::State& state) {
  const int fd = ::eventfd(~0U, EFD_NONBLOCK | EFD_SEMAPHORE);
  std::uint64_t value = 0;
  for (auto _ : state) require(::read(fd, &value, sizeof value) == sizeof value);
  ::close(fd);
}
// A semaphore of this size lasts for fewer iterations than the benchmark would choose.
BENCHMARK(eventfd_read)->Iterations(500'000);

void pipe_write_read(benchmark::State& state) {
  const Pair pair = make_pipe();
  char bytes[64] = {};
  for (auto _ : state) {
    require(::write(pair.ends[1], bytes, sizeof bytes) == sizeof bytes);
    require(::read(pair.ends[0], bytes, sizeof bytes) == sizeof bytes);
  }
  drop(pair);
}
BENCHMARK(pipe_write_read);

void pipe_writev_readv(benchmark::State& state) {
  const Pair pair = make_pipe();
  char bytes[64] = {};
  iovec part{bytes, sizeof bytes};
  for (auto _ : state) {
    require(::writev(pair.ends[1], &part, 1) == sizeof bytes);
    require(::readv(pair.ends[0], &part, 1) == sizeof bytes);
  }
  drop(pair);
}
BENCHMARK(pipe_writev_readv);

void socket_send_recv(benchmark::State& state) {
  const Pair pair = make_sockets();
  char bytes[64] = {};
  for (auto _ : state) {
    require(::send(pair.ends[0], bytes, sizeof bytes, 0) == sizeof bytes);
    require(::recv(pair.ends[1], bytes, sizeof bytes, 0) == sizeof bytes);
  }
  drop(pair);
}
BENCHMARK(socket_send_recv);

void socket_sendmsg_recvmsg(benchmark::State& state) {
  const Pair pair = make_sockets();
  char bytes[64] = {};
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  for (auto _ : state) {
    require(::sendmsg(pair.ends[0], &message, 0) == sizeof bytes);
    require(::recvmsg(pair.ends[1], &message, 0) == sizeof bytes);
  }
  drop(pair);
}
BENCHMARK(socket_sendmsg_recvmsg);

void poll_of(benchmark::State& state) {
  const int fd = ::eventfd(1, 0);
  pollfd fds[64];
  const auto count = static_cast<nfds_t>(state.range(0));
  for (nfds_t i = 0; i < count; ++i) fds[i] = pollfd{fd, POLLIN, 0};
  for (auto _ : state) require(::poll(fds, count, 0) == static_cast<int>(count));
  ::close(fd);
}
BENCHMARK(poll_of)->Arg(1)->Arg(10)->Arg(64);

void select_of_one(benchmark::State& state) {
  const int fd = ::eventfd(1, 0);
  timeval now{};
  for (auto _ : state) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    require(::select(fd + 1, &set, nullptr, nullptr, &now) == 1);
  }
  ::close(fd);
}
BENCHMARK(select_of_one);

void epoll_wait_ready(benchmark::State& state) {
  const int fd = ::eventfd(1, 0);
  const int set = ::epoll_create1(0);
  epoll_event event{EPOLLIN, {}};
  require(::epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
  for (auto _ : state) require(::epoll_wait(set, &event, 1, 0) == 1);
  ::close(set);
  ::close(fd);
}
BENCHMARK(epoll_wait_ready);

void epoll_wait_idle(benchmark::State& state) {
  const int fd = ::eventfd(0, 0);
  const int set = ::epoll_create1(0);
  epoll_event event{EPOLLIN, {}};
  require(::epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
  for (auto _ : state) require(::epoll_wait(set, &event, 1, 0) == 0);
  ::close(set);
  ::close(fd);
}
BENCHMARK(epoll_wait_idle);

void fstat_of_a_file(benchmark::State& state) {
  const int fd = ::open("/dev/null", O_RDONLY);
  struct stat status {};
  for (auto _ : state) require(::fstat(fd, &status) == 0);
  ::close(fd);
}
BENCHMARK(fstat_of_a_file);

void pread_of_a_file(benchmark::State& state) {
  const int fd = ::open("/proc/self/exe", O_RDONLY);
  char byte = 0;
  for (auto _ : state) require(::pread(fd, &byte, 1, 0) == 1);
  ::close(fd);
}
BENCHMARK(pread_of_a_file);

void fcntl_getfl(benchmark::State& state) {
  const int fd = ::eventfd(0, 0);
  for (auto _ : state) require(::fcntl(fd, F_GETFL) >= 0);
  ::close(fd);
}
BENCHMARK(fcntl_getfl);

void dup_and_close(benchmark::State& state) {
  const int fd = ::eventfd(0, 0);
  for (auto _ : state) {
    const int made = ::dup(fd);
    require(made >= 0);
    ::close(made);
  }
  ::close(fd);
}
BENCHMARK(dup_and_close);

void open_and_close(benchmark::State& state) {
  for (auto _ : state) {
    const int fd = ::open("/dev/null", O_RDONLY);
    require(fd >= 0);
    ::close(fd);
  }
}
BENCHMARK(open_and_close);

void socket_and_close(benchmark::State& state) {
  for (auto _ : state) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    require(fd >= 0);
    ::close(fd);
  }
}
BENCHMARK(socket_and_close);

}  // namespace

BENCHMARK_MAIN();
