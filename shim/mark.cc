#include "shim/mark.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <new>

#include "core/fault_point.h"
#include "core/presence.h"
#include "core/rendezvous.h"
#include "core/socket_look.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/epoll_set.h"
#include "shim/file_numbers.h"
#include "shim/leave.h"
#include "shim/pool.h"

namespace tssx {
namespace {

// What a slot says of marks changes under it, so that nobody drops one that a connect(2) relies on.
constinit RobustLock marks_lock{};

constexpr socklen_t kUnnamedLength = sizeof(sa_family_t);

bool is_unbound(int fd) noexcept {
  sockaddr_un name{};
  socklen_t length = sizeof name;
  return sys::getsockname(fd, &name, &length) == 0 && length == kUnnamedLength;
}

// The socket of our presence is not the application's to close or to see.
bool make_marked_nonce(Nonce* nonce) noexcept {
  const int before = presence_descriptor().load(std::memory_order_acquire);
  const bool made = make_nonce(nonce);
  const int after = presence_descriptor().load(std::memory_order_acquire);
  if (before != after) {
    if (before >= 0) table.set(before, Slot());
    if (after >= 0) hide_descriptor(presence_descriptor());
  }
  return made;
}

Endpoint* mark_client(int fd) noexcept {
  const Slot slot = table.find(fd);
  if (slot.kind() == Kind::marked) return slot.as<Endpoint>();
  if (slot.kind() == Kind::unknown) {
    if (!is_unix_stream(fd) || !is_unbound(fd)) return nullptr;
  } else if (slot.kind() != Kind::fresh) {
    return nullptr;
  }
  ChannelOrigin origin{Role::client, {}};
  if (!make_marked_nonce(&origin.nonce)) return nullptr;
  Endpoint* endpoint = open_endpoint(origin);
  if (endpoint == nullptr) return nullptr;
  sockaddr_un mark{};
  const socklen_t length = make_mark(origin.nonce, &mark);
  if (sys::bind(fd, &mark, length) != 0) {
    drop_descriptor(*endpoint);
    drop_reference(*endpoint);
    return nullptr;
  }
  TSSX_FAULT_POINT(marked);
  table.set(fd, Slot(Kind::marked, endpoint));
  table.note_highest(fd);
  return endpoint;
}

bool is_connecting(const Endpoint& endpoint) noexcept {
  return endpoint.references.load(std::memory_order_acquire) >
         endpoint.descriptors.load(std::memory_order_acquire);
}

}  // namespace

bool is_unix_stream(int fd) noexcept {
  return option_of(fd, SO_DOMAIN, AF_UNSPEC) == AF_UNIX && option_of(fd, SO_TYPE, 0) == SOCK_STREAM;
}

MarkedConnect::MarkedConnect(int fd) noexcept : fd_(fd), endpoint_(nullptr) {
  if (is_file_number(fd) || stays_in_kernel()) {
    drop_mark(fd);
    return;
  }
  const LockScope lock(marks_lock, is_exclusive_process());
  endpoint_ = mark_client(fd);
  // Another thread may close it already.
  if (endpoint_ != nullptr && !take_reference(endpoint_->references)) endpoint_ = nullptr;
}

MarkedConnect::~MarkedConnect() {
  if (endpoint_ != nullptr) drop_reference(*endpoint_);
}

Endpoint* MarkedConnect::establish() noexcept {
  if (endpoint_ == nullptr) return nullptr;
  const Slot marked(Kind::marked, endpoint_);
  return table.compare_exchange(fd_, marked, Slot(Kind::endpoint, endpoint_)) ? endpoint_ : nullptr;
}

void drop_mark(int fd) noexcept {
  if (table.find(fd).kind() != Kind::marked) return;
  const LockScope lock(marks_lock, is_exclusive_process());
  const Slot slot = table.find(fd);
  if (slot.kind() != Kind::marked) return;
  if (is_connecting(*slot.as<Endpoint>())) {
    slot.as<Endpoint>()->channel.retire(fd);
    return;
  }
  int flags = SOCK_STREAM;
  const long status = sys::fcntl(fd, F_GETFL);
  const long descriptor = sys::fcntl(fd, F_GETFD);
  if (status >= 0 && (status & O_NONBLOCK) != 0) flags |= SOCK_NONBLOCK;
  const long fresh = sys::call(SYS_socket, AF_UNIX, flags | SOCK_CLOEXEC, 0);
  if (fresh < 0) return;
  const auto replacement = static_cast<int>(fresh);
  for (const int option : {SO_SNDBUF, SO_RCVBUF}) {
    int value = 0;
    socklen_t length = sizeof value;
    if (sys::getsockopt(fd, SOL_SOCKET, option, &value, &length) != 0) continue;
    value /= 2;  // the kernel doubles what it is given (socket(7))
    sys::call(SYS_setsockopt, replacement, SOL_SOCKET, option, sys::word(&value), sizeof value);
  }
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    timeval value{};
    socklen_t length = sizeof value;
    if (sys::getsockopt(fd, SOL_SOCKET, option, &value, &length) != 0) continue;
    sys::call(SYS_setsockopt, replacement, SOL_SOCKET, option, sys::word(&value), sizeof value);
  }
  release_descriptor(fd);
  const int keep = descriptor >= 0 && (descriptor & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0;
  sys::call(SYS_dup3, replacement, fd, keep);
  sys::close(replacement);
  table.set(fd, Slot(Kind::fresh, nullptr));
}

void drop_marks() noexcept {
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) drop_mark(fd);
}

void adopt_marks() noexcept {
  new (&marks_lock) RobustLock();  // its owner, if there was one, is not here
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) {
    const Slot slot = table.find(fd);
    if (slot.kind() == Kind::marked) table.set(fd, Slot(Kind::endpoint, slot.as<Endpoint>()));
  }
}

}  // namespace tssx
