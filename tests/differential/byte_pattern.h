// The bytes that the streams of a program carry. Each stream has a pattern of its own without an
// end, so a byte says where in which stream it belongs, and what is lost, doubled or out of place
// shows. No byte is zero, for those who print.
//
// Thread safety: everything here is read-only after the first call.
#pragma once

#include <cstddef>

namespace differential {

// At most this many bytes can be asked for at once.
constexpr std::size_t kMaxTransfer = 1 << 20;

// The bytes of a stream from that position on, kMaxTransfer of them.
const char* stream_bytes(int stream, long position);

// A file with all of stream_bytes() in it, and where in it those of a position begin. Opened on the
// first call, which belongs before any fork.
int pattern_file();
long pattern_file_offset(int stream, long position);

}  // namespace differential
