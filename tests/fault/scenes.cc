#include "tests/fault/scenes.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <memory>
#include <thread>

#include "tests/fault/records.h"
#include "tests/fault/stream.h"

namespace fault {
namespace {

constexpr int kWorkerProcesses = 3;
constexpr int kPollMs = 20;

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U + 1) { next(); }
  std::uint64_t next() {  // splitmix64
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t limit) { return next() % limit; }

 private:
  std::uint64_t state_;
};

// What comes next on a connection; the same at both ends.
class Steps {
 public:
  Steps(std::uint64_t connection, bool large) : random_(connection), large_(large) {}
  std::size_t size() {
    const std::size_t kind = random_.below(100);
    if (large_ && kind < 8) return 1 + random_.below(300U << 10U);
    if (kind < (large_ ? 50 : 10)) return 1 + random_.below(8U << 10U);
    return 1 + random_.below(200);
  }

 private:
  Random random_;
  bool large_;
};

Calls some_calls(Random& random) {
  constexpr Calls kCalls[] = {Calls::plain, Calls::plain, Calls::parts, Calls::poll};
  return kCalls[random.below(4)];
}

// --- connections ---

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Connection& connection_of(Ledger& ledger, std::uint64_t id) {
  return ledger.connections[id % kConnections];
}

// A listener's next connection; -1 where it has to end.
int accept_next(int listener, Ledger& ledger) {
  for (;;) {
    const bool stop = ledger.stop == 2;
    pollfd incoming{listener, POLLIN, 0};
    if (::poll(&incoming, 1, kPollMs) != 1) {
      if (stop) return -1;
      continue;
    }
    // Another process may be faster: the listener is non-blocking.
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) return fd;
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
      blame("accept: %s", std::strerror(errno));
    }
  }
}

// False if the client was gone before it said which connection this is.
bool read_hello(int fd, std::uint64_t* id) {
  std::size_t have = 0;
  while (have < sizeof *id) {
    const ssize_t got = ::read(fd, reinterpret_cast<char*>(id) + have, sizeof *id - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    have += static_cast<std::size_t>(got);
  }
  return true;
}

int connect_to(const std::string& path, Ledger& ledger, std::size_t slot) {
  const sockaddr_un address = address_of(path);
  while (ledger.stop == 0) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    ::close(fd);
    ++ledger.progress[slot];  // the server was killed, and is not back yet
    ::usleep(1000);
  }
  return -1;
}

// --- streams ---

// One connection at the server's end, by blocking calls.
void serve_stream(int fd, Ledger& ledger, bool large) {
  std::uint64_t id = 0;
  if (!read_hello(fd, &id)) {
    ::close(fd);
    return;
  }
  Stream stream(fd, connection_of(ledger, id), server, id);
  Steps steps(id, large);
  Random random(id + 77);
  try {
    for (;;) {
      stream.get(steps.size(), some_calls(random));
      stream.put(steps.size(), some_calls(random));
    }
  } catch (const PeerGone&) {
    stream.finish(ledger);
  }
}

void ask_streams(const std::string& path, Ledger& ledger, std::size_t slot, bool large) {
  Random random(ledger.next_connection + slot * 1000);
  while (ledger.stop == 0) {
    const int fd = connect_to(path, ledger, slot);
    if (fd < 0) return;
    const std::uint64_t id = ledger.next_connection++;
    Connection& connection = connection_of(ledger, id);
    new (&connection) Connection{};
    if (::send(fd, &id, sizeof id, MSG_NOSIGNAL) != sizeof id) {
      ::close(fd);
      continue;
    }
    Stream stream(fd, connection, client, id);
    Steps steps(id, large);
    // Some connections are short; most go to the ring.
    const std::size_t count = random.below(10) == 0 ? random.below(30) : random.below(1500);
    try {
      for (std::size_t i = 0; i < count && ledger.stop == 0; ++i) {
        stream.put(steps.size(), some_calls(random));
        stream.get(steps.size(), some_calls(random));
        ++ledger.progress[slot];
        if (i == 40 && id % 4 == 0) {
          ++ledger.asked;
          if (mapped_segments() != 0) ++ledger.in_ring;
        }
      }
      stream.close();
    } catch (const PeerGone&) {
      stream.finish(ledger);
    }
    ++ledger.progress[slot];
  }
}

void ask_small(const std::string& path, Ledger& ledger, std::size_t slot) {
  ask_streams(path, ledger, slot, false);
}
void ask_large(const std::string& path, Ledger& ledger, std::size_t slot) {
  ask_streams(path, ledger, slot, true);
}

