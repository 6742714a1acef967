#!/usr/bin/env bash
# The library beside preloaded allocators, before and behind them: connections move to shared memory
# and everything works. Allocators are called before any constructor, call libc themselves, and see
# every dlsym(); one of our own makes calls that we interpose in each malloc().
set -euo pipefail
: "${TSSX_LIB:?}" "${TSSX_BUILD:?}"
unset USE_TSSX TSSX_IDS LD_PRELOAD
export LC_ALL=C

tests=$TSSX_BUILD/tests/call_tests
[[ -x $tests ]] || { echo "no $tests"; exit 1; }
work=$(mktemp -d "${TMPDIR:-/tmp}/tssx-allocators.XXXXXX")
trap 'rm -rf "$work"' EXIT

cat >"$work/nosy.cc" <<'EOF'
// Gives out memory in pieces and takes none back; looks at files whenever it is asked for some.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>

namespace {
thread_local bool looking __attribute__((tls_model("initial-exec"))) = false;

void look() {
  if (looking) return;
  looking = true;
  const int saved = errno;
  const int fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    char bytes[64];
    struct stat status;
    const bool good = ::read(fd, bytes, sizeof bytes) > 0 && ::fstat(fd, &status) == 0 &&
                      ::fcntl(fd, F_GETFD) == FD_CLOEXEC && ::lseek(fd, 0, SEEK_SET) == 0;
    if (::close(fd) != 0 || !good) ::_exit(66);
  }
  errno = saved;
  looking = false;
}

void* take(std::size_t size, std::size_t alignment) {
  static char* const memory = static_cast<char*>(
      ::mmap(nullptr, std::size_t{1} << 36U, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  static std::atomic<std::size_t> used{0};
  const std::size_t start = used.fetch_add(size + alignment + 32);
  std::size_t at = (start + 16 + alignment - 1) / alignment * alignment;
  ::memcpy(memory + at - sizeof size, &size, sizeof size);
  return memory + at;
}
}  // namespace

extern "C" {
void* malloc(std::size_t size) { look(); return take(size, 16); }
void* calloc(std::size_t count, std::size_t size) { look(); return take(count * size, 16); }
void* memalign(std::size_t alignment, std::size_t size) { return take(size, alignment); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return take(size, alignment); }
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  *out = take(size, alignment);
  return 0;
}
void free(void*) {}
void* realloc(void* old, std::size_t size) {
  look();
  void* made = take(size, 16);
  if (old != nullptr) {
    std::size_t before;
    ::memcpy(&before, static_cast<char*>(old) - sizeof before, sizeof before);
    ::memcpy(made, old, before < size ? before : size);
  }
  return made;
}
}
EOF
"${CXX:-g++}" -std=c++20 -O1 -fno-builtin -shared -fPIC -o "$work/libnosy.so" "$work/nosy.cc"

failed=0
count=0
skipped=()
# Those that loaded, so that a preload that the linker only warns about is no success.
loaded() {
  local maps
  maps=$(LD_PRELOAD=$1 cat /proc/self/maps 2>/dev/null)
  [[ $maps == *"$(basename "$2")"* ]]
}
try() { # try <order> <command...>
  local order=$1
  shift
  count=$((count + 1))
  if ! LD_PRELOAD=$order USE_TSSX='*' TSSX_TEST_PRELOADED=1 "$@" >"$work/out" 2>&1; then
    echo "fails with LD_PRELOAD=$order: $*"
    tail -n 20 "$work/out"
    failed=1
  fi
}

cases='Read.*/Warm*:Write.*/Warm*:Fork.*/WarmServer:Stdio.*/WarmClient:Exec.ByPosixSpawn*:Epoll.*Edge*'
for allocator in libjemalloc.so.2 libtcmalloc_minimal.so.4 libmimalloc.so.2.0 "$work/libnosy.so"; do
  if ! loaded "$allocator" "$allocator"; then
    skipped+=("$allocator")
    continue
  fi
  for order in "$allocator:$TSSX_LIB" "$TSSX_LIB:$allocator"; do
    loaded "$order" "$TSSX_LIB" && loaded "$order" "$allocator" ||
      { echo "not both are loaded: $order"; failed=1; }
    try "$order" "$tests" --gtest_filter="$cases" --gtest_brief=1
    if command -v python3 >/dev/null; then
      try "$order" python3 - "$work/socket" <<'EOF'
import os, socket, sys, threading
path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX); listener.bind(path); listener.listen(8)
def serve(connection):
    with connection:
        while data := connection.recv(1 << 16): connection.sendall(data)
def accept():
    for _ in range(4): threading.Thread(target=serve, args=listener.accept()[:1]).start()
acceptor = threading.Thread(target=accept); acceptor.start()
def talk(number):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        for size in [10] * 50 + [100000] * 5:
            data = bytes([number]) * size
            client.sendall(data)
            got = b""
            while len(got) < size: got += client.recv(size - len(got))
            assert got == data
clients = [threading.Thread(target=talk, args=(i,)) for i in range(4)]
for client in clients: client.start()
for client in clients: client.join()
acceptor.join(); os.unlink(path)
EOF
    fi
  done
done

echo "$count runs; not installed: ${skipped[*]:-none}"
((failed)) && exit 1
# With the package of one of them missing, this was not the whole test.
((${#skipped[@]} == 0)) || exit 77
