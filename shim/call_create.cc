// How sockets come into being, and the names they show.

#include <errno.h>
#include <sys/un.h>

#include <cstring>

#include "core/fault.h"
#include "core/fault_point.h"
#include "core/sys.h"
#include "shim/config.h"
#include "shim/descriptor_table.h"
#include "shim/epoll_set.h"
#include "shim/file_numbers.h"
#include "shim/leave.h"
#include "shim/mark.h"
#include "shim/pool.h"
#include "shim/real.h"
#include "shim/tell_address.h"

namespace tssx {
namespace {

constexpr socklen_t kUnnamedLength = sizeof(sa_family_t);

// What an unnamed Unix socket shows for an address: its family, and a length of 2 (unix(7)).
int show_unnamed(sockaddr* address, socklen_t* length) noexcept {
  const sa_family_t family = AF_UNIX;
  return tell_address(family, kUnnamedLength, address, length);
}

// Is the name that the kernel would tell a mark?
bool shows_mark(const sockaddr_un& name, socklen_t length) noexcept {
  Nonce nonce{};
  return parse_mark(name, length, &nonce) != Mark::none;
}

// Where the kernel has told a name into `room` bytes of the application's: a mark must not show.
int hide_mark(int result, sockaddr* address, socklen_t* length, socklen_t room) noexcept {
  if (result < 0 || address == nullptr || room < sizeof(sa_family_t) || *length <= kUnnamedLength ||
      address->sa_family != AF_UNIX) {
    return result;
  }
  sockaddr_un name{};
  const socklen_t size = std::min<socklen_t>({room, *length, sizeof name});
  std::memcpy(&name, address, size);
  if (!shows_mark(name, size)) return result;
  *length = room;
  show_unnamed(address, length);
  return result;
}

// What we know of a listening descriptor, however this process came by it.
Slot classify_listener(int fd) noexcept {
  const Slot known = table.find(fd);
  // Whatever else we know of it does not listen: the kernel says so.
  if (known.kind() != Kind::unknown && known.kind() != Kind::fresh) return known;
  sockaddr_un name{};
  socklen_t length = sizeof name;
  Slot found(Kind::ordinary, nullptr);
  if (is_unix_stream(fd) && sys::getsockname(fd, &name, &length) == 0 &&
      config.is_listed(name, length)) {
    if (Listener* listener = take_listener()) {
      constexpr socklen_t kStart = offsetof(sockaddr_un, sun_path);
      std::uint32_t size = std::min<std::uint32_t>(length - kStart, kPathSize);
      if (name.sun_path[0] != '\0') {
        size = static_cast<std::uint32_t>(::strnlen(name.sun_path, size));
      }
      std::memcpy(listener->path, name.sun_path, size);
      listener->path_length = size;
      found = Slot(Kind::listener, listener);
    }
  }
  // Another thread that accepts was faster, or has closed the number.
  if (!table.compare_exchange(fd, known, found)) {
    if (found.kind() == Kind::listener) Pool<Listener>::give(found.as<Listener>());
    return table.find(fd);
  }
  table.note_highest(fd);
  return found;
}

// Moves the kernel's descriptor out of the application's way and stands an ID in its place. The
// number itself where that can't be had.
int hand_out_id(int fd, Endpoint* endpoint, bool close_on_exec) noexcept {
  rlimit limit{};
  if (sys::prlimit(RLIMIT_NOFILE, &limit) != 0) return fd;
  // High, but within a table that stays small: the kernel sizes it by the highest number.
  const auto bound = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1024));
  const long moved = sys::fcntl(fd, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, bound - bound / 4);
  if (moved < 0) return fd;
  const int hidden = static_cast<int>(moved);
  const int id = table.add_id(Slot(Kind::endpoint, endpoint), hidden);
  if (id == 0) {
    sys::close(hidden);
    return fd;
  }
  hide_descriptor(table.number_of_id(id));
  endpoint->channel.note_negative();
  sys::close(fd);
  return id;
}

int accept_listed(const Listener& listener, int fd, sockaddr* address, socklen_t* length,
                  int flags) {
  sockaddr_un peer{};
  socklen_t peer_length = sizeof peer;
  const int accepted = real::accept4(fd, reinterpret_cast<sockaddr*>(&peer), &peer_length, flags);
  if (accepted < 0) return accepted;
  forget_stale(accepted);

  Nonce nonce{};
  const Mark mark = parse_mark(peer, peer_length, &nonce);
  if (address != nullptr) {
    const int failed = mark != Mark::none ? show_unnamed(address, length)
                                          : tell_address(peer, peer_length, address, length);
    if (failed != 0) {
      // As do_accept() of the kernel: the connection is dropped.
      const int error = errno;
      real::close(accepted);
      errno = error;
      return -1;
    }
  }
  if (mark != Mark::ours) return accepted;
  TSSX_FAULT_POINT(accepted);
  Endpoint* endpoint = open_endpoint({Role::server, nonce, listener.path, listener.path_length});
  if (endpoint == nullptr) return accepted;
  if (config.hands_out_ids()) {
    const int saved = errno;
    const int id = hand_out_id(accepted, endpoint, (flags & SOCK_CLOEXEC) != 0);
    errno = saved;
    if (id != accepted) return id;
  }
  table.set(accepted, Slot(Kind::endpoint, endpoint));
  table.note_highest(accepted);
  if (is_file_number(accepted)) leave_to_kernel(accepted);
  return accepted;
}

