// The victim: an echo server, which knows nothing of the library that it runs with.
//
//   hostile_server PATH epoll|edge|threads
//
// Sends back what it gets, now and then with a descriptor attached. On SIGTERM it looks whether its
// own memory is still what it was, says so, and ends: exit status 0 if it is.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tests/support/attach.h"

namespace {

constexpr std::size_t kMostUnsent = 64U << 10U;
constexpr unsigned kDescriptorEvery = 4999;  // of the answers; and those that begin with
constexpr char kAsksForOne[] = "descriptor";

volatile sig_atomic_t over = 0;
int attached = -1;
unsigned answers = 0;

// Memory that nobody writes to, beside what the connections use.
std::vector<std::uint64_t> untouched(1U << 17U);

std::uint64_t expected(std::size_t i) { return i * 0x9e3779b97f4a7c15U + 1; }

bool is_untouched() {
  for (std::size_t i = 0; i < untouched.size(); ++i) {
    if (untouched[i] != expected(i)) return false;
  }
  return true;
}

ssize_t send_some(int fd, const char* bytes, std::size_t size) {
  const bool asked = size >= sizeof kAsksForOne - 1 &&
                     std::memcmp(bytes, kAsksForOne, sizeof kAsksForOne - 1) == 0;
  if (__atomic_add_fetch(&answers, 1, __ATOMIC_RELAXED) % kDescriptorEvery != 0 && !asked) {
    return ::send(fd, bytes, size, MSG_NOSIGNAL);
  }
  return tssx_test::send_attached(fd, bytes, size, attached, MSG_NOSIGNAL);
}

struct Peer {
  std::string unsent;
  bool wants_out = false;
};

class Loop {
 public:
  Loop(int listener, bool edges)
      : listener_(listener), edges_(edges), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{EPOLLIN, {.fd = listener}};
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, listener, &event);
  }
  void run() {
    epoll_event events[64];
    while (over == 0) {
      const int count = ::epoll_wait(epoll_, events, 64, -1);
      for (int i = 0; i < count; ++i) {
        if (events[i].data.fd == listener_) {
          accept_all();
        } else {
          serve(events[i].data.fd);
        }
      }
    }
    ::close(epoll_);
  }

 private:
  void accept_all() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      peers_[fd] = Peer{};
      epoll_event event{edges_ ? EPOLLIN | EPOLLOUT | EPOLLET : EPOLLIN, {.fd = fd}};
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    }
  }
  // False if the peer is gone.
  bool flush(int fd, Peer& peer) {
    while (!peer.unsent.empty()) {
      const ssize_t sent = send_some(fd, peer.unsent.data(), peer.unsent.size());
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      peer.unsent.erase(0, static_cast<std::size_t>(sent));
    }
    return true;
  }
  void serve(int fd) {
    const auto found = peers_.find(fd);
    if (found == peers_.end()) return;
    Peer& peer = found->second;
    char bytes[32U << 10U];
    bool alive = flush(fd, peer);
    // Not for ever, where a peer writes faster than this: there are others.
    for (int i = 0; alive && i < (edges_ ? 1 << 20 : 4) && peer.unsent.size() < kMostUnsent; ++i) {
      const ssize_t got = ::read(fd, bytes, sizeof bytes);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) alive = false;
      if (got <= 0) break;
      peer.unsent.append(bytes, static_cast<std::size_t>(got));
      alive = flush(fd, peer);
    }
    if (!alive) {
      peers_.erase(found);
      ::close(fd);
      return;
    }
    const bool wants_out = !peer.unsent.empty();
    if (edges_ || wants_out == peer.wants_out) return;
    peer.wants_out = wants_out;
    const bool reads = peer.unsent.size() < kMostUnsent;
    epoll_event event{(wants_out ? EPOLLOUT : 0U) | (reads ? EPOLLIN : 0U), {.fd = fd}};
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
  }

  int listener_;
  bool edges_;
  int epoll_;
  std::unordered_map<int, Peer> peers_;
};

void serve_blocking(int fd) {
  char bytes[32U << 10U];
  for (;;) {
    const ssize_t got = ::read(fd, bytes, sizeof bytes);
    if (got <= 0) break;
    ssize_t sent = 0;
    while (sent < got) {
      const ssize_t moved = send_some(fd, bytes + sent, static_cast<std::size_t>(got - sent));
      if (moved <= 0) break;
      sent += moved;
    }
    if (sent < got) break;
  }
  ::close(fd);
}

void run_threads(int listener) {
  while (over == 0) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) std::thread(serve_blocking, fd).detach();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  for (std::size_t i = 0; i < untouched.size(); ++i) untouched[i] = expected(i);
  attached = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  struct sigaction action {};
  action.sa_handler = [](int) { over = 1; };
  ::sigaction(SIGTERM, &action, nullptr);
  const std::string mode = argv[2];
  const int listener =
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (mode == "threads" ? 0 : SOCK_NONBLOCK), 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
  ::umask(0);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 128) != 0) {
    std::perror(argv[1]);
    return 2;
  }
  if (mode == "threads") {
    run_threads(listener);
  } else {
    Loop(listener, mode == "edge").run();
  }
  const bool good = is_untouched();
  std::printf("server: %u answers, its memory is %s\n", answers, good ? "untouched" : "CORRUPT");
  std::fflush(stdout);
  ::_exit(good ? 0 : 1);
}
