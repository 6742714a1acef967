#include "tools/tssx-run/search.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

namespace tssx::run_tool {
namespace {

// 0, or why this file can't be executed.
int judge(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return errno;
  if (S_ISDIR(status.st_mode)) return EISDIR;
  if (!S_ISREG(status.st_mode)) return EACCES;
  return ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

// confstr(3) allows the C library to say so; this is what glibc's execvp() takes.
constexpr std::string_view kDefaultPath = "/bin:/usr/bin";

}  // namespace

Found find_program(const std::string& name, const char* search_path) {
  if (name.empty()) return {"", ENOENT};
  if (name.find('/') != std::string::npos) {
    const int error = judge(name);
    return error == 0 ? Found{name, 0} : Found{"", error};
  }
  Found refused{"", ENOENT};
  std::string_view rest = search_path == nullptr ? kDefaultPath : std::string_view(search_path);
  for (;;) {
    const std::size_t end = rest.find(':');
    const std::string_view folder = rest.substr(0, end);
    // An empty part is the working directory.
    const std::string path = folder.empty() ? "./" + name : std::string(folder) + "/" + name;
    const int error = judge(path);
    if (error == 0) return {path, 0};
    if (error == EACCES) refused.error = EACCES;
    if (end == std::string_view::npos) return refused;
    rest.remove_prefix(end + 1);
  }
}

}  // namespace tssx::run_tool
