// close(2), dup(2) and their families, shutdown(2).

#include <errno.h>
#include <linux/close_range.h>

#include <algorithm>

#include "core/fault_point.h"
#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/duplicate.h"
#include "shim/epoll_set.h"
#include "shim/file_numbers.h"
#include "shim/leave.h"
#include "shim/mark.h"
#include "shim/real.h"

using namespace tssx;

namespace tssx {

// A mark could be used by one number and not be known of under the other.
Duplication::Duplication(int from) noexcept : from_(from) {
  drop_mark(from);
  endpoint_ = EndpointRef(from);
}

void Duplication::note(int to) noexcept {
  if (to < 0 || table.size() == 0) return;
  Slot slot = table.find(from_);
  if (endpoint_ && (slot.kind() != Kind::endpoint || slot.as<Endpoint>() != &*endpoint_)) {
    // Another thread has closed it, or put another there. Before the kernel's turn, or after it?
    if (is_socket_of(endpoint_.channel(), to)) {
      slot = Slot(Kind::endpoint, &*endpoint_);
    } else {
      endpoint_ = EndpointRef(from_);
    }
  }
  switch (slot.kind()) {
    case Kind::endpoint:
      if (!endpoint_) return;
      add_descriptor(*endpoint_);
      table.set(to, Slot(Kind::endpoint, &*endpoint_));
      if (is_file_number(to)) leave_to_kernel(to);
      break;
    case Kind::epoll:
      slot.as<EpollSet>()->descriptors.fetch_add(1, std::memory_order_relaxed);
      table.set(to, slot);
      break;
    case Kind::fresh:
      // Two numbers for one socket that a mark on either would change: it stays the kernel's.
      table.set(from_, Slot(Kind::ordinary, nullptr));
      table.set(to, Slot(Kind::ordinary, nullptr));
      break;
    case Kind::unknown:
    case Kind::marked:
    case Kind::listener:
    case Kind::ordinary:
    case Kind::hidden:
      return;
  }
  table.note_highest(to);
}

}  // namespace tssx

namespace {

int refuse() noexcept {
  errno = EBADF;
  return -1;
}

// The application wants this number, which is a hidden descriptor's: moves that elsewhere.
bool vacate(int fd) noexcept {
  // A call of another thread may have read the number of an ID's socket already.
  for_each_id_of(fd, [fd](int id) {
    EndpointRef endpoint(id);
    if (!endpoint) return;
    keep_for_calls(*endpoint, fd, 1);
    endpoint.channel().unlock_hold();  // this number of its socket's is about to be closed
  });
  if (move_hidden(fd)) return true;
  errno = EMFILE;
  return false;
}

// To be called before the kernel closes `fd`.
void release_for_close(int fd) noexcept {
  const Slot slot = table.find(fd);
  if (slot.kind() == Kind::endpoint) {
    if (EndpointRef endpoint(fd); endpoint) {
      finish_before_close(endpoint, false);
      keep_for_calls(*endpoint, table.kernel_fd(fd), 1);
    }
  }
  if (slot.kind() == Kind::epoll) keep_for_waiters(*slot.as<EpollSet>(), fd);
  release_descriptor(fd);
}

int do_close(int fd) {
  real::ensure();
  const Slot slot = table.find(fd);
  if (slot.kind() == Kind::unknown) return real::close(fd);
  if (slot.kind() == Kind::hidden) return refuse();
  const int kernel_fd = table.kernel_fd(fd);
  TSSX_FAULT_POINT(close_begun);
  release_for_close(fd);
  if (kernel_fd != fd) table.set(kernel_fd, Slot());
  TSSX_FAULT_POINT(close_released);
  return real::close(kernel_fd);
}

int do_dup2(int from, int to, int flags, bool plain) noexcept {
  real::ensure();
  const auto call = [&](int source) {
    return plain ? real::dup2(source, to) : real::dup3(source, to, flags);
  };
  if (table.size() == 0) return call(from);
  if (table.find(from).kind() == Kind::hidden) return refuse();
  Duplication duplication(from);
  const int source = table.kernel_fd(from);
  if (from == to && source != from) {
    // An ID onto itself: the kernel's answer for its own number is ours.
    const int same = plain ? real::dup2(source, source) : real::dup3(source, source, flags);
    return same < 0 ? same : to;
  }
  if (from == to || to < 0) return call(source);
  const Slot target = table.find(to);
  if (target.kind() == Kind::hidden) {
    if (sys::fcntl(source, F_GETFD) < 0 || (!plain && (flags & ~O_CLOEXEC) != 0)) {
      return call(source);
    }
    if (!vacate(to)) return -1;
  } else if (target.kind() != Kind::unknown) {
    // It is closed by this call, unless the call fails.
    if (sys::fcntl(source, F_GETFD) < 0 || (!plain && (flags & ~O_CLOEXEC) != 0)) {
      return call(source);
    }
    release_for_close(to);
  }
  const int made = call(table.kernel_fd(from));  // which may have moved
  if (made < 0 && target.kind() == Kind::hidden) {
    const int error = errno;
    sys::close(to);
    errno = error;
  }
  duplication.note(made);
  return made;
}

void release_range(unsigned first, unsigned last) noexcept {
  const auto end = static_cast<unsigned>(table.highest());
  for (unsigned fd = first; fd <= last && fd < end; ++fd) {
    const Slot slot = table.find(static_cast<int>(fd));
    if (slot.kind() != Kind::unknown && slot.kind() != Kind::hidden) {
      release_for_close(static_cast<int>(fd));
    }
  }
}

// Calls visit(first, last) for each stretch of [first, last] without hidden descriptors.
template <class Visit>
int around_hidden(unsigned first, unsigned last, Visit&& visit) noexcept {
  const auto end = static_cast<unsigned>(table.highest());
  unsigned start = first;
  for (unsigned fd = first; fd <= last && fd < end; ++fd) {
    if (table.find(static_cast<int>(fd)).kind() != Kind::hidden) continue;
    if (start < fd) {
      if (const int failed = visit(start, fd - 1); failed != 0) return failed;
    }
    start = fd + 1;
  }
  return start <= last && start >= first ? visit(start, last) : 0;
}

}  // namespace

