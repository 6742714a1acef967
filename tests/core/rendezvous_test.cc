#include "core/rendezvous.h"
#include "core/presence.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/unique_fd.h"
#include "tests/core/support/child.h"
#include "tests/core/support/watchdog.h"

namespace tssx::test {
namespace {

Nonce new_nonce() {
  Nonce nonce{};
  EXPECT_TRUE(make_nonce(&nonce));
  return nonce;
}

// --- the mark ---

TEST(Marks, TellTheirNonce) {
  const Nonce nonce = new_nonce();
  sockaddr_un address{};
  const socklen_t length = make_mark(nonce, &address);
  Nonce read{};
  EXPECT_EQ(parse_mark(address, length, &read), Mark::ours);
  EXPECT_TRUE(read == nonce);
  EXPECT_FALSE(new_nonce() == nonce);
}

TEST(Marks, TravelWithTheConnection) {
  const Nonce nonce = new_nonce();
  sockaddr_un mark{};
  const socklen_t length = make_mark(nonce, &mark);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  socklen_t address_length = sizeof address;
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &address_length),
            0);
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(client.get(), reinterpret_cast<sockaddr*>(&mark), length), 0);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), address_length), 0);
  sockaddr_un peer{};
  socklen_t peer_length = sizeof peer;
  const UniqueFd server(
      ::accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &peer_length, SOCK_CLOEXEC));
  ASSERT_TRUE(server);
  Nonce read{};
  EXPECT_EQ(parse_mark(peer, peer_length, &read), Mark::ours);
  EXPECT_TRUE(read == nonce);
}

TEST(Marks, OfAnotherVersionAreForeign) {
  sockaddr_un address{};
  const socklen_t length = make_mark(new_nonce(), &address);
  char* const version = std::strchr(address.sun_path + 1, '2');
  ASSERT_NE(version, nullptr);
  *version = '3';
  Nonce read{};
  EXPECT_EQ(parse_mark(address, length, &read), Mark::foreign_version);
}

TEST(Marks, OfAnotherShapeAreForeign) {
  sockaddr_un address{};
  const socklen_t length = make_mark(new_nonce(), &address);
  Nonce read{};
  EXPECT_EQ(parse_mark(address, length - 1, &read), Mark::foreign_version);
  EXPECT_EQ(parse_mark(address, length + 1, &read), Mark::foreign_version);
  for (const char bad : {'g', 'A', '/', ':', '\0', '\xff'}) {
    sockaddr_un changed = address;
    changed.sun_path[length - offsetof(sockaddr_un, sun_path) - 1] = bad;
    EXPECT_EQ(parse_mark(changed, length, &read), Mark::foreign_version) << int{bad};
  }
}

TEST(Marks, TruncatedAnywhereNeverPass) {
  sockaddr_un address{};
  const socklen_t length = make_mark(new_nonce(), &address);
  for (socklen_t shorter = 0; shorter < length; ++shorter) {
    sockaddr_un rest{};
    std::memset(&rest, '1', sizeof rest);
    std::memcpy(&rest, &address, shorter);
    Nonce read{};
    EXPECT_NE(parse_mark(rest, shorter, &read), Mark::ours) << shorter;
  }
}

TEST(Marks, AreNoOtherNames) {
  Nonce read{};
  sockaddr_un address{};
  EXPECT_EQ(parse_mark(address, 0, &read), Mark::none);
  address.sun_family = AF_UNIX;
  EXPECT_EQ(parse_mark(address, sizeof(sa_family_t), &read), Mark::none) << "unnamed";
  std::strcpy(address.sun_path, "/tssx/1/00000000000000000000000000000000");
  EXPECT_EQ(parse_mark(address, sizeof address, &read), Mark::none) << "a path";
  address.sun_path[0] = '\0';
  std::memcpy(address.sun_path + 1, "tssy/1/", 7);
  EXPECT_EQ(parse_mark(address, sizeof address, &read), Mark::none);
  const socklen_t length = make_mark(new_nonce(), &address);
  address.sun_family = AF_INET;
  EXPECT_EQ(parse_mark(address, length, &read), Mark::none);
}

// --- messages ---

