// Which build this is.
#pragma once

namespace tssx {

// "libtssx 0.1.0": from CMakeLists.txt. A line of its own in what strings(1) prints of the library.
extern const char kVersionText[];

}  // namespace tssx
