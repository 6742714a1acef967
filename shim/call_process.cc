// fork(2) and its kin, and exec(3).

#include <alloca.h>
#include <errno.h>

#include <atomic>
#include <cstring>

#include "core/sys.h"
#include "shim/descriptor_table.h"
#include "shim/exec.h"
#include "shim/leave.h"
#include "shim/real.h"
#include "shim/spawn_actions.h"
#include "shim/startup.h"

using namespace tssx;

extern "C" char** environ;

namespace {

// libc's fork() runs our atfork handlers, which count the child. They can't know that it failed.
pid_t do_fork() {
  real::ensure();
  const pid_t child = real::fork();
  if (child < 0 && table.size() != 0) {
    const int error = errno;
    after_fork_failed();
    errno = error;
  }
  return child;
}

// The child of a vfork() runs in its parent's memory, where its dup2() and close() would change the
// parent's tables. So it gets memory of its own, and the parent waits as vfork(2) promises: until
// the child executes another program or exits, which closes the pipe.
//
// Where the write end is kept until then, as the child needs it after do_vfork() has returned. One
// for each vfork() under way, in other threads and around this one.
struct alignas(8) WriteEnd {
  std::atomic<int> fd{0};  // 0: free; kClaimed: about to be filled
};
constexpr int kClaimed = -1;
WriteEnd write_ends[64];

std::atomic<int>* take_write_end() noexcept {
  for (WriteEnd& end : write_ends) {
    int free = 0;
    if (end.fd.compare_exchange_strong(free, kClaimed, std::memory_order_relaxed)) return &end.fd;
  }
  return nullptr;
}

pid_t do_vfork() {
  real::ensure();
  std::atomic<int>* writing = take_write_end();
  if (writing == nullptr) return do_fork();
  int ends[2];
  if (sys::call(SYS_pipe2, sys::word(ends), O_CLOEXEC) != 0) {
    writing->store(0, std::memory_order_relaxed);
    return do_fork();
  }
  writing->store(move_out_of_the_way(ends[1]), std::memory_order_relaxed);
  hide_descriptor(*writing);
  const pid_t child = do_fork();
  if (child == 0) {
    sys::close(ends[0]);
    return 0;
  }
  const int error = errno;
  close_hidden(*writing, 0);
  if (child > 0) {
    char byte = 0;
    while (sys::call(SYS_read, ends[0], sys::word(&byte), 1) == -EINTR) {
    }
  }
  sys::close(ends[0]);
  errno = error;
  return child;
}

// `fd` is the kernel's number, and may be that behind an ID.
void leave_number(int fd) noexcept {
  if (table.find(fd).kind() != Kind::hidden) {
    leave_to_kernel(fd, Reason::executed);
    return;
  }
  for_each_id_of(fd, [](int id) { leave_to_kernel(id, Reason::executed); });
}

// File actions give the child other numbers for what it inherits, and the copy is open in the new
// program also where the original is not.
void prepare_spawn(const posix_spawn_file_actions_t* actions) noexcept {
  prepare_exec_by_child();
  if (table.size() == 0 || actions == nullptr || actions->__used == 0) return;
  if (for_each_duplicated(*actions, leave_number)) return;
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) leave_number(fd);
}

// execl() and its kin pass the arguments one by one (exec(3)).
#define TSSX_COLLECT_ARGUMENTS(first)                                     \
  va_list arguments;                                                      \
  va_start(arguments, first);                                             \
  size_t count = 1;                                                       \
  while (va_arg(arguments, char*) != nullptr) ++count;                    \
  va_end(arguments);                                                      \
  auto** argv = static_cast<char**>(alloca((count + 1) * sizeof(char*))); \
  argv[0] = const_cast<char*>(first);                                     \
  va_start(arguments, first);                                             \
  for (size_t i = 1; i <= count; ++i) argv[i] = va_arg(arguments, char*)

}  // namespace

TSSX_INTERPOSED pid_t fork() noexcept { return do_fork(); }
TSSX_INTERPOSED pid_t __fork() { return do_fork(); }

TSSX_INTERPOSED pid_t _Fork() noexcept {
  real::ensure();
  if (table.size() == 0) return real::_Fork();
  before_fork();
  const pid_t child = real::_Fork();
  if (child == 0) {
    after_fork_in_child();
  } else {
    const int error = errno;
    after_fork_in_parent(child > 0);
    errno = error;
  }
  return child;
}

TSSX_INTERPOSED pid_t vfork() noexcept { return do_vfork(); }
TSSX_INTERPOSED pid_t __vfork() { return do_vfork(); }

