// What a second descriptor for the same open file description means for the table.
#pragma once

namespace tssx {

// Before the kernel makes a duplicate of `from`: a mark could be used by one number and not be
// known of under the other.
void prepare_duplicate(int from) noexcept;

// The kernel has just made `to` a duplicate of `from` (a number or an ID).
void note_duplicate(int from, int to) noexcept;

}  // namespace tssx
