#include "core/bell.h"

#include "core/layout.h"
#include "core/rseq_area.h"
#include "core/signals_blocked.h"
#include "core/sys.h"

namespace tssx {
namespace {

constexpr long kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
constexpr char kBell = '\a';

#if defined(__x86_64__)

constexpr long kNotInRing = 1'000;  // neither a count nor an error of send(2)
constexpr long kInterrupted = 1'001;

static_assert(static_cast<std::uint32_t>(Mode::ring) == 1, "the comparison below");
static_assert(sizeof(struct rseq) >= 16 && offsetof(struct rseq, rseq_cs) == 8);

bool is_registered(const struct rseq& area) noexcept {
  const volatile std::uint32_t& cpu = area.cpu_id;
  return static_cast<std::int32_t>(cpu) >= 0;
}

// The sequence ends behind the instruction that enters the kernel: a signal that comes during the
// call finds the byte sent, or not sent for good.
long send_restartable(struct rseq* area, int fd, const std::atomic<std::uint32_t>& mode) noexcept {
  long result = SYS_sendto;
  register long r10 asm("r10") = kFlags;
  register long r8 asm("r8") = 0;
  register long r9 asm("r9") = 0;
  asm volatile(
      ".pushsection .data.rel.ro.tssx_rseq, \"aw\"\n"
      ".balign 32\n"
      "3: .long 0, 0\n"          // version, flags
      ".quad 1f, 2f - 1f, 4f\n"  // start, length, where to go on after an interruption
      ".popsection\n"
      ".pushsection .text.unlikely, \"ax\"\n"
      ".byte 0x0f, 0xb9, 0x3d\n"  // ud1, so that what follows is an operand
      ".long 0x53053053\n"        // RSEQ_SIG of glibc
      "4: movl %[interrupted], %%eax\n"
      "jmp 6f\n"
      ".popsection\n"
      "leaq 3b(%%rip), %%rcx\n"
      "movq %%rcx, %[sequence]\n"
      "1: cmpl $1, %[mode]\n"
      "jne 5f\n"
      "syscall\n"
      "2: jmp 6f\n"
      "5: movl %[away], %%eax\n"
      "6:\n"
      : "+a"(result), [sequence] "+m"(area->rseq_cs)
      : "D"(static_cast<long>(fd)), "S"(&kBell), "d"(1L), "r"(r10), "r"(r8),
        "r"(r9), [mode] "m"(mode), [away] "i"(kNotInRing), [interrupted] "i"(kInterrupted)
      : "rcx", "r11", "memory", "cc");
  return result;
}

#endif

}  // namespace

bool send_bell(int fd, const std::atomic<std::uint32_t>& mode) noexcept {
#if defined(__x86_64__)
  if (struct rseq* area = rseq_area(); area != nullptr && is_registered(*area)) {
    long sent = kInterrupted;
    while (sent == kInterrupted) sent = send_restartable(area, fd, mode);
    return sent == 1;
  }
#endif
  const SignalsBlocked blocked;
  if (mode.load(std::memory_order_acquire) != static_cast<std::uint32_t>(Mode::ring)) return false;
  return sys::send(fd, &kBell, 1, kFlags) == 1;
}

}  // namespace tssx
