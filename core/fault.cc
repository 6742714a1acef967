#include "core/fault.h"

#include <errno.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/sys.h"

#if defined(__x86_64__)

// The copy, as the kernel's own (arch/x86/lib/copy_user_64.S): no stack, no calls, and the range of
// the application's side in registers of its own, so that any instruction of it may fault.
//
//   rdi to, rsi from, rdx size, rcx the application's side; al 1 if done, 0 if it faulted
//   r8, r9: begin and size of the application's side, for recover_from_fault()
//
// Small sizes are two overlapping moves. From tssx_string_copy_from bytes on, "rep movsb" is the
// fastest where the processor says so (ERMS), which is what libc's memcpy does as well.
asm(R"(
  .section .text.tssx_guarded,"ax",@progbits
  .p2align 6
  .hidden tssx_guarded_begin
  .globl tssx_guarded_begin
tssx_guarded_begin:

  .hidden tssx_guarded_copy
  .globl tssx_guarded_copy
  .type tssx_guarded_copy, @function
tssx_guarded_copy:
  .cfi_startproc
  movq %rcx, %r8
  movq %rdx, %r9
  cmpq $16, %rdx
  jb 3f
  cmpq $32, %rdx
  ja 1f
  movups (%rsi), %xmm0
  movups -16(%rsi,%rdx), %xmm1
  movups %xmm0, (%rdi)
  movups %xmm1, -16(%rdi,%rdx)
  movl $1, %eax
  ret
1:
  cmpq $64, %rdx
  ja 2f
  movups (%rsi), %xmm0
  movups 16(%rsi), %xmm1
  movups -32(%rsi,%rdx), %xmm2
  movups -16(%rsi,%rdx), %xmm3
  movups %xmm0, (%rdi)
  movups %xmm1, 16(%rdi)
  movups %xmm2, -32(%rdi,%rdx)
  movups %xmm3, -16(%rdi,%rdx)
  movl $1, %eax
  ret
2:
  cmpq tssx_string_copy_from(%rip), %rdx
  jae 6f
  # Up to 16 bytes, so that the rest is stored at multiples of 16; then whole blocks of 64; the last
  # 64 bytes from where they end.
  leaq -64(%rdi,%rdx), %r10
  leaq -64(%rsi,%rdx), %r11
  movups (%rsi), %xmm0
  movups %xmm0, (%rdi)
  movl %edi, %ecx
  notl %ecx
  andl $15, %ecx
  leaq 1(%rsi,%rcx), %rsi
  leaq 1(%rdi,%rcx), %rdi
  cmpq %r10, %rdi
  jae 10f
  .p2align 4
7:
  movups (%rsi), %xmm0
  movups 16(%rsi), %xmm1
  movups 32(%rsi), %xmm2
  movups 48(%rsi), %xmm3
  movaps %xmm0, (%rdi)
  movaps %xmm1, 16(%rdi)
  movaps %xmm2, 32(%rdi)
  movaps %xmm3, 48(%rdi)
  addq $64, %rsi
  addq $64, %rdi
  cmpq %r10, %rdi
  jb 7b
10:
  movups (%r11), %xmm0
  movups 16(%r11), %xmm1
  movups 32(%r11), %xmm2
  movups 48(%r11), %xmm3
  movups %xmm0, (%r10)
  movups %xmm1, 16(%r10)
  movups %xmm2, 32(%r10)
  movups %xmm3, 48(%r10)
  movl $1, %eax
  ret
6:
  # A destination on a line of its own is what makes it fast: 64 bytes first, then from there.
  movups (%rsi), %xmm0
  movups 16(%rsi), %xmm1
  movups 32(%rsi), %xmm2
  movups 48(%rsi), %xmm3
  movups %xmm0, (%rdi)
  movups %xmm1, 16(%rdi)
  movups %xmm2, 32(%rdi)
  movups %xmm3, 48(%rdi)
  leaq (%rdi,%rdx), %rcx
  movq %rdi, %r10
  andq $-64, %rdi
  addq $64, %rdi
  subq %rdi, %rcx
  subq %r10, %rsi
  addq %rdi, %rsi
  rep movsb
  movl $1, %eax
  ret
3:
  cmpl $8, %edx
  jb 4f
  movq (%rsi), %rax
  movq -8(%rsi,%rdx), %rcx
  movq %rax, (%rdi)
  movq %rcx, -8(%rdi,%rdx)
  movl $1, %eax
  ret
4:
  cmpl $4, %edx
  jb 5f
  movl (%rsi), %eax
  movl -4(%rsi,%rdx), %ecx
  movl %eax, (%rdi)
  movl %ecx, -4(%rdi,%rdx)
  movl $1, %eax
  ret
5:
  testl %edx, %edx
  je 9f
  movzbl (%rsi), %eax
  movzbl -1(%rsi,%rdx), %ecx
  cmpl $2, %edx
  jbe 8f
  movzbl 1(%rsi), %r10d
  movb %r10b, 1(%rdi)
8:
  movb %al, (%rdi)
  movb %cl, -1(%rdi,%rdx)
9:
  movl $1, %eax
  ret
  .cfi_endproc
  .size tssx_guarded_copy, .-tssx_guarded_copy

  .hidden tssx_guarded_read
  .globl tssx_guarded_read
  .type tssx_guarded_read, @function
tssx_guarded_read:
  .cfi_startproc
  movq %rdi, %r8
  movl $1, %r9d
  movb (%rdi), %al
  movl $1, %eax
  ret
  .cfi_endproc
  .size tssx_guarded_read, .-tssx_guarded_read

  .hidden tssx_guarded_write
  .globl tssx_guarded_write
  .type tssx_guarded_write, @function
tssx_guarded_write:
  .cfi_startproc
  movq %rdi, %r8
  movl $1, %r9d
  lock orb $0, (%rdi)
  movl $1, %eax
  ret
  .cfi_endproc
  .size tssx_guarded_write, .-tssx_guarded_write

  .hidden tssx_guarded_end
  .globl tssx_guarded_end
tssx_guarded_end:

  .hidden tssx_guarded_fault
  .globl tssx_guarded_fault
  .type tssx_guarded_fault, @function
tssx_guarded_fault:
  .cfi_startproc
  xorl %eax, %eax
  ret
  .cfi_endproc
  .size tssx_guarded_fault, .-tssx_guarded_fault
)");

