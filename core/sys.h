// Raw system calls for core.
//
// Core lives inside a library that interposes libc's names. Were core to call read(2) through
// libc, it would re-enter the shim; so it enters the kernel itself. These calls are therefore no
// cancellation points: core never blocks in one that could last.
//
// Every function returns the kernel's value: >= 0, or -errno. errno itself is never touched.
// Thread safety: as the calls. May be called from: anywhere (signal handlers, before main).
#pragma once

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

namespace tssx::sys {

inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) noexcept {
#if defined(__x86_64__)
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc #0"
               : "+r"(x0)
               : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
               : "memory");
  return x0;
#else
#error "tssx: this architecture's system call instruction is not known"
#endif
}

template <class T>
inline long word(T* pointer) noexcept {
  return static_cast<long>(reinterpret_cast<std::uintptr_t>(pointer));
}

inline long close(int fd) noexcept { return call(SYS_close, fd); }
inline long getpid() noexcept { return call(SYS_getpid); }
inline long gettid() noexcept { return call(SYS_gettid); }
inline long sched_yield() noexcept { return call(SYS_sched_yield); }
inline long fstat(int fd, struct stat* out) noexcept { return call(SYS_fstat, fd, word(out)); }
inline long fstatfs(int fd, struct statfs* out) noexcept {
  return call(SYS_fstatfs, fd, word(out));
}
inline long ftruncate(int fd, std::uint64_t size) noexcept {
  return call(SYS_ftruncate, fd, static_cast<long>(size));
}
inline long fcntl(int fd, int command, long argument = 0) noexcept {
  return call(SYS_fcntl, fd, command, argument);
}
inline long pread(int fd, void* buffer, std::size_t size, std::uint64_t offset) noexcept {
  return call(SYS_pread64, fd, word(buffer), static_cast<long>(size), static_cast<long>(offset));
}
inline long pwrite(int fd, const void* buffer, std::size_t size, std::uint64_t offset) noexcept {
  return call(SYS_pwrite64, fd, word(buffer), static_cast<long>(size), static_cast<long>(offset));
}
inline long memfd_create(const char* name, unsigned flags) noexcept {
  return call(SYS_memfd_create, word(name), static_cast<long>(flags));
}
inline void* mmap(std::size_t size, int protection, int flags, int fd) noexcept {
  const long result = call(SYS_mmap, 0, static_cast<long>(size), protection, flags, fd, 0);
  return result < 0 && result > -4096
             ? nullptr
             : reinterpret_cast<void*>(static_cast<std::uintptr_t>(result));
}
inline long munmap(void* address, std::size_t size) noexcept {
  return call(SYS_munmap, word(address), static_cast<long>(size));
}
inline long getrandom(void* buffer, std::size_t size) noexcept {
  return call(SYS_getrandom, word(buffer), static_cast<long>(size), 1 /* GRND_NONBLOCK */);
}
inline long bind(int fd, const void* address, std::size_t length) noexcept {
  return call(SYS_bind, fd, word(address), static_cast<long>(length));
}
inline long getsockopt(int fd, int level, int name, void* value, socklen_t* length) noexcept {
  return call(SYS_getsockopt, fd, level, name, word(value), word(length));
}
inline long getsockname(int fd, void* address, socklen_t* length) noexcept {
  return call(SYS_getsockname, fd, word(address), word(length));
}
inline long sendmsg(int fd, const msghdr* message, int flags) noexcept {
  return call(SYS_sendmsg, fd, word(message), flags);
}
inline long send(int fd, const void* data, std::size_t size, int flags) noexcept {
  return call(SYS_sendto, fd, word(data), static_cast<long>(size), flags, 0, 0);
}
inline long recvmsg(int fd, msghdr* message, int flags) noexcept {
  return call(SYS_recvmsg, fd, word(message), flags);
}
inline long recv(int fd, void* data, std::size_t size, int flags) noexcept {
  return call(SYS_recvfrom, fd, word(data), static_cast<long>(size), flags, 0, 0);
}
inline long poll(pollfd* fds, std::size_t count, const timespec* timeout) noexcept {
  // ppoll writes the remaining time back: give it a copy.
  timespec copy{};
  if (timeout != nullptr) copy = *timeout;
  return call(SYS_ppoll, word(fds), static_cast<long>(count), timeout == nullptr ? 0 : word(&copy),
              0, 8);
}
inline long prlimit(int resource, rlimit* out) noexcept {
  return call(SYS_prlimit64, 0, resource, 0, word(out));
}
inline long tgkill(int pid, int tid, int signal) noexcept {
  return call(SYS_tgkill, pid, tid, signal);
}
inline long pidfd_open(int pid) noexcept { return call(SYS_pidfd_open, pid, 0); }
inline long futex_wait(const void* address, std::uint32_t expected,
                       const timespec* timeout) noexcept {
  return call(SYS_futex, word(address), FUTEX_WAIT, static_cast<long>(expected), word(timeout));
}
inline long futex_wake(const void* address, int count) noexcept {
  return call(SYS_futex, word(address), FUTEX_WAKE, count);
}

constexpr std::uint64_t nanoseconds_of(const timespec& time) noexcept {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
         static_cast<std::uint64_t>(time.tv_nsec);
}

constexpr timespec timespec_of(std::uint64_t nanoseconds) noexcept {
  return {static_cast<time_t>(nanoseconds / 1'000'000'000U),
          static_cast<long>(nanoseconds % 1'000'000'000U)};
}

// A clock's time in nanoseconds; through the vDSO, so without entering the kernel.
inline std::uint64_t clock_ns(clockid_t clock) noexcept {
  timespec now{};
  ::clock_gettime(clock, &now);
  return nanoseconds_of(now);
}

// CLOCK_MONOTONIC, in nanoseconds.
inline std::uint64_t now_ns() noexcept { return clock_ns(CLOCK_MONOTONIC); }

}  // namespace tssx::sys
