// Memory that is not there, for calls that must answer EFAULT.
#pragma once

#include <sys/mman.h>

#include <cstddef>

namespace tssx_test {

// Not null, never mapped, and out of the compiler's sight.
inline void* bad_pointer() {
  static void* volatile pointer = reinterpret_cast<void*>(16);
  return pointer;
}

// A value that the compiler cannot see through: it refuses calls that it knows to be wrong.
template <typename T>
T opaque(T value) {
  volatile T hidden = value;
  return hidden;
}

// A writable page in front of an inaccessible one.
class GuardedPage {
 public:
  static constexpr std::size_t kSize = 4096;
  GuardedPage()
      : base_(static_cast<char*>(::mmap(nullptr, 2 * kSize, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    ::mprotect(beyond(), kSize, PROT_NONE);
  }
  GuardedPage(const GuardedPage&) = delete;
  GuardedPage& operator=(const GuardedPage&) = delete;
  ~GuardedPage() { ::munmap(base_, 2 * kSize); }

  [[nodiscard]] char* begin() const { return base_; }
  [[nodiscard]] char* beyond() const { return base_ + kSize; }

 private:
  char* base_;
};

}  // namespace tssx_test
