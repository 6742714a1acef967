// Starting processes of this program again, with the library preloaded, and seeing them end.
//
// Thread safety: one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace fault {

// A fresh directory, removed with the files in it.
class Directory {
 public:
  Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory();
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Runs this program with `arguments`; `library` empty: on the kernel's sockets. In a process group
// of its own, which its children stay in.
pid_t start(const std::vector<std::string>& arguments, const std::string& library,
            const std::vector<std::string>& environment = {});

// Orphans of processes that were killed become this one's children, to be waited for.
void adopt_orphans();
// Kills every process of these groups, and waits for all children.
void end_groups(const std::vector<pid_t>& groups);

// In a started process: no SIGPIPE, and an end after so many seconds whatever happens.
void prepare_actor(const std::string& name, unsigned seconds);

double seconds_now();
std::string describe_status(int status);

}  // namespace fault
