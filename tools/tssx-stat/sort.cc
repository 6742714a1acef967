#include "tools/tssx-stat/sort.h"

#include <algorithm>
#include <tuple>

namespace tssx::stat_tool {
namespace {

template <typename Member>
double both_ways(const Connection& connection, Member member) {
  return static_cast<double>(connection.directions[0].*member) +
         static_cast<double>(connection.directions[1].*member);
}

double rate_of(const Connection& connection) {
  double rate = 0;
  for (const auto& way : connection.rates) rate += way ? way->bytes : 0;
  return rate;
}

// For the keys that begin with the largest.
double amount(const Connection& connection, SortKey key) {
  switch (key) {
    case SortKey::age:
      return connection.age_seconds;
    case SortKey::bytes:
      return both_ways(connection, &DirectionSnapshot::bytes);
    case SortKey::messages:
      return both_ways(connection, &DirectionSnapshot::messages);
    case SortKey::waiting:
      return both_ways(connection, &DirectionSnapshot::waiting);
    case SortKey::rate:
      return rate_of(connection);
    default:
      return 0;
  }
}

}  // namespace

void sort_connections(std::vector<Connection>& connections, SortKey key) {
  const auto usual = [](const Connection& a, const Connection& b) {
    return std::tie(a.path, b.age_seconds, a.id) < std::tie(b.path, a.age_seconds, b.id);
  };
  std::sort(connections.begin(), connections.end(), [&](const Connection& a, const Connection& b) {
    if (const double x = amount(a, key), y = amount(b, key); x != y) return x > y;
    if (key == SortKey::state && a.state != b.state) return a.state < b.state;
    if (key == SortKey::pid && a.parties[0].pid != b.parties[0].pid) {
      return a.parties[0].pid < b.parties[0].pid;
    }
    if (key == SortKey::program && a.parties[0].program != b.parties[0].program) {
      return a.parties[0].program < b.parties[0].program;
    }
    return usual(a, b);
  });
}

std::string_view to_string(SortKey key) {
  for (const SortName& name : kSortNames) {
    if (name.key == key) return name.name;
  }
  return "path";
}

}  // namespace tssx::stat_tool
