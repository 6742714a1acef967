#include "tests/fault/shapes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "tests/fault/process.h"
#include "tests/fault/records.h"
#include "tests/fault/stream.h"

extern char** environ;

namespace fault {
namespace {

constexpr std::uint64_t kSeed = 7;
constexpr int kWarm = 40;  // round trips until a connection is in the ring

int exit_status = 0;

void moment(useconds_t microseconds) { ::usleep(microseconds); }

// --- streams ---

void rounds(Stream& stream, Role role, int count, std::size_t size, Calls calls = Calls::plain) {
  for (int i = 0; i < count; ++i) {
    if (role == client) stream.put(size, calls);
    stream.get(size, calls);
    if (role == server) stream.put(size, calls);
  }
}

// Each end in turn is late, so that the other one sleeps.
void slow_rounds(Stream& stream, Role role, int count, Calls calls = Calls::plain) {
  for (int i = 0; i < count; ++i) {
    if (role == client) {
      if (i % 2 == 0) moment(600);
      stream.put(100, calls);
    }
    stream.get(100, calls);
    if (role == server) {
      if (i % 2 == 1) moment(600);
      stream.put(100, calls);
    }
  }
}

// One end is late to read a request; the other waits for the answer.
void late_round(Stream& stream, Role role, Role late, Calls calls) {
  if (role != late) {
    stream.put(100, calls);
    stream.get(100, calls);
    return;
  }
  moment(7000);
  stream.get(100, calls);
  stream.put(100, calls);
}

// More than the ring holds, to a reader who is late.
void bulk(Stream& stream, Role role, Role from, Calls calls = Calls::plain,
          useconds_t late = 1500) {
  constexpr std::size_t kBulk = 420U << 10U;
  if (role == from) {
    stream.put(kBulk, calls);
  } else {
    moment(late);
    stream.get(kBulk, calls);
  }
}

// The end of all shapes of streams: the client closes first.
void part(Stream& stream, Role role, Ledger& ledger) {
  if (role == client) {
    stream.close();
  } else {
    stream.finish(ledger);
  }
}

// Runs the body; where the peer is gone, checks what it left.
template <class Body>
void with_stream(int fd, Role role, Ledger& ledger, Body body) {
  Stream stream(fd, ledger.connections[0], role, kSeed);
  try {
    body(stream);
    part(stream, role, ledger);
  } catch (const PeerGone&) {
    stream.finish(ledger);
  }
}

void talk(int fd, Role role, Role /*doer*/, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    rounds(stream, role, kWarm, 16);
    rounds(stream, role, 10, 700, Calls::parts);
    slow_rounds(stream, role, 6);
    bulk(stream, role, server);
    bulk(stream, role, client, Calls::parts);
    const timeval patience{1, 0};
    ::setsockopt(stream.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(stream.fd(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    slow_rounds(stream, role, 6, Calls::timeout);
  });
}

void by_poll(int fd, Role role, Role /*doer*/, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    rounds(stream, role, kWarm, 16, Calls::poll);
    slow_rounds(stream, role, 6, Calls::poll);
    bulk(stream, role, server, Calls::poll);
    bulk(stream, role, client, Calls::poll);
  });
}

void add_member(int epfd, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) != 0) blame("epoll_ctl");
}

void by_epoll(int fd, Role role, Role /*doer*/, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    const int set = ::epoll_create1(EPOLL_CLOEXEC);
    add_member(set, stream.fd(), EPOLLIN | EPOLLOUT | EPOLLET);
    stream.wait_in(set);
    rounds(stream, role, kWarm, 16, Calls::poll);
    slow_rounds(stream, role, 6, Calls::poll);
    late_round(stream, role, server, Calls::poll);
    late_round(stream, role, client, Calls::poll);
    bulk(stream, role, server, Calls::poll);
    bulk(stream, role, client, Calls::poll);
    // A set in a set.
    const int outer = ::epoll_create1(EPOLL_CLOEXEC);
    const int inner = ::epoll_create1(EPOLL_CLOEXEC);
    add_member(inner, stream.fd(), EPOLLIN);
    add_member(outer, inner, EPOLLIN);
    stream.wait_in(outer);
    slow_rounds(stream, role, 6, Calls::poll);
    ::close(outer);
    ::close(inner);
    // Beside a thread that waits in the same set, and leaves what it is told to this one.
    const int both = ::epoll_create1(EPOLL_CLOEXEC);
    const int stop = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    add_member(both, stream.fd(), EPOLLIN);
    add_member(both, stop, EPOLLIN);
    std::atomic<bool> stopped{false};
    std::thread other([&] {
      epoll_event found[4];
      while (!stopped) {
        ::epoll_wait(both, found, 4, -1);
        moment(50);
      }
    });
    stream.wait_in(both);
    const auto join = [&] {
      stopped = true;
      const std::uint64_t one = 1;
      if (::write(stop, &one, sizeof one) < 0) blame("eventfd");
      other.join();
      stream.wait_in(-1);
    };
    try {
      slow_rounds(stream, role, 8, Calls::poll);
    } catch (...) {
      join();
      throw;
    }
    join();
    ::close(both);
    ::close(stop);
    ::close(set);
  });
}

