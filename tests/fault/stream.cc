#include "tests/fault/stream.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "tests/support/attach.h"

namespace fault {
namespace {

constexpr std::size_t kMost = 64U << 10U;  // of one call
// Until a connection has settled in the ring, an end may be told as a reset and the reverse
// (docs/limitations.md, "Reset or end, while moving").
constexpr std::uint64_t kSettled = 64;

std::uint64_t word_at(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed * 0xD1B54A32D192ED03U + (index + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

void fill(unsigned char* to, std::uint64_t position, std::size_t size, std::uint64_t seed) {
  std::uint64_t word = word_at(seed, position / 8);
  for (std::size_t i = 0; i < size; ++i, ++position) {
    if (position % 8 == 0) word = word_at(seed, position / 8);
    to[i] = static_cast<unsigned char>(word >> position % 8 * 8);
  }
}

void split(unsigned char* bytes, std::size_t size, iovec (&parts)[3]) {
  const std::size_t first = size / 3;
  const std::size_t second = size / 2 - first;
  parts[0] = {bytes, first};
  parts[1] = {bytes + first, second};
  parts[2] = {bytes + first + second, size - first - second};
}

}  // namespace

Stream::Stream(int fd, Connection& connection, Role role, std::uint64_t seed)
    : fd_(fd),
      mine_(connection.end[role]),
      theirs_(connection.end[1 - role]),
      role_(role),
      out_(seed * 2 + role),
      in_(seed * 2 + 1 - role),
      sent_(kMost),
      received_(kMost) {
  mine_.open = 1;
}

void Stream::wait(short events) {
  if (epfd_ >= 0) {
    epoll_event found[4];
    ::epoll_wait(epfd_, found, 4, -1);
    return;
  }
  pollfd look{fd_, events, 0};
  ::poll(&look, 1, -1);
}

void Stream::fail(const char* call) {
  if (errno == ECONNRESET) reset_ = true;
  if (errno == ECONNRESET || errno == EPIPE) throw PeerGone{};
  blame("%s: %s", call, std::strerror(errno));
}

void Stream::put(std::size_t size, Calls calls) {
  ++rounds_;
  while (size != 0) {
    const std::size_t now = std::min(size, kMost);
    const std::uint64_t position = mine_.wrote;
    fill(sent_.data(), position, now, out_);
    mine_.attempted = position + now;
    ssize_t moved = 0;
    if (calls == Calls::parts) {
      iovec parts[3];
      split(sent_.data(), now, parts);
      moved = ::writev(fd_, parts, 3);
    } else if (calls == Calls::poll) {
      moved = ::send(fd_, sent_.data(), now, MSG_DONTWAIT);
      if (moved < 0 && errno == EAGAIN) {
        wait(POLLOUT);
        continue;
      }
    } else {
      moved = ::write(fd_, sent_.data(), now);
      if (moved < 0 && errno == EAGAIN && calls == Calls::timeout) continue;
    }
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) fail("write");
    mine_.wrote = position + static_cast<std::uint64_t>(moved);
    size -= static_cast<std::size_t>(moved);
    // Only the end of the peer makes a blocking write stop short, and the kernel drops the error
    // then that it has found (sock_alloc_send_pskb() in unix_stream_sendmsg()).
    if (calls != Calls::poll && static_cast<std::size_t>(moved) < now) dropped_error_ = true;
  }
}

void Stream::await_reader(const Ledger& ledger) const {
  while (theirs_.took < mine_.wrote && ledger.stop == 0) ::usleep(50);
}

void Stream::await_writer(const Ledger& ledger, std::uint64_t size) const {
  while (theirs_.wrote < mine_.took + size && ledger.stop == 0) ::usleep(50);
}

void Stream::take(const unsigned char* bytes, std::size_t size) {
  const std::uint64_t position = mine_.took;
  static thread_local std::vector<unsigned char> expected(kMost);
  fill(expected.data(), position, size, in_);
  if (std::memcmp(expected.data(), bytes, size) != 0) {
    const auto differs = std::mismatch(bytes, bytes + size, expected.begin());
    blame("wrong byte at %llu of a read of %zu from %llu: %02x for %02x",
          static_cast<unsigned long long>(position +
                                          static_cast<std::uint64_t>(differs.first - bytes)),
          size, static_cast<unsigned long long>(position), *differs.first, *differs.second);
  }
  mine_.took = position + size;
}

void Stream::get(std::size_t size, Calls calls) {
  while (size != 0) {
    const std::size_t now = std::min(size, kMost);
    mine_.taking = now;
    ssize_t got = 0;
    if (calls == Calls::parts) {
      iovec parts[3];
      split(received_.data(), now, parts);
      got = ::readv(fd_, parts, 3);
    } else if (calls == Calls::poll) {
      got = ::recv(fd_, received_.data(), now, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) {
        wait(POLLIN);
        continue;
      }
    } else {
      got = ::read(fd_, received_.data(), now);
      if (got < 0 && errno == EAGAIN && calls == Calls::timeout) continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read");
    if (got == 0) throw PeerGone{};
    take(received_.data(), static_cast<std::size_t>(got));
    mine_.taking = 0;
    size -= static_cast<std::size_t>(got);
  }
}

std::size_t Stream::try_put(std::size_t size) {
  ++rounds_;
  const std::size_t now = std::min(size, kMost);
  const std::uint64_t position = mine_.wrote;
  fill(sent_.data(), position, now, out_);
  mine_.attempted = position + now;
  const ssize_t moved = ::send(fd_, sent_.data(), now, MSG_DONTWAIT);
  if (moved < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (moved < 0) fail("write");
  mine_.wrote = position + static_cast<std::uint64_t>(moved);
  return static_cast<std::size_t>(moved);
}

std::size_t Stream::try_get(std::size_t size) {
  const std::size_t now = std::min(size, kMost);
  mine_.taking = now;
  const ssize_t got = ::recv(fd_, received_.data(), now, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    mine_.taking = 0;
    return 0;
  }
  if (got < 0) fail("read");
  if (got == 0) throw PeerGone{};
  take(received_.data(), static_cast<std::size_t>(got));
  mine_.taking = 0;
  return static_cast<std::size_t>(got);
}

void Stream::put_with_descriptor(std::size_t size) {
  const std::uint64_t position = mine_.wrote;
  fill(sent_.data(), position, size, out_);
  mine_.attempted = position + size;
  const ssize_t moved = tssx_test::send_attached(fd_, sent_.data(), size, STDERR_FILENO);
  if (moved < 0) fail("sendmsg");
  if (moved != static_cast<ssize_t>(size)) blame("sendmsg: %zd of %zu bytes", moved, size);
  mine_.wrote = position + size;
}

void Stream::get_with_descriptor(std::size_t size) {
  bool came = false;
  while (size != 0) {
    mine_.taking = size;
    iovec part{received_.data(), size};
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
    if (got < 0) fail("recvmsg");
    if (got == 0) throw PeerGone{};
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
      if (::close(descriptor) != 0) blame("a descriptor that is none");
      came = true;
    }
    take(received_.data(), static_cast<std::size_t>(got));
    mine_.taking = 0;
    size -= static_cast<std::size_t>(got);
  }
  if (!came) blame("the descriptor did not come");
}

void Stream::close() {
  if (fd_ < 0) return;
  ::close(fd_);
  fd_ = -1;
}

void Stream::finish(Ledger& ledger) {
  // What came before the end is there still, whatever the last call said.
  try {
    for (;;) {
      const ssize_t got = ::read(fd_, received_.data(), kMost);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got < 0 && errno == ECONNRESET && reset_) blame("ECONNRESET was told twice");
      if (got < 0 && errno == ECONNRESET) {
        reset_ = true;
        continue;
      }
      if (got < 0) fail("read");
      if (got == 0) break;
      take(received_.data(), static_cast<std::size_t>(got));
    }
  } catch (const PeerGone&) {
  }
  judge(ledger, reset_);
  close();
}

void Stream::judge(Ledger& ledger, bool reset) {
  const std::uint64_t took = mine_.took;
  if ((took < theirs_.wrote && !may_lose_) || took > theirs_.attempted) {
    blame("%llu bytes came; the peer wrote %llu, and no more than %llu",
          static_cast<unsigned long long>(took),
          static_cast<unsigned long long>(theirs_.wrote.load()),
          static_cast<unsigned long long>(theirs_.attempted.load()));
  }
  ledger.bytes += took;
  ++ledger.ended;
  if (!judges_end_ || theirs_.open == 0) return;
  const std::uint64_t wrote = mine_.wrote;
  const bool must_be_reset = wrote > theirs_.took + theirs_.taking && !dropped_error_;
  // A write that failed may have brought bytes there that it did not tell of.
  const bool must_be_end = wrote == theirs_.took && mine_.attempted == wrote;
  if ((must_be_reset && !reset) || (must_be_end && reset)) {
    if (rounds_ < kSettled) {
      ++ledger.told_otherwise;
      return;
    }
    blame("the end was told as %s; wrote %llu, of which the peer took %llu and was taking %llu",
          reset ? "ECONNRESET" : "end of file", static_cast<unsigned long long>(wrote),
          static_cast<unsigned long long>(theirs_.took.load()),
          static_cast<unsigned long long>(theirs_.taking.load()));
  }
}

}  // namespace fault