TSSX_INTERPOSED int execve(const char* path, char* const argv[], char* const envp[]) noexcept {
  real::ensure();
  prepare_exec();
  return real::execve(path, argv, envp);
}

TSSX_INTERPOSED int execv(const char* path, char* const argv[]) noexcept {
  real::ensure();
  prepare_exec();
  return real::execv(path, argv);
}

TSSX_INTERPOSED int execvp(const char* file, char* const argv[]) noexcept {
  real::ensure();
  prepare_exec();
  return real::execvp(file, argv);
}

TSSX_INTERPOSED int execvpe(const char* file, char* const argv[], char* const envp[]) noexcept {
  real::ensure();
  prepare_exec();
  return real::execvpe(file, argv, envp);
}

TSSX_INTERPOSED int fexecve(int fd, char* const argv[], char* const envp[]) noexcept {
  real::ensure();
  prepare_exec();
  return real::fexecve(table.kernel_fd(fd), argv, envp);
}

TSSX_INTERPOSED int execveat(int fd, const char* path, char* const argv[], char* const envp[],
                             int flags) noexcept {
  real::ensure();
  prepare_exec();
  return real::execveat(table.kernel_fd(fd), path, argv, envp, flags);
}

TSSX_INTERPOSED int execl(const char* path, const char* first, ...) noexcept {
  real::ensure();
  TSSX_COLLECT_ARGUMENTS(first);
  va_end(arguments);
  prepare_exec();
  return real::execve(path, argv, environ);
}

TSSX_INTERPOSED int execlp(const char* file, const char* first, ...) noexcept {
  real::ensure();
  TSSX_COLLECT_ARGUMENTS(first);
  va_end(arguments);
  prepare_exec();
  return real::execvp(file, argv);
}

TSSX_INTERPOSED int execle(const char* path, const char* first, ...) noexcept {
  real::ensure();
  TSSX_COLLECT_ARGUMENTS(first);
  auto** envp = va_arg(arguments, char**);
  va_end(arguments);
  prepare_exec();
  return real::execve(path, argv, envp);
}

// These start their child inside libc, by a clone that shares our memory and runs none of our code.

TSSX_INTERPOSED int posix_spawn(pid_t* pid, const char* path,
                                const posix_spawn_file_actions_t* actions,
                                const posix_spawnattr_t* attributes, char* const argv[],
                                char* const envp[]) {
  real::ensure();
  prepare_spawn(actions);
  return real::posix_spawn(pid, path, actions, attributes, argv, envp);
}

TSSX_INTERPOSED int posix_spawnp(pid_t* pid, const char* file,
                                 const posix_spawn_file_actions_t* actions,
                                 const posix_spawnattr_t* attributes, char* const argv[],
                                 char* const envp[]) {
  real::ensure();
  prepare_spawn(actions);
  return real::posix_spawnp(pid, file, actions, attributes, argv, envp);
}

// The child is to find the kernel's descriptor where the application names an ID.

TSSX_INTERPOSED int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t* actions, int fd,
                                                     int to) noexcept {
  real::ensure();
  return real::posix_spawn_file_actions_adddup2(actions, table.kernel_fd(fd), to);
}

TSSX_INTERPOSED int posix_spawn_file_actions_addclose(posix_spawn_file_actions_t* actions,
                                                      int fd) noexcept {
  real::ensure();
  return real::posix_spawn_file_actions_addclose(actions, table.kernel_fd(fd));
}

TSSX_INTERPOSED int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t* actions,
                                                          int fd) noexcept {
  real::ensure();
  return real::posix_spawn_file_actions_addfchdir_np(actions, table.kernel_fd(fd));
}

TSSX_INTERPOSED int posix_spawn_file_actions_addtcsetpgrp_np(posix_spawn_file_actions_t* actions,
                                                             int fd) noexcept {
  real::ensure();
  return real::posix_spawn_file_actions_addtcsetpgrp_np(actions, table.kernel_fd(fd));
}

TSSX_INTERPOSED int system(const char* command) {
  real::ensure();
  if (command != nullptr) prepare_exec_by_child();
  return real::system(command);
}

TSSX_INTERPOSED FILE* popen(const char* command, const char* mode) {
  real::ensure();
  prepare_exec_by_child();
  FILE* file = real::popen(command, mode);
  if (file != nullptr) forget_stale(file->_fileno);
  return file;
}

TSSX_INTERPOSED int wordexp(const char* words, wordexp_t* out, int flags) {
  real::ensure();
  // Only a command in the words starts a shell.
  if ((flags & WRDE_NOCMD) == 0 && words != nullptr && std::strpbrk(words, "$`") != nullptr) {
    prepare_exec_by_child();
  }
  return real::wordexp(words, out, flags);
}
