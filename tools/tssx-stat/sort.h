// The order in which connections are shown.
//
// Thread safety: pure functions.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "tools/tssx-stat/connection.h"

namespace tssx::stat_tool {

enum class SortKey { path, age, bytes, messages, rate, waiting, state, pid, program };

struct SortName {
  std::string_view name;
  SortKey key;
};
inline constexpr std::array kSortNames{
    SortName{"path", SortKey::path},       SortName{"age", SortKey::age},
    SortName{"bytes", SortKey::bytes},     SortName{"messages", SortKey::messages},
    SortName{"rate", SortKey::rate},       SortName{"waiting", SortKey::waiting},
    SortName{"state", SortKey::state},     SortName{"pid", SortKey::pid},
    SortName{"program", SortKey::program},
};

// Names and numbers of processes upwards, everything that is counted from the largest down; equal
// ones by path, age and ID.
void sort_connections(std::vector<Connection>& connections, SortKey key);

[[nodiscard]] std::string_view to_string(SortKey key);

}  // namespace tssx::stat_tool
