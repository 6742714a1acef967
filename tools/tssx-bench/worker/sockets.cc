#include "tools/tssx-bench/worker/sockets.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>

#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {
namespace {

constexpr int kBacklog = 4096;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    throw std::system_error(ENAMETOOLONG, std::generic_category(), path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Descriptor make_socket() {
  Descriptor made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made) throw_errno("socket");
  return made;
}

}  // namespace

void throw_errno(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

Listener::Listener(std::string path) : path_(std::move(path)), socket_(make_socket()) {
  const sockaddr_un address = address_of(path_);
  if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw_errno("bind");
  }
  if (::listen(socket_.get(), kBacklog) != 0) throw_errno("listen");
}

Listener::~Listener() { ::unlink(path_.c_str()); }

Descriptor Listener::accept() const {
  for (;;) {
    Descriptor made(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (made) return made;
    if (errno != EINTR) throw_errno("accept");
  }
}

Descriptor connect_to(const std::string& path) {
  const sockaddr_un address = address_of(path);
  for (;;) {
    Descriptor made = make_socket();
    if (::connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      return made;
    }
    // The server is not there yet. If it never comes, the measurement's time ends this.
    if (errno != ENOENT && errno != ECONNREFUSED && errno != EINTR) throw_errno("connect");
    const timespec moment{0, 1'000'000};
    ::nanosleep(&moment, nullptr);
  }
}

void make_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) throw_errno("fcntl");
}

void allow_descriptors(std::size_t count) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw_errno("getrlimit");
  if (limit.rlim_cur >= count) return;
  limit.rlim_cur = count;
  if (limit.rlim_max < count) limit.rlim_max = count;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    throw Skip("RLIMIT_NOFILE can't be raised to " + std::to_string(count));
  }
}

}  // namespace tssx::bench
