#include "tools/tssx-stat/connection.h"

#include <algorithm>
#include <limits>

namespace tssx::stat_tool {
namespace {

constexpr int kNobody = -1;

pid_t to_pid(std::uint32_t value) {
  constexpr auto kMax = static_cast<std::uint32_t>(std::numeric_limits<pid_t>::max());
  return value <= kMax ? static_cast<pid_t>(value) : 0;
}

// The process now at the side, as far as the segment says.
pid_t claimed_pid(const SideSnapshot& side) {
  const pid_t current = to_pid(side.pid);
  return current != 0 ? current : to_pid(side.original_pid);
}

// Assigns mappers to the two sides, by ever weaker evidence.
class Matcher {
 public:
  Matcher(const FoundSegment& segment, const SegmentSnapshot& snapshot,
          const ProcessTable& processes)
      : segment_(segment), snapshot_(snapshot), processes_(processes) {}

  std::array<int, 2> run() {
    // A number may mean different processes to different readers, hence free ones first; a program
    // that talks to itself is on both sides, hence then the taken ones.
    for (const bool free_only : {true, false}) {
      by_claim(free_only, &SideSnapshot::pid, &Matcher::is);
      by_claim(free_only, &SideSnapshot::pid, &Matcher::is_inside);
      by_claim(free_only, &SideSnapshot::original_pid, &Matcher::is);
      by_claim(free_only, &SideSnapshot::original_pid, &Matcher::is_inside);
    }
    by_claim(true, &SideSnapshot::pid, &Matcher::is_child);
    by_claim(true, &SideSnapshot::original_pid, &Matcher::is_child);
    by_surplus();
    return taken_;
  }

 private:
  using Test = bool (Matcher::*)(pid_t mapper, pid_t claim) const;

  bool is(pid_t mapper, pid_t claim) const { return mapper == claim; }
  bool is_inside(pid_t mapper, pid_t claim) const {
    const auto process = processes_.find(mapper);
    return process != processes_.end() && process->second.inner_pid == claim;
  }
  // Inherited by fork and not used yet.
  bool is_child(pid_t mapper, pid_t claim) const {
    const auto process = processes_.find(mapper);
    return process != processes_.end() && process->second.parent == claim;
  }

  void by_claim(bool free_only, std::uint32_t SideSnapshot::*member, Test test) {
    for (std::size_t side = 0; side < taken_.size(); ++side) {
      const pid_t claim = to_pid(snapshot_.sides[side].*member);
      if (taken_[side] != kNobody || claim == 0) continue;
      for (int i = 0; i < mapper_count() && taken_[side] == kNobody; ++i) {
        if (free_only && is_taken(i)) continue;
        if ((this->*test)(segment_.mappers[static_cast<std::size_t>(i)].pid, claim)) {
          taken_[side] = i;
        }
      }
    }
  }

  // One side is unknown, and more processes are left than the other side counts as its holders.
  void by_surplus() {
    const std::size_t known = taken_[0] != kNobody ? 0 : 1;
    const std::size_t unknown = 1 - known;
    if (taken_[known] == kNobody || taken_[unknown] != kNobody) return;
    const std::uint32_t holders = std::max(snapshot_.sides[known].holders, 1U);
    if (segment_.mappers.size() <= holders) return;
    taken_[unknown] = taken_[known] == 0 ? 1 : 0;
  }

  bool is_taken(int mapper) const { return taken_[0] == mapper || taken_[1] == mapper; }
  int mapper_count() const { return static_cast<int>(segment_.mappers.size()); }