// One end passes descriptors now and then.
void aside(int fd, Role role, Role doer, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    rounds(stream, role, kWarm, 16);
    for (int turn = 0; turn < 2; ++turn) {
      if (role == doer) {
        stream.put_with_descriptor(100);
      } else {
        stream.get_with_descriptor(100);
      }
      rounds(stream, role, 80 << turn, 50);
      bulk(stream, role, doer);
    }
  });
}

void spawn_and_await() {
  pid_t child = 0;
  const char* arguments[] = {"true", nullptr};
  if (::posix_spawnp(&child, "true", nullptr, nullptr, const_cast<char**>(arguments), environ) !=
      0) {
    blame("posix_spawn");
  }
  ::waitpid(child, nullptr, 0);
}

// One end leaves bytes to the other that it has not read when that one starts a program, which
// inherits the connection; then it executes this one again, which goes on.
void exec(int fd, Role role, Role doer, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    rounds(stream, role, kWarm, 16);
    if (role != doer) {
      stream.put(5000);
      stream.get(7);
      stream.put(3000);
      slow_rounds(stream, role, 4);
      rounds(stream, role, 4, 3000);
      return;
    }
    stream.get(100);
    stream.forgive_loss();
    ::fcntl(stream.fd(), F_SETFD, 0);
    spawn_and_await();
    stream.put(7);
    stream.get(7900);
    slow_rounds(stream, role, 4);
    char number[16];
    std::snprintf(number, sizeof number, "%d", stream.fd());
    ::unsetenv("TSSX_FAULT");
    ::execl("/proc/self/exe", "fault", "--resume", role == server ? "server" : "client", number,
            ::getenv("FAULT_LEDGER"), nullptr);
    blame("exec");
  });
}

// One end starts a program, which inherits the connection, before that has moved.
void cold_exec(int fd, Role role, Role doer, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    rounds(stream, role, 3, 16);
    if (role == doer) {
      ::fcntl(stream.fd(), F_SETFD, 0);
      spawn_and_await();
      ::fcntl(stream.fd(), F_SETFD, FD_CLOEXEC);
    }
    rounds(stream, role, kWarm, 16);
    bulk(stream, role, server);
  });
}

// Ends are told by shutdown(), one after the other.
void half(int fd, Role role, Role doer, Ledger& ledger) {
  Stream stream(fd, ledger.connections[0], role, kSeed);
  try {
    rounds(stream, role, kWarm, 16);
    slow_rounds(stream, role, 2);
    if (role == doer) {
      stream.put(3000);
      ::shutdown(stream.fd(), SHUT_WR);
      stream.get(100U << 10U);
      ::shutdown(stream.fd(), SHUT_RD);
      stream.close();
      return;
    }
    stream.get(3000);
    stream.put(100U << 10U);
    moment(300);
    stream.forgive_end();
    stream.finish(ledger);
  } catch (const PeerGone&) {
    stream.finish(ledger);
  }
}

// One end alone writes, in small pieces, and the other is late.
void one_way(int fd, Role role, Role doer, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    // What the client has sent and the server has not read keeps the client's own direction out of
    // the ring.
    if (role == client && doer == server) stream.put(50);
    for (int i = 0; i < 160; ++i) {
      if (role == doer) {
        // A connection moves only while its reader has nothing unread, and answers in time.
        if (i >= 40) stream.await_reader(ledger);
        stream.put(900);
      } else {
        stream.get(900);
      }
    }
    bulk(stream, role, doer, Calls::poll, 3000);
    bulk(stream, role, doer);
    // Only now can the server sleep until there is room, and the client, which has sent nothing
    // since, has to cut for the bell.
    if (role == server && doer == server) stream.get(50);
    if (role != doer) stream.await_writer(ledger, 100U << 10U);
    bulk(stream, role, doer, Calls::poll, 3000);
  });
}

// A thread that reads and one that writes at each end.
void by_threads(int fd, Role role, Role /*doer*/, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    rounds(stream, role, kWarm, 16);
    std::thread writer([&stream] {
      try {
        for (int i = 0; i < 40; ++i) {
          if (i % 10 == 0) moment(700);
          stream.put(static_cast<std::size_t>(200 + i * 350));
        }
        stream.put(300U << 10U);
      } catch (const PeerGone&) {
      }
    });
    try {
      for (int i = 0; i < 40; ++i) stream.get(static_cast<std::size_t>(200 + i * 350));
      moment(2500);
      stream.get(300U << 10U);
    } catch (...) {
      writer.join();
      throw;
    }
    writer.join();
    slow_rounds(stream, role, 6);
    slow_rounds(stream, role, 4, Calls::poll);
  });
}

