#include "tools/tssx-stat/sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

namespace tssx::stat_tool {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr std::array kAlways{
    SCMP_SYS(process_vm_readv), SCMP_SYS(brk),
    SCMP_SYS(munmap),           SCMP_SYS(mremap),
    SCMP_SYS(madvise),          SCMP_SYS(futex),
    SCMP_SYS(clock_gettime),    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),     SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigreturn),     SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(restart_syscall),  SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

// Each adds a rule and returns 0 or -errno.
int allow(scmp_filter_ctx context, int call) {
  return ::seccomp_rule_add(context, SCMP_ACT_ALLOW, call, 0);
}
int allow_if(scmp_filter_ctx context, int call, const scmp_arg_cmp& condition) {
  return ::seccomp_rule_add_array(context, SCMP_ACT_ALLOW, call, 1, &condition);
}

scmp_arg_cmp is_descriptor(int fd) { return {0, SCMP_CMP_EQ, static_cast<scmp_datum_t>(fd), 0}; }
// The third argument of mmap and mprotect.
scmp_arg_cmp is_not_executable() { return {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}; }

constexpr std::array kWatching{
    SCMP_SYS(read),       SCMP_SYS(close),      SCMP_SYS(lseek),         SCMP_SYS(fstat),
    SCMP_SYS(newfstatat), SCMP_SYS(getdents64), SCMP_SYS(readlinkat),    SCMP_SYS(readlink),
    SCMP_SYS(ppoll),      SCMP_SYS(getpid),     SCMP_SYS(gettid),        SCMP_SYS(rt_sigaction),
    SCMP_SYS(pread64),    SCMP_SYS(fcntl),      SCMP_SYS(rt_sigsuspend),
};
constexpr std::array kTerminalRequests{TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ};

int allow_watching(scmp_filter_ctx context) {
  for (const int call : kWatching) {
    if (const int error = allow(context, call); error != 0) return error;
  }
  // For reading, and nothing that creates or truncates.
  const scmp_arg_cmp for_reading{2, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND,
                                 O_RDONLY};
  if (const int error = allow_if(context, SCMP_SYS(openat), for_reading); error != 0) return error;
  for (const unsigned long request : kTerminalRequests) {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) {
      const scmp_arg_cmp both[] = {is_descriptor(fd), {1, SCMP_CMP_EQ, request, 0}};
      if (const int error =
              ::seccomp_rule_add_array(context, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 2, both);
          error != 0) {
        return error;
      }
    }
  }
  const scmp_arg_cmp itself{0, SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()), 0};
  return allow_if(context, SCMP_SYS(tgkill), itself);
}

int add_rules(scmp_filter_ctx context) {
  for (const int call : kAlways) {
    if (const int error = allow(context, call); error != 0) return error;
  }
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    if (const int error = allow_if(context, SCMP_SYS(write), is_descriptor(fd)); error != 0) {
      return error;
    }
  }
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    if (const int error = allow_if(context, call, is_not_executable()); error != 0) return error;
  }
  return 0;
}

}  // namespace

std::string enter_sandbox(Sandbox sandbox) {
  if (kSanitized) return "built with a sanitizer, whose runtime needs more system calls";
  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> context(
      ::seccomp_init(SCMP_ACT_ERRNO(EPERM)), ::seccomp_release);
  if (!context) return "libseccomp does not know this machine";
  if (const int error = add_rules(context.get()); error != 0) {
    return fmt::format("no filter: {}", std::strerror(-error));
  }
  if (sandbox == Sandbox::watching) {
    if (const int error = allow_watching(context.get()); error != 0) {
      return fmt::format("no filter: {}", std::strerror(-error));
    }
  }
  if (const int error = ::seccomp_load(context.get()); error != 0) {
    return fmt::format("the kernel refuses the filter: {}", std::strerror(-error));
  }
  return {};
}

}  // namespace tssx::stat_tool
