#include "tools/tssx-stat/sample.h"

#include <algorithm>
#include <ctime>
#include <functional>
#include <map>
#include <utility>

#include "tools/tssx-stat/proc_file.h"
#include "tools/tssx-stat/segment_reader.h"

namespace tssx::stat_tool {
namespace {

struct FoundEnd {
  const FoundPage* page;
  EndSnapshot end;
};

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// The first bytes of a page, from whoever maps it and may be read.
bool read_page(const FoundPage& found, std::span<std::uint8_t> to) {
  return std::any_of(found.mappers.begin(), found.mappers.end(), [to](const Mapper& mapper) {
    return read_memory(mapper.pid, mapper.address, to) == ReadOutcome::ok;
  });
}

// The start of each small page that can be read.
void read_records(const Scan& scan,
                  const std::function<void(const FoundPage& found, const Page& page)>& visit) {
  std::vector<Mapper> firsts;
  for (const FoundPage& found : scan.pages) firsts.push_back(found.mappers.front());
  Page alone{};
  read_pages(firsts, [&](std::size_t i, const Page* page) {
    const FoundPage& found = scan.pages[i];
    if (page != nullptr) {
      visit(found, *page);
    } else if (read_page(found, alone)) {
      visit(found, alone);
    }
  });
}

bool share_a_process(const FoundPage& page, const Connection& connection) {
  return std::any_of(page.mappers.begin(), page.mappers.end(), [&](const Mapper& mapper) {
    return std::find(connection.mappers.begin(), connection.mappers.end(), mapper.pid) !=
           connection.mappers.end();
  });
}

KernelEnd kernel_end(const FoundEnd& found, const ProcessTable& processes, std::uint64_t now) {
  KernelEnd result;
  for (const Mapper& mapper : found.page->mappers) result.owners.push_back(mapper.pid);
  result.party.pid = result.owners.empty() ? 0 : result.owners.front();
  if (const auto process = processes.find(result.party.pid); process != processes.end()) {
    result.party.program = process->second.program;
    result.party.user = process->second.user;
  }
  result.end = found.end;
  result.end.path = shown_path(found.end.path);
  const std::uint64_t created = found.end.created_ns;
  result.age_seconds = created < now ? static_cast<double>(now - created) / 1e9 : 0.0;
  return result;
}

// Gives each end to its connection. A nonce is copied easily: only an end in a process that maps
// the segment belongs to it.
void join(Report& report, const std::vector<FoundEnd>& ends, const ProcessTable& processes,
          std::uint64_t now) {
  std::multimap<NonceBytes, Connection*> by_nonce;
  for (Connection& connection : report.connections) by_nonce.emplace(connection.nonce, &connection);
  for (const FoundEnd& found : ends) {
    const auto [first, last] = by_nonce.equal_range(found.end.nonce);
    const auto home = std::find_if(first, last, [&](const auto& entry) {
      return share_a_process(*found.page, *entry.second);
    });
    if (home != last) {
      home->second->ends[static_cast<std::size_t>(found.end.role)] = found.end;
    } else {
      report.kernel_ends.push_back(kernel_end(found, processes, now));
    }
  }
}

double per_second(std::uint64_t now, std::uint64_t before, double seconds) {
  return now > before ? static_cast<double>(now - before) / seconds : 0.0;
}

}  // namespace

std::optional<Gathered> gather() {
  const UniqueFd proc = open_proc();
  if (!proc) return std::nullopt;
  std::optional<Scan> scan = scan_processes(proc.get());
  if (!scan) return std::nullopt;
  ProcessTable processes = identify_processes(proc.get(), *scan);
  return Gathered{*std::move(scan), std::move(processes)};
}

Report take_sample(Gathered& gathered) {
  Report report;
  std::vector<FoundEnd> ends;
  Scan& scan = gathered.scan;
  const ReadSegments segments = read_segments(scan);
  report.unrecognized = segments.unrecognized;
  read_records(scan, [&](const FoundPage& found, const Page& page) {
    const RecordKind kind = kind_of_record(page);
    if (kind == RecordKind::other_version) ++report.other_versions;
    if (kind != RecordKind::end) return;
    if (auto end = parse_end(page)) ends.push_back({&found, *std::move(end)});
  });
  // Described only now: reading may have added to the hidden.
  const Surroundings surroundings{gathered.processes, scan.hidden, scan.complete, now_ns()};
  for (const ReadSegment& read : segments.all) {
    report.connections.push_back(describe(*read.found, read.snapshot, surroundings));
  }
  join(report, ends, gathered.processes, surroundings.now_ns);
  report.hidden_processes = scan.hidden.size();
  return report;
}

void add_rates(Report& now, const Report& before, double seconds) {
  if (seconds <= 0) return;
  std::map<SegmentId, const Connection*> old;
  for (const Connection& connection : before.connections) old.emplace(connection.id, &connection);
  for (Connection& connection : now.connections) {
    const auto found = old.find(connection.id);
    if (found == old.end()) continue;
    for (std::size_t way = 0; way < connection.rates.size(); ++way) {
      const DirectionSnapshot& new_way = connection.directions[way];
      const DirectionSnapshot& old_way = found->second->directions[way];
      connection.rates[way] = Rate{per_second(new_way.bytes, old_way.bytes, seconds),
                                   per_second(new_way.messages, old_way.messages, seconds)};
    }
  }
}

Settings read_settings(Gathered& gathered) {
  Settings all;
  std::vector<std::uint8_t> bytes;
  read_records(gathered.scan, [&](const FoundPage& found, const Page& page) {
    if (kind_of_record(page) == RecordKind::other_version) {
      for (const Mapper& mapper : found.mappers) all.other_version.insert(mapper.pid);
    }
    const std::size_t size = process_record_size(page);
    if (size == 0 || size > found.size) return;
    bytes.assign(page.begin(), page.end());
    if (size > bytes.size()) {
      bytes.resize(size);
      if (!read_page(found, bytes)) return;
    }
    if (const auto settings = parse_process(bytes)) {
      for (const Mapper& mapper : found.mappers) all.known.insert_or_assign(mapper.pid, *settings);
    }
  });
  return all;
}

}  // namespace tssx::stat_tool