TSSX_INTERPOSED int close(int fd) { return do_close(fd); }
TSSX_INTERPOSED int __close(int fd) { return do_close(fd); }

TSSX_INTERPOSED int close_range(unsigned first, unsigned last, int flags) noexcept {
  real::ensure();
  if (table.size() == 0 || first > last ||
      (static_cast<unsigned>(flags) & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE)) != 0) {
    return real::close_range(first, last, flags);
  }
  if ((static_cast<unsigned>(flags) & CLOSE_RANGE_CLOEXEC) == 0) release_range(first, last);
  return around_hidden(first, last, [flags](unsigned from, unsigned to) {
    return real::close_range(from, to, flags);
  });
}

TSSX_INTERPOSED void closefrom(int first) noexcept {
  real::ensure();
  if (table.size() == 0) {
    real::closefrom(first);
    return;
  }
  const auto start = static_cast<unsigned>(std::max(first, 0));
  release_range(start, ~0U);
  around_hidden(start, ~0U, [](unsigned from, unsigned to) {
    if (to == ~0U) {
      real::closefrom(static_cast<int>(from));
    } else {
      real::close_range(from, to, 0);
    }
    return 0;
  });
}

TSSX_INTERPOSED int shutdown(int fd, int how) noexcept {
  real::ensure();
  if (EndpointRef endpoint(fd); endpoint) {
    Channel& channel = endpoint.channel();
    if (how < SHUT_RD || how > SHUT_RDWR) return real::shutdown(endpoint.fd(), how);
    if (how != SHUT_WR || !channel.is_established()) channel.note_reason(Reason::shut_down);
    if (!channel.is_plain() && !channel.is_established()) channel.retire(endpoint.fd());
    if (channel.is_plain() || !channel.is_established()) {
      // First: see Channel::shutdown().
      channel.note_shutdown(how != SHUT_WR, how != SHUT_RD);
      return real::shutdown(endpoint.fd(), how);
    }
    TSSX_FAULT_POINT(shutdown_begun);
    channel.shutdown(endpoint.fd(), how != SHUT_WR, how != SHUT_RD);
    note_shutdown(*endpoint);
    return 0;
  }
  return real::shutdown(fd, how);
}

TSSX_INTERPOSED int dup(int fd) noexcept {
  real::ensure();
  if (table.size() != 0 && table.find(fd).kind() == Kind::hidden) return refuse();
  Duplication duplication(fd);
  const int made = real::dup(table.kernel_fd(fd));
  if (made >= 0) {
    forget_stale(made);
    duplication.note(made);
  }
  return made;
}

TSSX_INTERPOSED int dup2(int from, int to) noexcept { return do_dup2(from, to, 0, true); }
TSSX_INTERPOSED int __dup2(int from, int to) { return do_dup2(from, to, 0, true); }
TSSX_INTERPOSED int dup3(int from, int to, int flags) noexcept {
  return do_dup2(from, to, flags, false);
}
