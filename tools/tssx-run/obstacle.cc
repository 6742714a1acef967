#include "tools/tssx-run/obstacle.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "core/unique_fd.h"
#include "tools/tssx-run/script_line.h"

namespace tssx::run_tool {
namespace {

// O_NONBLOCK: a FIFO or device must not hold us up.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

// The kernel follows so many scripts, exec_binprm() in fs/exec.c.
constexpr int kMaxScripts = 5;

std::string_view base_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

// Does executing it give rights that the caller does not have? Then ld.so(8) runs in
// secure-execution mode. Source: bprm_fill_uid() of fs/exec.c, cap_bprm_creds_from_file() of
// security/commoncap.c.
const char* gained_rights(const std::string& path, const Caller& caller) {
  struct stat status {};
  struct statvfs file_system {};
  if (caller.no_new_privs || ::stat(path.c_str(), &status) != 0) return nullptr;
  if (::statvfs(path.c_str(), &file_system) == 0 && (file_system.f_flag & ST_NOSUID) != 0) {
    return nullptr;
  }
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != caller.uid) return "set-user-ID";
  // Without execute permission of the group the bit has another meaning.
  constexpr mode_t kSetGroup = S_ISGID | S_IXGRP;
  if ((status.st_mode & kSetGroup) == kSetGroup && status.st_gid != caller.gid) {
    return "set-group-ID";
  }
  if (caller.uid != 0 && ::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    return "file capabilities";
  }
  return nullptr;
}

bool same_file(const std::string& one, const std::string& other) {
  struct stat a {};
  struct stat b {};
  return ::stat(one.c_str(), &a) == 0 && ::stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

std::string elf_obstacle(const std::string& path, const ElfImage& image, const Caller& caller) {
  if (image.architecture != caller.architecture) {
    return fmt::format("{} is for {}, the library for {}", path, to_string(image.architecture),
                       to_string(caller.architecture));
  }
  if (!image.loadable) return path + " is a damaged program";
  if (image.interpreter.empty()) {
    // The dynamic linker itself takes a program as its argument, and preloads for that.
    if (same_file(path, caller.dynamic_linker)) return {};
    return path + " is statically linked, so nothing can be preloaded into it";
  }
  const std::string_view name = base_name(image.interpreter);
  if (name != base_name(caller.dynamic_linker)) {
    return fmt::format("{} uses {} ({}), the library needs glibc", path,
                       name.starts_with("ld-musl") ? "musl" : "another libc", image.interpreter);
  }
  if (::access(image.interpreter.c_str(), F_OK) != 0) {
    return fmt::format("{} needs the dynamic linker {}, which is not there", path,
                       image.interpreter);
  }
  if (const char* rights = gained_rights(path, caller)) {
    return fmt::format("{} has {}, where the dynamic linker ignores LD_PRELOAD", path, rights);
  }
  return {};
}

}  // namespace

Caller this_caller() {
  Caller caller;
  caller.uid = ::getuid();
  caller.gid = ::getgid();
  caller.no_new_privs = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  caller.architecture = own_architecture();
  const UniqueFd self(::open("/proc/self/exe", kOpenFlags));
  if (self) {
    if (auto image = read_elf(self.get())) caller.dynamic_linker = std::move(image->interpreter);
  }
  return caller;
}

std::string find_obstacle(const std::string& path, const Caller& caller) {
  std::string current = path;
  std::string through;  // the scripts that led there
  for (int scripts = 0; scripts <= kMaxScripts; ++scripts) {
    const UniqueFd file(::open(current.c_str(), kOpenFlags));
    if (!file) {
      // Executable, and not readable: its mode is all that can be looked at.
      if (errno == EACCES) {
        const char* rights = gained_rights(current, caller);
        return rights == nullptr ? std::string{}
                                 : fmt::format("{}{} has {}", through, current, rights);
      }
      return fmt::format("{}{}: {}", through, current, std::strerror(errno));
    }
    if (const auto image = read_elf(file.get())) {
      std::string obstacle = elf_obstacle(current, *image, caller);
      return obstacle.empty() ? obstacle : through + obstacle;
    }
    std::array<char, kScriptStart> start{};
    const ssize_t size = ::pread(file.get(), start.data(), start.size(), 0);
    if (size < 0) return fmt::format("{}{}: {}", through, current, std::strerror(errno));
    const auto line = parse_script_line({start.data(), static_cast<std::size_t>(size)});
    // Something else: execvp(3) gives it to the shell, or a binfmt_misc(5) handler takes it.
    if (!line) return {};
    if (line->interpreter.empty())
      return fmt::format("{}{} names no interpreter", through, current);
    through += current + ": its interpreter ";
    current = line->interpreter;
  }
  return path + ": too many scripts one in another";
}

std::string find_library_obstacle(const std::string& path, const Caller& caller) {
  const UniqueFd file(::open(path.c_str(), kOpenFlags));
  if (!file) return fmt::format("{}: {}", path, std::strerror(errno));
  const auto image = read_elf(file.get());
  if (!image || (image->architecture == caller.architecture && !image->loadable)) {
    return path + " is no shared library";
  }
  if (image->architecture != caller.architecture) {
    return fmt::format("{} is for {}, this machine is {}", path, to_string(image->architecture),
                       to_string(caller.architecture));
  }
  return {};
}

}  // namespace tssx::run_tool
