// Calls that ask the kernel something of a descriptor, or want something of it that no socket can
// do. The kernel's own socket gives the right answer, ring or not; only a negative ID means nothing
// to the kernel, and is translated.

#include <errno.h>

#include "shim/descriptor_table.h"
#include "shim/real.h"

using namespace tssx;

namespace {

int number(int fd) noexcept { return table.kernel_fd(fd); }

}  // namespace

#define TSSX_TRANSLATE(result, name, parameters, arguments) \
  TSSX_INTERPOSED result name parameters {                  \
    real::ensure();                                         \
    return real::name arguments;                            \
  }
#define TSSX_TRANSLATE_NOEXCEPT(result, name, parameters, arguments) \
  TSSX_INTERPOSED result name parameters noexcept {                  \
    real::ensure();                                                  \
    return real::name arguments;                                     \
  }

// --- what kind of file ---
TSSX_TRANSLATE_NOEXCEPT(int, fstat, (int fd, struct stat* out), (number(fd), out))
TSSX_TRANSLATE_NOEXCEPT(int, fstat64, (int fd, struct stat64* out), (number(fd), out))
TSSX_TRANSLATE(int, __fxstat, (int version, int fd, struct stat* out), (version, number(fd), out))
TSSX_TRANSLATE(int, __fxstat64, (int version, int fd, struct stat64* out),
               (version, number(fd), out))
TSSX_TRANSLATE_NOEXCEPT(int, fstatat, (int fd, const char* path, struct stat* out, int flags),
                        (number(fd), path, out, flags))
TSSX_TRANSLATE_NOEXCEPT(int, fstatat64, (int fd, const char* path, struct stat64* out, int flags),
                        (number(fd), path, out, flags))
TSSX_TRANSLATE(int, __fxstatat,
               (int version, int fd, const char* path, struct stat* out, int flags),
               (version, number(fd), path, out, flags))
TSSX_TRANSLATE(int, __fxstatat64,
               (int version, int fd, const char* path, struct stat64* out, int flags),
               (version, number(fd), path, out, flags))
TSSX_TRANSLATE_NOEXCEPT(int, statx,
                        (int fd, const char* path, int flags, unsigned mask, struct statx* out),
                        (number(fd), path, flags, mask, out))
