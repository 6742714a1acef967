// Who may reach a connection's memory, who the peer is said to be, and processes that give up
// rights after they have connected. Most of it needs several users, so it needs root.
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/echo.h"
#include "tests/support/io.h"
#include "tests/support/pattern.h"

namespace tssx_test {
namespace {

// Users that own nothing and run nothing else.
constexpr uid_t kOwner = 64301;
constexpr uid_t kStranger = 64302;

// For good, as a daemon does.
bool become(uid_t user) {
  return ::setgroups(0, nullptr) == 0 && ::setgid(user) == 0 && ::setuid(user) == 0;
}

ucred peer_of(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length), 0);
  return peer;
}

// --- who the peer is ---

class PeerUser : public ForkedPeerTest {};
INSTANTIATE_TEST_SUITE_P(, PeerUser, every_situation(), situation_name);

TEST_P(PeerUser, NameTheProcessOfTheOtherEnd) {
  const pid_t parent = ::getpid();
  ForkedConnection connection = connect_to([&](int fd) {
    const ucred peer = peer_of(fd);
    EXPECT_EQ(peer.pid, parent);
    EXPECT_EQ(peer.uid, ::geteuid());
    EXPECT_EQ(peer.gid, ::getegid());
    serve(fd);
  });
  expect_echo(connection.mine.get());
  const ucred peer = peer_of(connection.mine.get());
  // Of a server it is who called listen(2), which was this process (unix(7)).
  EXPECT_EQ(peer.pid, GetParam().server ? connection.peer.pid() : parent);
  EXPECT_EQ(peer.uid, ::geteuid());
  EXPECT_EQ(peer.gid, ::getegid());
  EXPECT_EQ(::shutdown(connection.mine.get(), SHUT_WR), 0);
  EXPECT_EQ(connection.peer.wait(), 0);
}

TEST(PeerUserOfTwo, AreThoseOfTheMomentOfConnecting) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be several users";
  const Listener listener;
  ASSERT_EQ(::chmod(listener.path().c_str(), 0777), 0);
  const std::string folder = listener.path().substr(0, listener.path().rfind('/'));
  ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  Child child([&] {
    ASSERT_EQ(::setegid(kOwner), 0);
    ASSERT_EQ(::seteuid(kOwner), 0);
    const UniqueFd client = listener.connect();
    ASSERT_TRUE(client.valid());
    ASSERT_EQ(::seteuid(0), 0);
    ASSERT_TRUE(become(kStranger));
    EXPECT_EQ(peer_of(client.get()).uid, 0U);
    serve(client.get());
  });
  const UniqueFd server = listener.accept();
  expect_echo(server.get());
  const ucred peer = peer_of(server.get());
  EXPECT_EQ(peer.uid, kOwner);
  EXPECT_EQ(peer.gid, kOwner);
  EXPECT_EQ(peer.pid, child.pid());
  EXPECT_EQ(::shutdown(server.get(), SHUT_WR), 0);
  EXPECT_EQ(child.wait(), 0);
}

// --- who can reach the memory ---

struct Region {
  std::uintptr_t start;
  std::string name;  // of its link in map_files
};

// The segments in another process, or, natively, the first thing it has mapped.
std::vector<Region> regions_of(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::vector<Region> found;
  for (std::string line; std::getline(maps, line);) {
    if (preloaded() && line.find("/memfd:tssx-segment") == std::string::npos) continue;
    const std::string name = line.substr(0, line.find(' '));
    found.push_back({std::stoul(name, nullptr, 16), name});
    if (!preloaded()) break;
  }
  return found;
}

