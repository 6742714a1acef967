#include "tests/support/rights.h"

#include <sys/uio.h>

#include <cerrno>
#include <cstring>

namespace tssx_test {

int send_with(int fd, std::string bytes, const std::vector<int>& descriptors, int flags) {
  iovec part{bytes.data(), bytes.size()};
  std::vector<char> control(CMSG_SPACE(descriptors.size() * sizeof(int)));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
  std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size() * sizeof(int));
  errno = 0;
  return ::sendmsg(fd, &message, flags | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size())
             ? 0
             : errno;
}

Received receive(int fd, std::size_t size, int flags, std::size_t control_size) {
  Received result;
  result.bytes.resize(size);
  iovec part{result.bytes.data(), size};
  alignas(cmsghdr) char control[512];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = control_size;
  const ssize_t n = ::recvmsg(fd, &message, flags);
  if (n == -1) {
    result.bytes = std::string("<") + ::strerrorname_np(errno) + ">";
    return result;
  }
  result.bytes.resize(static_cast<std::size_t>(n));
  result.flags = message.msg_flags;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_RIGHTS) {
      const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int descriptor = -1;
        std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        result.descriptors.emplace_back(descriptor);
      }
    } else if (header->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials{};
      std::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
      result.credentials = credentials;
    }
  }
  return result;
}

}  // namespace tssx_test