TSSX_TRANSLATE_NOEXCEPT(int, fstatfs, (int fd, struct statfs* out), (number(fd), out))
TSSX_TRANSLATE_NOEXCEPT(int, fstatfs64, (int fd, struct statfs64* out), (number(fd), out))
TSSX_TRANSLATE_NOEXCEPT(int, fstatvfs, (int fd, struct statvfs* out), (number(fd), out))
TSSX_TRANSLATE_NOEXCEPT(int, fstatvfs64, (int fd, struct statvfs64* out), (number(fd), out))
TSSX_TRANSLATE_NOEXCEPT(int, isfdtype, (int fd, int type), (number(fd), type))
TSSX_TRANSLATE_NOEXCEPT(int, sockatmark, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(long, fpathconf, (int fd, int name), (number(fd), name))

// --- permissions, times, attributes, locks: of the socket's inode, which is the kernel's ---
TSSX_TRANSLATE_NOEXCEPT(int, fchmod, (int fd, mode_t mode), (number(fd), mode))
TSSX_TRANSLATE_NOEXCEPT(int, fchown, (int fd, uid_t user, gid_t group), (number(fd), user, group))
TSSX_TRANSLATE_NOEXCEPT(int, futimens, (int fd, const timespec times[2]), (number(fd), times))
TSSX_TRANSLATE_NOEXCEPT(int, futimes, (int fd, const timeval times[2]), (number(fd), times))
TSSX_TRANSLATE_NOEXCEPT(ssize_t, fgetxattr, (int fd, const char* name, void* value, size_t size),
                        (number(fd), name, value, size))
TSSX_TRANSLATE_NOEXCEPT(int, fsetxattr,
                        (int fd, const char* name, const void* value, size_t size, int flags),
                        (number(fd), name, value, size, flags))
TSSX_TRANSLATE_NOEXCEPT(ssize_t, flistxattr, (int fd, char* list, size_t size),
                        (number(fd), list, size))
TSSX_TRANSLATE_NOEXCEPT(int, fremovexattr, (int fd, const char* name), (number(fd), name))
TSSX_TRANSLATE_NOEXCEPT(int, flock, (int fd, int operation), (number(fd), operation))
TSSX_TRANSLATE(int, lockf, (int fd, int command, off_t length), (number(fd), command, length))
TSSX_TRANSLATE(int, lockf64, (int fd, int command, off64_t length), (number(fd), command, length))

// --- positions and sizes, which a socket has not ---
TSSX_TRANSLATE_NOEXCEPT(off_t, lseek, (int fd, off_t offset, int whence),
                        (number(fd), offset, whence))
TSSX_TRANSLATE(off_t, __lseek, (int fd, off_t offset, int whence), (number(fd), offset, whence))
TSSX_TRANSLATE_NOEXCEPT(off64_t, lseek64, (int fd, off64_t offset, int whence),
                        (number(fd), offset, whence))
TSSX_TRANSLATE(off64_t, llseek, (int fd, off64_t offset, int whence), (number(fd), offset, whence))
TSSX_TRANSLATE(ssize_t, pread, (int fd, void* buffer, size_t size, off_t offset),
               (number(fd), buffer, size, offset))
TSSX_TRANSLATE(ssize_t, pread64, (int fd, void* buffer, size_t size, off64_t offset),
               (number(fd), buffer, size, offset))
TSSX_TRANSLATE(ssize_t, __pread64, (int fd, void* buffer, size_t size, off64_t offset),
               (number(fd), buffer, size, offset))
TSSX_TRANSLATE(ssize_t, __pread_chk, (int fd, void* buffer, size_t size, off_t offset, size_t room),
               (number(fd), buffer, size, offset, room))
TSSX_TRANSLATE(ssize_t, __pread64_chk,
               (int fd, void* buffer, size_t size, off64_t offset, size_t room),
               (number(fd), buffer, size, offset, room))
TSSX_TRANSLATE(ssize_t, pwrite, (int fd, const void* data, size_t size, off_t offset),
               (number(fd), data, size, offset))
TSSX_TRANSLATE(ssize_t, pwrite64, (int fd, const void* data, size_t size, off64_t offset),
               (number(fd), data, size, offset))
TSSX_TRANSLATE(ssize_t, __pwrite64, (int fd, const void* data, size_t size, off64_t offset),
               (number(fd), data, size, offset))
TSSX_TRANSLATE(ssize_t, preadv, (int fd, const iovec* parts, int count, off_t offset),
               (number(fd), parts, count, offset))
TSSX_TRANSLATE(ssize_t, preadv64, (int fd, const iovec* parts, int count, off64_t offset),
               (number(fd), parts, count, offset))
TSSX_TRANSLATE(ssize_t, pwritev, (int fd, const iovec* parts, int count, off_t offset),
               (number(fd), parts, count, offset))
TSSX_TRANSLATE(ssize_t, pwritev64, (int fd, const iovec* parts, int count, off64_t offset),
               (number(fd), parts, count, offset))
TSSX_TRANSLATE(int, fsync, (int fd), (number(fd)))
TSSX_TRANSLATE(int, fdatasync, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(int, syncfs, (int fd), (number(fd)))
TSSX_TRANSLATE(int, sync_file_range, (int fd, off64_t from, off64_t to, unsigned flags),
               (number(fd), from, to, flags))
TSSX_TRANSLATE_NOEXCEPT(int, ftruncate, (int fd, off_t size), (number(fd), size))
TSSX_TRANSLATE_NOEXCEPT(int, ftruncate64, (int fd, off64_t size), (number(fd), size))
TSSX_TRANSLATE(int, fallocate, (int fd, int mode, off_t offset, off_t size),
               (number(fd), mode, offset, size))
TSSX_TRANSLATE(int, fallocate64, (int fd, int mode, off64_t offset, off64_t size),
               (number(fd), mode, offset, size))
TSSX_TRANSLATE(int, posix_fallocate, (int fd, off_t offset, off_t size), (number(fd), offset, size))
TSSX_TRANSLATE(int, posix_fallocate64, (int fd, off64_t offset, off64_t size),
               (number(fd), offset, size))
TSSX_TRANSLATE_NOEXCEPT(int, posix_fadvise, (int fd, off_t offset, off_t size, int advice),
                        (number(fd), offset, size, advice))
TSSX_TRANSLATE_NOEXCEPT(int, posix_fadvise64, (int fd, off64_t offset, off64_t size, int advice),
                        (number(fd), offset, size, advice))
TSSX_TRANSLATE_NOEXCEPT(ssize_t, readahead, (int fd, off64_t offset, size_t size),
                        (number(fd), offset, size))

// --- other kinds of file: pipes, directories, terminals, timers, and what a socket is not ---
TSSX_TRANSLATE(ssize_t, tee, (int in, int out, size_t size, unsigned flags),
               (number(in), number(out), size, flags))
TSSX_TRANSLATE(ssize_t, vmsplice, (int fd, const iovec* parts, size_t count, unsigned flags),
               (number(fd), parts, count, flags))
TSSX_TRANSLATE(ssize_t, copy_file_range,
               (int in, off64_t* from, int out, off64_t* to, size_t size, unsigned flags),
               (number(in), from, number(out), to, size, flags))
TSSX_TRANSLATE_NOEXCEPT(int, fchdir, (int fd), (number(fd)))
TSSX_TRANSLATE(DIR*, fdopendir, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(ssize_t, getdents64, (int fd, void* buffer, size_t size),
                        (number(fd), buffer, size))
TSSX_TRANSLATE_NOEXCEPT(ssize_t, getdirentries,
                        (int fd, char* buffer, size_t size, off_t* position),
                        (number(fd), buffer, size, position))
TSSX_TRANSLATE_NOEXCEPT(ssize_t, getdirentries64,
                        (int fd, char* buffer, size_t size, off64_t* position),
                        (number(fd), buffer, size, position))
TSSX_TRANSLATE_NOEXCEPT(int, isatty, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(char*, ttyname, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(int, ttyname_r, (int fd, char* name, size_t size), (number(fd), name, size))
TSSX_TRANSLATE(int, __ttyname_r_chk, (int fd, char* name, size_t size, size_t room),
               (number(fd), name, size, room))
TSSX_TRANSLATE_NOEXCEPT(char*, ptsname, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(int, ptsname_r, (int fd, char* name, size_t size), (number(fd), name, size))
TSSX_TRANSLATE(int, __ptsname_r_chk, (int fd, char* name, size_t size, size_t room),
               (number(fd), name, size, room))
TSSX_TRANSLATE_NOEXCEPT(int, grantpt, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(int, unlockpt, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(int, tcgetattr, (int fd, termios* out), (number(fd), out))
TSSX_TRANSLATE_NOEXCEPT(int, tcsetattr, (int fd, int when, const termios* settings),
                        (number(fd), when, settings))
TSSX_TRANSLATE_NOEXCEPT(int, tcsendbreak, (int fd, int duration), (number(fd), duration))
TSSX_TRANSLATE(int, tcdrain, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(int, tcflush, (int fd, int queue), (number(fd), queue))
TSSX_TRANSLATE_NOEXCEPT(int, tcflow, (int fd, int action), (number(fd), action))
TSSX_TRANSLATE_NOEXCEPT(pid_t, tcgetsid, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(pid_t, tcgetpgrp, (int fd), (number(fd)))
TSSX_TRANSLATE_NOEXCEPT(int, tcsetpgrp, (int fd, pid_t group), (number(fd), group))
TSSX_TRANSLATE_NOEXCEPT(int, timerfd_settime,
                        (int fd, int flags, const itimerspec* next, itimerspec* old),
                        (number(fd), flags, next, old))
TSSX_TRANSLATE_NOEXCEPT(int, timerfd_gettime, (int fd, itimerspec* out), (number(fd), out))
TSSX_TRANSLATE_NOEXCEPT(int, inotify_add_watch, (int fd, const char* path, uint32_t mask),
                        (number(fd), path, mask))
TSSX_TRANSLATE_NOEXCEPT(int, inotify_rm_watch, (int fd, int watch), (number(fd), watch))
TSSX_TRANSLATE_NOEXCEPT(int, fanotify_mark,
                        (int fd, unsigned flags, uint64_t mask, int folder, const char* path),
                        (number(fd), flags, mask, number(folder), path))
TSSX_TRANSLATE_NOEXCEPT(int, setns, (int fd, int type), (number(fd), type))
TSSX_TRANSLATE(int, bindresvport, (int fd, sockaddr_in* address), (number(fd), address))
TSSX_TRANSLATE_NOEXCEPT(int, getipv4sourcefilter,
                        (int fd, in_addr interface, in_addr group, uint32_t* mode, uint32_t* count,
                         in_addr* list),
                        (number(fd), interface, group, mode, count, list))
TSSX_TRANSLATE_NOEXCEPT(int, setipv4sourcefilter,
                        (int fd, in_addr interface, in_addr group, uint32_t mode, uint32_t count,
                         const in_addr* list),
                        (number(fd), interface, group, mode, count, list))
TSSX_TRANSLATE_NOEXCEPT(int, getsourcefilter,
                        (int fd, uint32_t interface, const sockaddr* group, socklen_t length,
                         uint32_t* mode, uint32_t* count, sockaddr_storage* list),
                        (number(fd), interface, group, length, mode, count, list))
TSSX_TRANSLATE_NOEXCEPT(int, setsourcefilter,
                        (int fd, uint32_t interface, const sockaddr* group, socklen_t length,
                         uint32_t mode, uint32_t count, const sockaddr_storage* list),
                        (number(fd), interface, group, length, mode, count, list))

// --- paths that begin at a descriptor: a socket is no folder, but some take it for the file with
// AT_EMPTY_PATH ---
TSSX_TRANSLATE_NOEXCEPT(int, faccessat, (int fd, const char* path, int mode, int flags),
                        (number(fd), path, mode, flags))
TSSX_TRANSLATE_NOEXCEPT(int, fchmodat, (int fd, const char* path, mode_t mode, int flags),
                        (number(fd), path, mode, flags))
TSSX_TRANSLATE_NOEXCEPT(int, fchownat,
                        (int fd, const char* path, uid_t user, gid_t group, int flags),
                        (number(fd), path, user, group, flags))
TSSX_TRANSLATE_NOEXCEPT(int, utimensat,
                        (int fd, const char* path, const timespec times[2], int flags),
                        (number(fd), path, times, flags))
TSSX_TRANSLATE_NOEXCEPT(int, futimesat, (int fd, const char* path, const timeval times[2]),
                        (number(fd), path, times))
TSSX_TRANSLATE_NOEXCEPT(int, linkat,
                        (int from, const char* path, int to, const char* link, int flags),
                        (number(from), path, number(to), link, flags))
TSSX_TRANSLATE_NOEXCEPT(int, symlinkat, (const char* target, int fd, const char* path),
                        (target, number(fd), path))
TSSX_TRANSLATE_NOEXCEPT(ssize_t, readlinkat, (int fd, const char* path, char* out, size_t size),
                        (number(fd), path, out, size))
TSSX_TRANSLATE(ssize_t, __readlinkat_chk,
               (int fd, const char* path, char* out, size_t size, size_t room),
               (number(fd), path, out, size, room))
TSSX_TRANSLATE_NOEXCEPT(int, unlinkat, (int fd, const char* path, int flags),
                        (number(fd), path, flags))
TSSX_TRANSLATE_NOEXCEPT(int, renameat, (int from, const char* path, int to, const char* target),
                        (number(from), path, number(to), target))
TSSX_TRANSLATE_NOEXCEPT(int, renameat2,
                        (int from, const char* path, int to, const char* target, unsigned flags),
                        (number(from), path, number(to), target, flags))
TSSX_TRANSLATE_NOEXCEPT(int, mkdirat, (int fd, const char* path, mode_t mode),
                        (number(fd), path, mode))
TSSX_TRANSLATE_NOEXCEPT(int, mkfifoat, (int fd, const char* path, mode_t mode),
                        (number(fd), path, mode))
TSSX_TRANSLATE_NOEXCEPT(int, mknodat, (int fd, const char* path, mode_t mode, dev_t device),
                        (number(fd), path, mode, device))
TSSX_TRANSLATE(int, __xmknodat, (int version, int fd, const char* path, mode_t mode, dev_t* device),
               (version, number(fd), path, mode, device))
TSSX_TRANSLATE_NOEXCEPT(int, name_to_handle_at,
                        (int fd, const char* path, file_handle* handle, int* mount, int flags),
                        (number(fd), path, handle, mount, flags))
TSSX_TRANSLATE(int, scandirat,
               (int fd, const char* path, dirent*** list, int (*select)(const dirent*),
                int (*compare)(const dirent**, const dirent**)),
               (number(fd), path, list, select, compare))
TSSX_TRANSLATE(int, scandirat64,
               (int fd, const char* path, dirent64*** list, int (*select)(const dirent64*),
                int (*compare)(const dirent64**, const dirent64**)),
               (number(fd), path, list, select, compare))
#undef TSSX_TRANSLATE
#undef TSSX_TRANSLATE_NOEXCEPT
