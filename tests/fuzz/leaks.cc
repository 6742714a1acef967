#include "tests/fuzz/leaks.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "core/presence.h"
#include "core/rendezvous.h"
#include "tests/fuzz/guard.h"

namespace tssx::fuzz {
namespace {

constexpr unsigned kLookAtMapsEvery = 1024;
constexpr int kWatched = 40;

// What is left open stays near the lowest numbers.
int count_open() {
  int open = 0;
  for (int fd = 0; fd < kWatched; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) ++open;
  }
  return open;
}

bool maps_a_segment() {
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    if (line.find("/memfd:") != std::string::npos) return true;
  }
  return false;
}

}  // namespace

LeakCheck::LeakCheck() : open_(count_open()) {}

LeakCheck::~LeakCheck() {
  check(count_open() == open_, "a descriptor was left open");
  static unsigned runs = 0;
  if (runs++ % kLookAtMapsEvery == 0) check(!maps_a_segment(), "a segment is still mapped");
}

Nonce test_nonce() {
  Nonce nonce{};
  check(make_nonce(&nonce), "no nonce");
  return nonce;
}

}  // namespace tssx::fuzz
