// A value or an errno: what core's fallible set-up calls return.
//
// Thread safety: a plain value. Outcomes such as "would block" or "end of file" are not errors and
// have types of their own (see channel.h).
#pragma once

#include <utility>

namespace tssx {

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) noexcept : value_(std::move(value)) {}  // NOLINT: implicit by intent
  static Result failure(int error) noexcept {
    Result result{T{}};
    result.error_ = error;
    return result;
  }

  explicit operator bool() const noexcept { return error_ == 0; }
  int error() const noexcept { return error_; }
  T& value() noexcept { return value_; }
  const T& value() const noexcept { return value_; }

 private:
  T value_;
  int error_ = 0;
};

}  // namespace tssx
