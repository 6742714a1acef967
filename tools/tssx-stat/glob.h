// The patterns of USE_TSSX, matched as fnmatch(3) without flags does it in the C locale, without
// collating symbols ([.x.] and [=x=]).
//
// Not fnmatch(3) itself: patterns are read from other users' processes, and of that one the time
// and the memory are not bounded by anything it promises. This one takes at most pattern times
// text.
//
// Thread safety: pure functions.
#pragma once

#include <string_view>

namespace tssx::stat_tool {

[[nodiscard]] bool matches(std::string_view pattern, std::string_view text);

}  // namespace tssx::stat_tool
