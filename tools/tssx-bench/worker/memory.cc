#include "tools/tssx-bench/worker/memory.h"

#include <sys/socket.h>

#include <poll.h>
#include <unistd.h>
#include <cerrno>
#include <ctime>
#include <stdexcept>
#include <vector>

#include "tools/tssx-bench/worker/memory_use.h"
#include "tools/tssx-bench/worker/resting.h"
#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

// Goes each way over every connection: more than its ring holds, so that each page is used.
constexpr std::size_t kFill = 1024 * 1024;
constexpr std::size_t kPiece = 16 * 1024;

// Board::values: of the server from 0, of the client from kClients; of the kernel's objects behind.
constexpr std::size_t kClients = 6;
constexpr std::size_t kIdle = 0;
constexpr std::size_t kBusy = 3;
constexpr std::size_t kSlab = 12;

MemoryUse operator-(const MemoryUse& a, const MemoryUse& b) {
  return {a.rss - b.rss, a.pss - b.pss, a.shmem - b.shmem};
}

void wait_for(int fd, short what) {
  pollfd entry{fd, what, 0};
  if (::poll(&entry, 1, -1) < 0 && errno != EINTR) throw_errno("poll");
}

void read_all(int fd, std::vector<char>& piece) {
  for (std::size_t done = 0; done < piece.size();) {
    const ssize_t count = ::read(fd, piece.data(), piece.size() - done);
    if (count > 0) {
      done += static_cast<std::size_t>(count);
    } else if (count == 0) {
      throw std::runtime_error("end of file");
    } else if (errno == EAGAIN) {
      wait_for(fd, POLLIN);
    } else if (errno != EINTR) {
      throw_errno("read");
    }
  }
}

void write_all(int fd, const std::vector<char>& piece) {
  for (std::size_t done = 0; done < piece.size();) {
    const ssize_t count = ::write(fd, piece.data() + done, piece.size() - done);
    if (count > 0) {
      done += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      wait_for(fd, POLLOUT);
    } else if (errno != EINTR) {
      throw_errno("write");
    }
  }
}

// Waits until both processes have come here for the nth time.
void meet(Board& board, std::uint32_t nth) {
  board.stop.fetch_add(1);
  while (board.stop.load() < 2 * nth) {
    const timespec moment{0, 1'000'000};
    ::nanosleep(&moment, nullptr);
  }
}

// What one process has more than at its beginning.
class Record {
 public:
  Record(Board& board, std::size_t where) : board_(board), where_(where) {}

  void note(std::size_t when) {
    const MemoryUse more = my_memory() - before_;
    double* values = &board_.values[where_ + when];
    values[0] = more.rss;
    values[1] = more.pss;
    values[2] = more.shmem;
  }

 private:
  Board& board_;
  std::size_t where_;
  MemoryUse before_ = my_memory();
};

class Server : public Role {
 public:
  Server(const Resting& resting, Board& board)
      : board_(board), record_(board, 0), slab_before_(kernel_slab()), end_(resting) {}
  void warm() override { end_.warm(); }
  void measure() override {
    record_.note(kIdle);
    board_.values[kSlab] = kernel_slab() - slab_before_;
    meet(board_, 1);
    end_.fill();
    meet(board_, 2);
    record_.note(kBusy);
    meet(board_, 3);
  }

 private:
  class End : public RestingServer {
   public:
    using RestingServer::RestingServer;
    void fill() {
      std::vector<char> piece(kPiece);
      for (const Descriptor& connection : server().connections()) {
        for (std::size_t done = 0; done < kFill; done += kPiece) {
          read_all(connection.get(), piece);
          write_all(connection.get(), piece);
        }
      }
    }
  };

  Board& board_;
  Record record_;
  double slab_before_;
  End end_;
};

class Client : public Role {
 public:
  Client(const Resting& resting, Board& board)
      : board_(board), record_(board, kClients), end_(resting) {}
  void warm() override { end_.warm(); }
  void measure() override {
    record_.note(kIdle);
    meet(board_, 1);
    end_.fill();
    meet(board_, 2);
    record_.note(kBusy);
    meet(board_, 3);
  }

 private:
  class End : public RestingClient {
   public:
    using RestingClient::RestingClient;
    void fill() {
      std::vector<char> piece(kPiece);
      for (const Descriptor& connection : client().connections()) {
        for (std::size_t done = 0; done < kFill; done += kPiece) {
          write_all(connection.get(), piece);
          read_all(connection.get(), piece);
        }
      }
    }
  };

  Board& board_;
  Record record_;
  End end_;
};

std::vector<Metric> report(const Board& board, std::size_t connections) {
  const auto each = [&](std::size_t what) {
    return (board.values[what] + board.values[kClients + what]) / static_cast<double>(connections);
  };
  return {{"idle-pss", each(kIdle + 1)},
          {"idle-rss", each(kIdle)},
          {"idle-shmem", each(kIdle + 2)},
          {"busy-pss", each(kBusy + 1)},
          {"busy-rss", each(kBusy)},
          {"busy-shmem", each(kBusy + 2)},
          {"slab", board.values[kSlab] / static_cast<double>(connections)}};
}

}  // namespace

Scenario make_memory(const Job& job, Board& board) {
  const Resting resting = resting_of(job);
  Scenario scenario;
  scenario.actors.push_back({-1, [=, &board] { return std::make_unique<Server>(resting, board); }});
  scenario.actors.push_back({-1, [=, &board] { return std::make_unique<Client>(resting, board); }});
  scenario.connections = resting.connections;
  scenario.report = [connections = resting.connections](const Board& results) {
    return report(results, connections);
  };
  return scenario;
}

}  // namespace tssx::bench
