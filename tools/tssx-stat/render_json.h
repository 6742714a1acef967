// The report for programs. The schema is stable: members may be added, none changes or goes.
//
//   {"connections": [{
//      "id": "00:01:1234",            device and inode of the segment
//      "path": "/run/x.sock",         of the listening socket; abstract names start with @
//      "state": "ring",               see State in connection.h
//      "server": {"pid": 1, "program": "postgres", "user": "postgres", "holders": 1},
//      "client": {... the same},      pid 0, program "", user "": unknown
//      "to_client": {"bytes": 0, "messages": 0, "waiting": 0, "bells": 0, "capacity": 65536,
//                    "mode": "ring"},           or "kernel", "moving", "unknown"
//      "to_server": {... the same},
//      "age_seconds": 1.5}],
//    "hidden_processes": 0,           that the caller may not look at
//    "unrecognized_segments": 0}
//
// Always ASCII, everything else as \u escapes; bytes that are not UTF-8 become U+FFFD.
//
// Thread safety: pure function.
#pragma once

#include <string>

#include "tools/tssx-stat/report.h"

namespace tssx::stat_tool {

[[nodiscard]] std::string render_json(const Report& report);

}  // namespace tssx::stat_tool
