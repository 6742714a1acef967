// What a second descriptor for the same open file description means for the table.
#pragma once

#include "shim/descriptor_table.h"

namespace tssx {

// Around the call by which the kernel makes a duplicate of `from` (a number or an ID). What that
// stands for is held meanwhile: another thread may close it.
class Duplication {
 public:
  explicit Duplication(int from) noexcept;
  // The kernel has just made `to` its duplicate; nothing if `to` is negative.
  void note(int to) noexcept;

 private:
  int from_;
  EndpointRef endpoint_;
};

}  // namespace tssx
