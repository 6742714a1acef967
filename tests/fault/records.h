// Requests and answers of 64 bytes over a connection of which one end is shared by several
// processes: each record goes whole or not at all, so that any of them can go on where another was
// killed. Of the requests at most the one may stay unanswered that the killed process had taken.
//
// Thread safety: one thread of each process.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "tests/fault/ledger.h"

namespace fault {

constexpr std::size_t kRecord = 64;

// It waits in read(2) without a time limit of its own, which would hide a bell that is lost: a
// timer, whose signal restarts the call, looks whether what is missing can come at all, and
// interrupts the call only if not. One in a process.
class Requester {
 public:
  Requester(int fd, Ledger& ledger, Connection& connection);
  Requester(const Requester&) = delete;
  Requester& operator=(const Requester&) = delete;
  ~Requester();
  // Asks `count` more, with so many under way; returns when all are answered or known to be lost.
  void ask(std::uint64_t count, std::uint64_t window);
  // Sends `count` requests and takes no answer.
  void post(std::uint64_t count);
  // Takes the answers of all that was posted.
  void collect() { take_until(0); }
  std::uint64_t lost() const { return lost_; }

 private:
  void take_until(std::uint64_t outstanding);
  bool may_be_lost() const;
  static void tick(int signal);
  void end_for_all();

  int fd_;
  Ledger& ledger_;
  Connection& connection_;
  std::atomic<std::uint64_t> sent_{0};
  std::atomic<std::uint64_t> answered_{0};
  std::atomic<std::uint64_t> lost_{0};
  std::atomic<int> ticks_{0};     // for so many nothing came, and what is missing may be lost
  std::uint64_t seen_[512] = {};  // a bit for each request
};

enum class Served { answered, end, again };
// Takes one request and answers it. `flags` as of recv(2).
Served serve_one(int fd, Worker& worker, int flags = 0, bool with_descriptor = false);
// Until the requester closes.
void serve_all(int fd, Worker& worker);

bool is_dead(pid_t process);

}  // namespace fault
