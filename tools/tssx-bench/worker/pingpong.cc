#include "tools/tssx-bench/worker/pingpong.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <optional>
#include <string>
#include <utility>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/worker/place.h"
#include "tools/tssx-bench/worker/sockets.h"
#include "tools/tssx-bench/worker/talk.h"

namespace tssx::bench {
namespace {

// A connection moves after 8 or 24 calls of the server and two cuts; this is several times that.
constexpr int kWarmRounds = 200;
// Before anything is recorded, the averages that waiting goes by get used to the pace again.
constexpr double kSettleShare = 0.1;

// The first byte of each request.
constexpr char kGoOn = 0;
constexpr char kLast = 1;

struct Settings {
  std::size_t size;
  Wait wait;
  std::uint64_t duration_ns;
  std::uint64_t pause_ns;
  std::uint64_t work_ns;
};

// Serves until the request that says it is the last.
class Server : public Role {
 public:
  Server(const Settings& settings, const std::string& path) : settings_(settings) {
    const Listener listener(path);
    talk_.emplace(listener.accept(), settings.wait, settings.size);
  }

  void warm() override { serve(); }
  void measure() override { serve(); }

 private:
  void serve() {
    char what = kGoOn;
    while (what != kLast) {
      talk_->receive();
      what = *talk_->data();
      if (settings_.work_ns != 0) compute(settings_.work_ns);
      talk_->send();
    }
  }

  static void compute(std::uint64_t duration_ns) {
    const std::uint64_t end = now_ns() + duration_ns;
    while (now_ns() < end) {
    }
  }

  Settings settings_;
  std::optional<Talk> talk_;
};

class Client : public Role {
 public:
  Client(const Settings& settings, const std::string& path, Board& board, std::size_t number)
      : settings_(settings),
        board_(board),
        number_(number),
        talk_(connect_to(path), settings.wait, settings.size) {}

  void warm() override {
    const int rounds = settings_.pause_ns == 0 ? kWarmRounds : kWarmRounds / 4;
    for (int i = 1; i < rounds; ++i) request(kGoOn);
    request(kLast);
  }

  void measure() override {
    Histogram& latencies = board_.histograms[number_];
    latencies.clear();
    const std::uint64_t begin = now_ns();
    const std::uint64_t settled =
        begin +
        static_cast<std::uint64_t>(static_cast<double>(settings_.duration_ns) * kSettleShare);
    const std::uint64_t end = settled + settings_.duration_ns;
    std::uint64_t trips = 0;
    std::uint64_t recorded_from = 0;
    std::uint64_t last = begin;
    // On a busy machine one request may take all of the time.
    while (last < end || latencies.count() == 0) {
      if (settings_.pause_ns != 0) last = pause_after(last);
      request(kGoOn);
      ++trips;
      const std::uint64_t now = now_ns();
      if (last >= settled) {
        if (recorded_from == 0) recorded_from = last;
        latencies.record(now - last);
      }
      last = now;
    }
    board_.values[number_] = recorded_from == 0 ? 0
                                                : static_cast<double>(latencies.count()) * 1e9 /
                                                      static_cast<double>(last - recorded_from);
    request(kLast);
    board_.payload.fetch_add(trips * 2 * settings_.size);
    board_.stop.store(1);
  }

 private:
  void request(char what) {
    *talk_.data() = what;
    talk_.send();
    talk_.receive();
  }

  // The time of the next request, which is now.
  [[nodiscard]] std::uint64_t pause_after(std::uint64_t last) const {
    const std::uint64_t next = last + settings_.pause_ns;
    const timespec until{static_cast<time_t>(next / 1'000'000'000U),
                         static_cast<long>(next % 1'000'000'000U)};
    while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
    return now_ns();
  }

  Settings settings_;
  Board& board_;
  std::size_t number_;
  Talk talk_;
};

// Takes all the CPU it gets until the measurement is over.
class Hog : public Role {
 public:
  explicit Hog(const Board& board) : board_(board) {}
  void measure() override {
    while (board_.stop.load(std::memory_order_relaxed) == 0) {
    }
  }

 private:
  const Board& board_;
};

std::vector<Metric> report_pairs(const Board& board, std::size_t pairs) {
  Histogram all{};
  double rate = 0;
  for (std::size_t i = 0; i < pairs; ++i) {
    all.add(board.histograms[i]);
    rate += board.values[i];
  }
  std::vector<Metric> metrics{
      {"p50", all.percentile(50)}, {"p99", all.percentile(99)}, {"p99.9", all.percentile(99.9)}};
  metrics.push_back({"rate", rate});
  return metrics;
}

}  // namespace

Scenario make_pingpong(const Job& job, Board& board) {
  const Settings settings{job.count("size"), wait_of(job.text("wait")),
                          to_ns(job.number("seconds")), to_ns(job.number("pause")),
                          to_ns(job.number("work"))};
  const Place place = place_of(job.text("place"));
  const std::size_t pairs = job.count("pairs");
  if (settings.size == 0 || pairs == 0 || pairs > kMostHistograms) {
    throw std::invalid_argument("pingpong: size or pairs");
  }
  Scenario scenario;
  for (std::size_t i = 0; i < pairs; ++i) {
    const std::string path = job.text("socket") + "." + std::to_string(i);
    scenario.actors.push_back(
        {place.server, [=] { return std::make_unique<Server>(settings, path); }});
    scenario.actors.push_back(
        {place.client, [=, &board] { return std::make_unique<Client>(settings, path, board, i); }});
  }
  if (job.count("hog") != 0) {
    scenario.actors.push_back({place.server, [&board] { return std::make_unique<Hog>(board); }});
  }
  scenario.connections = pairs;
  scenario.report = [pairs](const Board& results) { return report_pairs(results, pairs); };
  return scenario;
}

}  // namespace tssx::bench
