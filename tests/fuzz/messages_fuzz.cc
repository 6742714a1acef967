// Messages of ours as a stranger may send them: what a Channel makes of bytes with descriptors.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/rendezvous.h"
#include "tests/fuzz/attacker.h"
#include "tests/fuzz/leaks.h"
#include "tests/fuzz/stopped_clock.h"
#include "tests/fuzz/victim.h"

using namespace tssx;
using namespace tssx::fuzz;

namespace {

// What a peer is called, as accept(2) tells it.
void parse_name(Input& script) {
  sockaddr_un name{};
  const auto length = static_cast<socklen_t>(script.byte() % (sizeof name + 1));
  Nonce nonce{};
  name.sun_family = script.byte() < 250 ? AF_UNIX : AF_UNSPEC;
  if (script.byte() % 2 == 0) make_mark(nonce, &name);
  script.fill(reinterpret_cast<std::uint8_t*>(name.sun_path),
              std::min(script.left(), sizeof name.sun_path));
  sockaddr_un again{};
  if (parse_mark(name, length, &nonce) == Mark::ours) {
    check(make_mark(nonce, &again) == length, "a mark of another length");
    check(std::memcmp(again.sun_path, name.sun_path, length - sizeof(sa_family_t)) == 0,
          "another mark");
  }
}

}  // namespace

// Input: the victim's role; then for each step who acts, and how.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Nonce nonce = test_nonce();
  static GuardedSegment place;
  const LeakCheck leaks;
  Input script(data, size);
  const std::uint8_t what = script.byte();
  if (what == 255) {
    parse_name(script);
    return 0;
  }
  const Role role = what % 2 == 0 ? Role::client : Role::server;
  int fds[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "no sockets");
  const StoppedClock clock;
  Victim victim(fds[0], role, nonce, place);
  Attacker attacker(fds[1], role == Role::client ? Role::server : Role::client, nonce);
  while (!script.empty()) {
    if (script.byte() % 2 == 0) {
      victim.act(script);
    } else {
      attacker.act(script);
    }
  }
  return 0;
}
