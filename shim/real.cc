#include "shim/real.h"

#include <dlfcn.h>
#include <errno.h>

#include "core/sys.h"

namespace tssx::real {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#define TSSX_SYMBOL(name, room, why) decltype(&::name) name = nullptr;
#define TSSX_UNTOUCHED(name, why)
#include "shim/symbols.def"
#undef TSSX_SYMBOL
#undef TSSX_UNTOUCHED
#pragma GCC diagnostic pop

bool resolved = false;

namespace {

long answer(long result) noexcept {
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// What an allocator may call while dlsym() is at work.
ssize_t early_read(int fd, void* buffer, size_t size) {
  return answer(sys::call(SYS_read, fd, sys::word(buffer), static_cast<long>(size)));
}
ssize_t early_write(int fd, const void* buffer, size_t size) {
  return answer(sys::call(SYS_write, fd, sys::word(buffer), static_cast<long>(size)));
}
int early_close(int fd) { return static_cast<int>(answer(sys::close(fd))); }
int early_fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  const long argument = va_arg(arguments, long);
  va_end(arguments);
  return static_cast<int>(answer(sys::fcntl(fd, command, argument)));
}

int early_openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const long mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, int) : 0;
  va_end(arguments);
  return static_cast<int>(answer(sys::call(SYS_openat, folder, sys::word(path), flags, mode)));
}
int early_open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, int) : 0;
  va_end(arguments);
  return early_openat(AT_FDCWD, path, flags, mode);
}

template <class Function>
void find(Function& function, const char* name) noexcept {
  if (void* symbol = ::dlsym(RTLD_NEXT, name)) function = reinterpret_cast<Function>(symbol);
}

}  // namespace

void resolve() noexcept {
  if (read == nullptr) read = early_read;
  if (write == nullptr) write = early_write;
  if (close == nullptr) close = early_close;
  if (fcntl == nullptr) fcntl = early_fcntl;
  if (fcntl64 == nullptr) fcntl64 = early_fcntl;
  if (open == nullptr) open = early_open;
  if (open64 == nullptr) open64 = early_open;
  if (openat == nullptr) openat = early_openat;
  if (openat64 == nullptr) openat64 = early_openat;
  // From here on a nested call must not come back.
  resolved = true;
  const int saved = errno;
#define TSSX_SYMBOL(name, room, why) find(name, #name);
#define TSSX_UNTOUCHED(name, why)
#include "shim/symbols.def"
#undef TSSX_SYMBOL
#undef TSSX_UNTOUCHED
  errno = saved;
}

}  // namespace tssx::real
