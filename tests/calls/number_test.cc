// Every libc call that takes a descriptor takes a connection's, whatever its number: it gives the
// result and the errno that it gives for an end of a socketpair(), which is always the kernel's.
// The suite also runs with TSSX_IDS=negative, where the accepted end's number is an ID.
#include <aio.h>
#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pty.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "tests/support/connection.h"
#include "tests/support/io.h"

extern "C" {
int __fxstat(int, int, struct stat*);
int __fxstat64(int, int, struct stat64*);
int __fxstatat(int, int, const char*, struct stat*, int);
int __fxstatat64(int, int, const char*, struct stat64*, int);
ssize_t __pread_chk(int, void*, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void*, size_t, off64_t, size_t);
ssize_t __pread64(int, void*, size_t, off64_t);
ssize_t __pwrite64(int, const void*, size_t, off64_t);
ssize_t __readlinkat_chk(int, const char*, char*, size_t, size_t);
int __ttyname_r_chk(int, char*, size_t, size_t);
int __ptsname_r_chk(int, char*, size_t, size_t);
int __openat_2(int, const char*, int);
int __openat64_2(int, const char*, int);
off_t __lseek(int, off_t, int);
int __fcntl(int, int, ...);
}

namespace tssx_test {
namespace {

struct Call {
  const char* name;
  std::function<long(int fd)> make;
};

char path[] = "nowhere";
char room[256];
const char* const empty = "";
iovec part{room, sizeof room};
iovec many[2000];
sockaddr_storage group{};

long address_bits(const void* pointer) { return pointer != nullptr ? 1 : 0; }

const Call kCalls[] = {
    // what kind of file
    {"fstat", [](int fd) { struct stat s{}; return long{::fstat(fd, &s)} + s.st_mode; }},
    {"fstat64", [](int fd) { struct stat64 s{}; return long{::fstat64(fd, &s)} + s.st_mode; }},
    {"__fxstat", [](int fd) { struct stat s{}; return long{::__fxstat(1, fd, &s)} + s.st_mode; }},
    {"__fxstat64",
     [](int fd) { struct stat64 s{}; return long{::__fxstat64(1, fd, &s)} + s.st_mode; }},
    {"fstatat of itself",
     [](int fd) {
       struct stat s{};
       return long{::fstatat(fd, empty, &s, AT_EMPTY_PATH)} + s.st_mode;
     }},
    {"fstatat64 of itself",
     [](int fd) {
       struct stat64 s{};
       return long{::fstatat64(fd, empty, &s, AT_EMPTY_PATH)} + s.st_mode;
     }},
    {"__fxstatat",
     [](int fd) { struct stat s{}; return long{::__fxstatat(1, fd, path, &s, 0)}; }},
    {"__fxstatat64",
     [](int fd) { struct stat64 s{}; return long{::__fxstatat64(1, fd, path, &s, 0)}; }},
    {"statx of itself",
     [](int fd) {
       struct statx s{};
       return long{::statx(fd, empty, AT_EMPTY_PATH, STATX_TYPE, &s)} + s.stx_mode;
     }},
    {"fstatfs", [](int fd) { struct statfs s{}; return ::fstatfs(fd, &s) + s.f_type; }},
    {"fstatfs64", [](int fd) { struct statfs64 s{}; return ::fstatfs64(fd, &s) + s.f_type; }},
    {"fstatvfs",
     [](int fd) {
       struct statvfs s{};
       return ::fstatvfs(fd, &s) + static_cast<long>(s.f_bsize);
     }},
    {"fstatvfs64",
     [](int fd) {
       struct statvfs64 s{};
       return ::fstatvfs64(fd, &s) + static_cast<long>(s.f_bsize);
     }},
    {"isfdtype", [](int fd) { return long{::isfdtype(fd, S_IFSOCK)}; }},
    {"isfdtype of another", [](int fd) { return long{::isfdtype(fd, S_IFREG)}; }},
    {"sockatmark", [](int fd) { return long{::sockatmark(fd)}; }},
    {"fpathconf", [](int fd) { return ::fpathconf(fd, _PC_PIPE_BUF); }},
    {"isatty", [](int fd) { return long{::isatty(fd)}; }},
    // attributes and locks of the inode
    {"fchmod", [](int fd) { return long{::fchmod(fd, 0600)}; }},
    {"fchown", [](int fd) { return long{::fchown(fd, ::getuid(), ::getgid())}; }},
    {"futimens", [](int fd) { return long{::futimens(fd, nullptr)}; }},
    {"futimes", [](int fd) { return long{::futimes(fd, nullptr)}; }},
    {"fgetxattr", [](int fd) { return ::fgetxattr(fd, "user.none", room, sizeof room); }},
    {"fsetxattr", [](int fd) { return long{::fsetxattr(fd, "user.none", "x", 1, 0)}; }},
    {"flistxattr", [](int fd) { return ::flistxattr(fd, room, sizeof room); }},
    {"fremovexattr", [](int fd) { return long{::fremovexattr(fd, "user.none")}; }},
    {"flock", [](int fd) { return long{::flock(fd, LOCK_EX)}; }},
    {"flock back", [](int fd) { return long{::flock(fd, LOCK_UN)}; }},
    {"lockf", [](int fd) { return long{::lockf(fd, F_TEST, 1)}; }},
    {"lockf64", [](int fd) { return long{::lockf64(fd, F_TEST, 1)}; }},
    // positions and sizes
    {"lseek", [](int fd) { return ::lseek(fd, 0, SEEK_CUR); }},
    {"__lseek", [](int fd) { return ::__lseek(fd, 0, SEEK_CUR); }},
    {"lseek64", [](int fd) { return ::lseek64(fd, 0, SEEK_CUR); }},
    {"pread", [](int fd) { return ::pread(fd, room, 1, 0); }},
    {"pread64", [](int fd) { return ::pread64(fd, room, 1, 0); }},
    {"__pread64", [](int fd) { return ::__pread64(fd, room, 1, 0); }},
    {"__pread_chk", [](int fd) { return ::__pread_chk(fd, room, 1, 0, sizeof room); }},
    {"__pread64_chk", [](int fd) { return ::__pread64_chk(fd, room, 1, 0, sizeof room); }},
    {"pwrite", [](int fd) { return ::pwrite(fd, room, 1, 0); }},
    {"pwrite64", [](int fd) { return ::pwrite64(fd, room, 1, 0); }},
    {"__pwrite64", [](int fd) { return ::__pwrite64(fd, room, 1, 0); }},
    {"preadv", [](int fd) { return ::preadv(fd, &part, 1, 0); }},
    {"preadv64", [](int fd) { return ::preadv64(fd, &part, 1, 0); }},
    {"pwritev", [](int fd) { return ::pwritev(fd, &part, 1, 0); }},
    {"pwritev64", [](int fd) { return ::pwritev64(fd, &part, 1, 0); }},
    {"preadv2 at 0", [](int fd) { return ::preadv2(fd, &part, 1, 0, 0); }},
    {"preadv64v2 at 0", [](int fd) { return ::preadv64v2(fd, &part, 1, 0, 0); }},
    {"pwritev2 at 0", [](int fd) { return ::pwritev2(fd, &part, 1, 0, 0); }},
    {"pwritev64v2 at 0", [](int fd) { return ::pwritev64v2(fd, &part, 1, 0, 0); }},
    {"preadv2 at -2", [](int fd) { return ::preadv2(fd, &part, 1, -2, 0); }},
    {"preadv2 of no parts", [](int fd) { return ::preadv2(fd, &part, 0, -1, 0); }},
    {"preadv2 of too many", [](int fd) { return ::preadv2(fd, many, 2000, -1, 0); }},
    {"preadv2 with RWF_NOWAIT", [](int fd) { return ::preadv2(fd, &part, 1, -1, RWF_NOWAIT); }},
    {"preadv2 with a bad flag", [](int fd) { return ::preadv2(fd, &part, 1, -1, 0x40000000); }},
    {"pwritev2 with a bad flag", [](int fd) { return ::pwritev2(fd, &part, 1, -1, 0x40000000); }},
    {"fsync", [](int fd) { return long{::fsync(fd)}; }},
    {"fdatasync", [](int fd) { return long{::fdatasync(fd)}; }},
    {"syncfs", [](int fd) { return long{::syncfs(fd)}; }},
    {"sync_file_range", [](int fd) { return long{::sync_file_range(fd, 0, 1, 0)}; }},
    {"ftruncate", [](int fd) { return long{::ftruncate(fd, 0)}; }},
    {"ftruncate64", [](int fd) { return long{::ftruncate64(fd, 0)}; }},
    {"fallocate", [](int fd) { return long{::fallocate(fd, 0, 0, 1)}; }},
    {"fallocate64", [](int fd) { return long{::fallocate64(fd, 0, 0, 1)}; }},
    {"posix_fallocate", [](int fd) { return long{::posix_fallocate(fd, 0, 1)}; }},
    {"posix_fallocate64", [](int fd) { return long{::posix_fallocate64(fd, 0, 1)}; }},
    {"posix_fadvise", [](int fd) { return long{::posix_fadvise(fd, 0, 1, 0)}; }},
    {"posix_fadvise64", [](int fd) { return long{::posix_fadvise64(fd, 0, 1, 0)}; }},
    {"readahead", [](int fd) { return ::readahead(fd, 0, 1); }},
    // other kinds of file
    {"tee", [](int fd) { return ::tee(fd, fd, 1, 0); }},
    {"vmsplice", [](int fd) { return ::vmsplice(fd, &part, 1, 0); }},
    {"copy_file_range", [](int fd) { return ::copy_file_range(fd, nullptr, fd, nullptr, 1, 0); }},
    {"sendfile from it", [](int fd) { return ::sendfile(fd, fd, nullptr, 1); }},
    {"fchdir", [](int fd) { return long{::fchdir(fd)}; }},
    {"fdopendir", [](int fd) { return address_bits(::fdopendir(fd)); }},
    {"getdents64", [](int fd) { return ::getdents64(fd, room, sizeof room); }},
    {"getdirentries",
     [](int fd) {
       off_t position = 0;
       return ::getdirentries(fd, room, sizeof room, &position);
     }},
    {"getdirentries64",
     [](int fd) {
       off64_t position = 0;
       return ::getdirentries64(fd, room, sizeof room, &position);
     }},
    {"ttyname", [](int fd) { return address_bits(::ttyname(fd)); }},
    {"ttyname_r", [](int fd) { return long{::ttyname_r(fd, room, sizeof room)}; }},
    {"__ttyname_r_chk",
     [](int fd) { return long{::__ttyname_r_chk(fd, room, sizeof room, sizeof room)}; }},
    {"ptsname", [](int fd) { return address_bits(::ptsname(fd)); }},
    {"ptsname_r", [](int fd) { return long{::ptsname_r(fd, room, sizeof room)}; }},
    {"__ptsname_r_chk",
     [](int fd) { return long{::__ptsname_r_chk(fd, room, sizeof room, sizeof room)}; }},
    {"grantpt", [](int fd) { return long{::grantpt(fd)}; }},
    {"unlockpt", [](int fd) { return long{::unlockpt(fd)}; }},
    {"login_tty", [](int fd) { return long{::login_tty(fd)}; }},
    {"tcgetattr", [](int fd) { termios t{}; return long{::tcgetattr(fd, &t)}; }},
    {"tcsetattr", [](int fd) { termios t{}; return long{::tcsetattr(fd, TCSANOW, &t)}; }},
    {"tcsendbreak", [](int fd) { return long{::tcsendbreak(fd, 0)}; }},
    {"tcdrain", [](int fd) { return long{::tcdrain(fd)}; }},
    {"tcflush", [](int fd) { return long{::tcflush(fd, TCIFLUSH)}; }},
    {"tcflow", [](int fd) { return long{::tcflow(fd, TCOON)}; }},
    {"tcgetsid", [](int fd) { return long{::tcgetsid(fd)}; }},
    {"tcgetpgrp", [](int fd) { return long{::tcgetpgrp(fd)}; }},
    {"tcsetpgrp", [](int fd) { return long{::tcsetpgrp(fd, ::getpgrp())}; }},
    {"timerfd_settime",
     [](int fd) { itimerspec t{}; return long{::timerfd_settime(fd, 0, &t, nullptr)}; }},
    {"timerfd_gettime", [](int fd) { itimerspec t{}; return long{::timerfd_gettime(fd, &t)}; }},
    {"signalfd", [](int fd) { sigset_t s{}; return long{::signalfd(fd, &s, 0)}; }},
    {"inotify_add_watch", [](int fd) { return long{::inotify_add_watch(fd, "/", IN_OPEN)}; }},
    {"inotify_rm_watch", [](int fd) { return long{::inotify_rm_watch(fd, 1)}; }},
    {"fanotify_mark",
     [](int fd) { return long{::fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/")}; }},
    {"setns", [](int fd) { return long{::setns(fd, 0)}; }},
    {"getipv4sourcefilter",
     [](int fd) {
       uint32_t mode = 0;
       uint32_t count = 0;
       return long{::getipv4sourcefilter(fd, in_addr{}, in_addr{}, &mode, &count, nullptr)};
     }},
    {"setipv4sourcefilter",
     [](int fd) { return long{::setipv4sourcefilter(fd, in_addr{}, in_addr{}, 0, 0, nullptr)}; }},
    {"getsourcefilter",
     [](int fd) {
       group.ss_family = AF_INET;
       uint32_t mode = 0;
       uint32_t count = 0;
       return long{::getsourcefilter(fd, 0, reinterpret_cast<sockaddr*>(&group),
                                     sizeof(sockaddr_in), &mode, &count, nullptr)};
     }},
    {"setsourcefilter",
     [](int fd) {
       group.ss_family = AF_INET;
       return long{::setsourcefilter(fd, 0, reinterpret_cast<sockaddr*>(&group),
                                     sizeof(sockaddr_in), 0, 0, nullptr)};
     }},
    {"aio_fsync",
     [](int fd) {
       aiocb block{};
       block.aio_fildes = fd;
       long result = ::aio_fsync(O_SYNC, &block);
       if (result != 0) return result;
       const aiocb* const list[] = {&block};
       while ((result = ::aio_error(&block)) == EINPROGRESS) ::aio_suspend(list, 1, nullptr);
       return result * 100 + ::aio_return(&block);
     }},
    {"aio_cancel", [](int fd) { return long{::aio_cancel(fd, nullptr)}; }},
    {"epoll_ctl as the set",
     [](int fd) {
       epoll_event event{};
       return long{::epoll_ctl(fd, EPOLL_CTL_ADD, 0, &event)};
     }},
    {"epoll_wait", [](int fd) { epoll_event e{}; return long{::epoll_wait(fd, &e, 1, 0)}; }},
    // paths
    {"openat", [](int fd) { return long{::openat(fd, path, O_RDONLY)}; }},
    {"openat64", [](int fd) { return long{::openat64(fd, path, O_RDONLY)}; }},
    {"__openat_2", [](int fd) { return long{::__openat_2(fd, path, O_RDONLY)}; }},
    {"__openat64_2", [](int fd) { return long{::__openat64_2(fd, path, O_RDONLY)}; }},
    {"faccessat", [](int fd) { return long{::faccessat(fd, path, R_OK, 0)}; }},
    {"faccessat of itself", [](int fd) { return long{::faccessat(fd, empty, R_OK, AT_EMPTY_PATH)}; }},
    {"fchmodat", [](int fd) { return long{::fchmodat(fd, path, 0600, 0)}; }},
    {"fchownat of itself",
     [](int fd) { return long{::fchownat(fd, empty, ::getuid(), ::getgid(), AT_EMPTY_PATH)}; }},
    {"utimensat", [](int fd) { return long{::utimensat(fd, path, nullptr, 0)}; }},
    {"futimesat", [](int fd) { return long{::futimesat(fd, path, nullptr)}; }},
    {"linkat", [](int fd) { return long{::linkat(fd, path, fd, path, 0)}; }},
    {"symlinkat", [](int fd) { return long{::symlinkat(path, fd, path)}; }},
    {"readlinkat", [](int fd) { return ::readlinkat(fd, path, room, sizeof room); }},
    {"readlinkat of itself", [](int fd) { return ::readlinkat(fd, empty, room, sizeof room); }},
    {"__readlinkat_chk",
     [](int fd) { return ::__readlinkat_chk(fd, path, room, sizeof room, sizeof room); }},
    {"unlinkat", [](int fd) { return long{::unlinkat(fd, path, 0)}; }},
    {"renameat", [](int fd) { return long{::renameat(fd, path, fd, path)}; }},
    {"renameat2", [](int fd) { return long{::renameat2(fd, path, fd, path, 0)}; }},
    {"mkdirat", [](int fd) { return long{::mkdirat(fd, path, 0700)}; }},
    {"mkfifoat", [](int fd) { return long{::mkfifoat(fd, path, 0700)}; }},
    {"mknodat", [](int fd) { return long{::mknodat(fd, path, S_IFREG | 0600, 0)}; }},
    {"name_to_handle_at",
     [](int fd) {
       file_handle handle{};
       int mount = 0;
       return long{::name_to_handle_at(fd, path, &handle, &mount, 0)};
     }},
    {"scandirat",
     [](int fd) {
       dirent** list = nullptr;
       return long{::scandirat(fd, ".", &list, nullptr, nullptr)};
     }},
    {"scandirat64",
     [](int fd) {
       dirent64** list = nullptr;
       return long{::scandirat64(fd, ".", &list, nullptr, nullptr)};
     }},
    {"execveat of itself",
     [](int fd) {
       char* const none[] = {nullptr};
       return long{::execveat(fd, "nowhere", none, none, 0)};
     }},
    {"fexecve",
     [](int fd) {
       char name[] = "x";
       char* const arguments[] = {name, nullptr};
       return long{::fexecve(fd, arguments, arguments + 1)};
     }},
    // sockets
    {"listen", [](int fd) { return long{::listen(fd, 1)}; }},
    {"accept", [](int fd) { return long{::accept(fd, nullptr, nullptr)}; }},
    {"accept4", [](int fd) { return long{::accept4(fd, nullptr, nullptr, 0)}; }},
    {"connect to IPv4",
     [](int fd) {
       sockaddr_in in{};
       in.sin_family = AF_INET;
       return long{::connect(fd, reinterpret_cast<sockaddr*>(&in), sizeof in)};
     }},
    {"bind to IPv4",
     [](int fd) {
       sockaddr_in in{};
       in.sin_family = AF_INET;
       return long{::bind(fd, reinterpret_cast<sockaddr*>(&in), sizeof in)};
     }},
    {"getsockopt SO_TYPE",
     [](int fd) {
       int value = 0;
       socklen_t length = sizeof value;
       return long{::getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length)} * 1000 + value;
     }},
    {"getsockopt SO_DOMAIN",
     [](int fd) {
       int value = 0;
       socklen_t length = sizeof value;
       return long{::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length)} * 1000 + value;
     }},
    {"getsockopt of TCP",
     [](int fd) {
       int value = 0;
       socklen_t length = sizeof value;
       return long{::getsockopt(fd, IPPROTO_TCP, 1, &value, &length)};
     }},
    {"setsockopt SO_KEEPALIVE",
     [](int fd) {
       const int on = 1;
       return long{::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on)};
     }},
    {"shutdown in a wrong way", [](int fd) { return long{::shutdown(fd, 77)}; }},
    // control
    {"fcntl F_GETFL", [](int fd) { return long{::fcntl(fd, F_GETFL)}; }},
    {"__fcntl F_GETFD", [](int fd) { return long{::__fcntl(fd, F_GETFD)}; }},
    {"fcntl64 F_GETOWN", [](int fd) { return long{::fcntl64(fd, F_GETOWN)}; }},
    {"fcntl F_SETOWN_EX",
     [](int fd) {
       f_owner_ex owner{F_OWNER_PID, ::getpid()};
       return long{::fcntl(fd, F_SETOWN_EX, &owner)};
     }},
    {"fcntl F_GETOWN_EX",
     [](int fd) {
       f_owner_ex owner{};
       return ::fcntl(fd, F_GETOWN_EX, &owner) * 1000000L + owner.pid;
     }},
    {"fcntl F_SETSIG", [](int fd) { return long{::fcntl(fd, F_SETSIG, 0)}; }},
    {"fcntl F_GETLK",
     [](int fd) {
       struct flock lock{};
       return long{::fcntl(fd, F_GETLK, &lock)};
     }},
    {"fcntl F_SETPIPE_SZ", [](int fd) { return long{::fcntl(fd, F_SETPIPE_SZ, 4096)}; }},
    {"fcntl F_GET_SEALS", [](int fd) { return long{::fcntl(fd, F_GET_SEALS)}; }},
    {"fcntl F_DUPFD_QUERY", [](int fd) { return long{::fcntl(fd, 1024 + 3, fd)}; }},
    {"fcntl F_DUPFD_QUERY of another", [](int fd) { return long{::fcntl(fd, 1024 + 3, 0)}; }},
    {"ioctl FIONREAD", [](int fd) { int n = 7; return ::ioctl(fd, FIONREAD, &n) * 100L + n; }},
    {"ioctl SIOCOUTQ", [](int fd) { int n = 7; return ::ioctl(fd, SIOCOUTQ, &n) * 100L + n; }},
    {"ioctl SIOCSPGRP",
     [](int fd) { int pid = ::getpid(); return long{::ioctl(fd, SIOCSPGRP, &pid)}; }},
    {"ioctl FIOGETOWN",
     [](int fd) { int pid = 0; return ::ioctl(fd, FIOGETOWN, &pid) * 1000000L + pid; }},
    {"ioctl TIOCGWINSZ", [](int fd) { winsize size{}; return long{::ioctl(fd, TIOCGWINSZ, &size)}; }},
    {"ioctl FIOCLEX", [](int fd) { return long{::ioctl(fd, FIOCLEX)}; }},
    // no bytes
    {"read of nothing", [](int fd) { return ::read(fd, room, 0); }},
    {"write of nothing", [](int fd) { return ::write(fd, room, 0); }},
    {"recv without waiting", [](int fd) { return ::recv(fd, room, 1, MSG_DONTWAIT); }},
    {"splice without a pipe", [](int fd) { return ::splice(fd, nullptr, fd, nullptr, 1, 0); }},
};

class Number : public ConnectionTest {
 protected:
  void SetUp() override {
    ConnectionTest::SetUp();
    // An exec, tried here though it fails, would take the connection back to the kernel.
    ASSERT_EQ(::fcntl(mine(), F_SETFD, FD_CLOEXEC), 0);
    ASSERT_EQ(::fcntl(peer(), F_SETFD, FD_CLOEXEC), 0);
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    kernel_.reset(ends[0]);
    kernel_peer_.reset(ends[1]);
  }
  [[nodiscard]] int kernel() const { return kernel_.get(); }

