#include "tools/tssx-bench/render_json.h"

#include <sched.h>
#include <sys/utsname.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "tools/tssx-bench/statistics.h"

namespace tssx::bench {
namespace {

using Json = nlohmann::ordered_json;

Json summary_json(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  const Summary summary = summarize(values);
  return {{"median", summary.median}, {"lowest", summary.lowest}, {"highest", summary.highest}};
}

Json side_json(const std::vector<double>& values) {
  Json json = summary_json(values);
  if (!json.is_null()) json["rounds"] = values;
  return json;
}

Json metric_json(const MetricResult& metric) {
  const MetricKind& kind = metric.kind;
  return {{"name", kind.name},
          {"unit", kind.unit},
          {"better", to_string(kind.better)},
          {"base", side_json(metric.base)},
          {"ours", side_json(metric.ours)},
          {"times_better", summary_json(times_better(metric.base, metric.ours, kind.better))}};
}

Json cell_json(const CellResult& result) {
  Json metrics = Json::array();
  for (const MetricResult& metric : result.metrics) metrics.push_back(metric_json(metric));
  Json json = {{"name", result.name}, {"metrics", std::move(metrics)}};
  if (!result.error.empty()) json["error"] = result.error;
  if (!result.skipped.empty()) json["skipped"] = result.skipped;
  return json;
}

}  // namespace

Machine this_machine() {
  Machine machine;
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    machine.cpus = static_cast<unsigned>(CPU_COUNT(&set));
  }
  utsname name{};
  if (::uname(&name) == 0) machine.system = std::string(name.sysname) + " " + name.release;
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      machine.processor = line.substr(colon + 2);
      break;
    }
  }
  return machine;
}

std::string render_json(const Machine& machine, const Plan& plan,
                        const std::vector<CellResult>& results) {
  Json cells = Json::array();
  for (const CellResult& result : results) cells.push_back(cell_json(result));
  const Json document = {
      {"machine",
       {{"cpus", machine.cpus}, {"system", machine.system}, {"processor", machine.processor}}},
      {"base", plan.base.name},
      {"ours", plan.ours.name},
      {"rounds", plan.rounds},
      {"seconds", plan.seconds},
      {"cells", std::move(cells)}};
  return document.dump(2, ' ', true, Json::error_handler_t::replace) + "\n";
}

}  // namespace tssx::bench
