// Calls that make descriptors which are no sockets.
//
// Nothing of theirs is ours, but the number may be one that was closed where we could not see it:
// by a raw system call, or inside libc. Whatever the table says of it is stale then.

#include "shim/descriptor_table.h"
#include "shim/real.h"

using namespace tssx;

namespace {

int made(int fd) noexcept {
  forget_stale(fd);
  return fd;
}

int made_pair(int result, const int* fds) noexcept {
  if (result == 0) {
    forget_stale(fds[0]);
    forget_stale(fds[1]);
  }
  return result;
}

}  // namespace

// open(2): the mode is there only if the flags call for one, and reading more does no harm on the
// platforms that pass it in a register.
#define TSSX_OPEN(name)                                        \
  TSSX_INTERPOSED int name(const char* path, int flags, ...) { \
    real::ensure();                                            \
    va_list arguments;                                         \
    va_start(arguments, flags);                                \
    const auto mode = va_arg(arguments, mode_t);               \
    va_end(arguments);                                         \
    return made(real::name(path, flags, mode));                \
  }
TSSX_OPEN(open)
TSSX_OPEN(open64)
TSSX_OPEN(__open)
TSSX_OPEN(__open64)
#undef TSSX_OPEN

#define TSSX_OPENAT(name)                                                  \
  TSSX_INTERPOSED int name(int folder, const char* path, int flags, ...) { \
    real::ensure();                                                        \
    va_list arguments;                                                     \
    va_start(arguments, flags);                                            \
    const auto mode = va_arg(arguments, mode_t);                           \
    va_end(arguments);                                                     \
    return made(real::name(table.kernel_fd(folder), path, flags, mode));   \
  }
TSSX_OPENAT(openat)
TSSX_OPENAT(openat64)
#undef TSSX_OPENAT

// A call that returns the number it made.
#define TSSX_MAKES(name, parameters, arguments) \
  TSSX_INTERPOSED int name parameters {         \
    real::ensure();                             \
    return made(real::name arguments);          \
  }
#define TSSX_MAKES_NOEXCEPT(name, parameters, arguments) \
  TSSX_INTERPOSED int name parameters noexcept {         \
    real::ensure();                                      \
    return made(real::name arguments);                   \
  }
TSSX_MAKES(__open_2, (const char* path, int flags), (path, flags))
TSSX_MAKES(__open64_2, (const char* path, int flags), (path, flags))
TSSX_MAKES(__openat_2, (int folder, const char* path, int flags),
           (table.kernel_fd(folder), path, flags))
TSSX_MAKES(__openat64_2, (int folder, const char* path, int flags),
           (table.kernel_fd(folder), path, flags))
TSSX_MAKES(__mq_open_2, (const char* name, int flags), (name, flags))
TSSX_MAKES(creat, (const char* path, mode_t mode), (path, mode))
TSSX_MAKES(creat64, (const char* path, mode_t mode), (path, mode))
TSSX_MAKES_NOEXCEPT(memfd_create, (const char* name, unsigned flags), (name, flags))
TSSX_MAKES(shm_open, (const char* name, int flags, mode_t mode), (name, flags, mode))
TSSX_MAKES_NOEXCEPT(eventfd, (unsigned count, int flags), (count, flags))
TSSX_MAKES_NOEXCEPT(timerfd_create, (clockid_t clock, int flags), (clock, flags))
TSSX_MAKES_NOEXCEPT(signalfd, (int fd, const sigset_t* mask, int flags),
                    (table.kernel_fd(fd), mask, flags))
TSSX_MAKES_NOEXCEPT(inotify_init, (), ())
TSSX_MAKES_NOEXCEPT(inotify_init1, (int flags), (flags))
TSSX_MAKES_NOEXCEPT(fanotify_init, (unsigned flags, unsigned event_flags), (flags, event_flags))
TSSX_MAKES_NOEXCEPT(pidfd_open, (pid_t pid, unsigned flags), (pid, flags))
TSSX_MAKES_NOEXCEPT(pidfd_getfd, (int pidfd, int fd, unsigned flags), (pidfd, fd, flags))
TSSX_MAKES(posix_openpt, (int flags), (flags))
TSSX_MAKES(getpt, (), ())
TSSX_MAKES(mkstemp, (char* pattern), (pattern))
TSSX_MAKES(mkstemp64, (char* pattern), (pattern))
TSSX_MAKES(mkostemp, (char* pattern, int flags), (pattern, flags))
TSSX_MAKES(mkostemp64, (char* pattern, int flags), (pattern, flags))
TSSX_MAKES(mkstemps, (char* pattern, int suffix), (pattern, suffix))
TSSX_MAKES(mkstemps64, (char* pattern, int suffix), (pattern, suffix))
TSSX_MAKES(mkostemps, (char* pattern, int suffix, int flags), (pattern, suffix, flags))
TSSX_MAKES(mkostemps64, (char* pattern, int suffix, int flags), (pattern, suffix, flags))
TSSX_MAKES(open_by_handle_at, (int mount, file_handle* handle, int flags),
           (table.kernel_fd(mount), handle, flags))
#undef TSSX_MAKES
#undef TSSX_MAKES_NOEXCEPT

TSSX_INTERPOSED int pipe(int fds[2]) noexcept {
  real::ensure();
  return made_pair(real::pipe(fds), fds);
}

TSSX_INTERPOSED int __pipe(int* fds) {
  real::ensure();
  return made_pair(real::__pipe(fds), fds);
}

TSSX_INTERPOSED int pipe2(int fds[2], int flags) noexcept {
  real::ensure();
  return made_pair(real::pipe2(fds, flags), fds);
}

TSSX_INTERPOSED int openpty(int* master, int* slave, char* name, const termios* settings,
                            const winsize* size) noexcept {
  real::ensure();
  const int result = real::openpty(master, slave, name, settings, size);
  if (result == 0) {
    forget_stale(*master);
    forget_stale(*slave);
  }
  return result;
}

TSSX_INTERPOSED mqd_t mq_open(const char* name, int flags, ...) noexcept {
  real::ensure();
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = va_arg(arguments, mode_t);
  auto* attributes = va_arg(arguments, mq_attr*);
  va_end(arguments);
  return made(real::mq_open(name, flags, mode, attributes));
}
