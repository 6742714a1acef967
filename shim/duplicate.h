// What a second descriptor for the same open file description means for the table.
#pragma once

namespace tssx {

// The kernel has just made `to` a duplicate of `from` (a number or an ID).
void note_duplicate(int from, int to) noexcept;

}  // namespace tssx
