#include "tools/tssx-stat/filter.h"

#include <algorithm>

#include "tools/tssx-stat/glob.h"

namespace tssx::stat_tool {
namespace {

bool is_among(const std::vector<pid_t>& pids, pid_t pid) {
  return std::find(pids.begin(), pids.end(), pid) != pids.end();
}

bool names(const Options& options, const std::string& path) {
  return options.globs.empty() ||
         std::any_of(options.globs.begin(), options.globs.end(),
                     [&](const std::string& glob) { return matches(glob, path); });
}

bool is_wanted(const Connection& connection, const Options& options) {
  const auto holds = [&](pid_t pid) {
    return connection.parties[0].pid == pid || connection.parties[1].pid == pid ||
           is_among(connection.mappers, pid);
  };
  return (options.pids.empty() || std::any_of(options.pids.begin(), options.pids.end(), holds)) &&
         names(options, connection.path);
}

bool is_wanted(const KernelEnd& end, const Options& options) {
  const auto holds = [&](pid_t pid) { return is_among(end.owners, pid); };
  return (options.pids.empty() || std::any_of(options.pids.begin(), options.pids.end(), holds)) &&
         names(options, end.end.path);
}

}  // namespace

void apply_filters(Report& report, const Options& options) {
  std::erase_if(report.connections,
                [&](const Connection& connection) { return !is_wanted(connection, options); });
  std::erase_if(report.kernel_ends, [&](const KernelEnd& end) { return !is_wanted(end, options); });
  sort_connections(report.connections, options.sort.value_or(SortKey::path));
}

}  // namespace tssx::stat_tool
