// stdio over an endpoint.
//
// A FILE reads and writes inside libc, where no symbol table is consulted. So fdopen(3) over an
// endpoint makes a FILE of fopencookie(3), whose functions are ours, with the descriptor's number
// where fileno(3) looks for it.

#include <errno.h>
#include <stdlib.h>

#include <cstring>

#include "shim/descriptor_table.h"
#include "shim/real.h"
#include "shim/stream_io.h"

using namespace tssx;

namespace {

int number_of(void* cookie) noexcept {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(cookie));
}

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
  // A plain one too: fclose(3) inside libc would close its number behind our back.
  return static_cast<bool>(endpoint);
}

int print_to(int fd, const char* format, va_list arguments) {
  char* text = nullptr;
  const int size = ::vasprintf(&text, format, arguments);
  if (size < 0) return -1;
  const ssize_t written = cookie_write(reinterpret_cast<void*>(static_cast<std::intptr_t>(fd)),
                                       text, static_cast<size_t>(size));
  const int error = errno;
  ::free(text);
  errno = error;
  return written == size ? size : -1;
}

}  // namespace

TSSX_INTERPOSED FILE* fdopen(int fd, const char* mode) noexcept {
  real::ensure();
  if (!is_ours(fd)) return real::fdopen(fd, mode);
  if (*mode != 'r' && *mode != 'w' && *mode != 'a') {
    errno = EINVAL;
    return nullptr;
  }
  cookie_io_functions_t functions{};
  functions.read = cookie_read;
  functions.write = cookie_write;
  functions.seek = cookie_seek;
  functions.close = cookie_close;
  FILE* file =
      ::fopencookie(reinterpret_cast<void*>(static_cast<std::intptr_t>(fd)), mode, functions);
  if (file == nullptr) return nullptr;
  file->_fileno = fd;  // what fileno(3) returns; a cookie's own functions never look at it
  if (std::strchr(mode, 'e') != nullptr) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return file;
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