int accept_any(int fd, sockaddr* address, socklen_t* length, int flags, bool plain_accept) {
  real::ensure();
  if (table.size() != 0) {
    const Slot slot = stays_in_kernel() ? Slot() : classify_listener(fd);
    if (slot.kind() == Kind::listener) {
      return accept_listed(*slot.as<Listener>(), fd, address, length, flags);
    }
    if (fd < 0) fd = table.kernel_fd(fd);
  }
  socklen_t room = 0;
  if (address == nullptr || !copy_early(&room, length, sizeof room)) room = 0;
  const int accepted =
      plain_accept ? real::accept(fd, address, length) : real::accept4(fd, address, length, flags);
  if (table.size() == 0) return accepted;
  forget_stale(accepted);
  return hide_mark(accepted, address, length, room);
}

int connect_any(int fd, const sockaddr* address, socklen_t length) {
  real::ensure();
  if (table.size() == 0) return real::connect(fd, address, length);
  if (fd < 0) fd = table.kernel_fd(fd);
  constexpr socklen_t kStart = offsetof(sockaddr_un, sun_path);
  sockaddr_un wanted{};
  if (fd < 0 || length <= kStart || length > sizeof wanted ||
      !copy_early(&wanted, address, length) || wanted.sun_family != AF_UNIX) {
    return real::connect(fd, address, length);
  }
  if (!config.is_listed(wanted, length)) {
    drop_mark(fd);  // of an earlier attempt, at a path that is listed
    return real::connect(fd, address, length);
  }
  MarkedConnect marked(fd);
  const int connected = real::connect(fd, address, length);
  if (connected != 0) return connected;
  if (Endpoint* endpoint = marked.establish()) {
    TSSX_FAULT_POINT(connected);
    adopt_registrations(fd, *endpoint);
  }
  return connected;
}

template <class Function>
int tell_name(Function function, int fd, sockaddr* address, socklen_t* length) {
  const int known = table.size() != 0 ? table.kernel_fd(fd) : fd;
  const Kind kind = table.find(fd).kind();
  if (kind == Kind::endpoint || kind == Kind::marked) {
    sockaddr_un name{};
    socklen_t size = sizeof name;
    if (function(known, reinterpret_cast<sockaddr*>(&name), &size) == 0 && shows_mark(name, size)) {
      return show_unnamed(address, length);
    }
  } else if (socklen_t room = 0; table.size() != 0 && copy_early(&room, length, sizeof room)) {
    // A connection that we left to the kernel from the beginning may have a marked peer all the
    // same.
    return hide_mark(function(known, address, length), address, length, room);
  }
  return function(known, address, length);
}

}  // namespace
}  // namespace tssx

using namespace tssx;

TSSX_INTERPOSED int socket(int domain, int type, int protocol) noexcept {
  real::ensure();
  const int fd = real::socket(domain, type, protocol);
  if (table.size() != 0 && fd >= 0) {
    forget_stale(fd);
    if (domain == AF_UNIX && (type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) == SOCK_STREAM) {
      table.set(fd, Slot(Kind::fresh, nullptr));
      table.note_highest(fd);
    }
  }
  return fd;
}

TSSX_INTERPOSED int socketpair(int domain, int type, int protocol, int fds[2]) noexcept {
  real::ensure();
  const int made = real::socketpair(domain, type, protocol, fds);
  if (table.size() != 0 && made == 0) {
    forget_stale(fds[0]);
    forget_stale(fds[1]);
  }
  return made;
}

TSSX_INTERPOSED int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  real::ensure();
  if (table.size() == 0) return real::bind(fd, address, length);
  drop_mark(fd);
  const int bound = real::bind(table.kernel_fd(fd), address, length);
  if (bound == 0 && table.find(fd).kind() == Kind::fresh) {
    table.set(fd, Slot());
  }
  return bound;
}

TSSX_INTERPOSED int listen(int fd, int backlog) noexcept {
  real::ensure();
  if (table.size() == 0) return real::listen(fd, backlog);
  drop_mark(fd);
  return real::listen(table.kernel_fd(fd), backlog);
}

TSSX_INTERPOSED int accept(int fd, sockaddr* address, socklen_t* length) {
  return accept_any(fd, address, length, 0, true);
}

TSSX_INTERPOSED int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  return accept_any(fd, address, length, flags, false);
}

TSSX_INTERPOSED int connect(int fd, const sockaddr* address, socklen_t length) {
  return connect_any(fd, address, length);
}

TSSX_INTERPOSED int __connect(int fd, const sockaddr* address, socklen_t length) {
  return connect_any(fd, address, length);
}

TSSX_INTERPOSED int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
  real::ensure();
  return tell_name(real::getsockname, fd, address, length);
}

TSSX_INTERPOSED int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept {
  real::ensure();
  return tell_name(real::getpeername, fd, address, length);
}
