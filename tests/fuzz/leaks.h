// Descriptors and segments that an input left behind.
//
// Thread safety: none.
#pragma once

#include "core/segment.h"

namespace tssx::fuzz {

// Fails at its end if more descriptors are open than at its beginning, or, looked at now and then,
// if a segment is still mapped.
class LeakCheck {
 public:
  LeakCheck();
  LeakCheck(const LeakCheck&) = delete;
  LeakCheck& operator=(const LeakCheck&) = delete;
  ~LeakCheck();

 private:
  int open_;
};

// The nonce of all connections of a fuzzer. Its presence takes a descriptor that stays.
Nonce test_nonce();

}  // namespace tssx::fuzz
