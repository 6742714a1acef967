// getsockname(), getpeername(), and the address that accept() tells: an unbound client has none.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/memory.h"

namespace tssx_test {
namespace {

constexpr socklen_t kUnnamed = sizeof(sa_family_t);

using NameCall = int (*)(int, sockaddr*, socklen_t*);

// The name as text: "unnamed", a path, "@..." if abstract, or "<errno>".
std::string name_by(NameCall call, int fd) {
  sockaddr_un address;
  std::memset(&address, 0x55, sizeof address);
  socklen_t length = sizeof address;
  if (call(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return std::string("<") + ::strerrorname_np(errno) + ">";
  }
  if (address.sun_family != AF_UNIX) return "<not AF_UNIX>";
  if (length == kUnnamed) {
    return address.sun_path[0] == 0x55 ? "unnamed" : "<unnamed, but bytes were written>";
  }
  std::string name(address.sun_path, length - offsetof(sockaddr_un, sun_path));
  if (name[0] == '\0') {
    name[0] = '@';
  } else {
    if (name.back() != '\0') return "<no NUL at the end>";
    name.pop_back();
  }
  return name;
}
std::string own_name(int fd) { return name_by(&::getsockname, fd); }
std::string peer_name(int fd) { return name_by(&::getpeername, fd); }

class Name : public ConnectionTest {};
INSTANTIATE_TEST_SUITE_P(, Name, every_situation(), situation_name);

TEST_P(Name, OfEachEndIsAsTheApplicationMadeIt) {
  EXPECT_EQ(own_name(mine()), GetParam().server ? path_ : "unnamed");
  EXPECT_EQ(peer_name(mine()), GetParam().server ? "unnamed" : path_);
}

TEST_P(Name, StaysWhenThePeerHasGone) {
  peer_.reset();
  EXPECT_EQ(own_name(mine()), GetParam().server ? path_ : "unnamed");
  EXPECT_EQ(peer_name(mine()), GetParam().server ? "unnamed" : path_);
}

TEST_P(Name, IsCutToAShortBufferAndTellsItsLength) {
  for (const NameCall call : {&::getsockname, &::getpeername}) {
    const bool named = (call == &::getsockname) == GetParam().server;
    const socklen_t full = named ? static_cast<socklen_t>(kUnnamed + path_.size() + 1) : kUnnamed;
    for (socklen_t room = 0; room < 8; ++room) {
      std::array<unsigned char, 16> bytes{};
      bytes.fill(0x55);
      socklen_t length = room;
      ASSERT_EQ(call(mine(), reinterpret_cast<sockaddr*>(bytes.data()), &length), 0);
      EXPECT_EQ(length, full);
      for (std::size_t i = std::min(room, full); i < bytes.size(); ++i) EXPECT_EQ(bytes[i], 0x55);
      if (room >= 2) {
        EXPECT_EQ(bytes[0], AF_UNIX);
      }
      if (room > 2 && named) {
        EXPECT_EQ(bytes[2], '/');
      }
    }
  }
}

TEST_P(Name, RefusesWhatIsWrong) {
  sockaddr_un address{};
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  for (const NameCall call : {&::getsockname, &::getpeername}) {
    socklen_t length = static_cast<socklen_t>(-1);
    errno = 0;
    EXPECT_EQ(call(mine(), generic, &length), -1);
    EXPECT_EQ(errno, EINVAL);
    length = sizeof address;
    errno = 0;
    EXPECT_EQ(call(mine(), static_cast<sockaddr*>(bad_pointer()), &length), -1);
    EXPECT_EQ(errno, EFAULT);
    errno = 0;
    EXPECT_EQ(call(mine(), generic, static_cast<socklen_t*>(bad_pointer())), -1);
    EXPECT_EQ(errno, EFAULT);
  }
}

TEST_P(Name, CanBeGivenToAnUnboundEndLater) {
  TSSX_KNOWN_DIFFERENCE("bind after connect");
  const std::string name = "@tssx-calls-late-" + std::to_string(::getpid());
  const Address address(name);
  if (GetParam().server) {
    errno = 0;
    EXPECT_EQ(::bind(mine(), address.get(), address.length), -1);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(own_name(mine()), path_);
  } else {
    ASSERT_EQ(::bind(mine(), address.get(), address.length), 0);
    EXPECT_EQ(own_name(mine()), name);
    EXPECT_EQ(peer_name(peer()), name);
    EXPECT_EQ(::bind(mine(), address.get(), address.length), -1);
    EXPECT_EQ(errno, EINVAL);
  }
  ASSERT_EQ(write_all(mine(), "still"), 5U);
  EXPECT_EQ(read_once(peer(), 10), "still");
  ASSERT_EQ(write_all(peer(), "here"), 4U);
  EXPECT_EQ(read_once(mine(), 10), "here");
}

TEST(NameOther, OfASocketThatIsNothingYet) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(own_name(socket.get()), "unnamed");
  EXPECT_EQ(peer_name(socket.get()), "<ENOTCONN>");
}

TEST(NameOther, OfAListener) {
  const Listener listener;
  EXPECT_EQ(own_name(listener.fd()), listener.path());
  EXPECT_EQ(peer_name(listener.fd()), "<ENOTCONN>");
}

TEST(NameOther, OfAClientThatWaitsToBeAccepted) {
  const Listener listener;
  const UniqueFd client = listener.connect();
  EXPECT_EQ(own_name(client.get()), "unnamed");
  EXPECT_EQ(peer_name(client.get()), listener.path());
}

TEST(NameOther, AcceptTellsOfAnUnboundClient) {
  const Listener listener;
  for (int variant = 0; variant < 2; ++variant) {
    const UniqueFd client = listener.connect();
    sockaddr_un address;
    std::memset(&address, 0x55, sizeof address);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    const UniqueFd server(variant == 0 ? ::accept(listener.fd(), generic, &length)
                                       : ::accept4(listener.fd(), generic, &length, SOCK_CLOEXEC));
    ASSERT_TRUE(server.valid());
    EXPECT_EQ(length, kUnnamed);
    EXPECT_EQ(address.sun_family, AF_UNIX);
    EXPECT_EQ(address.sun_path[0], 0x55);
    EXPECT_EQ(own_name(server.get()), listener.path());
    EXPECT_EQ(peer_name(server.get()), "unnamed");
  }
}

TEST(NameOther, AcceptCutsTheAddressToTheBuffer) {
  const Listener listener;
  for (socklen_t room = 0; room < 4; ++room) {
    const UniqueFd client = listener.connect();
    std::array<unsigned char, 8> bytes{};
    bytes.fill(0x55);
    socklen_t length = room;
    const UniqueFd server(
        ::accept(listener.fd(), reinterpret_cast<sockaddr*>(bytes.data()), &length));
    ASSERT_TRUE(server.valid());
    EXPECT_EQ(length, kUnnamed);
    EXPECT_EQ(bytes[0], room > 0 ? AF_UNIX : 0x55);
    EXPECT_EQ(bytes[1], room > 1 ? 0 : 0x55);
    EXPECT_EQ(bytes[2], 0x55);
  }
}

TEST(NameOther, AcceptTellsNobodyWhoDoesNotAsk) {
  const Listener listener;
  const UniqueFd client = listener.connect();
  socklen_t length = 77;
  const UniqueFd server(::accept(listener.fd(), nullptr, &length));
  ASSERT_TRUE(server.valid());
  EXPECT_EQ(length, 77U);
}

TEST(NameOther, OfAClientThatBoundItself) {
  const Listener listener;
  const TemporaryDirectory directory;
  const std::string own = directory.path("client");
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  const Address client_address(own);
  ASSERT_EQ(::bind(client.get(), client_address.get(), client_address.length), 0);
  const Address address(listener.path());
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  sockaddr_un accepted{};
  socklen_t length = sizeof accepted;
  const UniqueFd server(::accept(listener.fd(), reinterpret_cast<sockaddr*>(&accepted), &length));
  ASSERT_TRUE(server.valid());
  EXPECT_EQ(length, client_address.length);
  EXPECT_EQ(accepted.sun_path, own);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(own_name(client.get()), own);
    EXPECT_EQ(peer_name(client.get()), listener.path());
    EXPECT_EQ(peer_name(server.get()), own);
    warm_up(client.get(), server.get());
  }
}

TEST(NameOther, OfAClientThatTheKernelNamed) {
  const Listener listener;
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  const sockaddr_un family_only{AF_UNIX, {}};
  ASSERT_EQ(::bind(client.get(), reinterpret_cast<const sockaddr*>(&family_only), kUnnamed), 0);
  const std::string given = own_name(client.get());
  EXPECT_EQ(given.size(), 6U);  // '@' and five hexadecimal digits
  const Address address(listener.path());
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  const UniqueFd server = listener.accept();
  warm_up(client.get(), server.get());
  EXPECT_EQ(own_name(client.get()), given);
  EXPECT_EQ(peer_name(server.get()), given);
}

TEST(NameOther, OfAnAbstractListener) {
  const std::string name = "@tssx-calls-name-" + std::to_string(::getpid());
  const Address address(name);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(::bind(listener.get(), address.get(), address.length), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
  const UniqueFd server(::accept(listener.get(), nullptr, nullptr));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(own_name(server.get()), name);
    EXPECT_EQ(peer_name(client.get()), name);
    EXPECT_EQ(own_name(client.get()), "unnamed");
    EXPECT_EQ(peer_name(server.get()), "unnamed");
    warm_up(client.get(), server.get());
  }
}

TEST(NameOther, OfASocketpair) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const UniqueFd first(pair[0]);
  const UniqueFd second(pair[1]);
  EXPECT_EQ(own_name(first.get()), "unnamed");
  EXPECT_EQ(peer_name(first.get()), "unnamed");
}

TEST(NameOther, AreAllDistinctThoughManyConnectAtOnce) {
  const Listener listener(64);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(listener.connect());
  for (int i = 0; i < 40; ++i) {
    const UniqueFd server = listener.accept();
    EXPECT_EQ(peer_name(server.get()), "unnamed");
    // Accepted in the order of their connects.
    ASSERT_EQ(write_all(server.get(), std::to_string(i)), std::to_string(i).size());
    EXPECT_EQ(read_once(clients[static_cast<std::size_t>(i)].get(), 10), std::to_string(i));
  }
}

}  // namespace
}  // namespace tssx_test
