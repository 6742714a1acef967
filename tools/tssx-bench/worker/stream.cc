#include "tools/tssx-bench/worker/stream.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/worker/place.h"
#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

constexpr int kWarmRounds = 100;
constexpr std::size_t kWarmSize = 64;
constexpr std::size_t kLeastReadBuffer = 64 * 1024;
constexpr double kSettleShare = 0.1;

// A round of small messages, enough of them for the connection to move. What is streamed in one
// direction would not move it by itself in all cases.
void warm_up(int socket, bool asks) {
  char bytes[kWarmSize] = {};
  const auto send = [&] {
    if (::write(socket, bytes, sizeof bytes) != static_cast<ssize_t>(sizeof bytes)) {
      throw_errno("write");
    }
  };
  const auto receive = [&] {
    if (::recv(socket, bytes, sizeof bytes, MSG_WAITALL) != static_cast<ssize_t>(sizeof bytes)) {
      throw_errno("recv");
    }
  };
  for (int i = 0; i < kWarmRounds; ++i) {
    if (asks) send();
    receive();
    if (!asks) send();
  }
}

// What one end knows: it sends in `way`, and receives what the other way brings.
class End : public Role {
 public:
  End(const Job& job, Board& board, bool client)
      : board_(board),
        client_(client),
        chunk_(job.count("size")),
        duration_ns_(to_ns(job.number("seconds"))),
        buffer_(std::max(chunk_, kLeastReadBuffer)) {
    if (client) {
      socket_ = connect_to(job.text("socket"));
    } else {
      socket_ = Listener(job.text("socket")).accept();
    }
  }

  void warm() override { warm_up(socket_.get(), client_); }

 protected:
  [[nodiscard]] int socket() const { return socket_.get(); }
  [[nodiscard]] std::size_t chunk() const { return chunk_; }
  [[nodiscard]] std::vector<char>& buffer() { return buffer_; }
  Board& board() { return board_; }

  // Times what is received: bytes of the time after settling, up to `seconds` later.
  class Meter {
   public:
    explicit Meter(std::uint64_t duration_ns)
        : settled_(now_ns() +
                   static_cast<std::uint64_t>(static_cast<double>(duration_ns) * kSettleShare)),
          duration_ns_(duration_ns) {}
    // True once the time is over.
    bool count(std::size_t bytes) {
      total_ += bytes;
      const std::uint64_t now = now_ns();
      if (begin_ == 0) {
        if (now >= settled_) {
          begin_ = now;
          before_ = total_;
        }
        return false;
      }
      if (now - begin_ < duration_ns_ || total_ == before_) return false;
      if (rate_ == 0)
        rate_ = static_cast<double>(total_ - before_) / static_cast<double>(now - begin_);
      return true;
    }
    [[nodiscard]] std::uint64_t total() const { return total_; }
    [[nodiscard]] double rate() const { return rate_; }  // bytes for each nanosecond

   private:
    std::uint64_t settled_;
    std::uint64_t duration_ns_;
    std::uint64_t begin_ = 0;
    std::uint64_t before_ = 0;
    std::uint64_t total_ = 0;
    double rate_ = 0;
  };
  [[nodiscard]] Meter start() const { return Meter(duration_ns_); }

 private:
  Board& board_;
  bool client_;
  std::size_t chunk_;
  std::uint64_t duration_ns_;
  std::vector<char> buffer_;
  Descriptor socket_;
};

// The client of a one-way stream.
class Sender : public End {
 public:
  Sender(const Job& job, Board& shared) : End(job, shared, true) {}
  void measure() override {
    std::uint64_t total = 0;
    while (board().stop.load(std::memory_order_relaxed) == 0) {
      const ssize_t count = ::write(socket(), buffer().data(), chunk());
      if (count > 0) {
        total += static_cast<std::uint64_t>(count);
      } else if (errno != EINTR) {
        throw_errno("write");
      }
    }
    board().sent[0].store(total + 1, std::memory_order_release);  // 0: not known yet
  }
};