void serve_in_turn(int listener, Ledger& ledger, bool large) {
  for (int fd = 0; (fd = accept_next(listener, ledger)) >= 0;) serve_stream(fd, ledger, large);
}
void serve_pingpong(int listener, Ledger& ledger) { serve_in_turn(listener, ledger, false); }
void serve_bulk(int listener, Ledger& ledger) { serve_in_turn(listener, ledger, true); }

void serve_by_threads(int listener, Ledger& ledger) {
  std::atomic<int> open{0};
  for (int fd = 0; (fd = accept_next(listener, ledger)) >= 0;) {
    ++open;
    std::thread([fd, &ledger, &open] {
      serve_stream(fd, ledger, true);
      --open;
    }).detach();
  }
  while (open != 0) ::usleep(1000);
}

// --- one process, many connections ---

class Served {
 public:
  explicit Served(int fd) : fd_(fd) {}
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;

  // Goes as far as it can without waiting. False at the end of the connection.
  bool go(Ledger& ledger) {
    if (!stream_) {
      if (!hello()) return false;
      if (!stream_) return true;
      expected_ = steps_->size();
    }
    try {
      for (;;) {
        while (expected_ != 0) {
          const std::size_t got = stream_->try_get(expected_);
          if (got == 0) return true;
          if ((expected_ -= got) == 0) owed_ = steps_->size();
        }
        while (owed_ != 0) {
          const std::size_t put = stream_->try_put(owed_);
          if (put == 0) return true;
          if ((owed_ -= put) == 0) expected_ = steps_->size();
        }
      }
    } catch (const PeerGone&) {
      stream_->finish(ledger);
      fd_ = -1;
      return false;
    }
  }
  bool is_owing() const { return owed_ != 0; }
  void open(Ledger& ledger) { ledger_ = &ledger; }
  ~Served() {
    if (fd_ >= 0) ::close(fd_);
  }

 private:
  bool hello() {
    while (have_ < sizeof id_) {
      const ssize_t got =
          ::recv(fd_, reinterpret_cast<char*>(&id_) + have_, sizeof id_ - have_, MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
      if (got <= 0) return false;
      have_ += static_cast<std::size_t>(got);
    }
    stream_ = std::make_unique<Stream>(fd_, connection_of(*ledger_, id_), server, id_);
    steps_ = std::make_unique<Steps>(id_, true);
    return true;
  }

  int fd_;
  Ledger* ledger_ = nullptr;
  std::uint64_t id_ = 0;
  std::size_t have_ = 0;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Steps> steps_;
  std::size_t expected_ = 0;
  std::size_t owed_ = 0;
};

// Level-triggered on even numbers, edge-triggered on odd ones.
void serve_by_epoll(int listener, Ledger& ledger) {
  const int set = ::epoll_create1(EPOLL_CLOEXEC);
  const auto tell = [set](int operation, int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(set, operation, fd, &event) != 0) blame("epoll_ctl: %s", std::strerror(errno));
  };
  tell(EPOLL_CTL_ADD, listener, EPOLLIN);
  std::map<int, std::unique_ptr<Served>> served;
  while (ledger.stop != 2 || !served.empty()) {
    epoll_event found[16];
    // Without a limit of time, but for the word to stop, which no client is there to send.
    const int count = ::epoll_wait(set, found, 16, served.empty() ? kPollMs : -1);
    for (int i = 0; i < count; ++i) {
      const int fd = found[i].data.fd;
      if (fd == listener) {
        const int made = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (made < 0) continue;
        served[made] = std::make_unique<Served>(made);
        served[made]->open(ledger);
        tell(EPOLL_CTL_ADD, made, made % 2 == 0 ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLET);
        continue;
      }
      Served& one = *served.at(fd);
      if (!one.go(ledger)) {
        served.erase(fd);
      } else if (fd % 2 == 0) {
        tell(EPOLL_CTL_MOD, fd, one.is_owing() ? EPOLLIN | EPOLLOUT : EPOLLIN);
      }
    }
  }
  ::close(set);
}

// --- several processes ---