// Every way that one process has to another's memory or descriptors; what of it worked.
std::string ways_into(pid_t pid, const std::vector<Region>& regions) {
  std::string worked;
  const std::string process = "/proc/" + std::to_string(pid);
  for (const std::string folder : {"/fd", "/map_files"}) {
    if (DIR* entries = ::opendir((process + folder).c_str())) {
      worked += " list" + folder;
      ::closedir(entries);
    }
  }
  for (int fd = 0; fd < 1024; ++fd) {
    const std::string path = process + "/fd/" + std::to_string(fd);
    if (const UniqueFd opened(::open(path.c_str(), O_RDONLY)); opened.valid()) worked += " open fd";
  }
  const auto pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  for (int fd = 0; fd < 1024; ++fd) {
    const UniqueFd got(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, fd, 0)));
    if (got.valid()) worked += " pidfd_getfd";
  }
  ::close(pidfd);
  for (const Region& region : regions) {
    const std::string path = process + "/map_files/" + region.name;
    if (const UniqueFd opened(::open(path.c_str(), O_RDWR)); opened.valid()) worked += " map_files";
    char byte = 0;
    const iovec here{&byte, 1};
    const iovec there{reinterpret_cast<void*>(region.start), 1};
    if (::process_vm_readv(pid, &here, 1, &there, 1, 0) == 1) worked += " process_vm_readv";
    if (::process_vm_writev(pid, &here, 1, &there, 1, 0) == 1) worked += " process_vm_writev";
  }
  if (const UniqueFd memory(::open((process + "/mem").c_str(), O_RDONLY)); memory.valid()) {
    worked += " mem";
  }
  if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == 0) worked += " ptrace";
  return worked;
}

TEST(Memory, OfAConnectionIsOutOfReachForOtherUsers) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be several users";
  const Listener listener;
  ASSERT_EQ(::chmod(listener.path().c_str(), 0777), 0);
  const std::string folder = listener.path().substr(0, listener.path().rfind('/'));
  ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  // Both ends belong to one user.
  const auto as_owner = [](int fd) {
    ASSERT_TRUE(become(kOwner));
    ASSERT_EQ(::prctl(PR_SET_DUMPABLE, 1), 0);  // as after an exec: setuid() has cleared it
    warm_up_as_follower(fd);
    serve(fd);
  };
  int from_server[2];
  ASSERT_EQ(::pipe(from_server), 0);
  Child client([&] {
    const UniqueFd fd = listener.connect();
    as_owner(fd.get());
  });
  Child server([&] {
    const UniqueFd fd = listener.accept();
    ASSERT_TRUE(become(kOwner));
    ASSERT_EQ(::prctl(PR_SET_DUMPABLE, 1), 0);
    warm_up_as_leader(fd.get());
    expect_echo(fd.get());
    ASSERT_EQ(write_all(from_server[1], "ready"), 5U);
    char byte = 0;
    [[maybe_unused]] const ssize_t n = ::read(fd.get(), &byte, 1);  // until it is killed
  });
  ASSERT_EQ(read_exactly(from_server[0], 5), "ready");
  for (const pid_t pid : {client.pid(), server.pid()}) {
    // Root sees it, and so do the owner's processes, as they see all of each other's memory.
    const std::vector<Region> regions = regions_of(pid);
    ASSERT_FALSE(regions.empty());
    std::string root_found;
    for (const std::string& word : {ways_into(pid, {regions.front()})}) root_found += word;
    EXPECT_NE(root_found.find("process_vm_readv"), std::string::npos) << root_found;
    Child stranger([&] {
      ASSERT_TRUE(become(kStranger));
      EXPECT_EQ(ways_into(pid, regions), "");
    });
    EXPECT_EQ(stranger.wait(), 0);
  }
  server.kill_and_wait();
  EXPECT_EQ(client.wait(), 0);
  ::close(from_server[0]);
  ::close(from_server[1]);
}

// --- rights given up after connecting ---

class Restricted : public ForkedPeerTest {
 protected:
  // `restrict` gives something up; false where this machine does not allow that.
  void serves_after(const std::function<bool()>& restrict) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root has something to give up";
    ForkedConnection connection = connect_to([&](int fd) {
      if (!restrict()) ::_exit(77);
      serve(fd);
    });
    char first = 0;
    // A peer that could not do it is gone.
    ASSERT_EQ(::write(connection.mine.get(), "?", 1), 1);
    if (::read(connection.mine.get(), &first, 1) != 1) {
      ASSERT_EQ(connection.peer.wait(), 77);
      GTEST_SKIP() << "not allowed here";
    }
    expect_echo(connection.mine.get());
    EXPECT_EQ(::shutdown(connection.mine.get(), SHUT_WR), 0);
    EXPECT_EQ(read_to_end(connection.mine.get()), "");
    EXPECT_EQ(connection.peer.wait(), 0);
  }
};
INSTANTIATE_TEST_SUITE_P(, Restricted, every_situation(), situation_name);