extern "C" {
bool tssx_guarded_copy(void* to, const void* from, std::size_t size,
                       const void* application) noexcept;
bool tssx_guarded_read(const void* address) noexcept;
bool tssx_guarded_write(void* address) noexcept;
extern const char tssx_guarded_begin[];
extern const char tssx_guarded_end[];
extern const char tssx_guarded_fault[];
// Read by the copy: the size from which "rep movsb" pays.
__attribute__((visibility("hidden"))) std::size_t tssx_string_copy_from = ~std::size_t{0};
}

#endif

// The sanitizers see no assembler: tell them what it touches.
#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_read_range(void* address, long size);
extern "C" void __tsan_write_range(void* address, long size);
#elif defined(__SANITIZE_ADDRESS__)
extern "C" void __asan_loadN(void* address, long size);
extern "C" void __asan_storeN(void* address, long size);
#endif

namespace tssx {
namespace {

constexpr std::uintptr_t kPage = 4096;

std::atomic<bool> caught{false};

#if defined(__x86_64__)

void note_access([[maybe_unused]] void* to, [[maybe_unused]] const void* from,
                 [[maybe_unused]] std::size_t size) noexcept {
#if defined(__SANITIZE_THREAD__)
  __tsan_read_range(const_cast<void*>(from), static_cast<long>(size));
  __tsan_write_range(to, static_cast<long>(size));
#elif defined(__SANITIZE_ADDRESS__)
  __asan_loadN(const_cast<void*>(from), static_cast<long>(size));
  __asan_storeN(to, static_cast<long>(size));
#endif
}

bool copy(void* to, const void* from, std::size_t size, const void* application) noexcept {
  note_access(to, from, size);
  return tssx_guarded_copy(to, from, size, application);
}
bool touch(const void* address) noexcept { return tssx_guarded_read(address); }
bool touch_to_write(void* address) noexcept { return tssx_guarded_write(address); }

// CPUID leaf 7: "enhanced rep movsb". Below some 2 KiB its start costs more than it saves.
void choose_copy() noexcept {
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::uint32_t c = 0;
  std::uint32_t d = 0;
  asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0), "c"(0));
  if (a < 7) return;
  asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
  if ((b & (1U << 9U)) != 0) tssx_string_copy_from = 2048;
}