 private:
  UniqueFd kernel_;
  UniqueFd kernel_peer_;
};
INSTANTIATE_TEST_SUITE_P(, Number, every_situation(), situation_name);

// The errno in the second place, unless the call succeeded.
std::pair<long, std::string> outcome(const Call& call, int fd) {
  errno = 0;
  const long result = call.make(fd);
  const int error = errno;
  return {result, result < 0 || error != 0 ? ::strerrorname_np(error) : "0"};
}

TEST_P(Number, OfAConnectionServesEveryCallAsAKernelsDoes) {
  for (const Call& call : kCalls) {
    const auto expected = outcome(call, kernel());
    const auto got = outcome(call, mine());
    EXPECT_EQ(got.first, expected.first) << call.name;
    EXPECT_STREQ(got.second.c_str(), expected.second.c_str()) << call.name;
  }
  // And none of it did the connection any harm.
  warm_up(mine(), peer());
}

TEST_P(Number, IsTheSameForReadsAndWritesWithoutAPosition) {
  char bytes[16] = {};
  iovec into{bytes, sizeof bytes};
  char text[] = "hello";
  iovec from{text, 5};
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(::pwritev2(peer(), &from, 1, -1, 0), 5);
    EXPECT_EQ(::preadv2(mine(), &into, 1, -1, 0), 5);
    EXPECT_EQ(std::string(bytes, 5), "hello");
    EXPECT_EQ(::pwritev64v2(mine(), &from, 1, -1, RWF_NOWAIT), 5);
    EXPECT_EQ(::preadv64v2(peer(), &into, 1, -1, RWF_HIPRI), 5);
    errno = 0;
    EXPECT_EQ(::preadv2(mine(), &into, 1, -1, RWF_NOWAIT), -1);
    EXPECT_EQ(errno, EAGAIN);
    eventfd_t value = 42;
    EXPECT_EQ(::eventfd_write(mine(), value), 0);
    value = 0;
    EXPECT_EQ(::eventfd_read(peer(), &value), 0);
    EXPECT_EQ(value, 42U);
  }
}

// Waits for a request and tells what it returned.
ssize_t finished(aiocb& block) {
  const aiocb* const list[] = {&block};
  while (::aio_error(&block) == EINPROGRESS) ::aio_suspend(list, 1, nullptr);
  errno = ::aio_error(&block);
  return ::aio_return(&block);
}

TEST_P(Number, ServesAsynchronousReadsAndWrites) {
  char bytes[16] = {};
  aiocb reading{};
  reading.aio_fildes = mine();
  reading.aio_buf = bytes;
  reading.aio_nbytes = sizeof bytes;
  ASSERT_EQ(::aio_read(&reading), 0);
  sleep_a_moment();
  EXPECT_EQ(write_all(peer(), "hello"), 5U);
  EXPECT_EQ(finished(reading), 5) << std::strerror(errno);
  EXPECT_STREQ(bytes, "hello");

  char text[] = "back";
  aiocb writing{};
  writing.aio_fildes = mine();
  writing.aio_buf = text;
  writing.aio_nbytes = 4;
  ASSERT_EQ(::aio_write(&writing), 0);
  EXPECT_EQ(finished(writing), 4) << std::strerror(errno);
  EXPECT_EQ(read_exactly(peer(), 4), "back");

  writing.aio_fildes = mine();
  writing.aio_lio_opcode = LIO_WRITE;
  aiocb* list[] = {&writing, nullptr};
  ASSERT_EQ(::lio_listio(LIO_WAIT, list, 2, nullptr), 0);
  EXPECT_EQ(read_exactly(peer(), 4), "back");
  warm_up(mine(), peer());
}

TEST_P(Number, TakesABacktrace) {
  void* frames[2] = {reinterpret_cast<void*>(&::write), reinterpret_cast<void*>(&::read)};
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const UniqueFd reading(pipe_ends[0]);
  UniqueFd writing(pipe_ends[1]);
  ::backtrace_symbols_fd(frames, 2, writing.get());
  writing.reset();
  const std::string expected = read_to_end(reading.get());
  ASSERT_FALSE(expected.empty());
  ::backtrace_symbols_fd(frames, 2, mine());
  EXPECT_EQ(read_exactly(peer(), expected.size()), expected);
  warm_up(mine(), peer());
}

}  // namespace
}  // namespace tssx_test
