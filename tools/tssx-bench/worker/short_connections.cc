#include "tools/tssx-bench/worker/short_connections.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/worker/place.h"
#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

constexpr int kWarmConnections = 100;
constexpr std::size_t kSize = 64;
constexpr char kGoOn = 0;
constexpr char kLast = 1;
using Request = std::array<char, kSize>;

// Accepts, serves and closes until a client says that it is the last one. That one always sends a
// request, so the others need not.
class Server : public Role {
 public:
  explicit Server(const std::string& path) : listener_(path) {}
  void warm() override { serve(); }
  void measure() override { serve(); }

 private:
  void serve() const {
    Request request{};
    while (request.front() != kLast) {
      const Descriptor connection = listener_.accept();
      const ssize_t count = ::recv(connection.get(), request.data(), kSize, MSG_WAITALL);
      if (count == 0) continue;
      if (count != static_cast<ssize_t>(kSize)) throw_errno("recv");
      if (::write(connection.get(), request.data(), kSize) != static_cast<ssize_t>(kSize)) {
        throw_errno("write");
      }
    }
  }
  Listener listener_;
};

class Client : public Role {
 public:
  Client(std::string path, bool asks, double seconds, Board& board)
      : path_(std::move(path)), asks_(asks), duration_ns_(to_ns(seconds)), board_(board) {}

  void warm() override {
    for (int i = 0; i < kWarmConnections; ++i) visit(asks_, kGoOn);
    visit(true, kLast);
  }

  void measure() override {
    const std::uint64_t begin = now_ns();
    std::uint64_t now = begin;
    std::uint64_t visits = 0;
    while (now - begin < duration_ns_) {
      visit(asks_, kGoOn);
      ++visits;
      now = now_ns();
    }
    board_.values[0] = static_cast<double>(visits) * 1e9 / static_cast<double>(now - begin);
    visit(true, kLast);
  }

 private:
  void visit(bool asks, char what) const {
    const Descriptor connection = connect_to(path_);
    if (!asks) return;
    Request request{};
    request.front() = what;
    if (::write(connection.get(), request.data(), kSize) != static_cast<ssize_t>(kSize)) {
      throw_errno("write");
    }
    if (::recv(connection.get(), request.data(), kSize, MSG_WAITALL) !=
        static_cast<ssize_t>(kSize)) {
      throw_errno("recv");
    }
  }

  std::string path_;
  bool asks_;
  std::uint64_t duration_ns_;
  Board& board_;
};

}  // namespace

Scenario make_short_connections(const Job& job, Board& board) {
  const Place place = place_of(job.text("place"));
  const std::string path = job.text("socket");
  const bool asks = job.count("requests") != 0;
  const double seconds = job.number("seconds");
  Scenario scenario;
  scenario.actors.push_back({place.server, [=] { return std::make_unique<Server>(path); }});
  scenario.actors.push_back(
      {place.client, [=, &board] { return std::make_unique<Client>(path, asks, seconds, board); }});
  scenario.report = [](const Board& results) {
    return std::vector<Metric>{{"rate", results.values[0]}};
  };
  return scenario;
}

}  // namespace tssx::bench
