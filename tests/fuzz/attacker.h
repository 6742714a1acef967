// The other end of a victim's connection, in the hands of somebody who says what he likes: any
// bytes, with any descriptors, and anything in the memory that both share.
//
// Thread safety: none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/segment.h"
#include "tests/fuzz/input.h"

namespace tssx::fuzz {

class Attacker {
 public:
  // What all of them did.
  struct Counts {
    std::uint64_t bytes = 0;        // sent on sockets, in messages without descriptors
    std::uint64_t descriptors = 0;  // sent with messages
    std::uint64_t offers = 0;       // segments that they made
    std::uint64_t cuts = 0;         // tokens
    std::uint64_t words = 0;        // written to shared pages
    std::uint64_t segments = 0;     // of victims, that they mapped
  };
  static Counts counts;

  // Takes the descriptor over. `role` is the one he plays.
  Attacker(int fd, Role role, const Nonce& nonce);
  Attacker(const Attacker&) = delete;
  Attacker& operator=(const Attacker&) = delete;
  ~Attacker();

  void act(Input& script);
  // Reads what the victim said. A segment among it is his to write to.
  void listen();
  void say(Input& script);
  void send_descriptors(Input& script);
  void cut(TokenKind kind);
  void write_word(Input& script);
  // The last segment that was seen, or offered; all of it.
  SegmentPage* page() const { return page_; }
  std::uint64_t capacity() const { return capacity_; }
  int fd() const { return fd_; }

 private:
  void take_segment(int fd);
  int make_descriptor(Input& script);
  int make_segment(Input& script);
  int make_token(Input& script);
  Nonce some_nonce(Input& script) const;

  int fd_;
  Role role_;
  Nonce nonce_;
  SegmentPage* page_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::size_t mapped_ = 0;
  std::size_t said_ = 0;
};

}  // namespace tssx::fuzz