  const FoundSegment& segment_;
  const SegmentSnapshot& snapshot_;
  const ProcessTable& processes_;
  std::array<int, 2> taken_{kNobody, kNobody};
};

Party party_at(const SideSnapshot& side, pid_t found, const Surroundings& surroundings) {
  Party party;
  party.holders = side.holders;
  party.pid = found != 0 ? found : claimed_pid(side);
  if (found == 0 && !surroundings.hidden.contains(party.pid)) return party;
  const auto process = surroundings.processes.find(party.pid);
  if (process == surroundings.processes.end()) return party;
  party.program = process->second.program;
  party.user = process->second.user;
  return party;
}

// Whether a process that the caller can't look at may be the one that goes by this number.
bool may_be_hidden(std::uint32_t number, const Surroundings& surroundings) {
  const pid_t claim = to_pid(number);
  if (claim == 0) return false;
  return std::any_of(surroundings.hidden.begin(), surroundings.hidden.end(), [&](pid_t pid) {
    if (pid == claim) return true;
    const auto process = surroundings.processes.find(pid);
    return process != surroundings.processes.end() &&
           (process->second.inner_pid == claim || process->second.parent == claim);
  });
}

// A side that nobody maps is gone, unless its process may be where the caller can't look: hidden,
// or in a pid namespace that even the creator could not see into.
bool is_missing(const SegmentSnapshot& snapshot, const std::array<int, 2>& at,
                const Surroundings& surroundings) {
  if (!surroundings.complete) return false;
  for (std::size_t i = 0; i < at.size(); ++i) {
    const SideSnapshot& side = snapshot.sides[i];
    if (at[i] == kNobody && side.original_pid != 0 && !may_be_hidden(side.pid, surroundings) &&
        !may_be_hidden(side.original_pid, surroundings)) {
      return true;
    }
  }
  return false;
}

double age_of(std::uint64_t created_ns, std::uint64_t now_ns) {
  return created_ns < now_ns ? static_cast<double>(now_ns - created_ns) / 1e9 : 0.0;
}

}  // namespace

std::string shown_path(std::string path) {
  if (!path.empty() && path[0] == '\0') path[0] = '@';
  return path;
}

std::string_view descriptors_of(const Connection& connection) {
  const auto& server = connection.ends[static_cast<std::size_t>(Role::server)];
  if (!server) return "unknown";
  return server->negative ? "negative" : "kernel";
}

std::string_view to_string(State state) {
  switch (state) {
    case State::offered:
      return "offered";
    case State::withdrawn:
      return "withdrawn";
    case State::handshake:
      return "handshake";
    case State::ring:
      return "ring";
    case State::mixed:
      return "mixed";
    case State::kernel:
      return "kernel";
    case State::closing:
      return "closing";
    case State::damaged:
      break;
  }
  return "damaged";
}

std::string_view to_string(DirectionMode mode) {
  switch (mode) {
    case DirectionMode::kernel:
      return "kernel";
    case DirectionMode::ring:
      return "ring";
    case DirectionMode::moving:
      return "moving";
    case DirectionMode::unknown:
      break;
  }
  return "unknown";
}

std::array<int, 2> match_sides(const FoundSegment& segment, const SegmentSnapshot& snapshot,
                               const ProcessTable& processes) {
  return Matcher(segment, snapshot, processes).run();
}

State state_of(const SegmentSnapshot& snapshot, bool side_missing) {
  if (snapshot.damaged) return State::damaged;
  if (snapshot.answer == Answer::withdrawn) return State::withdrawn;
  const auto& ways = snapshot.directions;
  if (ways[0].gone || ways[1].gone) return State::closing;
  if (snapshot.answer == Answer::none) return State::offered;  // the client has yet to map it
  if (side_missing) return State::closing;

  const auto on_ring = [](const DirectionSnapshot& way) { return way.mode == DirectionMode::ring; };
  const auto in_kernel = [](const DirectionSnapshot& way) {
    return way.mode == DirectionMode::kernel;
  };
  const auto left = [](const DirectionSnapshot& way) { return way.left_ring; };
  if (std::all_of(ways.begin(), ways.end(), on_ring)) return State::ring;
  if (std::none_of(ways.begin(), ways.end(), left)) return State::handshake;
  return std::all_of(ways.begin(), ways.end(), in_kernel) ? State::kernel : State::mixed;
}

Connection describe(const FoundSegment& segment, const SegmentSnapshot& snapshot,
                    const Surroundings& surroundings) {
  const std::array<int, 2> at = match_sides(segment, snapshot, surroundings.processes);
  Connection connection;
  connection.id = segment.id;
  connection.nonce = snapshot.nonce;
  connection.path = shown_path(snapshot.path);
  connection.state = state_of(snapshot, is_missing(snapshot, at, surroundings));
  for (std::size_t side = 0; side < at.size(); ++side) {
    const pid_t found =
        at[side] == kNobody ? 0 : segment.mappers[static_cast<std::size_t>(at[side])].pid;
    connection.parties[side] = party_at(snapshot.sides[side], found, surroundings);
  }
  connection.directions = snapshot.directions;
  connection.age_seconds = age_of(snapshot.created_ns, surroundings.now_ns);
  for (const Mapper& mapper : segment.mappers) connection.mappers.push_back(mapper.pid);
  return connection;
}

}  // namespace tssx::stat_tool
