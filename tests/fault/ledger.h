// What each process says of its reads and writes, in memory that is still there when it was killed:
// by it those who go on know what they must have got.
//
// A file that all processes of one run map. Thread safety: atomics; each account has one writer.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace fault {

enum Role : int { server = 0, client = 1 };

// Of one end of one connection. Positions are bytes from the beginning of the stream.
struct Account {
  std::atomic<std::uint64_t> attempted;  // write() was asked for everything before it
  std::atomic<std::uint64_t> wrote;      // write() returned for everything before it
  std::atomic<std::uint64_t> took;       // read() returned everything before it
  std::atomic<std::uint64_t> taking;     // bytes that a read() under way may take
  std::atomic<std::uint32_t> open;       // 1: accepted, or connected
};

// Of one process of several that share an end, and answer requests there (records.h).
struct Worker {
  std::atomic<pid_t> process;
  std::atomic<std::uint32_t> taking;    // 1: a read() is under way
  std::atomic<std::uint64_t> request;   // taken last, and
  std::atomic<std::uint32_t> answered;  // 1: write() returned for its answer
};

constexpr std::size_t kWorkers = 2;

struct Connection {
  Account end[2];  // by Role
  Worker workers[kWorkers];
};

constexpr std::size_t kConnections = 4096;
constexpr std::size_t kActors = 64;

struct Ledger {
  // 1: finish what is under way, and end; 2: servers too, when nobody is connected.
  std::atomic<std::uint32_t> stop;
  std::atomic<std::uint64_t> next_connection;  // of `connections`, modulo their number
  std::atomic<std::uint64_t> bytes;            // checked so far
  std::atomic<std::uint64_t> ended;            // connections that were checked to their end
  std::atomic<std::uint64_t> told_otherwise;   // ends told as resets or the reverse, while moving
  std::atomic<std::uint64_t> in_ring;          // of those that were asked, connections in the ring
  std::atomic<std::uint64_t> asked;
  // Of the storm alone: the connection of the one requester, processes that were forked and may be
  // killed as well, and a count for each client, that grows.
  std::atomic<std::uint64_t> current;
  std::atomic<pid_t> forked[kActors];
  std::atomic<std::uint64_t> progress[kActors];
  Connection connections[kConnections];
};

// Maps the file, and makes it first where `create`.
Ledger* map_ledger(const std::string& path, bool create);

// Says what is wrong, of which process, and ends it with status 1.
[[noreturn]] void blame(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Names this process in what blame() says.
void name_process(const std::string& name);

// Of this process, now: mappings of segments, and open descriptors that are sockets or memfds.
int mapped_segments();
int open_sockets();

}  // namespace fault
