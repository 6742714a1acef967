// O_NONBLOCK of an endpoint, known without a system call for each read that finds nothing.
//
// The flag belongs to the open file description (fcntl(2)), and so does a Side: all processes that
// share the one share the other, and each of them changes the flag by calls that are interposed.
// A program that never heard of us gets the description only after its connection went back.
//
// Thread safety: any. May be called from: signal handlers.
#pragma once

#include "core/channel.h"

namespace tssx {

// Is the open file description of the endpoint's socket `fd` in non-blocking mode?
bool is_nonblocking(Channel& channel, int fd) noexcept;

// The same by asking the kernel: for who has met a sign that what is known is not true.
bool ask_nonblocking(Channel& channel, int fd) noexcept;

// Of any file.
bool is_nonblocking(int fd) noexcept;

// To be called after any change of the flags.
void forget_status_flags(Channel& channel) noexcept;

}  // namespace tssx
