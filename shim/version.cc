#include "shim/version.h"

namespace tssx {

// "used": it stays in the file although only a log line may need it.
[[gnu::used]] const char kVersionText[] = "libtssx " TSSX_VERSION;

}  // namespace tssx
