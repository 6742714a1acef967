// A client that behaves, and looks at every byte that comes back.
//
//   hostile_client PATH SECONDS SEED
//
// Round trips of many sizes, on a connection that is made anew now and then. Prints their number
// and times; exit status 1 if a byte was wrong or a connection failed, 124 if an answer took a
// minute.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr unsigned kHangs = 60;
constexpr int kTripsOfOneConnection = 3000;

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
         static_cast<std::uint64_t>(now.tv_nsec);
}

std::uint64_t state = 0;
std::uint64_t random_number() {
  state ^= state << 13U;
  state ^= state >> 7U;
  state ^= state << 17U;
  return state;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "client: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

int connect_to(const char* path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("connect");
  return fd;
}

void round_trip(int fd, std::size_t size, std::uint64_t* position) {
  static std::vector<char> out(1U << 16U);
  static std::vector<char> in(1U << 16U);
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint64_t at = *position + i;
    out[i] = static_cast<char>(at * 131 + (at >> 8U) * 17);
  }
  *position += size;
  if (::write(fd, out.data(), size) != static_cast<ssize_t>(size)) fail("write");
  std::size_t got = 0;
  while (got < size) {
    const ssize_t n = ::read(fd, in.data() + got, size - got);
    if (n <= 0) fail(n == 0 ? "end of file" : "read");
    got += static_cast<std::size_t>(n);
  }
  if (std::memcmp(in.data(), out.data(), size) != 0) fail("a wrong byte came back");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const std::uint64_t end = now_ns() + std::strtoull(argv[2], nullptr, 10) * 1'000'000'000U;
  state = std::strtoull(argv[3], nullptr, 10) * 2 + 1;
  ::signal(SIGALRM, [](int) {
    static const char kText[] = "client: no answer for a minute\n";
    static_cast<void>(!::write(2, kText, sizeof kText - 1));
    ::_exit(124);
  });
  std::vector<std::uint32_t> times;
  std::uint64_t bytes = 0;
  std::uint64_t connections = 0;
  std::uint64_t begun = now_ns();
  while (begun < end) {
    const int fd = connect_to(argv[1]);
    ++connections;
    std::uint64_t position = random_number();
    for (int i = 0; i < kTripsOfOneConnection && begun < end; ++i) {
      ::alarm(kHangs);
      const std::uint64_t kind = random_number() % 16;
      const std::size_t size = kind == 0 ? 1 + random_number() % 60'000 : 1 + random_number() % 200;
      round_trip(fd, size, &position);
      const std::uint64_t now = now_ns();
      if (size <= 200)
        times.push_back(
            static_cast<std::uint32_t>(std::min<std::uint64_t>(now - begun, 0xffffffffU)));
      bytes += size;
      begun = now;
    }
    ::close(fd);
  }
  ::alarm(0);
  std::sort(times.begin(), times.end());
  if (times.empty()) fail("nothing was measured");
  std::printf(
      "client: %zu small round trips on %llu connections, %llu bytes compared, "
      "p50 %.1f us, p99 %.1f us, longest %.1f ms\n",
      times.size(), static_cast<unsigned long long>(connections),
      static_cast<unsigned long long>(bytes), times[times.size() / 2] / 1e3,
      times[times.size() / 100 * 99] / 1e3, times.back() / 1e6);
  return 0;
}
