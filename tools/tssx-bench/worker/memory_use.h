// What /proc says about memory.
#pragma once

namespace tssx::bench {

// KiB.
struct MemoryUse {
  double rss = 0;
  double pss = 0;    // pages that several processes map count by their share
  double shmem = 0;  // resident pages of shared memory
};

// Of the calling process. Throws std::runtime_error.
[[nodiscard]] MemoryUse my_memory();

// Of the kernel's objects, of the whole machine: KiB. Others use them too, so only large
// differences mean something. Throws std::runtime_error.
[[nodiscard]] double kernel_slab();

}  // namespace tssx::bench