#else

bool copy(void* to, const void* from, std::size_t size, const void*) noexcept {
  std::memcpy(to, from, size);
  return true;
}
bool touch(const void*) noexcept { return true; }
bool touch_to_write(void*) noexcept { return true; }
void choose_copy() noexcept {}

#endif

// Without a handler the kernel is asked, by a call that every sandbox allows and that does nothing:
// rt_sigprocmask(2) reads the new mask, EFAULT, before it refuses an unknown operation, EINVAL.
bool kernel_can_read(std::uintptr_t address) noexcept {
  constexpr int kNoOperation = -1;
  constexpr std::size_t kMaskSize = 8;
  return sys::call(SYS_rt_sigprocmask, kNoOperation, static_cast<long>(address & ~(kMaskSize - 1)),
                   0, kMaskSize) != -EFAULT;
}

}  // namespace

bool copy_from_application(void* to, const void* from, std::size_t size) noexcept {
  if (size == 0) return true;
  if (is_bad_address(from, size)) return false;
  return copy(to, from, size, from);
}

bool copy_early(void* to, const void* from, std::size_t size) noexcept {
  if (size == 0) return true;
  if (is_bad_address(from, size)) return false;
  if (!faults_are_caught()) {
    const auto begin = reinterpret_cast<std::uintptr_t>(from);
    for (std::uintptr_t at = begin; at < begin + size; at = (at / kPage + 1) * kPage) {
      if (!kernel_can_read(at)) return false;
    }
  }
  return copy(to, from, size, from);
}

bool copy_to_application(void* to, const void* from, std::size_t size) noexcept {
  if (size == 0) return true;
  if (is_bad_address(to, size)) return false;
  return copy(to, from, size, to);
}

bool is_readable(const void* address, std::size_t size) noexcept {
  return readable_size(address, size) == size;
}

std::size_t readable_size(const void* address, std::size_t size) noexcept {
  if (size == 0) return 0;
  if (is_bad_address(address, size)) return 0;
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  for (std::uintptr_t at = begin; at < begin + size; at = (at / kPage + 1) * kPage) {
    if (!touch(reinterpret_cast<const void*>(at))) return at - begin;
  }
  return size;
}

bool is_writable(void* address, std::size_t size) noexcept {
  if (size == 0) return true;
  if (is_bad_address(address, size)) return false;
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  for (std::uintptr_t at = begin; at < begin + size; at = (at / kPage + 1) * kPage) {
    if (!touch_to_write(reinterpret_cast<void*>(at))) return false;
  }
  return true;
}

bool recover_from_fault([[maybe_unused]] const siginfo_t& info,
                        [[maybe_unused]] void* context) noexcept {
#if defined(__x86_64__)
  if (info.si_code <= 0) return false;  // sent by a process, not raised by an access
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto at = static_cast<std::uintptr_t>(registers[REG_RIP]);
  if (at < reinterpret_cast<std::uintptr_t>(tssx_guarded_begin) ||
      at >= reinterpret_cast<std::uintptr_t>(tssx_guarded_end)) {
    return false;
  }
  const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
  const auto begin = static_cast<std::uintptr_t>(registers[REG_R8]);
  if (address < begin || address - begin >= static_cast<std::uintptr_t>(registers[REG_R9])) {
    return false;
  }
  registers[REG_RIP] = static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(tssx_guarded_fault));
  return true;
#else
  return false;
#endif
}

void set_faults_caught(bool on) noexcept {
  if (on) choose_copy();
  caught.store(on, std::memory_order_relaxed);
}

bool faults_are_caught() noexcept { return caught.load(std::memory_order_relaxed); }

}  // namespace tssx
