// An endpoint under attack: calls what an application would call, in the order that an input says,
// and looks after each call whether what came of it can be right.
//
// Thread safety: none.
#pragma once

#include "tests/core/support/endpoint.h"
#include "tests/fuzz/guard.h"
#include "tests/fuzz/input.h"

namespace tssx::fuzz {

class Victim {
 public:
  // Takes the descriptor over. Segments go where `place` is.
  Victim(int fd, Role role, const Nonce& nonce, GuardedSegment& place);
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim();

  void act(Input& script);
  test::Endpoint& endpoint() { return endpoint_; }
  Channel& channel() { return endpoint_.channel(); }
  // After anything that may have mapped a segment.
  void settle_segment() { place_.adopt(channel()); }

 private:
  void receive(Input& script, Peek peek);
  void send(Input& script);
  void send_by_kernel(Input& script);
  void ask(Input& script);
  void sleep(Input& script);
  void fork(Input& script);
  void leave(Input& script);
  void check_state();

  GuardedSegment& place_;
  test::Endpoint endpoint_;
  GuardedBuffer* buffers_;
  std::uint64_t capacity_ = 0;
  std::size_t sent_ = 0;
  int sleepers_ = 0;
  int extra_holders_ = 0;
};

}  // namespace tssx::fuzz
