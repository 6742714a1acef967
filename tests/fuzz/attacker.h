// The other end of a victim's connection, in the hands of somebody who says what he likes: any
// bytes, with any descriptors, and anything in the memory that both share.
//
// Thread safety: none.
#pragma once

#include <array>

#include "core/segment.h"
#include "tests/fuzz/input.h"

namespace tssx::fuzz {

class Attacker {
 public:
  // Takes the descriptor over. `role` is the one he plays.
  Attacker(int fd, Role role, const Nonce& nonce);
  Attacker(const Attacker&) = delete;
  Attacker& operator=(const Attacker&) = delete;
  ~Attacker();

  void act(Input& script);

 private:
  void say(Input& script);
  void send_descriptors(Input& script);
  void listen();
  void take_segment(int fd);
  int make_descriptor(Input& script);
  int make_segment(Input& script);
  int make_token(Input& script);
  Nonce some_nonce(Input& script) const;

  int fd_;
  Role role_;
  Nonce nonce_;
  SegmentPage* page_ = nullptr;  // of the last segment that was seen, or offered
  std::uint64_t capacity_ = 0;
  std::size_t said_ = 0;
};

}  // namespace tssx::fuzz
