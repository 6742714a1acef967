// Bytes whose value follows from their position in the stream, so that a loss, a repetition or a
// swap anywhere is seen, and where.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace tssx_test {

// Bytes [offset, offset + size) of the stream number `seed`.
std::string pattern(std::size_t offset, std::size_t size, unsigned seed = 0);

// Whether `bytes` is what pattern(offset, bytes.size(), seed) gives; names the first difference.
testing::AssertionResult matches_pattern(std::string_view bytes, std::size_t offset,
                                         unsigned seed = 0);

}  // namespace tssx_test
