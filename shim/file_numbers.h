// Numbers that a FILE of libc's own reads and writes: stdin, stdout and stderr have 0, 1 and 2 from
// the start; others are known once fdopen(3) or fileno(3) was asked about them.
//
// Such a FILE makes its system calls inside libc, where no symbol table is consulted. A connection
// that gets one of these numbers, as under inetd, therefore stays with the kernel or returns to it.
//
// Thread safety: atomic bits. May be called from: anywhere.
#pragma once

namespace tssx {

// The highest number noted; nobody gives stdio more.
inline constexpr int kMaxFileNumber = 1 << 16;

bool is_file_number(int fd) noexcept;
void note_file_number(int fd) noexcept;
// Its FILE was closed.
void forget_file_number(int fd) noexcept;

}  // namespace tssx
