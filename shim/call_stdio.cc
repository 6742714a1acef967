// stdio over an endpoint.
//
// A FILE reads and writes inside libc, where no symbol table is consulted. So fdopen(3) over an
// endpoint makes a FILE of fopencookie(3), whose functions are ours, with the descriptor's number
// where fileno(3) looks for it. Where such a FILE can't do what libc's own can (wide characters,
// freopen(3)), the connection goes back to the kernel and the FILE becomes one of libc's own.
//
// A FILE of libc's own closes its number inside libc: fclose(3) and its kin tell the table first.

#include "shim/stdio_file.h"

#include <errno.h>
#include <stdio_ext.h>
#include <stdlib.h>

#include <cstring>

#include "shim/descriptor_table.h"
#include "shim/file_numbers.h"
#include "shim/leave.h"
#include "shim/real.h"

using namespace tssx;

// Gives a FILE a buffer, which libc frees if `allocated` is true (libio.h of glibc, before it
// became private in 2.28; the symbol stayed).
extern "C" void _IO_setb(FILE*, char* start, char* end, int allocated);

namespace tssx {
namespace {

// What stands behind every FILE (struct _IO_FILE_plus of glibc): which functions it has.
const void*& functions_of(FILE* file) noexcept { return *reinterpret_cast<const void**>(file + 1); }

// Those of fopencookie(3); known once there was one.
std::atomic<const void*> cookie_functions{nullptr};

}  // namespace

bool is_endpoint_file(FILE* file) noexcept {
  const void* functions = cookie_functions.load(std::memory_order_relaxed);
  // One that the application made by fopencookie(3) has no number.
  return functions != nullptr && functions_of(file) == functions &&
         (file->_fileno >= 0 || DescriptorTable::is_id(file->_fileno));
}

bool become_libc_file(FILE* file) noexcept {
  const int number = file->_fileno;
  const int kernel_fd = leave_to_kernel(number);
  // One of libc's own over the same number lends what fopencookie(3) does not set up, and stays for
  // ever, empty and without a number.
  FILE* model = real::fdopen(kernel_fd, "r+");
  if (model == nullptr) return false;
  model->_fileno = -1;
  file->_wide_data = model->_wide_data;
  file->_mode = 0;
  functions_of(file) = functions_of(model);
  note_file_number(number);
  return true;
}

void claim_number(int fd) noexcept {
  if (fd < 0) return;
  note_file_number(fd);
  if (table.find(fd).kind() == Kind::fresh) {
    table.set(fd, Slot(Kind::ordinary, nullptr));
  } else {
    leave_to_kernel(fd);
  }
}

}  // namespace tssx

namespace {

int number_of(void* cookie) noexcept {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(cookie));
}

void* cookie_of(int fd) noexcept { return reinterpret_cast<void*>(static_cast<std::intptr_t>(fd)); }

ssize_t cookie_read(void* cookie, char* buffer, size_t size) {
  return ::read(number_of(cookie), buffer, size);
}

// Short counts would be errors to stdio (fopencookie(3)): write all of it, as stdio's own does.
ssize_t cookie_write(void* cookie, const char* data, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t sent = ::write(number_of(cookie), data + done, size - done);
    if (sent < 0) return static_cast<ssize_t>(done);
    done += static_cast<size_t>(sent);
  }
  return static_cast<ssize_t>(done);
}

int cookie_seek(void*, off64_t*, int) {
  errno = ESPIPE;
  return -1;
}

int cookie_close(void* cookie) { return ::close(number_of(cookie)); }

bool is_ours(int fd) noexcept {
  EndpointRef endpoint(fd);
  return static_cast<bool>(endpoint);
}

// Will libc's own FILE do? What is plain stays so, but only a kernel number can be closed by libc.
bool is_left_to_libc(int fd) noexcept {
  EndpointRef endpoint(fd);
  return !endpoint || (fd >= 0 && endpoint.channel().is_plain());
}

// The mode as fopencookie(3) understands it: fdopen(3) looks at five characters at most, ignores
// what it does not know, and stops at the '+'. nullptr: not a mode.
const char* plain_mode(const char* mode) noexcept {
  if (*mode != 'r' && *mode != 'w' && *mode != 'a') return nullptr;
  bool both = false;
  for (int i = 1; i < 5 && mode[i] != '\0' && !both; ++i) both = mode[i] == '+';
  switch (*mode) {
    case 'r':
      return both ? "r+" : "r";
    case 'w':
      return both ? "w+" : "w";
    default:
      return both ? "a+" : "a";
  }
}

// Its buffer has the size that fstat(2) recommends, like that of any FILE; a cookie's would have
// BUFSIZ.
void set_buffer(FILE* file, int fd) noexcept {
  struct stat status {};
  if (::fstat(fd, &status) != 0 || status.st_blksize <= 0 || status.st_blksize >= BUFSIZ) return;
  auto* buffer = static_cast<char*>(::malloc(static_cast<size_t>(status.st_blksize)));
  if (buffer != nullptr) ::_IO_setb(file, buffer, buffer + status.st_blksize, 1);
}

