// What a peer may write to the words that both sides share: numbers that look right, are just
// wrong, or make no sense.
//
// Thread safety: functions of their arguments; the words may change meanwhile.
#pragma once

#include "core/layout.h"
#include "tests/fuzz/input.h"

namespace tssx::fuzz {

// Writes something to one word of the page: which and what is in the script.
void scribble(SegmentPage& page, std::uint64_t capacity, Input& script);

// The same to the word there, if one begins there.
void scribble_at(SegmentPage& page, std::size_t offset, std::uint64_t capacity, Input& script);

}  // namespace tssx::fuzz
