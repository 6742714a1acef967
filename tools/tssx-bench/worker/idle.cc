#include "tools/tssx-bench/worker/idle.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#include <cerrno>
#include <stdexcept>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/worker/resting.h"

namespace tssx::bench {
namespace {

double cpu_ms() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto ms = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
  };
  return ms(usage.ru_utime) + ms(usage.ru_stime);
}

// Sleeps for that time as a server without work does. Milliseconds of CPU time for each second.
double sleep_in(int set, double seconds) {
  const double before = cpu_ms();
  const std::uint64_t begin = now_ns();
  const std::uint64_t end = begin + to_ns(seconds);
  for (std::uint64_t now = begin; now < end; now = now_ns()) {
    epoll_event event{};
    const auto left_ms = static_cast<int>((end - now) / 1'000'000 + 1);
    if (::epoll_wait(set, &event, 1, left_ms) > 0) throw std::runtime_error("something came");
  }
  return (cpu_ms() - before) * 1e9 / static_cast<double>(now_ns() - begin);
}

class Server : public RestingServer {
 public:
  Server(const Resting& resting, double seconds, double& result)
      : RestingServer(resting), seconds_(seconds), result_(result) {}
  void measure() override { result_ = sleep_in(server().set(), seconds_); }

 private:
  double seconds_;
  double& result_;
};

class Client : public RestingClient {
 public:
  Client(const Resting& resting, double seconds, double& result)
      : RestingClient(resting), seconds_(seconds), result_(result) {}
  void measure() override { result_ = sleep_in(client().set(), seconds_); }

 private:
  double seconds_;
  double& result_;
};

}  // namespace

Scenario make_idle(const Job& job, Board& board) {
  const Resting resting = resting_of(job);
  const double seconds = job.number("seconds");
  Scenario scenario;
  scenario.actors.push_back(
      {-1, [=, &board] { return std::make_unique<Server>(resting, seconds, board.values[0]); }});
  scenario.actors.push_back(
      {-1, [=, &board] { return std::make_unique<Client>(resting, seconds, board.values[1]); }});
  scenario.connections = resting.connections;
  scenario.report = [](const Board& results) {
    return std::vector<Metric>{{"cpu", results.values[0] + results.values[1]}};
  };
  return scenario;
}

}  // namespace tssx::bench
