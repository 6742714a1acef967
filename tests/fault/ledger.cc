#include "tests/fault/ledger.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "tests/support/open_descriptors.h"

namespace fault {
namespace {

std::string process_name = "?";

}  // namespace

Ledger* map_ledger(const std::string& path, bool create) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
  if (fd < 0) blame("cannot open %s", path.c_str());
  if (create && ::ftruncate(fd, sizeof(Ledger)) != 0) blame("cannot size %s", path.c_str());
  void* at = ::mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (at == MAP_FAILED) blame("cannot map %s", path.c_str());
  return static_cast<Ledger*>(at);
}

void name_process(const std::string& name) { process_name = name; }

void blame(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "%s (%d): %s\n", process_name.c_str(), ::getpid(), text);
  std::fflush(stderr);
  ::_exit(1);
}

int mapped_segments() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:tssx-segment") != std::string::npos) ++count;
  }
  return count;
}

int open_sockets() { return tssx_test::count_open({"socket:", "/memfd:"}); }

}  // namespace fault
