// What `explain` and `listeners` print. The schema of the JSON is as stable as that of --json.
//
//   {"schema": 1,
//    "connections": [{"path": "/run/x.sock", "server": {"pid": 1, "program": "x", "user": "u",
//                     "fds": [5]}, "client": {... the same}, "accelerated": false,
//                     "code": "not-preloaded", "side": "client", "text": "..."}],
//    "listeners": [{"path": "/run/x.sock", "pid": 1, "program": "x", "user": "u", "offers": true,
//                   "code": "", "text": ""}],
//    "hidden_processes": 0}
//
// Thread safety: pure functions.
#pragma once

#include <string>

#include "tools/tssx-stat/links.h"
#include "tools/tssx-stat/render_text.h"

namespace tssx::stat_tool {

// Connections first, then listening sockets.
[[nodiscard]] std::string explain_text(const Links& links, TextStyle style);
[[nodiscard]] std::string explain_json(const Links& links, std::size_t hidden_processes);

// One line for each.
[[nodiscard]] std::string listeners_text(const std::vector<ListeningSocket>& listeners,
                                         TextStyle style);

}  // namespace tssx::stat_tool
