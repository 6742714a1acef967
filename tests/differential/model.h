// What is known of a program's state without running it: who holds which descriptor, what is
// unread in each stream, who waits. By it a program is kept within what can be compared:
//
//  - no step blocks for ever: it has what it waits for, or it is in the background and the steps
//    after it bring just that;
//  - nothing depends on timing: while a step waits in the background, only what it waits for is
//  done;
//  - nothing of exclusions.h is met.
//
// The generator asks before each step it makes, the shrinker for each smaller program, and the
// replay of a file for the file.
//
// Thread safety: plain data.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/differential/program.h"

namespace differential {

// Streams are numbered: 2 i and 2 i + 1 belong to the i-th connection, or pipe, of the program.
constexpr int kMaxStreams = 2 * kMaxNames;

struct Message {
  long bytes;
  long cost;      // what it takes of SO_SNDBUF, or a little more
  int file = -1;  // the file whose descriptor it carries
};

// One direction of a connection, or a pipe.
struct Stream {
  std::deque<Message> queue;
  bool uncertain = false;  // the queue's bytes are a minimum
  bool pushed = false;     // so many bytes went as a direction takes: positions are not comparable
  bool full = false;       // nothing more goes in, of writes from `full_for` bytes on
  long full_for = 1;
  bool stuffed = false;    // certainly not writable
  bool irregular = false;  // out-of-band bytes or the like: what a read returns is not known
  bool ended = false;      // nobody writes any more
  bool refused = false;    // nobody reads any more

  [[nodiscard]] long bytes() const;
  [[nodiscard]] bool certainly_empty() const;
  [[nodiscard]] long cost() const;
};

enum class Kind : std::uint8_t { kEndpoint, kListener, kPipeReader, kPipeWriter, kEpoll };

struct Member {
  int name;
  int file;
  long events;
};

// An open file description.
struct File {
  Kind kind = Kind::kEndpoint;
  int in = -1;  // streams
  int out = -1;
  int peer = -1;    // the other end's file
  int holders = 0;  // descriptors, and messages that carry one
  bool nonblocking = false;
  bool receive_limit = false;  // SO_RCVTIMEO, SO_SNDTIMEO
  bool send_limit = false;
  long low_water = 1;
  bool peek_offset = false;
  bool write_shut = false;
  bool read_shut = false;
  bool server = false;
  bool passed = false;          // was sent over a connection
  bool carrier = false;         // a connection was sent over it
  int process = 0;              // an epoll set's
  std::vector<int> backlog;     // a listener's: server ends not accepted yet
  std::vector<Member> members;  // an epoll set's
};

// How far the move to shared memory can have come; the model does not know it, but knows when it
// certainly is not under way.
struct Connection {
  long server_calls = 0;  // that may lead to the offer
  long server_bytes = 0;
  bool cold = true;      // certainly not begun
  bool settled = false;  // certainly over, in whichever direction

  [[nodiscard]] bool stable() const { return cold || settled; }
};

struct Actor {
  bool started = false;
  bool ended = false;
  int process = 0;
  int creator = 0;
};

class Model {
 public:
  Model();

  // Why the step may not be next; nothing if it may.
  [[nodiscard]] std::optional<std::string_view> refuse(const Step& step) const;
  // REQUIRES: !refuse(step). (A step that was refused leaves the model in some state, no more.)
  void take(const Step& step);
  // Whether a program may end here.
  [[nodiscard]] bool may_end() const { return !pending_ && !ended_unreaped_; }

  // The file that a name means for an actor, or -1.
  [[nodiscard]] int file_of(int actor, long name) const;
  [[nodiscard]] const File& file(int index) const {
    return files_[static_cast<std::size_t>(index)];
  }
  [[nodiscard]] const Stream& stream(int index) const {
    return streams_[static_cast<std::size_t>(index)];
  }
  [[nodiscard]] const Actor& actor(int index) const {
    return actors_[static_cast<std::size_t>(index)];
  }
  [[nodiscard]] std::vector<int> names_of(int actor) const;
  [[nodiscard]] int unused_name() const;  // or -1

 private:
  // A step in the background.
  struct Pending {
    Step step;
    bool satisfied;  // it ends by itself now
  };

  // Of an endpoint.
  [[nodiscard]] const Connection& connection(const File& end) const {
    return connections_[static_cast<std::size_t>(end.in / 2)];
  }
  Connection& connection(const File& end) {
    return connections_[static_cast<std::size_t>(end.in / 2)];
  }
  // A call that brings the move nearer; `bytes` sent.
  void count_calls(const File& end, long calls, long bytes);
  // Round trips, with nothing unread before or after.
  void count_round_trips(const File& end, long rounds, long bytes);
  // What may take the connection back to the kernel.
  void disturb(const File& end);
  // Whether any process holds a file; if not, only messages do.
  [[nodiscard]] bool is_held(int file) const;
  [[nodiscard]] bool resets_while_moving(const File& closed) const;
  // Whether one process alone holds each end.
  [[nodiscard]] bool is_held_by_one(int file) const;

  File& file(int index) { return files_[static_cast<std::size_t>(index)]; }
  Stream& stream(int index) { return streams_[static_cast<std::size_t>(index)]; }
  Actor& actor(int index) { return actors_[static_cast<std::size_t>(index)]; }

  // The file of the step's first descriptor, if it has one.
  [[nodiscard]] const File* first_file(const Step& step) const;
  [[nodiscard]] std::optional<std::string_view> refuse_by_kind(const Step& step) const;
  [[nodiscard]] std::optional<std::string_view> refuse_alone(const Step& step) const;
  [[nodiscard]] std::optional<std::string_view> refuse_background(const Step& step) const;
  [[nodiscard]] std::optional<std::string_view> refuse_beside(const Step& step) const;
  [[nodiscard]] std::optional<std::string_view> refuse_send(const File& to, long bytes,
                                                            int messages, long flags) const;
  [[nodiscard]] std::optional<std::string_view> refuse_receive(const File& from, long bytes,
                                                               long flags) const;
  [[nodiscard]] std::optional<std::string_view> refuse_interest(const File& in, bool out) const;
  [[nodiscard]] std::optional<std::string_view> refuse_drop(int process, int file) const;
  [[nodiscard]] bool ready(const File& file, long events) const;
  [[nodiscard]] bool pending_ready() const;

  int add_file(Kind kind);
  void add_connection(int& client, int& server);
  void hold(int process, long name, int file);
  void drop(int process, long name);
  void release(int file);
  void send(File& to, long bytes, int messages, long flags, int carried = -1);
  void consume(Stream& from, long bytes);
  void receive(File& from, long bytes, long flags, int process, long new_name);
  void complete_pending();

  std::vector<File> files_;
  std::vector<Stream> streams_;
  std::vector<Connection> connections_;  // one for two streams; pipes have one too
  std::array<Actor, kMaxActors> actors_;
  // For each process the file of each name; processes are numbered like the actors that began them.
  std::array<std::array<int, kMaxNames>, kMaxActors> held_;
  std::array<bool, kMaxNames> used_{};
  std::optional<Pending> pending_;
  bool ended_unreaped_ = false;
};

// Runs the model over a program; what it says about the first step it refuses, with its number.
std::optional<std::string> refuse(const Program& program);

// The sum of the sizes in a step's repeated arguments.
long sum_of_sizes(const Step& step);

}  // namespace differential
