#include "core/rendezvous.h"

#include <errno.h>

#include <cstring>

#include "core/fault_point.h"
#include "core/sys.h"
#include "core/unique_fd.h"

namespace tssx {
namespace {

constexpr char kMarkPrefix[] = "tssx/2/";
static_assert(kProtocolVersion == 2, "the mark's prefix names the version");
constexpr std::size_t kPrefixLength = sizeof kMarkPrefix - 1;
constexpr std::size_t kMarkLength = 1 + kPrefixLength + 2 * kNonceSize;

constexpr char kDigits[] = "0123456789abcdef";

int digit_value(char digit) noexcept {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

}  // namespace

socklen_t make_mark(const Nonce& nonce, sockaddr_un* address) noexcept {
  std::memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  char* out = address->sun_path + 1;
  std::memcpy(out, kMarkPrefix, kPrefixLength);
  out += kPrefixLength;
  for (const std::uint8_t byte : nonce.bytes) {
    *out++ = kDigits[byte >> 4U];
    *out++ = kDigits[byte & 15U];
  }
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + kMarkLength);
}

Mark parse_mark(const sockaddr_un& address, socklen_t length, Nonce* nonce) noexcept {
  constexpr std::size_t kStart = offsetof(sockaddr_un, sun_path);
  constexpr std::size_t kFamilyLength = sizeof kMarkFamily - 1;
  if (length <= kStart + 1 + kFamilyLength || address.sun_family != AF_UNIX ||
      address.sun_path[0] != '\0' ||
      std::memcmp(address.sun_path + 1, kMarkFamily, kFamilyLength) != 0) {
    return Mark::none;
  }
  if (length != kStart + kMarkLength ||
      std::memcmp(address.sun_path + 1, kMarkPrefix, kPrefixLength) != 0) {
    return Mark::foreign_version;
  }
  const char* in = address.sun_path + 1 + kPrefixLength;
  for (std::uint8_t& byte : nonce->bytes) {
    const int high = digit_value(*in++);
    const int low = digit_value(*in++);
    if (high < 0 || low < 0) return Mark::foreign_version;
    byte = static_cast<std::uint8_t>(high << 4 | low);
  }
  return Mark::ours;
}

Notice classify(int fd, const Nonce& nonce) noexcept {
  union {
    Token token;
    SegmentHeader header;
  } start{};
  std::uint64_t file_size = 0;
  if (!read_memfd_start(fd, &start.token, sizeof(Token), &file_size)) return Notice::foreign;
  if (start.token.magic == kTokenMagic) {
    if (file_size != sizeof(Token) || start.token.version != kProtocolVersion ||
        std::memcmp(start.token.nonce, nonce.bytes, kNonceSize) != 0) {
      return Notice::foreign;
    }
    switch (start.token.kind) {
      case TokenKind::to_ring:
        return Notice::to_ring;
      case TokenKind::to_kernel:
        return Notice::to_kernel;
    }
    return Notice::foreign;
  }
  if (start.token.magic != kSegmentMagic ||
      !read_memfd_start(fd, &start.header, sizeof(SegmentHeader), &file_size) ||
      std::memcmp(start.header.nonce, nonce.bytes, kNonceSize) != 0) {
    return Notice::foreign;
  }
  return Notice::segment;
}

int send_with_descriptor(int socket, int attached) noexcept {
  char byte = kNoticeByte;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &attached, sizeof attached);
  const long sent = sys::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent < 0 ? static_cast<int>(sent) : 0;
}

int send_token(int socket, TokenKind kind, const Nonce& nonce) noexcept {
  const UniqueFd fd(static_cast<int>(sys::memfd_create(kTokenName, MFD_CLOEXEC)));
  if (!fd) return -EMFILE;
  // A write beyond the limit would raise SIGXFSZ (setrlimit(2)).
  rlimit limit{};
  if (sys::prlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur < sizeof(Token)) return -EFBIG;
  Token token{kTokenMagic, kProtocolVersion, kind, {}};
  std::memcpy(token.nonce, nonce.bytes, kNonceSize);
  if (sys::pwrite(fd.get(), &token, sizeof token, 0) != static_cast<long>(sizeof token)) {
    return -ENOSPC;
  }
  TSSX_FAULT_POINT(token_made);
  return send_with_descriptor(socket, fd.get());
}

}  // namespace tssx
