#include "tools/tssx-bench/worker/epoll_server.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/worker/many.h"
#include "tools/tssx-bench/worker/place.h"
#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

constexpr int kWarmRounds = 40;
constexpr double kSettleShare = 0.1;
// Beside the connections: the standard ones, a listener, a set, and what the library may keep.
constexpr std::size_t kOtherDescriptors = 200;

// The idle connections come after the busy ones were measured alone, so that there is something
// to compare with.
class Server : public Role {
 public:
  Server(std::size_t busy, std::size_t idle, const std::string& path)
      : busy_(busy), idle_(idle), server_(path) {
    allow_descriptors(busy + idle + kOtherDescriptors);
    server_.accept_all(busy);
  }
  void warm() override { server_.serve(busy_); }
  void measure() override {
    serve_twice();
    if (idle_ == 0) return;
    server_.serve(idle_);
    serve_twice();
  }

 private:
  // To settle, and to be measured.
  void serve_twice() {
    server_.serve(busy_);
    server_.serve(busy_);
  }
  std::size_t busy_;
  std::size_t idle_;
  ManyServer server_;
};

class Client : public Role {
 public:
  Client(std::size_t busy, std::size_t idle, const std::string& path, double seconds, Board& board)
      : busy_(busy), idle_(idle), seconds_(seconds), board_(board), client_(path) {
    allow_descriptors(busy + idle + kOtherDescriptors);
    client_.connect_all(busy);
  }
  void warm() override { client_.warm(0, kWarmRounds); }
  void measure() override {
    board_.values[0] = measure_once();
    if (idle_ == 0) return;
    client_.connect_all(busy_ + idle_);
    // All are used as much, so that the idle ones are on rings as well, and then rest.
    client_.warm(busy_, kWarmRounds);
    board_.values[1] = measure_once();
  }

 private:
  double measure_once() {
    client_.drive(busy_, now_ns() + to_ns(seconds_ * kSettleShare));
    const std::uint64_t begin = now_ns();
    const std::uint64_t answers = client_.drive(busy_, begin + to_ns(seconds_));
    const std::uint64_t end = now_ns();
    board_.payload.fetch_add(answers * 2 * kRequestSize);
    return static_cast<double>(end - begin) / 1000 / static_cast<double>(answers);
  }

  std::size_t busy_;
  std::size_t idle_;
  double seconds_;
  Board& board_;
  ManyClient client_;
};

}  // namespace

Scenario make_epoll_server(const Job& job, Board& board) {
  const Place place = place_of(job.text("place"));
  const std::size_t busy = job.count("busy");
  const std::size_t idle = job.count("idle");
  const double seconds = job.number("seconds");
  const std::string path = job.text("socket");
  Scenario scenario;
  scenario.actors.push_back(
      {place.server, [=] { return std::make_unique<Server>(busy, idle, path); }});
  scenario.actors.push_back({place.client, [=, &board] {
                               return std::make_unique<Client>(busy, idle, path, seconds, board);
                             }});
  scenario.connections = busy;
  scenario.connections_at_end = busy + idle;
  scenario.report = [idle](const Board& results) {
    if (idle == 0) return std::vector<Metric>{{"time", results.values[0]}};
    return std::vector<Metric>{{"with-idle", results.values[1]}, {"alone", results.values[0]}};
  };
  return scenario;
}

}  // namespace tssx::bench
