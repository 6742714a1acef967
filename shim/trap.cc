#include "shim/trap.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <atomic>
#include <cstddef>
#include <iterator>

#include "core/sys.h"
#include "shim/call_signal.h"
#include "shim/descriptor_table.h"
#include "shim/real.h"

namespace tssx {
namespace {

#if defined(__x86_64__)

// What tells our traps from those of the application's filters: it comes back in si_errno.
constexpr std::uint32_t kMark = 0x7455;
constexpr int kBySeccomp = 1;  // SYS_SECCOMP of <asm/siginfo.h>, which libc's header lacks

// Calls that name a descriptor first.
constexpr long kCalls[] = {
    SYS_read,       SYS_write,      SYS_recvfrom,    SYS_sendto,      SYS_recvmsg,  SYS_sendmsg,
    SYS_readv,      SYS_writev,     SYS_recvmmsg,    SYS_sendmmsg,    SYS_close,    SYS_fcntl,
    SYS_ioctl,      SYS_fstat,      SYS_newfstatat,  SYS_dup,         SYS_dup2,     SYS_dup3,
    SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername, SYS_shutdown,
};
constexpr std::size_t kCount = std::size(kCalls);

// The IDs, as the filter sees them: unsigned, the lower half of the argument.
constexpr auto kHighest = static_cast<std::uint32_t>(DescriptorTable::kFirstId);
constexpr auto kLowest =
    static_cast<std::uint32_t>(DescriptorTable::kFirstId - DescriptorTable::kMaxIds + 1);

constexpr std::uint32_t argument(int index) noexcept {
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args)) +
         static_cast<std::uint32_t>(index) * 8U;
}
constexpr sock_filter load(std::uint32_t offset) noexcept {
  return {BPF_LD | BPF_W | BPF_ABS, 0, 0, offset};
}
// Skips so many instructions, where the comparison holds and where it doesn't.
constexpr sock_filter compare(int how, std::uint32_t with, std::size_t yes,
                              std::size_t no) noexcept {
  return {static_cast<__u16>(BPF_JMP | how | BPF_K), static_cast<__u8>(yes), static_cast<__u8>(no),
          with};
}
constexpr sock_filter answer(std::uint32_t action) noexcept { return {BPF_RET, 0, 0, action}; }

struct Filter {
  //   0         the architecture: another's calls have other numbers, and pass
  //   2         the number of the call
  //   3         epoll_ctl has its descriptor in the third argument
  //   4         the list; its end is an answer
  //   5 + n     epoll_ctl's argument; 7 + n that of the others; then the range
  static constexpr std::size_t kList = 4;
  static constexpr std::size_t kEnd = kList + kCount;
  sock_filter code[kEnd + 8];

  constexpr Filter() noexcept : code{} {
    code[0] = load(offsetof(seccomp_data, arch));
    code[1] = compare(BPF_JEQ, AUDIT_ARCH_X86_64, 0, kEnd - 2);
    code[2] = load(offsetof(seccomp_data, nr));
    code[3] = compare(BPF_JEQ, SYS_epoll_ctl, kEnd + 1 - 4, 0);
    for (std::size_t i = 0; i < kCount; ++i) {
      const std::size_t next = kList + i + 1;
      code[kList + i] = compare(BPF_JEQ, static_cast<std::uint32_t>(kCalls[i]), kEnd + 3 - next, 0);
    }
    code[kEnd] = answer(SECCOMP_RET_ALLOW);
    code[kEnd + 1] = load(argument(2));
    code[kEnd + 2] = {BPF_JMP | BPF_JA, 0, 0, 1};
    code[kEnd + 3] = load(argument(0));
    code[kEnd + 4] = compare(BPF_JGE, kLowest, 0, 2);
    code[kEnd + 5] = compare(BPF_JGT, kHighest, 1, 0);
    code[kEnd + 6] = answer(SECCOMP_RET_TRAP | kMark);
    code[kEnd + 7] = answer(SECCOMP_RET_ALLOW);
  }
};
constexpr Filter kFilter;
static_assert(kCount < 200, "the distance of a jump is a byte");

std::atomic<bool> seen_trap{false};

template <class T>
T* pointer(greg_t value) noexcept {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(value));
}

