// What /proc says about the processes that may appear in the output, and the names of their users.
// All of it is read before the sandbox closes; afterwards this is only a table.
//
// Thread safety: immutable once filled.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tools/tssx-stat/scan.h"

namespace tssx::stat_tool {

struct Process {
  pid_t parent = 0;
  pid_t inner_pid = 0;  // its number in its own pid namespace
  std::string program;  // any bytes: a process chooses its own name
  std::string user;
};

using ProcessTable = std::unordered_map<pid_t, Process>;

struct Status {
  pid_t parent = 0;
  pid_t inner_pid = 0;
  uid_t uid = 0;
};

// Takes in one line of /proc/PID/status; lines of no interest change nothing.
void parse_status_line(std::string_view line, Status& status);

// comm is cut at 15 bytes by the kernel; where it may have been, the executable's name completes
// it.
[[nodiscard]] std::string program_name(std::string_view comm, std::string_view executable);

// Everybody who maps a segment or a page, and, if there is any, those who are hidden: one of them
// may be the other end. proc: a descriptor of /proc. Uses getpwuid(3), hence sockets and files.
[[nodiscard]] ProcessTable identify_processes(int proc, const Scan& scan);

// Adds these to a table.
void identify_more(int proc, const std::vector<pid_t>& pids, ProcessTable& table);

}  // namespace tssx::stat_tool
