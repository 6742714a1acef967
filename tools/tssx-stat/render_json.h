// The report for programs. The schema is stable: members may be added, none changes or goes;
// `schema` goes up if that ever has to be broken.
//
//   {"schema": 1,
//    "connections": [{
//      "id": "00:01:1234",            device and inode of the segment
//      "path": "/run/x.sock",         of the listening socket; abstract names start with @
//      "state": "ring",               see State in connection.h
//      "server": {"pid": 1, "program": "postgres", "user": "postgres", "holders": 1, "end": {...}},
//      "client": {... the same},      pid 0, program "", user "": unknown
//      "to_client": {"bytes": 0, "messages": 0, "reads": 0, "waiting": 0, "bells": 0,
//                    "data_sleeps": 0, "space_sleeps": 0, "capacity": 65536,
//                    "bytes_per_second": 0.0, "messages_per_second": 0.0,  null: not measured
//                    "mode": "ring"},           or "kernel", "moving", "unknown"
//      "to_server": {... the same},
//      "descriptors": "kernel",       or "negative", "unknown": what the server's program sees
//      "age_seconds": 1.5}],
//    "kernel_ends": [{                ends of connections that are not, or not yet, in shared
//    memory
//      "pid": 1, "program": "x", "user": "root", "role": "server", "path": "/run/x.sock",
//      "stage": "candidate", "age_seconds": 1.5, "end": {...}}],
//    "hidden_processes": 0,           that the caller may not look at
//    "unrecognized_segments": 0,
//    "other_versions": 0}             records of another version of the library
//
// "end" is what the processes of one side count themselves, null where it was not found:
//
//   {"reason": "none", "errno": 0, "postponed": "none", "asides": 0, "returns": 0,
//    "reading": {"spun": 0, "yielded": 0, "slept": 0}, "writing": {... the same},
//    "sent_sizes": [{"below": 16, "messages": 0}, ... {"below": null, "messages": 0}]}
//
// Always ASCII, everything else as \u escapes; bytes that are not UTF-8 become U+FFFD.
//
// Thread safety: pure functions.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "tools/tssx-stat/report.h"

namespace tssx::stat_tool {

using Json = nlohmann::ordered_json;

inline constexpr int kSchema = 1;

[[nodiscard]] std::string render_json(const Report& report);

// One element of "connections".
[[nodiscard]] Json connection_json(const Connection& connection);

// A document as it is printed.
[[nodiscard]] std::string print_json(const Json& document);

}  // namespace tssx::stat_tool