TEST_P(Restricted, ToAnotherUserServes) {
  serves_after([] { return become(kOwner); });
}

TEST_P(Restricted, ToAFolderServes) {
  const TemporaryDirectory directory;
  const std::string root = directory.path("");
  serves_after([&] { return ::chroot(root.c_str()) == 0 && ::chdir("/") == 0; });
}

TEST_P(Restricted, ToAFolderAsAnotherUserServes) {
  const TemporaryDirectory directory;
  const std::string root = directory.path("");
  serves_after([&] { return ::chroot(root.c_str()) == 0 && ::chdir("/") == 0 && become(kOwner); });
}

TEST_P(Restricted, ToNamespacesOfItsOwnServes) {
  serves_after(
      [] { return ::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0; });
}

TEST_P(Restricted, ToAUserNamespaceServes) {
  serves_after([] { return ::unshare(CLONE_NEWUSER) == 0; });
}

TEST_P(Restricted, ToNotBeingDumpableServes) {
  serves_after([] { return ::prctl(PR_SET_DUMPABLE, 0) == 0; });
}

// Where it is process 1, and its parent's numbers mean nothing.
TEST_P(Restricted, InAPidNamespaceAChildServes) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root makes them";
  ForkedConnection connection = connect_to([](int fd) {
    if (::unshare(CLONE_NEWPID) != 0) ::_exit(77);
    Child inner([fd] {
      EXPECT_EQ(::getpid(), 1);
      serve(fd);
    });
    EXPECT_EQ(inner.wait(), 0);
  });
  char first = 0;
  ASSERT_EQ(::write(connection.mine.get(), "?", 1), 1);
  if (::read(connection.mine.get(), &first, 1) != 1) {
    ASSERT_EQ(connection.peer.wait(), 77);
    GTEST_SKIP() << "no pid namespace to be had";
  }
  expect_echo(connection.mine.get());
  EXPECT_EQ(::shutdown(connection.mine.get(), SHUT_WR), 0);
  EXPECT_EQ(connection.peer.wait(), 0);
}

// The same with its parent at work on the connection, too: they take turns.
TEST_P(Restricted, InAPidNamespaceAChildTakesTurnsWithItsParent) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root makes them";
  ForkedConnection connection = connect_to([](int fd) {
    if (::unshare(CLONE_NEWPID) != 0) ::_exit(77);
    int turn[2];
    int back[2];
    ASSERT_EQ(::pipe(turn), 0);
    ASSERT_EQ(::pipe(back), 0);
    Child inner([&] {
      for (int i = 0; i < 30; ++i) {
        ASSERT_EQ(read_exactly(turn[0], 1), "t");
        ASSERT_EQ(read_exactly(fd, 5), "inner");
        ASSERT_EQ(write_all(fd, "outer"), 5U);
        ASSERT_EQ(write_all(back[1], "b"), 1U);
      }
    });
    for (int i = 0; i < 30; ++i) {
      ASSERT_EQ(read_exactly(fd, 5), "outer");
      ASSERT_EQ(write_all(fd, "inner"), 5U);
      ASSERT_EQ(write_all(turn[1], "t"), 1U);
      ASSERT_EQ(read_exactly(back[0], 1), "b");
    }
    EXPECT_EQ(inner.wait(), 0);
  });
  const int fd = connection.mine.get();
  for (int i = 0; i < 30; ++i) {
    if (::write(fd, "outer", 5) != 5 || read_exactly(fd, 5) != "inner") {
      ASSERT_EQ(connection.peer.wait(), 77);
      GTEST_SKIP() << "no pid namespace to be had";
    }
    ASSERT_EQ(write_all(fd, "inner"), 5U);
    ASSERT_EQ(read_exactly(fd, 5), "outer");
  }
  EXPECT_EQ(connection.peer.wait(), 0);
}

}  // namespace
}  // namespace tssx_test
