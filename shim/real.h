// libc's originals of every interposed symbol, as function pointers of the same name:
// real::read(fd, ...) is what read(2) would be without us.
//
// Thread safety: resolved once; before the constructor by whoever calls first.
// May be called from: anywhere. A call made while they are being resolved (an allocator that reads
// a file under dlsym) finds raw system calls in the places that matter.
#pragma once

#include <aio.h>
#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>
#include <wchar.h>
#include <wordexp.h>

// glibc 2.36 forgot to say that these are C.
extern "C" {
#include <sys/pidfd.h>
}

// Exported by glibc, declared in no header or only for fortified builds.
extern "C" {
ssize_t __read(int, void*, size_t);
ssize_t __read_chk(int, void*, size_t, size_t);
ssize_t __write(int, const void*, size_t);
ssize_t __recv_chk(int, void*, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void*, size_t, size_t, int, sockaddr*, socklen_t*);
ssize_t __send(int, const void*, size_t, int);
int __connect(int, const sockaddr*, socklen_t);
int __close(int);
int __dup2(int, int);
int __fcntl(int, int, ...);
int __poll(pollfd*, nfds_t, int);
int __poll_chk(pollfd*, nfds_t, int, size_t);
int __ppoll_chk(pollfd*, nfds_t, const timespec*, const sigset_t*, size_t);
int __select(int, fd_set*, fd_set*, fd_set*, timeval*);
pid_t __fork(void);
pid_t __vfork(void);
int __dprintf_chk(int, int, const char*, ...);
int __vdprintf_chk(int, int, const char*, va_list);
int __sigaction(int, const struct sigaction*, struct sigaction*) noexcept;
sighandler_t bsd_signal(int, sighandler_t) noexcept;
mqd_t __mq_open_2(const char*, int);
void __backtrace_symbols_fd(void* const*, int, int);
int __open(const char*, int, ...);
int __open64(const char*, int, ...);
int __open_2(const char*, int);
int __open64_2(const char*, int);
int __openat_2(int, const char*, int);
int __openat64_2(int, const char*, int);
int __pipe(int*);
int __fxstat(int, int, struct stat*);
int __fxstat64(int, int, struct stat64*);
int __fxstatat(int, int, const char*, struct stat*, int);
int __fxstatat64(int, int, const char*, struct stat64*, int);
int __xmknodat(int, int, const char*, mode_t, dev_t*);
off_t __lseek(int, off_t, int);
off64_t llseek(int, off64_t, int);
ssize_t __pread64(int, void*, size_t, off64_t);
ssize_t __pwrite64(int, const void*, size_t, off64_t);
ssize_t __pread_chk(int, void*, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void*, size_t, off64_t, size_t);
ssize_t __readlinkat_chk(int, const char*, char*, size_t, size_t);
int __ttyname_r_chk(int, char*, size_t, size_t);
int __ptsname_r_chk(int, char*, size_t, size_t);
int bindresvport(int, sockaddr_in*);
int __isoc99_fwscanf(FILE*, const wchar_t*, ...);
int __isoc99_vfwscanf(FILE*, const wchar_t*, va_list);
int __fwprintf_chk(FILE*, int, const wchar_t*, ...);
int __vfwprintf_chk(FILE*, int, const wchar_t*, va_list);
wchar_t* __fgetws_chk(wchar_t*, size_t, int, FILE*);
wchar_t* __fgetws_unlocked_chk(wchar_t*, size_t, int, FILE*);
}

namespace tssx::real {

// sigset(3) and its kin are deprecated; the application's calls of them are answered all the same.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#define TSSX_SYMBOL(name, room, why) extern decltype(&::name) name;
#define TSSX_UNTOUCHED(name, why)
#include "shim/symbols.def"
#undef TSSX_SYMBOL
#undef TSSX_UNTOUCHED
#pragma GCC diagnostic pop

// Finds the originals. Safe to call again.
void resolve() noexcept;

extern bool resolved;

inline void ensure() noexcept {
  if (__builtin_expect(!resolved, 0)) resolve();
}

}  // namespace tssx::real

// Marks a definition that takes the place of libc's.
#define TSSX_INTERPOSED extern "C" __attribute__((visibility("default")))
