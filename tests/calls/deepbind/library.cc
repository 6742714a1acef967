// What tests/calls/deepbind_test.cc loads with RTLD_DEEPBIND.
#include <unistd.h>

extern "C" ssize_t deepbind_read(int fd, void* buffer, size_t size) {
  return ::read(fd, buffer, size);
}

extern "C" ssize_t deepbind_write(int fd, const void* buffer, size_t size) {
  return ::write(fd, buffer, size);
}