FILE* open_file(int fd, const char* mode) noexcept {
  const char* how = plain_mode(mode);
  if (how == nullptr) {
    errno = EINVAL;
    return nullptr;
  }
  if (*how == 'a') {
    const int flags = ::fcntl(fd, F_GETFL);
    if ((flags & O_APPEND) == 0 && ::fcntl(fd, F_SETFL, flags | O_APPEND) == -1) return nullptr;
  }
  cookie_io_functions_t functions{};
  functions.read = cookie_read;
  functions.write = cookie_write;
  functions.seek = cookie_seek;
  functions.close = cookie_close;
  FILE* file = ::fopencookie(cookie_of(fd), how, functions);
  if (file == nullptr) return nullptr;
  cookie_functions.store(functions_of(file), std::memory_order_relaxed);
  file->_fileno = fd;  // what fileno(3) returns; a cookie's own functions never look at it
  set_buffer(file, fd);
  return file;
}

// libc is about to close the number of `file`, one of its own.
void release_number(FILE* file) noexcept {
  const int saved = errno;
  const int fd = real::fileno(file);
  if (fd >= 0) {
    forget_file_number(fd);
    forget_stale(fd);
  }
  errno = saved;
}

template <class Function>
FILE* reopen(Function function, const char* path, const char* mode, FILE* file) {
  if (is_endpoint_file(file)) {
    const int number = file->_fileno;
    ::fflush(file);
    ::__fpurge(file);  // what could not be written
    if (!become_libc_file(file)) return nullptr;
    if (number < 0) {
      // libc can't put the new file on an ID: it gets a number of its own.
      ::close(number);
      file->_fileno = -1;
    }
  }
  const int saved = errno;
  const int fd = real::fileno(file);
  errno = saved;
  const bool noted = is_file_number(fd);
  release_number(file);
  FILE* result = function(path, mode, file);
  if (result != nullptr && noted) note_file_number(fd);
  return result;
}

FILE* opened(FILE* file) noexcept {
  if (file != nullptr) forget_stale(file->_fileno);
  return file;
}

template <class Function>
int tell_number(Function function, FILE* file) noexcept {
  // libc's own would refuse a negative one.
  if (is_endpoint_file(file)) return file->_fileno;
  const int fd = function(file);
  if (table.size() != 0 && !is_file_number(fd)) claim_number(fd);
  return fd;
}

int print_to(int fd, const char* format, va_list arguments) {
  char* text = nullptr;
  const int size = ::vasprintf(&text, format, arguments);
  if (size < 0) return -1;
  const ssize_t written = cookie_write(cookie_of(fd), text, static_cast<size_t>(size));
  const int error = errno;
  ::free(text);
  errno = error;
  return written == size ? size : -1;
}

}  // namespace

TSSX_INTERPOSED FILE* fdopen(int fd, const char* mode) noexcept {
  real::ensure();
  if (!is_left_to_libc(fd)) return open_file(fd, mode);
  FILE* file = real::fdopen(fd, mode);
  if (file != nullptr && table.size() != 0) claim_number(fd);
  return file;
}

TSSX_INTERPOSED int fclose(FILE* file) {
  real::ensure();
  if (!is_endpoint_file(file)) release_number(file);
  return real::fclose(file);
}

TSSX_INTERPOSED int pclose(FILE* file) {
  real::ensure();
  release_number(file);
  return real::pclose(file);
}

TSSX_INTERPOSED FILE* freopen(const char* path, const char* mode, FILE* file) {
  real::ensure();
  return reopen(real::freopen, path, mode, file);
}

TSSX_INTERPOSED FILE* freopen64(const char* path, const char* mode, FILE* file) {
  real::ensure();
  return reopen(real::freopen64, path, mode, file);
}

TSSX_INTERPOSED FILE* fopen(const char* path, const char* mode) {
  real::ensure();
  return opened(real::fopen(path, mode));
}

TSSX_INTERPOSED FILE* fopen64(const char* path, const char* mode) {
  real::ensure();
  return opened(real::fopen64(path, mode));
}

TSSX_INTERPOSED FILE* tmpfile() {
  real::ensure();
  return opened(real::tmpfile());
}

TSSX_INTERPOSED FILE* tmpfile64() {
  real::ensure();
  return opened(real::tmpfile64());
}

TSSX_INTERPOSED int fileno(FILE* file) noexcept {
  real::ensure();
  return tell_number(real::fileno, file);
}

TSSX_INTERPOSED int fileno_unlocked(FILE* file) noexcept {
  real::ensure();
  return tell_number(real::fileno_unlocked, file);
}

TSSX_INTERPOSED int vdprintf(int fd, const char* format, va_list arguments) {
  real::ensure();
  return is_ours(fd) ? print_to(fd, format, arguments) : real::vdprintf(fd, format, arguments);
}

TSSX_INTERPOSED int dprintf(int fd, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = vdprintf(fd, format, arguments);
  va_end(arguments);
  return result;
}

TSSX_INTERPOSED int __vdprintf_chk(int fd, int flag, const char* format, va_list arguments) {
  real::ensure();
  return is_ours(fd) ? print_to(fd, format, arguments)
                     : real::__vdprintf_chk(fd, flag, format, arguments);
}

TSSX_INTERPOSED int __dprintf_chk(int fd, int flag, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = __vdprintf_chk(fd, flag, format, arguments);
  va_end(arguments);
  return result;
}
