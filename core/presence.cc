#include "core/presence.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <new>

#include "core/fault_point.h"
#include "core/robust_lock.h"
#include "core/socket_look.h"
#include "core/sys.h"
#include "core/unique_fd.h"

namespace tssx {
namespace {

constexpr char kPresencePrefix[] = "tssx/p/";
constexpr std::size_t kPrefixLength = sizeof kPresencePrefix - 1;
constexpr int kNetnsCookie = 71;   // SO_NETNS_COOKIE, newer than this libc's headers
constexpr int kFirstHidden = 760;  // above what applications use, below the usual limit

struct Name {
  sockaddr_un address{};
  socklen_t length = 0;
};

// Shared with whoever the process forks: they have the presence in common.
struct Family {
  std::atomic<std::uint32_t> revoked;  // 1: somebody shut the socket down
  std::atomic<std::uint32_t> marks;    // made so far
  std::uint32_t keys[2];               // random
};

// So often is the socket itself asked. The application may have closed it by a raw system call.
constexpr std::uint32_t kAskEvery = 32;

constinit RobustLock lock{};
alignas(8) constinit std::atomic<int> descriptor{-1};
// Of the presence; guarded by the lock.
std::uint8_t identity[kIdentitySize];
std::uint32_t network = 0;
Family* family = nullptr;

Name name_of(const std::uint8_t* id) noexcept {
  constexpr char kDigits[] = "0123456789abcdef";
  Name name;
  name.address.sun_family = AF_UNIX;
  char* out = name.address.sun_path + 1;
  std::memcpy(out, kPresencePrefix, kPrefixLength);
  out += kPrefixLength;
  for (std::size_t i = 0; i < kIdentitySize; ++i) {
    *out++ = kDigits[id[i] >> 4U];
    *out++ = kDigits[id[i] & 15U];
  }
  name.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + kPrefixLength +
                                       2 * kIdentitySize);
  return name;
}

UniqueFd make_socket(int* failed = nullptr) noexcept {
  const long made = sys::call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0 && failed != nullptr) *failed = static_cast<int>(-made);
  return UniqueFd(static_cast<int>(made));
}

// The network namespace of a socket, shortened; 0 where the kernel doesn't tell (before 5.14).
std::uint32_t network_of(int fd) noexcept {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (sys::getsockopt(fd, SOL_SOCKET, kNetnsCookie, &cookie, &length) != 0) return 0;
  return static_cast<std::uint32_t>(cookie ^ cookie >> 32U);
}

// Is that number still our socket? The application may have closed it by a raw system call.
bool is_ours(int fd) noexcept {
  const Name wanted = name_of(identity);
  sockaddr_un name{};
  socklen_t length = sizeof name;
  return sys::getsockname(fd, &name, &length) == 0 && length == wanted.length &&
         std::memcmp(&name, &wanted.address, wanted.length) == 0;
}

// Different for each mark of the family, and not to be guessed from those that were made before:
// whoever binds a name first keeps us from it. Each step can be undone, so no two numbers meet.
std::uint32_t next_mark() noexcept {
  std::uint32_t number = family->marks.fetch_add(1, std::memory_order_relaxed);
  for (const std::uint32_t key : family->keys) {
    number = (number ^ key) * 0x9e3779b1U;
    number ^= number >> 15U;
  }
  return number;
}

bool is_revoked(int fd) noexcept {
  if (family->revoked.load(std::memory_order_acquire) != 0) return true;
  if (family->marks.load(std::memory_order_relaxed) % kAskEvery != 0) return false;
  return poll_now(fd, 0) != 0;  // POLLNVAL: closed
}

bool make_presence() noexcept {
  const UniqueFd made = make_socket();
  if (!made || sys::getrandom(identity, sizeof identity) != static_cast<long>(sizeof identity)) {
    return false;
  }
  if (family != nullptr) sys::munmap(family, sizeof *family);
  family = static_cast<Family*>(
      sys::mmap(sizeof(Family), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1));
  if (family == nullptr ||
      sys::getrandom(family->keys, sizeof family->keys) != static_cast<long>(sizeof family->keys)) {
    return false;
  }
  network = network_of(made.get());
  const Name name = name_of(identity);
  if (sys::bind(made.get(), &name.address, name.length) != 0) return false;
  TSSX_FAULT_POINT(presence_bound);
  const long high = sys::fcntl(made.get(), F_DUPFD_CLOEXEC, kFirstHidden);
  if (high < 0) return false;
  descriptor.store(static_cast<int>(high), std::memory_order_release);
  return true;
}

}  // namespace

bool make_nonce(Nonce* nonce) noexcept {
  const LockScope scope(lock, false);
  if (scope.hold() == Hold::nested) return false;
  const int old = descriptor.load(std::memory_order_relaxed);
  if (old >= 0 && is_revoked(old)) {
    if (is_ours(old)) sys::close(old);
    descriptor.store(-1, std::memory_order_relaxed);
  }
  if (descriptor.load(std::memory_order_relaxed) < 0 && !make_presence()) return false;
  const std::uint32_t mark = next_mark();
  std::memcpy(nonce->bytes, identity, kIdentitySize);
  std::memcpy(nonce->bytes + kIdentitySize, &network, kNetworkSize);
  std::memcpy(nonce->bytes + kIdentitySize + kNetworkSize, &mark, sizeof mark);
  return true;
}

void revoke_presence() noexcept {
  const LockScope scope(lock, false);
  const int fd = descriptor.load(std::memory_order_relaxed);
  if (fd < 0) return;
  family->revoked.store(1, std::memory_order_release);  // pairs with is_revoked()
  if (is_ours(fd)) sys::call(SYS_shutdown, fd, SHUT_RDWR);
  TSSX_FAULT_POINT(presence_revoked);
}

bool is_present(const Nonce& nonce, int* failed) noexcept {
  const UniqueFd probe = make_socket(failed);
  if (!probe) return false;
  std::uint32_t theirs = 0;
  std::memcpy(&theirs, nonce.bytes + kIdentitySize, kNetworkSize);
  if (theirs != network_of(probe.get())) return true;
  const Name name = name_of(nonce.bytes);
  // unix_dgram_sendmsg(): ECONNREFUSED where nobody has the name, EPIPE where it was shut down, and
  // EAGAIN where the queue is full, as nobody reads it.
  const long sent = sys::call(SYS_sendto, probe.get(), sys::word(""), 0,
                              MSG_DONTWAIT | MSG_NOSIGNAL, sys::word(&name.address), name.length);
  return sent == 0 || sent == -EAGAIN;
}

std::atomic<int>& presence_descriptor() noexcept { return descriptor; }

void reset_presence() noexcept { new (&lock) RobustLock(); }

}  // namespace tssx