// What the program would have got from libc: -1 with errno set, or the result.
long carry_out(long number, int fd, const greg_t* r) {
  const greg_t b = r[REG_RSI];
  const greg_t c = r[REG_RDX];
  const greg_t d = r[REG_R10];
  const greg_t e = r[REG_R8];
  const auto size = static_cast<std::size_t>(c);
  const auto number_b = static_cast<int>(b);
  const auto number_c = static_cast<int>(c);
  const auto number_d = static_cast<int>(d);
  switch (number) {
    case SYS_read:
      return ::read(fd, pointer<void>(b), size);
    case SYS_write:
      return ::write(fd, pointer<void>(b), size);
    case SYS_readv:
      return ::readv(fd, pointer<iovec>(b), number_c);
    case SYS_writev:
      return ::writev(fd, pointer<iovec>(b), number_c);
    case SYS_recvfrom:
      return ::recvfrom(fd, pointer<void>(b), size, number_d, pointer<sockaddr>(e),
                        pointer<socklen_t>(r[REG_R9]));
    case SYS_sendto:
      return ::sendto(fd, pointer<void>(b), size, number_d, pointer<sockaddr>(e),
                      static_cast<socklen_t>(r[REG_R9]));
    case SYS_recvmsg:
      return ::recvmsg(fd, pointer<msghdr>(b), number_c);
    case SYS_sendmsg:
      return ::sendmsg(fd, pointer<msghdr>(b), number_c);
    case SYS_recvmmsg:
      return ::recvmmsg(fd, pointer<mmsghdr>(b), static_cast<unsigned>(c), number_d,
                        pointer<timespec>(e));
    case SYS_sendmmsg:
      return ::sendmmsg(fd, pointer<mmsghdr>(b), static_cast<unsigned>(c), number_d);
    case SYS_close:
      return ::close(fd);
    case SYS_fcntl:
      return ::fcntl(fd, number_b, c);
    case SYS_ioctl:
      return ::ioctl(fd, static_cast<unsigned long>(b), c);
    case SYS_fstat:
      return ::fstat(fd, pointer<struct stat>(b));
    case SYS_newfstatat:
      // Of the socket itself, with AT_EMPTY_PATH; anything else is an error of the kernel's.
      return ::fstatat(table.kernel_fd(fd), pointer<char>(b), pointer<struct stat>(c), number_d);
    case SYS_dup:
      return ::dup(fd);
    case SYS_dup2:
      return ::dup2(fd, number_b);
    case SYS_dup3:
      return ::dup3(fd, number_b, number_c);
    case SYS_getsockopt:
      return ::getsockopt(fd, number_b, number_c, pointer<void>(d), pointer<socklen_t>(e));
    case SYS_setsockopt:
      return ::setsockopt(fd, number_b, number_c, pointer<void>(d), static_cast<socklen_t>(e));
    case SYS_getsockname:
      return ::getsockname(fd, pointer<sockaddr>(b), pointer<socklen_t>(c));
    case SYS_getpeername:
      return ::getpeername(fd, pointer<sockaddr>(b), pointer<socklen_t>(c));
    case SYS_shutdown:
      return ::shutdown(fd, number_b);
    case SYS_epoll_ctl:
      return ::epoll_ctl(static_cast<int>(r[REG_RDI]), number_b, fd, pointer<epoll_event>(d));
    default:
      errno = ENOSYS;
      return -1;
  }
}

bool on_trap(const siginfo_t& info, void* context) {
  if (info.si_code != kBySeccomp || info.si_errno != static_cast<int>(kMark)) return false;
  seen_trap.store(true, std::memory_order_relaxed);
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const long number = info.si_syscall;
  const auto fd = static_cast<int>(registers[number == SYS_epoll_ctl ? REG_RDX : REG_RDI]);
  // An ID that is nobody's goes no further: ours would ask the kernel, which would ask us again.
  if (table.find(fd).kind() == Kind::unknown) {
    registers[REG_RAX] = -EBADF;
    return true;
  }
  const int saved = errno;
  // A system call is no cancellation point; what libc makes of it is.
  int cancel = 0;
  ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
  const long result = carry_out(number, fd, registers);
  registers[REG_RAX] = result == -1 ? -errno : result;
  ::pthread_setcancelstate(cancel, nullptr);
  errno = saved;
  return true;
}

#endif

}  // namespace

bool catch_raw_calls() noexcept {
#if defined(__x86_64__)
  catch_traps(on_trap);
  // A filter lasts over exec(2), and one is enough: this call is an error either way.
  sys::close(static_cast<int>(kLowest));
  if (seen_trap.load(std::memory_order_relaxed)) return true;
  sock_fprog program{static_cast<unsigned short>(std::size(kFilter.code)),
                     const_cast<sock_filter*>(kFilter.code)};
  return sys::call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
                   sys::word(&program)) == 0;
#else
  return false;
#endif
}

}  // namespace tssx
