// A full fence in every thread of the system at once, made by one side for both (membarrier(2)).
//
// Who looks rarely pays for who looks often: the reader of a ring stores its position and looks at
// a word of the writer's with no fence in between; a writer that must know which of the two it was
// sets the word, makes the fence here, and looks at the position.
//
// Thread safety: functions of their arguments. May be called from: anywhere; no malloc, no stdio.
#pragma once

namespace tssx {

// Lets other processes make a cheap fence here. Where this process has one thread it costs some
// microseconds once, else nothing is done, as the kernel would wait for all of them. True if this
// process takes part; a child of fork() does as well then.
bool take_part_in_fences() noexcept;

// Returns when every thread that runs anywhere has passed a point where all memory accesses before
// it are done, and none behind it has begun. expedited: all whom it concerns take part; some
// microseconds. Otherwise some 10 ms, or a wait that is long enough where the kernel has no such
// call: what a processor holds back becomes visible within microseconds.
void fence_everywhere(bool expedited) noexcept;

}  // namespace tssx
