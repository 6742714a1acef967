// How many numbers the kernel's descriptor table of this process has room for.
//
// select(2) looks at no bit behind the table's end, and so neither reads nor writes what lies
// there: core_sys_select() in fs/select.c. Programs rely on that when they say nfds =
// getdtablesize(). The size is FDSize in /proc/self/status; that file can't be read on the way to a
// select().
//
// Thread safety: a relaxed word that only grows until a fork. May be called from: anywhere.
#pragma once

namespace tssx {

// `nfds`, or the table's size where that is less. No call to the kernel up to 64, else two once the
// size is known. Sizes are powers of two (alloc_fdtable() in fs/file.c), unless fs.nr_open cuts the
// last one short.
int clamp_to_table(int nfds) noexcept;

// In the child of a fork, whose table may be smaller (dup_fd()).
void forget_table_size() noexcept;

}  // namespace tssx
