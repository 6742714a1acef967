#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "tools/tssx-bench/cell.h"

namespace tssx::bench {
namespace {

using Level = Cell::Level;

struct Size {
  const char* name;
  std::size_t bytes;
};

const std::initializer_list<const char*> kPlaces{"free", "two-cpus", "one-cpu"};

std::vector<MetricKind> latencies() {
  return {
      {"p50", "ns", Better::lower}, {"p99", "ns", Better::lower}, {"p99.9", "ns", Better::lower}};
}

Job pingpong(std::size_t size, std::string_view wait, std::string_view place) {
  Job job("pingpong");
  job.set("size", fmt::format("{}", size)).set("wait", std::string(wait));
  job.set("place", std::string(place)).set("pairs", "1").set("hog", "0");
  return job.set("pause", "0").set("work", "0");
}

void add_pingpong(std::vector<Cell>& cells) {
  const std::initializer_list<Size> sizes{
      {"64B", 64}, {"1B", 1}, {"1KiB", 1024}, {"8KiB", 8192}, {"64KiB", 65536}};
  for (const Size& size : sizes) {
    for (const std::string_view wait : {"blocking", "poll", "epoll-level", "epoll-edge"}) {
      for (const std::string_view place : kPlaces) {
        Level level = Level::rare;
        if (size.bytes == 64 || wait == "blocking") level = Level::usual;
        if (size.bytes == 64 && place != "free") level = Level::quick;
        if (size.bytes >= 8192 && wait == "blocking" && place == "two-cpus") level = Level::quick;
        cells.push_back({.name = fmt::format("pingpong/{}/{}/{}", size.name, wait, place),
                         .job = pingpong(size.bytes, wait, place),
                         .metrics = latencies(),
                         .level = level});
      }
    }
  }
}

void add_stream(std::vector<Cell>& cells) {
  const std::initializer_list<Size> sizes{
      {"64B", 64}, {"4KiB", 4096}, {"64KiB", 65536}, {"1MiB", 1048576}};
  for (const bool two_way : {false, true}) {
    for (const Size& size : sizes) {
      for (const std::string_view place : kPlaces) {
        Job job("stream");
        job.set("size", fmt::format("{}", size.bytes)).set("place", std::string(place));
        job.set("two-way", two_way ? "1" : "0");
        Level level = two_way ? Level::rare : Level::usual;
        if (two_way && size.bytes == 65536) level = Level::usual;
        if (!two_way && place != "free") level = Level::quick;
        cells.push_back(
            {.name = fmt::format("{}/{}/{}", two_way ? "stream-both" : "stream", size.name, place),
             .job = std::move(job),
             .metrics = {{"throughput", "GB/s", Better::higher}},
             .level = level});
      }
    }
  }
}

void add_epoll_server(std::vector<Cell>& cells) {
  for (const std::string_view busy : {"1", "8", "64", "1000"}) {
    for (const std::string_view place : {"two-cpus", "one-cpu"}) {
      Job job("epoll-server");
      job.set("busy", std::string(busy)).set("idle", "0").set("place", std::string(place));
      cells.push_back({.name = fmt::format("epoll-server/{}-busy/{}", busy, place),
                       .job = std::move(job),
                       .metrics = {{"time", "us", Better::lower}},
                       .level = busy == "1" ? Level::usual : Level::quick});
    }
  }
  Job job("epoll-server");
  job.set("busy", "1").set("idle", "9999").set("place", "two-cpus");
  cells.push_back({.name = "epoll-server/1-of-10000",
                   .job = std::move(job),
                   .metrics = {{"with-idle", "us", Better::lower}, {"alone", "us", Better::lower}},
                   .most_rounds = 2});
}

// Variants of the usual request and answer.
void add_loads(std::vector<Cell>& cells) {
  for (const std::string_view pairs : {"1", "2", "4", "16"}) {
    std::vector<MetricKind> metrics = latencies();
    metrics.push_back({"rate", "1/s", Better::higher});
    cells.push_back({.name = fmt::format("pairs/{}/free", pairs),
                     .job = pingpong(64, "blocking", "free").set("pairs", std::string(pairs)),
                     .metrics = std::move(metrics),
                     .level = pairs == "4" ? Level::quick : Level::usual});
  }
  for (const std::string_view place : {"one-cpu", "two-cpus"}) {
    cells.push_back({.name = fmt::format("hog/{}", place),
                     .job = pingpong(64, "blocking", place).set("hog", "1"),
                     .metrics = latencies(),
                     .level = Level::quick});
  }
  cells.push_back({.name = "paced/0.5ms",
                   .job = pingpong(64, "blocking", "free").set("pause", "0.0005"),
                   .metrics = {{"p50", "ns", Better::lower}, {"p99", "ns", Better::lower}},
                   .level = Level::quick,
                   .length = 2});
  cells.push_back({.name = "paced/10ms",
                   .job = pingpong(64, "blocking", "free").set("pause", "0.01"),
                   .metrics = {{"p50", "ns", Better::lower}, {"p99", "ns", Better::lower}},
                   .length = 4});
  for (const std::string_view place : {"free", "one-cpu"}) {
    cells.push_back({.name = fmt::format("work/20us/{}", place),
                     .job = pingpong(64, "blocking", place).set("work", "0.00002"),
                     .metrics = {{"p50", "ns", Better::lower}, {"p99", "ns", Better::lower}},
                     .level = place == "free" ? Level::quick : Level::usual});
  }
}

void add_connections(std::vector<Cell>& cells) {
  for (const std::string_view place : {"free", "one-cpu"}) {
    for (const bool asks : {true, false}) {
      Job job("short-connections");
      job.set("place", std::string(place)).set("requests", asks ? "1" : "0");
      cells.push_back(
          {.name = fmt::format("{}/{}", asks ? "connect-request-close" : "accept", place),
           .job = std::move(job),
           .metrics = {{"rate", "1/s", Better::higher}},
           .level = asks && place == "free" ? Level::quick : Level::usual,
           .sides = Cell::Sides::both});
    }
  }
  cells.push_back({.name = "fork/1000",
                   .job = Job("forks").set("connections", "1000"),
                   .metrics = {{"time", "us", Better::lower}}});
  cells.push_back({.name = "idle/1000",
                   .job = Job("idle").set("connections", "1000"),
                   .metrics = {{"cpu", "ms/s", Better::lower}},
                   .length = 20,
                   .most_rounds = 2});
  const auto kib = [](const char* name) { return MetricKind{name, "KiB", Better::lower}; };
  cells.push_back({.name = "memory/200",
                   .job = Job("memory").set("connections", "200"),
                   .metrics = {kib("idle-pss"), kib("idle-rss"), kib("idle-shmem"), kib("busy-pss"),
                               kib("busy-rss"), kib("busy-shmem"), kib("slab")},
                   .most_rounds = 3});
}

void add_calls(std::vector<Cell>& cells) {
  const auto calls = [](const char* name) { return Job("calls").set("call", name); };
  const std::vector<MetricKind> ns{{"time", "ns", Better::lower}};
  cells.push_back(
      {.name = "start-up/true", .job = calls("start"), .metrics = ns, .sides = Cell::Sides::both});
  for (const char* name : {"read", "write", "poll", "epoll_wait"}) {
    cells.push_back({.name = fmt::format("other/{}", name),
                     .job = calls(name),
                     .metrics = ns,
                     .level = Level::quick,
                     .sides = Cell::Sides::both});
  }
  const auto add_floor = [&](std::string name, Job job, MetricKind metric) {
    cells.push_back({.name = "floor/" + name,
                     .job = std::move(job),
                     .metrics = {std::move(metric)},
                     .level = Level::quick,
                     .sides = Cell::Sides::one});
  };
  add_floor("null-call", calls("null"), ns.front());
  add_floor("cache-line/two-cpus", Job("bounce"), ns.front());
  add_floor("yield/one-cpu", Job("yields"), ns.front());
  for (const Size& size : {Size{"4KiB", 4096}, Size{"64KiB", 65536}, Size{"1MiB", 1048576}}) {
    add_floor(fmt::format("copy/{}/two-cpus", size.name),
              Job("copies").set("size", fmt::format("{}", size.bytes)),
              {"throughput", "GB/s", Better::higher});
  }
}

}  // namespace

std::vector<Cell> all_cells() {
  std::vector<Cell> cells;
  add_pingpong(cells);
  add_stream(cells);
  add_epoll_server(cells);
  add_loads(cells);
  add_connections(cells);
  add_calls(cells);
  return cells;
}

std::vector<Cell> select_cells(std::vector<Cell> cells, const std::vector<std::string>& globs,
                               Cell::Level level) {
  const auto unwanted = [&](const Cell& cell) {
    if (globs.empty()) return cell.level > level;
    return std::none_of(globs.begin(), globs.end(), [&](const std::string& glob) {
      return ::fnmatch(glob.c_str(), cell.name.c_str(), 0) == 0;
    });
  };
  std::erase_if(cells, unwanted);
  return cells;
}

}  // namespace tssx::bench