// Its server: says when it is over, and reads the rest, so that the connection can be looked at.
class Receiver : public End {
 public:
  Receiver(const Job& job, Board& shared) : End(job, shared, false) {}
  void measure() override {
    Meter meter = start();
    std::size_t got = 0;
    while (!meter.count(got)) {
      const ssize_t count = ::read(socket(), buffer().data(), buffer().size());
      if (count == 0) throw std::system_error(ECONNRESET, std::generic_category(), "end of file");
      if (count < 0 && errno != EINTR) throw_errno("read");
      got = count > 0 ? static_cast<std::size_t>(count) : 0;
    }
    board().values[0] = meter.rate();
    board().stop.store(1);
    std::uint64_t total = meter.total();
    for (;;) {
      const std::uint64_t sent = board().sent[0].load(std::memory_order_acquire);
      if (sent != 0 && total >= sent - 1) break;
      const ssize_t count = ::recv(socket(), buffer().data(), buffer().size(), MSG_DONTWAIT);
      if (count > 0) {
        total += static_cast<std::uint64_t>(count);
      } else {
        pollfd entry{socket(), POLLIN, 0};
        ::poll(&entry, 1, 1);
      }
    }
    board().payload.fetch_add(total);
  }
};

// Either end of a two-way stream: one event loop that writes what fits and reads what is there.
class Both : public End {
 public:
  Both(const Job& job, Board& shared, bool client)
      : End(job, shared, client), mine_(client ? 1 : 0), outgoing_(job.count("size")) {}

  void measure() override {
    make_nonblocking(socket());
    Meter meter = start();
    std::uint64_t sent = 0;
    bool sending = true;
    bool timed = false;
    for (;;) {
      if (sending && board().stop.load(std::memory_order_relaxed) == 2) {
        sending = false;
        board().sent[mine_].store(sent + 1, std::memory_order_release);
      }
      if (!sending) {
        const std::uint64_t expected = board().sent[1 - mine_].load(std::memory_order_acquire);
        if (expected != 0 && meter.total() >= expected - 1) break;
      }
      pollfd entry{socket(), static_cast<short>(sending ? POLLIN | POLLOUT : POLLIN), 0};
      ::poll(&entry, 1, sending ? 100 : 1);
      if ((entry.revents & POLLIN) != 0 && meter.count(receive()) && !timed) {
        timed = true;
        board().values[mine_] = meter.rate();
        board().stop.fetch_add(1);  // over when both ends say so
      }
      if (sending && (entry.revents & POLLOUT) != 0) sent += send();
    }
    board().payload.fetch_add(meter.total());
  }

 private:
  std::size_t receive() {
    const ssize_t count = ::read(socket(), buffer().data(), buffer().size());
    if (count == 0) throw std::system_error(ECONNRESET, std::generic_category(), "end of file");
    if (count < 0 && errno != EINTR && errno != EAGAIN) throw_errno("read");
    return count > 0 ? static_cast<std::size_t>(count) : 0;
  }
  std::size_t send() {
    const ssize_t count = ::write(socket(), outgoing_.data(), outgoing_.size());
    if (count < 0 && errno != EINTR && errno != EAGAIN) throw_errno("write");
    return count > 0 ? static_cast<std::size_t>(count) : 0;
  }

  std::size_t mine_;
  std::vector<char> outgoing_;
};

}  // namespace

Scenario make_stream(const Job& job, Board& board) {
  const Place place = place_of(job.text("place"));
  if (job.count("size") == 0) throw std::invalid_argument("stream: size");
  const bool two_way = job.count("two-way") != 0;
  Scenario scenario;
  scenario.connections = 1;
  if (two_way) {
    scenario.actors.push_back(
        {place.server, [&] { return std::make_unique<Both>(job, board, false); }});
    scenario.actors.push_back(
        {place.client, [&] { return std::make_unique<Both>(job, board, true); }});
  } else {
    scenario.actors.push_back(
        {place.server, [&] { return std::make_unique<Receiver>(job, board); }});
    scenario.actors.push_back({place.client, [&] { return std::make_unique<Sender>(job, board); }});
  }
  scenario.report = [](const Board& results) {
    // Bytes a nanosecond are gigabytes a second.
    return std::vector<Metric>{{"throughput", results.values[0] + results.values[1]}};
  };
  return scenario;
}

}  // namespace tssx::bench
