#include "tools/tssx-stat/sockets.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

#include "tools/tssx-stat/proc_file.h"

namespace tssx::stat_tool {
namespace {

constexpr std::uint8_t kEstablished = 1;  // TCP_ESTABLISHED and TCP_LISTEN of the kernel's
constexpr std::uint8_t kListen = 10;

bool ask(int netlink) {
  struct {
    nlmsghdr header;
    unix_diag_req request;
  } message{};
  message.header.nlmsg_len = sizeof message;
  message.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  message.request.sdiag_family = AF_UNIX;
  message.request.udiag_states = ~0U;
  message.request.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER;
  return ::send(netlink, &message, sizeof message, 0) == static_cast<ssize_t>(sizeof message);
}

UnixSocket socket_of(const unix_diag_msg& message, std::size_t attributes_size) {
  UnixSocket socket;
  socket.inode = message.udiag_ino;
  if (message.udiag_state == kListen) socket.state = UnixSocket::State::listening;
  if (message.udiag_state == kEstablished) socket.state = UnixSocket::State::connected;
  const auto* attribute = reinterpret_cast<const rtattr*>(&message + 1);
  for (; RTA_OK(attribute, attributes_size); attribute = RTA_NEXT(attribute, attributes_size)) {
    const std::size_t size = RTA_PAYLOAD(attribute);
    const auto* data = static_cast<const char*>(RTA_DATA(attribute));
    if (attribute->rta_type == UNIX_DIAG_PEER && size >= sizeof socket.peer) {
      std::memcpy(&socket.peer, data, sizeof socket.peer);
    } else if (attribute->rta_type == UNIX_DIAG_NAME) {
      socket.name.assign(data, size);
    }
  }
  // A name in the file system comes with the NUL that ends it.
  if (!socket.name.empty() && socket.name[0] != '\0') {
    socket.name.resize(std::min(socket.name.size(), socket.name.find('\0')));
  }
  return socket;
}

std::optional<std::uint32_t> socket_inode(std::string_view link) {
  constexpr std::string_view kPrefix = "socket:[";
  if (link.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  link.remove_prefix(kPrefix.size());
  std::uint32_t inode = 0;
  const auto [end, error] = std::from_chars(link.data(), link.data() + link.size(), inode);
  return error == std::errc{} ? std::optional(inode) : std::nullopt;
}

template <typename Number>
std::optional<Number> number_of(std::string_view name) {
  Number number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return number;
}

// Calls visit with the name of each entry. False, with errno, if it can't be listed.
template <typename Visit>
bool list(int directory, const char* path, Visit&& visit) {
  const int fd = ::openat(directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::fdopendir(fd), ::closedir);
  if (!listing) {
    ::close(fd);
    return false;
  }
  while (const dirent* entry = ::readdir(listing.get())) {
    visit(::dirfd(listing.get()), static_cast<const char*>(entry->d_name));
  }
  return true;
}

}  // namespace

std::optional<std::vector<UnixSocket>> list_unix_sockets() {
  const UniqueFd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink || !ask(netlink.get())) return std::nullopt;
  std::vector<UnixSocket> sockets;
  alignas(nlmsghdr) std::array<char, 32768> buffer;
  for (;;) {
    const ssize_t got = ::recv(netlink.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    auto left = static_cast<std::size_t>(got);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data());
         NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return sockets;
      if (header->nlmsg_type == NLMSG_ERROR) {
        const auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(header));
        errno = -error->error;
        return std::nullopt;
      }
      if (header->nlmsg_len < NLMSG_LENGTH(sizeof(unix_diag_msg))) continue;
      const auto* message = static_cast<const unix_diag_msg*>(NLMSG_DATA(header));
      if (message->udiag_type != SOCK_STREAM) continue;
      sockets.push_back(
          socket_of(*message, header->nlmsg_len - NLMSG_LENGTH(sizeof(unix_diag_msg))));
    }
  }
}

Holders find_holders(int proc, std::unordered_set<pid_t>& hidden) {
  Holders holders;
  list(proc, ".", [&](int directory, const char* name) {
    const auto pid = number_of<pid_t>(name);
    if (!pid || *pid <= 0) return;
    const bool listed =
        list(directory, fmt::format("{}/fd", name).c_str(), [&](int fds, const char* number) {
          const auto fd = number_of<int>(number);
          std::array<char, 64> link{};
          const ssize_t size = fd ? ::readlinkat(fds, number, link.data(), link.size()) : -1;
          if (size <= 0) return;
          if (const auto inode = socket_inode({link.data(), static_cast<std::size_t>(size)})) {
            holders[*inode].push_back({*pid, *fd});
          }
        });
    if (!listed && (errno == EACCES || errno == EPERM)) hidden.insert(*pid);
  });
  return holders;
}

}  // namespace tssx::stat_tool
