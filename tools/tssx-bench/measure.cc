#include "tools/tssx-bench/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/companion.h"
#include "tools/tssx-bench/evidence.h"
#include "tools/tssx-bench/interrupt.h"

namespace tssx::bench {
namespace {

// A connection may stay in the kernel for a while because its peer had something unread at each
// moment that counted: more traffic gives more chances.
constexpr int kMostWarmUps = 20;
// Of the payload, the share that must have gone through the rings.
constexpr double kShareOnRings = 0.9;

struct SkipCell : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Values = std::map<std::string, double>;

class Measurement {
 public:
  Measurement(const Cell& cell, const Side& side, const Plan& plan, const ScratchDirectory& scratch)
      : cell_(cell),
        side_(side),
        directory_(scratch.path()),
        deadline_ns_(now_ns() + to_ns(plan.patience + 2 * plan.seconds * cell.length)),
        worker_(side, scratch.pattern(), job_for(cell, plan, scratch)) {}

  Values run() {
    Values values;
    for (;;) {
      std::istringstream line(worker_.read_line(deadline_ns_));
      std::string word;
      line >> word;
      if (word == "actors") {
        for (pid_t pid = 0; line >> pid;) actors_.push_back(pid);
      } else if (word == "warm") {
        line >> connections_;
        const bool warm = is_warm();
        if (warm) companion_.emplace(side_.beside);
        worker_.answer(warm ? 'g' : 'w');
      } else if (word == "done") {
        double payload = 0;
        line >> payload >> connections_;
        if (companion_) companion_->check();
        companion_.reset();
        check_payload(payload);
        worker_.answer('g');
      } else if (word == "metric") {
        line >> word;
        line >> values[word];
      } else if (word == "end") {
        return values;
      } else {
        std::string why;
        std::getline(line >> std::ws, why);
        if (word == "skip") throw SkipCell(why);
        throw std::runtime_error(why);
      }
    }
  }

 private:
  static Job job_for(const Cell& cell, const Plan& plan, const ScratchDirectory& scratch) {
    Job job = cell.job;
    job.set("seconds", fmt::format("{}", plan.seconds * cell.length));
    return job.set("socket", scratch.new_path());
  }

  [[nodiscard]] Evidence look() const { return look_at(actors_, side_.library, directory_); }

  bool is_warm() {
    const Evidence evidence = look();
    if (side_.library.empty()) {
      if (evidence.on_rings != 0) throw std::runtime_error("the kernel's side is on rings");
      return true;
    }
    if (!evidence.library) throw std::runtime_error("the library was not preloaded");
    bytes_before_ = evidence.ring_bytes;
    if (cell_.sides != Cell::Sides::both_on_rings || evidence.on_rings >= connections_) return true;
    if (++warm_ups_ >= kMostWarmUps) {
      throw std::runtime_error(fmt::format("not accelerated: {} of {} connections on rings",
                                           evidence.on_rings, connections_));
    }
    const timespec moment{0, 5'000'000};
    ::nanosleep(&moment, nullptr);
    return false;
  }

  void check_payload(double payload) const {
    if (side_.library.empty() || cell_.sides != Cell::Sides::both_on_rings) return;
    const Evidence evidence = look();
    const auto moved = static_cast<double>(evidence.ring_bytes - bytes_before_);
    if (evidence.on_rings < connections_ || moved < payload * kShareOnRings) {
      throw std::runtime_error(fmt::format(
          "left the rings while it was measured: {} of {} connections and {} of {} bytes on rings",
          evidence.on_rings, connections_, moved, payload));
    }
  }

  const Cell& cell_;
  const Side& side_;
  std::string directory_;
  std::uint64_t deadline_ns_;
  WorkerProcess worker_;
  std::optional<Companion> companion_;
  std::vector<pid_t> actors_;
  std::size_t connections_ = 0;
  int warm_ups_ = 0;
  std::uint64_t bytes_before_ = 0;
};

}  // namespace

CellResult measure(const Cell& cell, const Plan& plan, const ScratchDirectory& scratch) {
  CellResult result{cell.name, {}, {}, {}};
  for (const MetricKind& kind : cell.metrics) result.metrics.push_back({kind, {}, {}});

  const auto take = [&](const Values& values, std::vector<double> MetricResult::*where) {
    for (MetricResult& metric : result.metrics) {
      (metric.*where).push_back(values.at(metric.kind.name));
    }
  };
  const auto once = [&](const Side& side, int round, std::vector<double> MetricResult::*where) {
    try {
      take(Measurement(cell, side, plan, scratch).run(), where);
    } catch (const SkipCell&) {
      throw;
    } catch (const std::exception& error) {
      throw std::runtime_error(fmt::format("{}, round {}: {}", side.name, round + 1, error.what()));
    }
  };
  const auto base = [&](int round) { once(plan.base, round, &MetricResult::base); };
  const auto ours = [&](int round) { once(plan.ours, round, &MetricResult::ours); };

  try {
    for (int round = 0; round < std::min(plan.rounds, cell.most_rounds); ++round) {
      if (cell.sides == Cell::Sides::one) {
        base(round);
      } else if (round % 2 == 0) {
        base(round);
        ours(round);
      } else {
        // Who goes first changes, so that neither has the cooler processor every time.
        ours(round);
        base(round);
      }
    }
  } catch (const SkipCell& skip) {
    result.skipped = skip.what();
  } catch (const std::exception& error) {
    result.error = error.what();
  }
  if (!result.skipped.empty() || !result.error.empty()) result.metrics.clear();
  return result;
}

}  // namespace tssx::bench
