// A connection in the ring whose peer writes to the shared words at the moments and in the ways
// that the input says: also between a check and the use of what was checked.
#include <sys/socket.h>

#include <cstdint>

#include "tests/fuzz/leaks.h"
#include "tests/fuzz/mutator.h"
#include "tests/fuzz/stopped_clock.h"
#include "tests/fuzz/victim.h"

using namespace tssx;
using namespace tssx::fuzz;

namespace {

void ping(test::Endpoint& from, test::Endpoint& to) {
  char byte = 0;
  from.try_send("p");
  to.try_receive(&byte, 1);
}

}  // namespace

// Input: who is the victim; the length of the script for the words; that script; then the steps.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Nonce nonce = test_nonce();
  static GuardedSegment places[2];
  const LeakCheck leaks;
  Input script(data, size);
  const std::size_t victim = script.byte() % 2;
  Input words = script.split(script.half() % 512);
  int fds[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "no sockets");
  const StoppedClock clock;
  Victim server(fds[0], Role::server, nonce, places[0]);
  Victim client(fds[1], Role::client, nonce, places[1]);
  Victim* const ends[] = {&server, &client};
  for (int i = 0; i < 12; ++i) {
    ping(server.endpoint(), client.endpoint());
    ping(client.endpoint(), server.endpoint());
  }
  check(server.endpoint().sends_to_ring() && client.endpoint().sends_to_ring() &&
            server.endpoint().receives_from_ring() && client.endpoint().receives_from_ring(),
        "the connection is not in the ring");
  server.settle_segment();
  client.settle_segment();

  SegmentPage& page = *ends[victim]->channel().view().page;
  const std::uint64_t capacity = ends[victim]->channel().view().capacity;
  Mutator mutator(places[victim], page, capacity, words);
  while (!script.empty()) {
    const std::uint8_t who = script.byte();
    if (who < 160) {
      ends[victim]->act(script);
    } else if (who < 224) {
      ends[1 - victim]->act(script);
    } else {
      scribble(page, capacity, script);
    }
  }
  return 0;
}