// One end puts its connection on standard input, where libc may read: back to the kernel.
void onto_stdin(int fd, Role role, Role doer, Ledger& ledger) {
  with_stream(fd, role, ledger, [&](Stream& stream) {
    rounds(stream, role, kWarm, 16);
    if (role != doer) {
      stream.put(2000);
    } else {
      moment(300);
      stream.forgive_loss();
      ::dup2(stream.fd(), 0);
      ::close(stream.fd());
      stream.move_to(0);
      stream.get(2000);
    }
    slow_rounds(stream, role, 4);
    bulk(stream, role, doer);
    rounds(stream, role, 10, 100);
  });
}

// --- records ---

// Closes its descriptor on all ways out.
class Held {
 public:
  explicit Held(int fd) : fd_(fd) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() { close(); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

Worker& enlist(Ledger& ledger, std::size_t which) {
  Worker& worker = ledger.connections[0].workers[which];
  worker.answered = 1;
  worker.process = ::getpid();
  return worker;
}

// The child of this process: enlisted before it begins.
template <class Body>
pid_t fork_worker(Ledger& ledger, Body body) {
  const pid_t child = ::fork();
  if (child < 0) blame("fork");
  if (child == 0) {
    name_process("forked worker");
    body(enlist(ledger, 1));
    ::_exit(0);
  }
  return child;
}

// The child may not have come to its first line.
void await_child(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    exit_status = kChildKilled;
  } else if (WEXITSTATUS(status) != 0) {
    ::_exit(1);
  }
}

void request(int fd, Ledger& ledger, std::uint64_t slow) {
  Requester requester(fd, ledger, ledger.connections[0]);
  requester.ask(40, 1);
  requester.ask(60, 6);
  for (std::uint64_t i = 0; i < slow; ++i) {
    moment(700);
    requester.ask(1, 1);
  }
  requester.ask(60, 15);
  ::close(fd);
}

// Two processes answer at the same time.
void siblings(int fd, Role role, Role doer, Ledger& ledger) {
  if (role != doer) return request(fd, ledger, 10);
  const Held held(fd);
  Worker& worker = enlist(ledger, 0);
  for (int i = 0; i < 40; ++i) {
    if (serve_one(fd, worker) == Served::end) return;
  }
  const pid_t child = fork_worker(ledger, [fd](Worker& own) { serve_all(fd, own); });
  serve_all(fd, worker);
  await_child(child);
}

// A second process, which answers when the first one is gone.
pid_t fork_successor(int fd, Ledger& ledger, const int (&gone)[2]) {
  return fork_worker(ledger, [fd, &gone](Worker& own) {
    ::close(gone[1]);
    char byte = 0;
    while (::read(gone[0], &byte, 1) < 0 && errno == EINTR) {
    }
    serve_all(fd, own);
  });
}

// The first one is slow now and then, so that the requester sleeps; with some answers it passes a
// descriptor, for which the connection steps aside, if `doer` is the server.
void in_turn(int fd, Role role, Role doer, Ledger& ledger) {
  if (role != doer) return request(fd, ledger, 6);
  int gone[2];
  if (::pipe2(gone, O_CLOEXEC) != 0) blame("pipe");
  Held held(fd);
  Worker& worker = enlist(ledger, 0);
  for (int i = 0; i < 40; ++i) {
    if (serve_one(fd, worker) == Served::end) return;
  }
  const pid_t child = fork_successor(fd, ledger, gone);
  for (int i = 0; i < 90; ++i) {
    if (i % 6 == 0) moment(500);
    if (serve_one(fd, worker, 0, role == server && i == 60) == Served::end) break;
  }
  ::close(gone[1]);
  held.close();
  await_child(child);
}

// The end is shared before it has moved. The child leaves without a word.
void early(int fd, Role role, Role doer, Ledger& ledger) {
  if (role != doer) return request(fd, ledger, 4);
  const Held held(fd);
  Worker& worker = enlist(ledger, 0);
  const pid_t parent = ::getpid();
  const pid_t child = fork_worker(ledger, [fd, parent](Worker& own) {
    for (int i = 0; i < 4; ++i) {
      if (serve_one(fd, own) == Served::end) return;
    }
    if (::getppid() != parent) serve_all(fd, own);
  });
  await_child(child);
  serve_all(fd, worker);
}

// An end is shared while the connection moves: with the offer outstanding where the requester is
// late, which takes it back; or accepted, and neither direction sure to be in the ring.
void moving(int fd, Role role, Role doer, Ledger& ledger, useconds_t late) {
  Held held(fd);
  if (role != doer) {
    Requester requester(fd, ledger, ledger.connections[0]);
    requester.ask(3, 1);
    requester.post(1);
    moment(late);
    requester.collect();
    moment(late == 0 ? 2000 : 0);
    requester.ask(60, 3);
    return;
  }
  int gone[2];
  if (::pipe2(gone, O_CLOEXEC) != 0) blame("pipe");
  Worker& worker = enlist(ledger, 0);
  for (int i = 0; i < 4; ++i) {
    if (serve_one(fd, worker) == Served::end) return;
  }
  moment(late == 0 ? 1000 : 0);
  const pid_t child = fork_successor(fd, ledger, gone);
  for (int i = 0; i < 40; ++i) {
    if (serve_one(fd, worker) == Served::end) break;
  }
  ::close(gone[1]);
  held.close();
  await_child(child);
}
void outstanding(int fd, Role role, Role doer, Ledger& ledger) {
  moving(fd, role, doer, ledger, 4000);
}
void undecided(int fd, Role role, Role doer, Ledger& ledger) { moving(fd, role, doer, ledger, 0); }

// Two processes wait in one epoll set.
void shared_set(int fd, Role role, Role doer, Ledger& ledger) {
  if (role != doer) return request(fd, ledger, 6);
  const int set = ::epoll_create1(EPOLL_CLOEXEC);
  add_member(set, fd, EPOLLIN);
  const auto serve = [set, fd](Worker& worker, int count) {
    for (int served = 0; served != count;) {
      epoll_event found{};
      // Now and then: docs/limitations.md, "Sets shared by processes".
      ::epoll_wait(set, &found, 1, -1);
      const Served what = serve_one(fd, worker, MSG_DONTWAIT);
      if (what == Served::end) return false;
      if (what == Served::answered) ++served;
    }
    return true;
  };
  const Held held(fd);
  Worker& worker = enlist(ledger, 0);
  if (!serve(worker, 40)) return;
  const pid_t child = fork_worker(ledger, [&](Worker& own) { serve(own, -1); });
  serve(worker, -1);
  await_child(child);
}

// --- the connection ---

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int accept_at(const std::string& path, Ledger& ledger) {
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = address_of(path);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 8) != 0) {
    blame("listen: %s", std::strerror(errno));
  }
  for (;;) {
    const bool stop = ledger.stop != 0;
    pollfd incoming{listener, POLLIN, 0};
    if (::poll(&incoming, 1, 20) == 1) break;
    if (stop) return -1;  // the client died before it came
  }
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  ::close(listener);
  return fd;
}