// Workers that share the listener. The parent makes new ones of those that were killed.
void serve_by_workers(int listener, Ledger& ledger) {
  std::map<pid_t, std::size_t> workers;
  std::vector<bool> used(kWorkerProcesses);
  while (ledger.stop != 2) {
    for (std::size_t slot = 0; slot < used.size(); ++slot) {
      if (used[slot]) continue;
      const pid_t parent = ::getpid();
      const pid_t child = ::fork();
      if (child < 0) blame("fork");
      if (child == 0) {
        name_process("worker");
        ledger.forked[slot] = ::getpid();
        // An orphan serves its connection to the end, and no other.
        for (;;) {
          const int fd = accept_next(listener, ledger);
          if (fd < 0) break;
          serve_stream(fd, ledger, true);
          if (::getppid() != parent) break;
        }
        ::_exit(mapped_segments() == 0 ? 0 : 1);
      }
      used[slot] = true;
      workers[child] = slot;
    }
    ::usleep(1000);
    int status = 0;
    for (pid_t gone = 0; (gone = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (!WIFSIGNALED(status) && WEXITSTATUS(status) != 0) ::_exit(1);
      used[workers.at(gone)] = false;
    }
  }
  int status = 0;
  while (::waitpid(-1, &status, 0) > 0) {
    if (!WIFSIGNALED(status) && WEXITSTATUS(status) != 0) ::_exit(1);
  }
}

Worker& enlist(Connection& connection, std::size_t which) {
  Worker& worker = connection.workers[which];
  worker.answered = 1;
  worker.process = ::getpid();
  return worker;
}

// Two processes answer on one connection, the second from some point on.
void serve_by_siblings(int listener, Ledger& ledger) {
  for (int fd = 0; (fd = accept_next(listener, ledger)) >= 0;) {
    const std::uint64_t id = ledger.current;
    Connection& connection = connection_of(ledger, id);
    Worker& own = enlist(connection, 0);
    Random random(id);
    const std::size_t alone = random.below(80);
    bool open = true;
    for (std::size_t i = 0; i < alone && open; ++i) open = serve_one(fd, own) != fault::Served::end;
    pid_t child = -1;
    if (open) {
      child = ::fork();
      if (child < 0) blame("fork");
      if (child == 0) {
        name_process("sibling");
        ::close(listener);
        ledger.forked[0] = ::getpid();
        serve_all(fd, enlist(connection, 1));
        ::_exit(0);
      }
      serve_all(fd, own);
    }
    ::close(fd);
    int status = 0;
    if (child > 0 && ::waitpid(child, &status, 0) == child && !WIFSIGNALED(status) &&
        WEXITSTATUS(status) != 0) {
      ::_exit(1);
    }
  }
}

void ask_records(const std::string& path, Ledger& ledger, std::size_t slot) {
  while (ledger.stop == 0) {
    const std::uint64_t id = ledger.next_connection++;
    new (&connection_of(ledger, id)) Connection{};
    ledger.current = id;
    const int fd = connect_to(path, ledger, slot);
    if (fd < 0) return;
    {
      Requester requester(fd, ledger, connection_of(ledger, id));
      Random random(id);
      const std::size_t count = 20 + random.below(150);
      for (std::size_t i = 0; i < count && requester.lost() == 0; ++i) {
        requester.ask(1 + random.below(10), 1 + random.below(15));
        ++ledger.progress[slot];
      }
      ++ledger.ended;
    }
    ::close(fd);
  }
}

}  // namespace

const std::vector<Scene>& scenes() {
  static const std::vector<Scene> all = {
      {"pingpong", 1, serve_pingpong, ask_small},  {"streams", 1, serve_bulk, ask_large},
      {"epoll", 4, serve_by_epoll, ask_large},     {"threads", 3, serve_by_threads, ask_large},
      {"workers", 4, serve_by_workers, ask_large}, {"siblings", 1, serve_by_siblings, ask_records}};
  return all;
}

int play(const std::string& name, const std::string& who, const std::string& path, Ledger& ledger) {
  for (const Scene& scene : scenes()) {
    if (scene.name != name) continue;
    const int sockets = open_sockets();
    if (who == "server") {
      const sockaddr_un address = address_of(path);
      const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      ::unlink(path.c_str());
      if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
          ::listen(listener, 16) != 0) {
        blame("listen: %s", std::strerror(errno));
      }
      scene.serve(listener, ledger);
      ::close(listener);
    } else {
      scene.ask(path, ledger, std::stoul(who));
    }
    if (mapped_segments() != 0) blame("%d segments are mapped at the end", mapped_segments());
    // A client keeps one socket of the library's for its presence.
    if (open_sockets() > sockets + 1) {
      blame("%d sockets at the end, %d at the start", open_sockets(), sockets);
    }
    return 0;
  }
  blame("no scene %s", name.c_str());
}

}  // namespace fault
