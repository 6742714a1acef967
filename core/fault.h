// Copies to and from memory of the application that may not be there.
//
// The kernel answers EFAULT for a bad buffer because its copies are known to the handler of page
// faults. Ours are done the same way: the functions below are a few instructions whose addresses
// are known, and recover_from_fault(), called by a handler of SIGSEGV and SIGBUS, lets a fault
// in one of them end it with false. So there is no state to set, to nest, or to leave behind: a
// handler that interrupts a copy, and one that leaves it by siglongjmp, need no care.
//
// Who installs the handler says so by set_faults_caught(). Until then, and on architectures other
// than x86-64, a bad address that is_bad_address() doesn't know raises the signal.
//
// Thread safety: none needed. May be called from: anywhere.
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>

namespace tssx {

// Addresses that are the kernel's: access_ok() answers EFAULT for them before anything is done.
inline bool is_kernel_address(const void* base, std::size_t size) noexcept {
  constexpr std::uintptr_t kLast = 0x7ffffffff000;
  const auto address = reinterpret_cast<std::uintptr_t>(base);
  return address > kLast || size > kLast - address;
}

// The same, and those that are never mapped (vm.mmap_min_addr): a cheap look before any copy.
inline bool is_bad_address(const void* base, std::size_t size) noexcept {
  return reinterpret_cast<std::uintptr_t>(base) < 4096 || is_kernel_address(base, size);
}

// Copy `size` bytes that don't overlap. False if the application's side faulted, after having
// copied any part of them.
[[nodiscard]] bool copy_from_application(void* to, const void* from, std::size_t size) noexcept;
[[nodiscard]] bool copy_to_application(void* to, const void* from, std::size_t size) noexcept;

// As copy_from_application(), where there may be no handler yet. A system call for each page then.
[[nodiscard]] bool copy_early(void* to, const void* from, std::size_t size) noexcept;

template <class T>
[[nodiscard]] bool get(T* to, const T* from) noexcept {
  return copy_from_application(to, from, sizeof *to);
}
template <class T>
[[nodiscard]] bool put(T* to, const T& value) noexcept {
  return copy_to_application(to, &value, sizeof value);
}

// Touch each page of a range. The write adds nothing to what is there, and is atomic.
[[nodiscard]] bool is_readable(const void* address, std::size_t size) noexcept;
[[nodiscard]] bool is_writable(void* address, std::size_t size) noexcept;
// How many bytes from `address` on can be read, to the end of a page or of the range.
[[nodiscard]] std::size_t readable_size(const void* address, std::size_t size) noexcept;

// For the handler: if the signal was raised by a copy of ours in memory of the application, makes
// it return false when the handler returns.
[[nodiscard]] bool recover_from_fault(const siginfo_t& info, void* context) noexcept;

void set_faults_caught(bool caught) noexcept;
[[nodiscard]] bool faults_are_caught() noexcept;

}  // namespace tssx