int connect_to(const std::string& path, Ledger& ledger) {
  const sockaddr_un address = address_of(path);
  for (;;) {
    const bool stop = ledger.stop != 0;
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    ::close(fd);
    if (stop) return -1;
    moment(500);
  }
}

int leave_nothing(int sockets_before) {
  // A client keeps one socket of the library's for its presence.
  if (mapped_segments() != 0) blame("%d segments are mapped at the end", mapped_segments());
  if (open_sockets() > sockets_before + 1) {
    blame("%d sockets at the end, %d at the start", open_sockets(), sockets_before);
  }
  return exit_status;
}

}  // namespace

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {
      {"talk", talk, false, false},         {"poll", by_poll, false, false},
      {"epoll", by_epoll, false, false},    {"threads", by_threads, false, false},
      {"aside", aside, false, true},        {"exec", exec, false, true},
      {"coldexec", cold_exec, false, true}, {"half", half, false, true},
      {"oneway", one_way, false, true},     {"stdin", onto_stdin, false, true},
      {"siblings", siblings, true, true},   {"inturn", in_turn, true, true},
      {"early", early, true, true},         {"outstanding", outstanding, true, true},
      {"undecided", undecided, true, true}, {"sharedset", shared_set, true, true}};
  return all;
}

int act(const std::string& name, Role role, const std::string& path, Ledger& ledger) {
  const std::size_t dot = name.find('.');
  const Role doer = dot != std::string::npos && name.substr(dot) == ".client" ? client : server;
  for (const Shape& shape : shapes()) {
    if (shape.name != name.substr(0, dot)) continue;
    const int sockets = open_sockets();
    const int fd = role == server ? accept_at(path, ledger) : connect_to(path, ledger);
    if (fd < 0) return 0;
    shape.run(fd, role, doer, ledger);
    return leave_nothing(sockets);
  }
  blame("no shape %s", name.c_str());
}

int act_after_exec(int fd, Role role, Ledger& ledger) {
  Stream stream(fd, ledger.connections[0], role, kSeed);
  stream.forgive_end();
  try {
    rounds(stream, role, 4, 3000);
    part(stream, role, ledger);
  } catch (const PeerGone&) {
    stream.finish(ledger);
  }
  return leave_nothing(1);
}

}  // namespace fault