class Messages : public Watched {
 protected:
  Messages() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    near_.reset(ends[0]);
    far_.reset(ends[1]);
  }

  struct Received {
    std::string bytes;
    UniqueFd fd;
  };
  Received receive(std::size_t size, int flags = 0) {
    Received got;
    got.bytes.resize(size);
    iovec part{got.bytes.data(), size};
    alignas(cmsghdr) char control[kControlRoom];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t n = ::recvmsg(far_.get(), &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    got.bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    if (const cmsghdr* const header = CMSG_FIRSTHDR(&message)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
      got.fd.reset(fd);
    }
    return got;
  }
  void send(const std::string& bytes) {
    ASSERT_EQ(::send(near_.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
  }
  static UniqueFd memfd(const void* bytes, std::size_t size) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
    EXPECT_EQ(::write(fd.get(), bytes, size), static_cast<ssize_t>(size));
    return fd;
  }

  Nonce nonce_ = new_nonce();
  UniqueFd near_;
  UniqueFd far_;
};

TEST_F(Messages, AreOneByteWithADescriptor) {
  ASSERT_EQ(send_token(near_.get(), TokenKind::to_ring, nonce_), 0);
  const Received got = receive(100);
  EXPECT_EQ(got.bytes.size(), 1U);
  ASSERT_TRUE(got.fd);
  EXPECT_EQ(classify(got.fd.get(), nonce_), Notice::to_ring);
}

TEST_F(Messages, AreGluedToWhatPrecedesAndEndTheCall) {
  send("before");
  ASSERT_EQ(send_token(near_.get(), TokenKind::to_kernel, nonce_), 0);
  send("after");
  const Received first = receive(100);
  EXPECT_EQ(first.bytes.size(), 7U);
  EXPECT_EQ(first.bytes.substr(0, 6), "before");
  EXPECT_EQ(classify(first.fd.get(), nonce_), Notice::to_kernel);
  const Received second = receive(100);
  EXPECT_EQ(second.bytes, "after");
  EXPECT_FALSE(second.fd);
}

TEST_F(Messages, EndTheCallEachOnItsOwn) {
  ASSERT_EQ(send_token(near_.get(), TokenKind::to_ring, nonce_), 0);
  ASSERT_EQ(send_token(near_.get(), TokenKind::to_kernel, nonce_), 0);
  const Received first = receive(100);
  EXPECT_EQ(first.bytes.size(), 1U);
  EXPECT_EQ(classify(first.fd.get(), nonce_), Notice::to_ring);
  const Received second = receive(100);
  EXPECT_EQ(second.bytes.size(), 1U);
  EXPECT_EQ(classify(second.fd.get(), nonce_), Notice::to_kernel);
}

TEST_F(Messages, AreLeftForTheNextCallByAReadThatIsFull) {
  send("before");
  ASSERT_EQ(send_token(near_.get(), TokenKind::to_ring, nonce_), 0);
  const Received first = receive(6);
  EXPECT_EQ(first.bytes, "before");
  EXPECT_FALSE(first.fd);
  EXPECT_TRUE(receive(6).fd);
}

TEST_F(Messages, CanBePeekedAtWithTheirDescriptor) {
  ASSERT_EQ(send_token(near_.get(), TokenKind::to_ring, nonce_), 0);
  for (int i = 0; i < 3; ++i) {
    const Received got = receive(100, MSG_PEEK);
    EXPECT_EQ(got.bytes.size(), 1U);
    EXPECT_EQ(classify(got.fd.get(), nonce_), Notice::to_ring);
  }
  EXPECT_TRUE(receive(100).fd);
}

TEST_F(Messages, NeverBlock) {
  const std::string chunk(4096, 'x');
  while (::send(near_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT) > 0) {
  }
  while (::send(near_.get(), chunk.data(), 1, MSG_DONTWAIT) > 0) {
  }
  EXPECT_EQ(send_token(near_.get(), TokenKind::to_ring, nonce_), -EAGAIN);
}

TEST_F(Messages, RaiseNoSigpipe) {
  far_.reset();
  EXPECT_EQ(send_token(near_.get(), TokenKind::to_ring, nonce_), -EPIPE);
}

TEST_F(Messages, LeaveNoDescriptorBehind) {
  const int before = ::dup(near_.get());
  ::close(before);
  ASSERT_EQ(send_token(near_.get(), TokenKind::to_ring, nonce_), 0);
  const int after = ::dup(near_.get());
  ::close(after);
  EXPECT_EQ(after, before);
}

TEST_F(Messages, OfEveryKindAreTold) {
  const SegmentOrigin origin{nonce_, 0, "", 0};
  Result<NewSegment> made = create_segment(kMinCapacity, origin);
  ASSERT_TRUE(made);
  EXPECT_EQ(classify(made.value().fd.get(), nonce_), Notice::segment);
  EXPECT_EQ(classify(made.value().fd.get(), new_nonce()), Notice::foreign);
  unmap_segment(made.value().view);

  Token token{kTokenMagic, kProtocolVersion, TokenKind::to_ring, {}};
  std::memcpy(token.nonce, nonce_.bytes, kNonceSize);
  const struct {
    TokenKind kind;
    Notice notice;
  } kinds[] = {{TokenKind::to_ring, Notice::to_ring},
               {TokenKind::to_kernel, Notice::to_kernel},
               {static_cast<TokenKind>(0), Notice::foreign},
               {static_cast<TokenKind>(1), Notice::foreign},
               {static_cast<TokenKind>(99), Notice::foreign}};
  for (const auto& [kind, notice] : kinds) {
    token.kind = kind;
    EXPECT_EQ(classify(memfd(&token, sizeof token).get(), nonce_), notice);
    EXPECT_EQ(classify(memfd(&token, sizeof token).get(), new_nonce()), Notice::foreign);
  }
}

TEST_F(Messages, OfTheApplicationAreForeign) {
  Token token{kTokenMagic, kProtocolVersion, TokenKind::to_ring, {}};
  std::memcpy(token.nonce, nonce_.bytes, kNonceSize);
  struct {
    Token token;
    char more = 0;
  } longer{token};
  EXPECT_EQ(classify(memfd(&longer, sizeof longer).get(), nonce_), Notice::foreign);
  EXPECT_EQ(classify(memfd(&token, sizeof token - 1).get(), nonce_), Notice::foreign);
  token.version = kProtocolVersion + 1;
  EXPECT_EQ(classify(memfd(&token, sizeof token).get(), nonce_), Notice::foreign);
  EXPECT_EQ(classify(memfd("", 0).get(), nonce_), Notice::foreign);
  EXPECT_EQ(classify(memfd(&kSegmentMagic, sizeof kSegmentMagic).get(), nonce_), Notice::foreign);
  EXPECT_EQ(classify(near_.get(), nonce_), Notice::foreign);
  EXPECT_EQ(classify(-1, nonce_), Notice::foreign);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  EXPECT_EQ(classify(reader.get(), nonce_), Notice::foreign);
  const UniqueFd zero(::open("/dev/zero", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(classify(zero.get(), nonce_), Notice::foreign);
}

TEST_F(Messages, AreToldWhereverTheFileOffsetStands) {
  Token token{kTokenMagic, kProtocolVersion, TokenKind::to_ring, {}};
  std::memcpy(token.nonce, nonce_.bytes, kNonceSize);
  const UniqueFd fd = memfd(&token, sizeof token);
  ASSERT_EQ(::lseek(fd.get(), 13, SEEK_SET), 13);
  EXPECT_EQ(classify(fd.get(), nonce_), Notice::to_ring);
  EXPECT_EQ(::lseek(fd.get(), 0, SEEK_CUR), 13) << "an application's file is left as it was";
}

// Any call that a file system answers would wait for it: on FUSE that is somebody's program.
TEST_F(Messages, AskNothingOfTheFileSystemOfAnythingElse) {
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  Child child([&] {
    constexpr unsigned kForbidden[] = {SYS_fstat, SYS_fstatfs, SYS_pread64, SYS_newfstatat};
    std::vector<sock_filter> program{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const unsigned call : kForbidden) {
      program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
      program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    }
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
      ::_exit(3);
    }
    ::_exit(classify(file.get(), nonce_) == Notice::foreign ? 0 : 4);
  });
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace tssx::test
