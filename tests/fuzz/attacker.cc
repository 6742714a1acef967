#include "tests/fuzz/attacker.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "core/rendezvous.h"
#include "core/unique_fd.h"
#include "tests/fuzz/scribble.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4U
#endif

namespace tssx::fuzz {
namespace {

constexpr std::size_t kMostSaid = std::size_t{1} << 19U;
constexpr off_t kMostMapped = off_t{1} << 26U;

int write_memfd(unsigned flags, const void* data, std::size_t size) {
  const int fd = ::memfd_create("fuzz", MFD_CLOEXEC | flags);
  if (fd >= 0 && ::write(fd, data, size) < 0) return fd;
  return fd;
}

int read_only(int fd) {
  char path[40];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const int again = ::open(path, O_RDONLY | O_CLOEXEC);
  ::close(fd);
  return again;
}

}  // namespace

Attacker::Counts Attacker::counts;

Attacker::Attacker(int fd, Role role, const Nonce& nonce) : fd_(fd), role_(role), nonce_(nonce) {}

Attacker::~Attacker() {
  if (page_ != nullptr) ::munmap(page_, mapped_);
  if (fd_ >= 0) ::close(fd_);
}

void Attacker::act(Input& script) {
  const std::uint8_t what = script.byte();
  if (fd_ < 0 && (what % 16 < 8 || what % 16 > 11)) return;
  switch (what % 16) {
    case 0:
    case 1:
      say(script);
      break;
    case 2:
    case 3:
    case 4:
      send_descriptors(script);
      break;
    case 5:
    case 6:
      listen();
      break;
    case 7:
      if (const std::uint8_t how = script.byte(); how < 3) {
        ::shutdown(fd_, how);
      } else if (how < 5) {
        ::close(fd_);
        fd_ = -1;
      } else if (how < 8) {
        static_cast<void>(::send(fd_, "!", 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL));
      }
      break;
    case 8:
    case 9:
    case 10:
      if (page_ != nullptr) write_word(script);
      break;
    case 11:
      if (page_ == nullptr) break;
      if (script.byte() < 16) {
        script.fill(reinterpret_cast<std::uint8_t*>(page_), sizeof *page_);
      } else {
        const std::size_t at = script.half() * std::size_t{8} % (mapped_ - 8);
        std::memset(reinterpret_cast<std::uint8_t*>(page_) + at, script.byte(), 8);
      }
      ++counts.words;
      break;
    // As an honest peer does it.
    case 12:
    case 13: {
      Input nothing(nullptr, 0);
      if (const UniqueFd segment(make_segment(nothing)); segment) {
        send_with_descriptor(fd_, segment.get());
      }
      break;
    }
    case 14:
      cut(TokenKind::to_ring);
      break;
    case 15:
      cut(TokenKind::to_kernel);
      break;
  }
}

void Attacker::cut(TokenKind kind) {
  if (send_token(fd_, kind, nonce_) == 0) ++counts.cuts;
}

void Attacker::write_word(Input& script) {
  scribble(*page_, capacity_, script);
  ++counts.words;
}

void Attacker::say(Input& script) {
  static char bytes[std::size_t{1} << 16U];
  const std::size_t size = std::min({script.size(), sizeof bytes, kMostSaid - said_});
  const ssize_t sent = ::send(fd_, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent <= 0) return;
  said_ += static_cast<std::size_t>(sent);
  counts.bytes += static_cast<std::uint64_t>(sent);
}

void Attacker::send_descriptors(Input& script) {
  const std::uint8_t shape = script.byte();
  char bytes[4] = {'T', 'T', 'T', 'T'};
  iovec part{bytes, shape % 16 == 0 ? shape / 16 % 4U + 1U : 1U};
  std::size_t count = 1;
  if (shape % 16 == 1) count = 2;
  if (shape % 16 == 2) count = 9;
  if (shape == 3) count = kMaxDescriptors;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  const UniqueFd first(make_descriptor(script));
  if (!first) return;
  const UniqueFd second(count == 2 ? make_descriptor(script) : -1);
  for (std::size_t i = 0; i < count; ++i) {
    const int fd = i == 1 && second ? second.get() : first.get();
    std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
  }
  const int times = shape % 16 == 4 ? shape / 16 : 1;  // repeated
  for (int i = 0; i < times; ++i) {
    if (::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) counts.descriptors += count;
  }
}

void Attacker::listen() {
  char bytes[4096];
  iovec part{bytes, sizeof bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(fd_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      take_segment(fd);
      ::close(fd);
    }
  }
}

void Attacker::take_segment(int fd) {
  SegmentHeader header{};
  if (::pread(fd, &header, sizeof header, 0) != sizeof header || header.magic != kSegmentMagic) {
    return;
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0 || info.st_size < off_t{kHeaderSize} || info.st_size > kMostMapped) {
    return;
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  void* const page = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) return;
  if (page_ != nullptr) ::munmap(page_, mapped_);
  page_ = static_cast<SegmentPage*>(page);
  mapped_ = size;
  capacity_ = header.capacity;
  ++counts.segments;
}

Nonce Attacker::some_nonce(Input& script) const {
  Nonce nonce = nonce_;
  if (script.byte() > 250) nonce.bytes[script.byte() % kNonceSize] ^= 1U;
  return nonce;
}

int Attacker::make_descriptor(Input& script) {
  switch (script.byte() % 20) {
    case 0:
    case 1:
    case 2:
    case 3:
      return make_segment(script);
    case 4:
    case 5:
    case 6:
      return make_token(script);
    case 7:
    case 8:
    case 9:
      return ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    case 10: {
      int ends[2] = {-1, -1};
      if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
      const int keep = script.byte() % 2;
      ::close(ends[1 - keep]);
      return ends[keep];
    }
    case 11:
      return ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    case 12: {  // huge, and not sealed
      const int fd = write_memfd(0, &kSegmentMagic, sizeof kSegmentMagic);
      if (fd >= 0 && ::ftruncate(fd, off_t{1} << (script.byte() % 62)) != 0) return fd;
      return fd;
    }
    case 13:
      return ::memfd_create("fuzz", MFD_CLOEXEC | MFD_HUGETLB);
    case 14:
      return ::open("/proc/self/exe", O_PATH | O_CLOEXEC);
    case 15: {
      const int fd = make_segment(script);
      return fd >= 0 ? read_only(fd) : -1;
    }
    case 16:
      return ::open("/dev/zero", O_RDWR | O_CLOEXEC);
    case 17:
      // Not his own end: in the victim's queue it would keep the connection open without him.
      return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    case 18:
      return ::eventfd(0, EFD_CLOEXEC);
    default:
      return ::epoll_create1(EPOLL_CLOEXEC);
  }
}

// A segment as a server makes it, with a few things wrong.
int Attacker::make_segment(Input& script) {
  const std::uint8_t wrong = script.byte();
  std::uint64_t capacity = std::uint64_t{1} << 18U;
  if (wrong == 1) capacity = std::uint64_t{1} << (script.byte() % 64);
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.version = kProtocolVersion;
  header.header_size = kHeaderSize;
  header.capacity = capacity;
  header.size = kHeaderSize + 2 * capacity;
  const Nonce nonce = some_nonce(script);
  std::memcpy(header.nonce, nonce.bytes, kNonceSize);
  header.path_length = 9;
  std::uint64_t size = header.size;
  int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  switch (wrong) {
    case 2:
      header.version = script.byte();
      break;
    case 3:
      header.header_size = script.half();
      break;
    case 4:
      header.capacity = script.word();
      break;
    case 5:
      header.size = script.word();
      break;
    case 6:
      size = script.word();
      break;
    case 7:
      size -= script.byte();
      break;
    case 8:
      seals = script.byte() & 0x3f;
      break;
    case 9:
      header.capacity = script.word();
      header.size = kHeaderSize + 2 * header.capacity;
      size = header.size;
      break;
    case 10:
      script.fill(reinterpret_cast<std::uint8_t*>(&header), sizeof header);
      break;
    default:
      break;
  }
  const int fd =
      write_memfd(wrong == 11 ? 0U : unsigned{MFD_ALLOW_SEALING}, &header, sizeof header);
  if (fd < 0) return fd;
  // Sparse: only what is written takes memory.
  if (size < std::uint64_t{1} << 40U && ::ftruncate(fd, static_cast<off_t>(size)) != 0) return fd;
  ++counts.offers;
  if (wrong == 12 || role_ == Role::server) take_segment(fd);
  ::fcntl(fd, F_ADD_SEALS, seals);
  return fd;
}

int Attacker::make_token(Input& script) {
  Token token{kTokenMagic, kProtocolVersion, static_cast<TokenKind>(2 + script.byte() % 2), {}};
  const Nonce nonce = some_nonce(script);
  std::memcpy(token.nonce, nonce.bytes, kNonceSize);
  std::size_t size = sizeof token;
  switch (script.byte()) {
    case 1:
      token.kind = static_cast<TokenKind>(script.byte());
      break;
    case 2:
      token.version = script.byte();
      break;
    case 3:
      size = script.byte() % sizeof token;
      break;
    case 4:
      token.magic ^= script.byte();
      break;
    default:
      break;
  }
  const int fd = write_memfd(0, &token, size);
  if (script.byte() == 1 && ::ftruncate(fd, 4096) != 0) return fd;
  return fd;
}

}  // namespace tssx::fuzz
