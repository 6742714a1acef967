#include "tests/differential/model.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/differential/exclusions.h"

namespace differential {
namespace {

using Refusal = std::optional<std::string_view>;

// What a default socket takes before a sender waits: SO_SNDBUF 212992, less what an estimate may be
// off.
constexpr long kRoom = 190000;
// Up to this both call a direction writable: a quarter of SO_SNDBUF, half a ring.
constexpr long kSurelyWritable = 50000;
// From this many bytes neither does.
constexpr long kSurelyNotWritable = 135000;
// More than a direction ever holds.
constexpr long kFullAtMost = 1000000;
// What one write of more than that leaves in a direction that was all but empty, at least.
constexpr long kPushAtLeast = 80000;
// What one buffer of a message holds at most: unix_stream_sendmsg() cuts it at SKB_MAX_HEAD(0),
// what a page has behind the struct, and 32 KiB of pages. A descriptor comes with the first of
// them.
constexpr long kPieceWithDescriptor = 3776 + 32768;
// A write of no more than this arrives at a waiting reader in one piece.
constexpr long kOnePiece = 16384;

// What a message takes of SO_SNDBUF, at most: alloc_skb() rounds small ones up to a power of two
// and adds the struct; larger ones are a linear part and whole pages.
long cost_of(long bytes) {
  if (bytes <= 16000) {
    long size = 512;
    while (size < bytes + 320) size *= 2;
    return size + 512;
  }
  return bytes + (bytes / 106000 + 1) * 21000;
}

// From the server's 8th call, or 64 KiB of its, an offer may be made; after a dozen round trips all
// that follows from it is done.
constexpr long kColdCalls = 7;
constexpr long kColdBytes = 60000;
constexpr long kSettlingRounds = 12;

bool is_stream(const File& file) {
  return file.kind == Kind::kEndpoint || file.kind == Kind::kPipeReader ||
         file.kind == Kind::kPipeWriter;
}

// The place of the first argument that is a descriptor, or -1.
int first_descriptor(const Step& step) {
  for (std::size_t i = 0; i < step.arguments.size(); ++i) {
    if (kind_of(step.op, i) == 'd') return static_cast<int>(i);
  }
  return -1;
}

// What a step sends or receives, if it is of those kinds.
struct Transfer {
  enum { kNone, kSend, kReceive } way = kNone;
  long bytes = 0;
  long flags = 0;
  int messages = 1;
};
Transfer transfer_of(const Step& step) {
  const long last = step.arguments.empty() ? 0 : step.arguments.back();
  switch (step.op) {
    case Op::write_:
    case Op::sendfile_:
    case Op::splice_to_:
    case Op::dprintf_:
    case Op::fwrite_:
      return {Transfer::kSend, last};
    case Op::writev_:
      return {Transfer::kSend, sum_of_sizes(step)};
    case Op::send_:
    case Op::sendto_:
      return {Transfer::kSend, step[1], last};
    case Op::sendmsg_:
      return {Transfer::kSend, sum_of_sizes(step), step[1]};
    case Op::sendmmsg_:
      return {Transfer::kSend, sum_of_sizes(step), step[1],
              static_cast<int>(step.arguments.size()) - 2};
    case Op::sendfd_:
      return {Transfer::kSend, last};
    case Op::read_:
      return {Transfer::kReceive, last};
    case Op::splice_from_:
      return {Transfer::kReceive, last, MSG_DONTWAIT};
    case Op::readv_:
      return {Transfer::kReceive, sum_of_sizes(step)};
    case Op::recv_:
    case Op::recvfrom_:
      return {Transfer::kReceive, step[1], last};
    case Op::recvmsg_:
    case Op::recvmmsg_:
      return {Transfer::kReceive, sum_of_sizes(step), step[1]};
    case Op::recvfd_:
      return {Transfer::kReceive, step[3], last};
    default:
      return {};
  }
}

}  // namespace

long Stream::bytes() const {
  long sum = 0;
  for (const Message& message : queue) sum += message.bytes;
  return sum;
}

bool Stream::certainly_empty() const { return !uncertain && bytes() == 0; }

long Stream::cost() const {
  long sum = 0;
  for (const Message& message : queue) sum += message.cost;
  return sum;
}

long sum_of_sizes(const Step& step) {
  long sum = 0;
  for (std::size_t i = fixed_arguments(step.op); i < step.arguments.size(); ++i) {
    if (kind_of(step.op, i) == 'n') sum += step[i];
  }
  return sum;
}

Model::Model() {
  actors_[0].started = true;
  for (auto& names : held_) names.fill(-1);
}

int Model::file_of(int index, long name) const {
  return held_[static_cast<std::size_t>(actor(index).process)][static_cast<std::size_t>(name)];
}

const File* Model::first_file(const Step& step) const {
  const int first = first_descriptor(step);
  if (first == -1) return nullptr;
  return &file(file_of(step.actor, step.arguments[static_cast<std::size_t>(first)]));
}

std::vector<int> Model::names_of(int index) const {
  std::vector<int> names;
  for (int name = 0; name < kMaxNames; ++name) {
    if (file_of(index, name) != -1) names.push_back(name);
  }
  return names;
}

int Model::unused_name() const {
  const auto found = std::find(used_.begin(), used_.end(), false);
  return found == used_.end() ? -1 : static_cast<int>(found - used_.begin());
}

// --- what may be next ---------------------------------------------------------------------------

Refusal Model::refuse(const Step& step) const {
  const Actor& who = actor(step.actor);
  if (!who.started || who.ended) return "the actor is not there";
  std::array<bool, kMaxNames> named{};
  for (std::size_t i = 0; i < step.arguments.size(); ++i) {
    const char kind = kind_of(step.op, i);
    if (kind == 'd' && file_of(step.actor, step[i]) == -1) return "no such descriptor";
    if (kind == 'D') {
      const auto name = static_cast<std::size_t>(step[i]);
      if (used_[name] || named[name]) return "the name is in use";
      named[name] = true;
    }
  }
  const bool reaps = step.op == Op::reap_;
  if (ended_unreaped_ && !reaps) return "a child must be reaped first";
  if (pending_ && step.actor != pending_->step.actor) return refuse_beside(step);
  if (pending_ && !pending_->satisfied) return "the actor would wait for ever";
  return step.background ? refuse_background(step) : refuse_alone(step);
}

// How the step's files must be.
Refusal Model::refuse_by_kind(const Step& step) const {
  for (std::size_t i = 0; i < step.arguments.size(); ++i) {
    if (kind_of(step.op, i) != 'd') continue;
    const File& one = file(file_of(step.actor, step[i]));
    switch (step.op) {
      case Op::connect_:
      case Op::accept_:
        if (one.kind != Kind::kListener) return "not a listener";
        break;
      case Op::epoll_ctl_:
      case Op::epoll_wait_:
        if (i == 0) {
          if (one.kind != Kind::kEpoll) return "not an epoll set";
          if (one.process != actor(step.actor).process) return kSharedSets.what;
        } else if (one.kind == Kind::kEpoll) {
          return kNestedSets.what;
        }
        break;
      case Op::poll_:
      case Op::ppoll_:
      case Op::select_:
        if (one.kind == Kind::kEpoll) return kNestedSets.what;
        break;
      case Op::close_:
      case Op::dup_:
      case Op::dupfd_:
      case Op::dup2_:
      case Op::dup3_:
        break;
      case Op::sendfd_:
        if (i == 1) {
          if (!is_stream(one)) return "not a stream";
          break;
        }
        [[fallthrough]];
      case Op::shutdown_:
      case Op::send_:
      case Op::sendto_:
      case Op::sendmsg_:
      case Op::sendmmsg_:
      case Op::recv_:
      case Op::recvfrom_:
      case Op::recvmsg_:
      case Op::recvmmsg_:
      case Op::recvfd_:
      case Op::push_:
      case Op::fill_:
      case Op::drain_:
      case Op::sendfile_:
      case Op::splice_to_:
      case Op::splice_from_:
      case Op::dprintf_:
      case Op::fwrite_:
      case Op::siocoutq_:
      case Op::setopt_:
        if (one.kind != Kind::kEndpoint) return "not a connection";
        break;
      case Op::write_:
      case Op::writev_:
        if (one.kind != Kind::kEndpoint && one.kind != Kind::kPipeWriter)
          return "not to be written";
        break;
      case Op::read_:
      case Op::readv_:
      case Op::readall_:
        if (one.kind != Kind::kEndpoint && one.kind != Kind::kPipeReader) return "not to be read";
        break;
      case Op::warm_:
      case Op::ping_:
      case Op::echo_:
        if (one.kind != Kind::kEndpoint || one.nonblocking || one.receive_limit || one.send_limit ||
            one.low_water > 1 || one.write_shut || one.read_shut) {
          return "not a connection that waits";
        }
        if (stream(one.in).ended || stream(one.out).refused || stream(one.in).irregular ||
            stream(one.out).irregular || !stream(one.in).certainly_empty() ||
            !stream(one.out).certainly_empty()) {
          return "not an open connection without unread bytes";
        }
        break;
      case Op::getsockname_:
      case Op::getpeername_:
      case Op::getopt_:
        if (one.kind != Kind::kEndpoint && one.kind != Kind::kListener) return "not a socket";
        break;
      default:
        break;
    }
  }
  return {};
}

Refusal Model::refuse_alone(const Step& step) const {
  if (const Refusal refusal = refuse_by_kind(step)) return refusal;
  const int process = actor(step.actor).process;
  const File* const first = first_file(step);
  if (const Transfer transfer = transfer_of(step); transfer.way != Transfer::kNone) {
    if (step.op == Op::splice_from_ && !stream(first->in).certainly_empty() &&
        (stream(first->in).uncertain ||
         transfer.bytes > std::min(stream(first->in).queue.front().bytes, 4096L))) {
      return kSpliceSize.what;
    }
    if ((step.op == Op::splice_to_ || step.op == Op::sendfile_) && transfer.bytes > kOnePiece) {
      return kSpliceSize.what;
    }
    // What splice() took from the pipe it waits to deliver.
    if (step.op == Op::splice_to_ && stream(first->out).full) return kSpliceSize.what;
    if (step.op == Op::splice_to_ && transfer.bytes == 0) return "splice from an empty pipe";
    if (transfer.bytes > 1000000) return "too large";
    if (step.op == Op::sendfd_) {
      const File& sent = file(file_of(step.actor, step[1]));
      if (sent.kind == Kind::kEndpoint &&
          (sent.carrier || file(sent.peer).carrier || first->passed || file(first->peer).passed)) {
        return kCycles.what;
      }
      if (sent.in == first->in || sent.in == first->out) return kCycles.what;
      if (transfer.bytes == 0) return "a message of no bytes carries nothing";
      // Receives end early there: when the descriptor is taken, or dropped, is not known here.
      if (stream(first->out).irregular) return "a descriptor behind out-of-band data";
      if (sent.kind == Kind::kEndpoint && !connection(sent).cold &&
          !stream(sent.in).certainly_empty()) {
        return kPassedUnread.what;
      }
      if (sent.kind == Kind::kEndpoint && !connection(sent).cold && !is_held(sent.peer) &&
          file(sent.peer).holders == 0) {
        return kPassedReset.what;
      }
      if (stream(first->out).full) return kCapacity.what;
    }
    if (step.op == Op::recvfd_) {
      // The new name must be what the model says it is.
      const Stream& in = stream(first->in);
      if (in.uncertain || in.irregular || in.queue.empty()) return "no descriptor to receive";
      long before = 0;
      int carried = -1;
      for (const Message& message : in.queue) {
        if (before >= transfer.bytes) break;
        if (message.file != -1) {
          carried = message.file;
          break;
        }
        before += message.bytes;
      }
      if (carried == -1 || step[2] >= kMaxNames || file_of(step.actor, step[2]) != carried) {
        bool known = false;
        for (const auto& names : held_)
          known |= carried != -1 && names[static_cast<std::size_t>(step[2])] == carried;
        if (!known) return "not the descriptor that comes";
      }
      if ((transfer.flags & MSG_PEEK) != 0) return "a peek that duplicates a descriptor";
    }
    if ((step.op == Op::recvmsg_ || step.op == Op::recvfrom_) && first->passed) return kMark.what;
    if (transfer.way == Transfer::kSend) {
      return refuse_send(*first, transfer.bytes, transfer.messages, transfer.flags);
    }
    if (step.op == Op::recvmmsg_) {
      // Waits for every message, those of no bytes too.
      for (const Message& message : stream(first->in).queue) {
        if (message.file != -1) return "messages that end at a descriptor";
      }
      if (stream(first->in).irregular && (transfer.flags & MSG_OOB) == 0 &&
          std::find(step.arguments.begin() + 2, step.arguments.end(), 0) != step.arguments.end()) {
        return kUrgentReadiness.what;
      }
      const bool waits = (transfer.flags & MSG_DONTWAIT) == 0;
      return refuse_receive(*first, transfer.bytes + (waits ? 1 : 0),
                            transfer.flags | (waits ? MSG_WAITALL : 0));
    }
    return refuse_receive(*first, transfer.bytes, transfer.flags);
  }
  switch (step.op) {
    case Op::accept_:
      if (first->backlog.empty() && !first->nonblocking) return "would wait for ever";
      return {};
    case Op::close_:
      return refuse_drop(process, file_of(step.actor, step[0]));
    case Op::dup2_:
    case Op::dup3_:
      if (step[0] == step[1]) return {};
      return refuse_drop(process, file_of(step.actor, step[1]));
    case Op::warm_:
      if (first->peer != file_of(step.actor, step[1])) return "not the two ends of a connection";
      return {};
    case Op::ping_:
    case Op::echo_:
      return "would wait for ever";
    case Op::push_:
      if (step[1] < 150000 || step[1] > 1000000) return "not a large write";
      if (stream(first->out).irregular) return kUrgentReadiness.what;
      if (stream(first->out).refused || first->write_shut) return {};
      if (stream(first->out).cost() > 10000 || stream(first->out).uncertain) return kCapacity.what;
      return {};
    case Op::fill_:
      if (step[1] < 64 || step[1] > 200000) return "not a size to fill with";
      if (stream(first->out).irregular) return "out-of-band data";
      if (stream(first->out).refused || first->write_shut) return {};
      // Whether it takes anything must be certain.
      if (stream(first->out).full
              ? step[1] < stream(first->out).full_for || step[1] > 32768
              : stream(first->out).uncertain || stream(first->out).cost() > kRoom / 2) {
        return kCapacity.what;
      }
      return {};
    case Op::drain_:
      if (step[1] < 1 || step[1] > 1000000) return "not a size to drain with";
      if (stream(first->in).uncertain && step[1] < 512) return "too slow";
      if (first->low_water > 1) return "low-water mark";
      return {};
    case Op::readall_:
      if (step[2] < 1 || step[2] > 1000000 || step[1] > 1000000 || step[1] / step[2] > 1000) {
        return "not sizes to read with";
      }
      return refuse_receive(*first, step[1], MSG_WAITALL);
    case Op::poll_:
    case Op::ppoll_:
    case Op::select_:
      if (step[0] < 0 || step[0] > 20) return "would wait too long";
      for (std::size_t i = 1; i + 1 < step.arguments.size(); i += 2) {
        const bool out = (step[i + 1] & (POLLOUT | POLLWRNORM)) != 0;
        const File& one = file(file_of(step.actor, step[i]));
        for (std::size_t j = 1; j < i; j += 2) {
          if (one.kind == Kind::kEndpoint && !connection(one).stable() &&
              file_of(step.actor, step[i]) == file_of(step.actor, step[j])) {
            return kTwiceInPoll.what;
          }
        }
        if (const Refusal refusal = refuse_interest(file(file_of(step.actor, step[i])), out)) {
          return refusal;
        }
      }
      return {};
    case Op::epoll_wait_:
      if (step[1] < 0 || step[1] > 20) return "would wait too long";
      for (const Member& member : first->members) {
        if ((member.events & EPOLLET) != 0 && file(member.file).kind == Kind::kEndpoint &&
            (!connection(file(member.file)).stable() ||
             ((member.events & EPOLLOUT) != 0 && !connection(file(member.file)).cold))) {
          return kEdge.what;
        }
        if (const Refusal refusal =
                refuse_interest(file(member.file), (member.events & EPOLLOUT) != 0)) {
          return refusal;
        }
      }
      return {};
    case Op::fionread_:
      if (first->in != -1 && stream(first->in).uncertain) return kCapacity.what;
      if (first->kind == Kind::kEndpoint && !connection(*first).stable()) {
        return kCountWhileMoving.what;
      }
      return {};
    case Op::siocoutq_:
      if (!stream(first->out).certainly_empty() || stream(first->out).irregular ||
          !connection(*first).stable()) {
        return kOutQueue.what;
      }
      return {};
    case Op::setopt_: {
      const SocketOption& option = kSocketOptions[step[1]];
      switch (option.value) {
        case SO_SNDBUF:
        case SO_RCVBUF:
          return kCapacity.what;
        case SO_RCVTIMEO:
        case SO_SNDTIMEO:
          if (step[2] < 0 || step[2] > 20) return "would wait too long";
          return {};
        case SO_PASSCRED:
          if (step[2] != 0 && (!connection(*first).cold || !stream(first->in).certainly_empty())) {
            return kLateCredentials.what;
          }
          return {};
        case SO_PEEK_OFF:
          if (!stream(first->in).certainly_empty() || !connection(*first).cold) {
            return kPeekOffset.what;
          }
          return {};
        default:
          return {};
      }
    }
    case Op::thread_:
    case Op::fork_:
      if (actor(static_cast<int>(step[0])).started) return "the actor is there";
      return {};
    case Op::exit_: {
      if (process == 0 || step.actor != process) return "not a child process";
      if (step[0] < 0 || step[0] > 2) return "not a way to end";
      for (int i = 0; i < kMaxActors; ++i) {
        const Actor& other = actor(i);
        if (other.started && !other.ended && i != step.actor &&
            (other.creator == step.actor || other.process == process)) {
          return "has children";
        }
      }
      if (actor(actor(step.actor).creator).ended) return "has no parent";
      for (const int index : held_[static_cast<std::size_t>(process)]) {
        if (index == -1 || file(index).kind != Kind::kEndpoint) continue;
        if (resets_while_moving(file(index))) return kResetWhileMoving.what;
      }
      return {};
    }
    case Op::reap_: {
      const Actor& child = actor(static_cast<int>(step[0]));
      if (!ended_unreaped_ || !child.ended || child.creator != step.actor) return "no dead child";
      return {};
    }
    case Op::delay_:
      if (step[0] < 0 || step[0] > 2000) return "would wait too long";
      return {};
    default:
      return {};
  }
}

Refusal Model::refuse_send(const File& to, long bytes, int messages, long flags) const {
  const Stream& out = stream(to.out);
  if ((flags & MSG_OOB) != 0 && bytes == 0) return "no out-of-band byte";
  if ((flags & MSG_OOB) != 0) {
    for (const Message& message : out.queue) {
      if (message.file != -1) return "out-of-band data behind a descriptor";
    }
  }
  if (to.kind == Kind::kPipeWriter) {
    if (out.bytes() + bytes > 16384 || out.queue.size() > 8) return "pipe";
    return {};
  }
  if (to.write_shut || out.refused) return {};
  if (const File& reader = file(to.peer);
      reader.passed && !connection(to).stable() && !is_held(to.peer)) {
    return kResetWhileMoving.what;
  }
  // It goes by the kernel, where there is room again, and behind as many bytes as were taken.
  if ((out.full || out.pushed) && (flags & MSG_OOB) != 0) return kCapacity.what;
  const bool waits = !to.nonblocking && (flags & MSG_DONTWAIT) == 0 && !to.send_limit;
  // An urgent byte ends receives early, so more may be unread than is known here.
  if (waits && out.irregular && bytes > 1024) return "would wait for ever";
  // A ring takes a message of up to 32 KiB whole or not at all.
  if (out.full && !waits && messages == 1 && bytes >= out.full_for && bytes <= 32768) return {};
  if (out.uncertain) return kCapacity.what;
  if (out.cost() + cost_of(bytes) + (messages - 1) * 2000 > kRoom) return kCapacity.what;
  return {};
}

Refusal Model::refuse_receive(const File& from, long bytes, long flags) const {
  const Stream& in = stream(from.in);
  const long there = in.bytes();
  if ((flags & MSG_WAITALL) != 0) {
    for (const Message& message : in.queue) {
      if (message.file != -1) return kWaitAllAtDescriptor.what;
    }
  }
  if (bytes == 0 && in.irregular) return kUrgentReadiness.what;
  if (in.uncertain && bytes > there) return kCapacity.what;
  if ((flags & MSG_PEEK) != 0 && from.kind == Kind::kEndpoint && !connection(from).stable()) {
    // With its room filled it tells of the descriptors of later messages.
    for (const Message& message : in.queue) {
      if (message.file != -1) return kPeekWhileMoving.what;
    }
    if (in.uncertain || (!in.queue.empty() && bytes > in.queue.front().bytes)) {
      return kPeekWhileMoving.what;
    }
  }
  if (from.nonblocking || from.receive_limit || (flags & MSG_DONTWAIT) != 0) return {};
  if ((flags & MSG_OOB) != 0) return {};
  if (in.irregular) return "may wait for ever";
  if (from.peek_offset && (flags & MSG_PEEK) != 0) return "may wait for ever";
  if (in.ended || from.read_shut) return {};
  const long least = (flags & MSG_WAITALL) != 0 ? bytes : std::min(bytes, from.low_water);
  if (there < std::max(least, 1L)) return "would wait for ever";
  return {};
}

Refusal Model::refuse_interest(const File& in, bool out) const {
  if (in.kind == Kind::kEpoll) return kNestedSets.what;
  if (in.in != -1 && stream(in.in).irregular) return kUrgentReadiness.what;
  if (!out || in.kind != Kind::kEndpoint) return {};
  const Stream& to = stream(in.out);
  // shutdown() takes it to the kernel, where there is room.
  if (to.full && in.write_shut && !connection(in).cold) return kWritable.what;
  if (to.full || to.stuffed) return {};
  if (!to.uncertain && to.cost() <= kSurelyWritable) return {};
  if (to.bytes() >= kSurelyNotWritable && !to.irregular && connection(in).stable()) return {};
  return kWritable.what;
}

// Whether what the peer of a closed endpoint is told depends on how far the move has come.
bool Model::resets_while_moving(const File& closed) const {
  if (closed.kind != Kind::kEndpoint || connection(closed).stable()) return false;
  return !stream(closed.in).certainly_empty() || closed.passed || file(closed.peer).passed;
}

// Whether a process may close a descriptor of that file.
Refusal Model::refuse_drop(int process, int index) const {
  int here = 0;
  for (const int held : held_[static_cast<std::size_t>(process)]) here += held == index;
  const File& last = file(index);
  if (last.holders == 1 && resets_while_moving(last)) return kResetWhileMoving.what;
  if (last.holders == 1 && ((last.in != -1 && stream(last.in).irregular) ||
                            (last.out != -1 && stream(last.out).irregular))) {
    return kUrgentReadiness.what;
  }
  if (here > 1 || file(index).holders == here) return {};
  for (const File& set : files_) {
    if (set.kind != Kind::kEpoll || set.process != process || set.holders == 0) continue;
    for (const Member& member : set.members) {
      if (member.file == index) return kClosedMembers.what;
    }
  }
  return {};
}

// --- steps in the background --------------------------------------------------------------------

Refusal Model::refuse_background(const Step& step) const {
  if (const Refusal refusal = refuse_by_kind(step)) return refusal;
  const File* const first = first_file(step);
  switch (step.op) {
    case Op::read_:
    case Op::readv_:
    case Op::recv_:
    case Op::recvfrom_:
    case Op::recvmsg_: {
      const Transfer transfer = transfer_of(step);
      const Stream& in = stream(first->in);
      if (first->nonblocking || first->receive_limit || first->low_water > 1 ||
          first->peek_offset || (transfer.flags & ~(MSG_WAITALL | MSG_NOSIGNAL)) != 0 ||
          transfer.bytes == 0) {
        return "does not wait";
      }
      if (in.ended || first->read_shut || in.irregular) return "does not wait";
      if (!in.certainly_empty()) return "does not wait";
      if (first->kind == Kind::kPipeReader && transfer.bytes > kOnePiece) return "pipe";
      return {};
    }
    case Op::write_:
    case Op::writev_:
    case Op::send_:
    case Op::sendmsg_: {
      const Transfer transfer = transfer_of(step);
      const Stream& out = stream(first->out);
      if (first->kind != Kind::kEndpoint || first->nonblocking || first->send_limit ||
          (transfer.flags & ~MSG_NOSIGNAL) != 0 || transfer.bytes < 300000 ||
          transfer.bytes > 1000000) {
        return "does not wait";
      }
      if (out.uncertain || out.irregular || out.refused || first->write_shut) return "no room";
      return {};
    }
    case Op::poll_:
    case Op::ppoll_:
    case Op::select_:
      if (step[0] < 5000 || step.arguments.size() < 3) return "must wait";
      for (std::size_t i = 1; i + 1 < step.arguments.size(); i += 2) {
        const File& one = file(file_of(step.actor, step[i]));
        if ((step[i + 1] & (POLLOUT | POLLWRNORM)) != 0) return "does not wait";
        if (one.kind != Kind::kEndpoint || stream(one.in).irregular || one.read_shut ||
            one.write_shut || !stream(one.in).certainly_empty() || stream(one.in).ended ||
            stream(one.out).refused) {
          return "does not wait";
        }
      }
      return {};
    case Op::epoll_wait_:
      if (step[1] < 5000 || first->members.empty()) return "must wait";
      for (const Member& member : first->members) {
        const File& one = file(member.file);
        if ((member.events & (EPOLLOUT | EPOLLONESHOT)) != 0) return "does not wait";
        if (one.kind != Kind::kEndpoint || stream(one.in).irregular || one.read_shut ||
            one.write_shut || !stream(one.in).certainly_empty() || stream(one.in).ended ||
            stream(one.out).refused) {
          return "does not wait";
        }
      }
      return {};
    case Op::accept_:
      if (!first->backlog.empty() || first->nonblocking) return "does not wait";
      return {};
    case Op::echo_:
      if (step[1] < 1 || step[1] > 70000 || step[2] < 1 || step[2] > 200) return "not such a loop";
      return {};
    default:
      return "not in the background";
  }
}

// A step of another actor, while one waits in the background.
Refusal Model::refuse_beside(const Step& step) const {
  if (pending_->satisfied) return "the step in the background must be awaited";
  if (step.background) return "two steps in the background";
  if (step.op == Op::delay_) return refuse_alone(step);
  if (first_descriptor(step) == -1) return "something else is awaited";
  const Step& waiting = pending_->step;
  const int mine =
      file_of(step.actor, step.arguments[static_cast<std::size_t>(first_descriptor(step))]);
  const Transfer transfer = transfer_of(step);
  // The other end of a file that is waited for?
  const auto peer_of = [&](int index) { return file(index).peer == mine; };
  const bool brings = transfer.way == Transfer::kSend && transfer.messages == 1 &&
                      step.op != Op::sendfd_ && transfer.bytes > 0 &&
                      (transfer.flags & MSG_OOB) == 0;
  const bool ends = step.op == Op::shutdown_ || step.op == Op::close_;
  switch (waiting.op) {
    case Op::echo_:
      if (step.op != Op::ping_ || !peer_of(file_of(waiting.actor, waiting[0])) ||
          step[1] != waiting[1] || step[2] != waiting[2]) {
        return "something else is awaited";
      }
      return refuse_by_kind(step);
    case Op::accept_:
      if (step.op != Op::connect_ || mine != file_of(waiting.actor, waiting[1])) {
        return "something else is awaited";
      }
      return {};
    case Op::write_:
    case Op::writev_:
    case Op::send_:
    case Op::sendmsg_:
      if (step.op != Op::readall_ || !peer_of(file_of(waiting.actor, waiting[0]))) {
        return "something else is awaited";
      }
      if (file(mine).nonblocking || file(mine).receive_limit) return "reads too little";
      return refuse_alone(step);
    case Op::poll_:
    case Op::ppoll_:
    case Op::select_: {
      bool found = false;
      for (std::size_t i = 1; i + 1 < waiting.arguments.size(); i += 2) {
        found |= peer_of(file_of(waiting.actor, waiting[i]));
      }
      if (!found || !(brings || ends)) return "something else is awaited";
      break;
    }
    case Op::epoll_wait_: {
      bool found = false;
      for (const Member& member : file(file_of(waiting.actor, waiting[0])).members) {
        found |= peer_of(member.file);
      }
      if (!found || !(brings || ends)) return "something else is awaited";
      break;
    }
    default:
      if (!peer_of(file_of(waiting.actor, waiting[0])) || !(brings || ends)) {
        return "something else is awaited";
      }
      break;
  }
  if (brings && transfer.bytes > kOnePiece) return kLargeWriteInPieces.what;
  return refuse_alone(step);
}

bool Model::ready(const File& one, long events) const {
  const Stream& in = stream(one.in);
  const bool both = in.ended && stream(one.out).refused;
  return both || (in.bytes() > 0 && (events & (POLLIN | POLLRDNORM)) != 0) ||
         (in.ended && (events & (POLLIN | POLLRDNORM | POLLRDHUP)) != 0);
}

// Whether the step in the background has what it waits for.
bool Model::pending_ready() const {
  const Step& waiting = pending_->step;
  const int first = first_descriptor(waiting);
  const int index = file_of(waiting.actor, waiting.arguments[static_cast<std::size_t>(first)]);
  switch (waiting.op) {
    case Op::echo_:
      return false;  // take() sees the ping
    case Op::accept_:
      return !file(index).backlog.empty();
    case Op::write_:
    case Op::writev_:
    case Op::send_:
    case Op::sendmsg_:
      // unix_write_space() wakes a writer only when three quarters are free again, in whole
      // buffers.
      return stream(file(index).out).bytes() == 0;
    case Op::select_:
      // There is no set for RDHUP.
      for (std::size_t i = 1; i + 1 < waiting.arguments.size(); i += 2) {
        const File& one = file(file_of(waiting.actor, waiting[i]));
        if ((waiting[i + 1] & POLLIN) != 0 && ready(one, POLLIN)) return true;
      }
      return false;
    case Op::poll_:
    case Op::ppoll_:
      for (std::size_t i = 1; i + 1 < waiting.arguments.size(); i += 2) {
        if (ready(file(file_of(waiting.actor, waiting[i])), waiting[i + 1])) return true;
      }
      return false;
    case Op::epoll_wait_:
      for (const Member& member : file(index).members) {
        if (ready(file(member.file), member.events)) return true;
      }
      return false;
    default: {
      const Transfer transfer = transfer_of(waiting);
      const Stream& in = stream(file(index).in);
      const long least = (transfer.flags & MSG_WAITALL) != 0 ? transfer.bytes : 1;
      return in.ended || in.bytes() >= least;
    }
  }
}

// --- what a step does ---------------------------------------------------------------------------

int Model::add_file(Kind kind) {
  files_.emplace_back();
  files_.back().kind = kind;
  return static_cast<int>(files_.size()) - 1;
}

void Model::add_connection(int& client, int& server) {
  client = add_file(Kind::kEndpoint);
  server = add_file(Kind::kEndpoint);
  const int first = static_cast<int>(streams_.size());
  streams_.resize(streams_.size() + 2);
  file(client).out = file(server).in = first;
  file(client).in = file(server).out = first + 1;
  connections_.resize(streams_.size() / 2);
  file(server).server = true;
  file(client).peer = server;
  file(server).peer = client;
}

void Model::hold(int process, long name, int index) {
  held_[static_cast<std::size_t>(process)][static_cast<std::size_t>(name)] = index;
  used_[static_cast<std::size_t>(name)] = true;
  ++file(index).holders;
}

void Model::drop(int process, long name) {
  int& held = held_[static_cast<std::size_t>(process)][static_cast<std::size_t>(name)];
  const int index = held;
  held = -1;
  release(index);
}

void Model::release(int index) {
  if (--file(index).holders > 0) return;
  for (File& set : files_) {
    std::erase_if(set.members, [&](const Member& member) { return member.file == index; });
  }
  const std::vector<int> backlog = std::move(file(index).backlog);
  file(index).backlog.clear();
  for (const int server : backlog) {
    file(server).holders = 1;
    release(server);
  }
  if (const int out = file(index).out; out != -1) stream(out).ended = true;
  if (const int in = file(index).in; in != -1) {
    Stream& unread = stream(in);
    unread.refused = true;
    unread.full = unread.stuffed = unread.uncertain = false;
    std::deque<Message> lost;
    lost.swap(unread.queue);
    for (const Message& message : lost) {
      if (message.file != -1) release(message.file);
    }
  }
}

void Model::count_calls(const File& end, long calls, long bytes) {
  if (end.kind != Kind::kEndpoint) return;
  Connection& moving = connection(end);
  if (!end.server) return;
  moving.server_calls += calls;
  moving.server_bytes += bytes;
  if (moving.server_bytes > kColdBytes || moving.server_calls > kColdCalls) moving.cold = false;
}

void Model::count_round_trips(const File& end, long rounds, long bytes) {
  count_calls(end.server ? end : file(end.peer), 2 * rounds, rounds * bytes);
  Connection& moving = connection(end);
  if (rounds >= kSettlingRounds && is_held_by_one(end.peer) &&
      is_held_by_one(file(end.peer).peer)) {
    moving.settled = true;
  }
}

void Model::disturb(const File& end) {
  if (end.kind != Kind::kEndpoint) return;
  connection(end).settled = false;
  for (const int index : {end.in, end.out}) stream(index).full = stream(index).stuffed = false;
}

bool Model::is_held(int index) const {
  return std::any_of(held_.begin(), held_.end(), [&](const auto& names) {
    return std::find(names.begin(), names.end(), index) != names.end();
  });
}

bool Model::is_held_by_one(int index) const {
  int processes = 0;
  for (const auto& names : held_) {
    processes += std::find(names.begin(), names.end(), index) != names.end();
  }
  return processes == 1;
}

void Model::send(File& to, long bytes, int messages, long flags, int carried) {
  Stream& out = stream(to.out);
  // Also when it fails.
  if ((flags & MSG_OOB) != 0 || carried != -1) disturb(to);
  if (to.write_shut || out.refused || out.full || bytes == 0) return;
  if ((flags & MSG_OOB) != 0) out.irregular = true;
  const long cost = cost_of(bytes) + (messages - 1) * 2000;
  const long piece = carried == -1 ? bytes : std::min(bytes, kPieceWithDescriptor);
  out.queue.push_back({piece, piece == bytes ? cost : cost_of(piece), carried});
  if (bytes > piece) out.queue.push_back({bytes - piece, cost - cost_of(piece)});
  if (carried != -1) ++file(carried).holders;
}

// As unix_stream_read_generic(): whole messages and a part, but not beyond one with descriptors.
void Model::consume(Stream& from, long bytes) {
  if (bytes > 0) from.full = from.stuffed = false;
  while (!from.queue.empty()) {
    Message& message = from.queue.front();
    const long taken = std::min(bytes, message.bytes);
    message.bytes -= taken;
    bytes -= taken;
    const int carried = message.file;
    message.file = -1;
    const bool used_up = message.bytes == 0;
    if (used_up) from.queue.pop_front();
    if (carried != -1) release(carried);
    if (!used_up || carried != -1 || bytes == 0) break;
  }
}

void Model::receive(File& from, long bytes, long flags, int process, long new_name) {
  if ((flags & (MSG_PEEK | MSG_OOB)) != 0) return;
  Stream& in = stream(from.in);
  if (new_name != -1) {
    for (const Message& message : in.queue) {
      if (message.file == -1) continue;
      hold(process, new_name, message.file);
      break;
    }
  }
  consume(in, bytes);
}

void Model::complete_pending() {
  const Step waiting = pending_->step;
  const Transfer transfer = transfer_of(waiting);
  if (transfer.way == Transfer::kReceive) {
    const File& reader = file(file_of(waiting.actor, waiting[0]));
    count_calls(reader, 1, 0);
    consume(stream(reader.in), transfer.bytes);
  } else if (waiting.op == Op::accept_) {
    File& listener = file(file_of(waiting.actor, waiting[1]));
    const int server = listener.backlog.front();
    listener.backlog.erase(listener.backlog.begin());
    hold(actor(waiting.actor).process, waiting[0], server);
    file(server).nonblocking = waiting[2] != 0;
  }
}

void Model::take(const Step& step) {
  if (pending_ && step.actor == pending_->step.actor) pending_.reset();
  const int process = actor(step.actor).process;
  const auto first = [&]() -> File& { return file(file_of(step.actor, step[0])); };

  if (step.background) {
    const Transfer transfer = transfer_of(step);
    pending_ = Pending{step, false};
    if (transfer.way == Transfer::kSend) {
      count_calls(first(), 1, transfer.bytes);
      send(first(), transfer.bytes, 1, 0);
    } else if (step.op == Op::accept_) {
      used_[static_cast<std::size_t>(step[0])] = true;
    }
    return;
  }

  if (const Transfer transfer = transfer_of(step); transfer.way == Transfer::kSend) {
    const int carried = step.op == Op::sendfd_ ? file_of(step.actor, step[1]) : -1;
    // splice() asks for room before it sends.
    count_calls(first(), transfer.messages + (step.op == Op::splice_to_ ? 1 : 0), transfer.bytes);
    if (carried != -1 && file(carried).kind == Kind::kEndpoint) {
      disturb(file(carried));
      connection(file(carried)).cold = false;  // a refusal may be sent
      file(carried).passed = true;
      first().carrier = true;
    }
    if (step.op == Op::sendmmsg_) {
      for (std::size_t i = fixed_arguments(step.op); i < step.arguments.size(); ++i) {
        send(first(), step[i], 1, transfer.flags);
      }
    } else {
      send(first(), transfer.bytes, transfer.messages, transfer.flags, carried);
    }
  } else if (transfer.way == Transfer::kReceive) {
    count_calls(first(), transfer.messages, 0);
    if ((transfer.flags & MSG_OOB) != 0) disturb(first());
    // A read() of nothing does nothing; a recv() of nothing does look.
    const bool nothing = transfer.bytes == 0 && (step.op == Op::read_ || step.op == Op::readv_);
    if (!nothing) {
      receive(first(), transfer.bytes, transfer.flags, process,
              step.op == Op::recvfd_ ? step[1] : -1);
    }
  }

  switch (step.op) {
    case Op::pair_:
    case Op::connect_: {
      int client = -1, server = -1;
      add_connection(client, server);
      hold(process, step[0], client);
      if (step.op == Op::pair_) {
        hold(process, step[1], server);
      } else {
        file(file_of(step.actor, step[1])).backlog.push_back(server);
      }
      break;
    }
    case Op::listen_:
      hold(process, step[0], add_file(Kind::kListener));
      break;
    case Op::accept_: {
      File& listener = file(file_of(step.actor, step[1]));
      used_[static_cast<std::size_t>(step[0])] = true;
      if (listener.backlog.empty()) break;
      const int server = listener.backlog.front();
      listener.backlog.erase(listener.backlog.begin());
      hold(process, step[0], server);
      file(server).nonblocking = step[2] != 0;
      break;
    }
    case Op::close_:
      drop(process, step[0]);
      break;
    case Op::shutdown_: {
      File& one = first();
      if (step[1] != SHUT_RD) {
        one.write_shut = true;
        stream(one.out).ended = true;
      }
      if (step[1] != SHUT_WR) {
        one.read_shut = true;
        stream(one.in).refused = true;
        disturb(one);
      }
      break;
    }
    case Op::dup_:
    case Op::dupfd_:
      hold(process, step[1], file_of(step.actor, step[0]));
      break;
    case Op::dup2_:
    case Op::dup3_:
      if (step[0] == step[1]) break;
      ++first().holders;
      drop(process, step[1]);
      hold(process, step[1], file_of(step.actor, step[0]));
      --first().holders;
      break;
    case Op::pipe_: {
      const int reader = add_file(Kind::kPipeReader), writer = add_file(Kind::kPipeWriter);
      file(reader).in = file(writer).out = static_cast<int>(streams_.size());
      file(reader).peer = writer;
      file(writer).peer = reader;
      streams_.resize(streams_.size() + 2);
      connections_.resize(streams_.size() / 2);
      hold(process, step[0], reader);
      hold(process, step[1], writer);
      break;
    }
    case Op::push_: {
      Stream& out = stream(first().out);
      if (out.refused || first().write_shut) break;
      count_calls(first(), 1, step[1]);
      out.queue.push_back({kPushAtLeast, step[1]});
      out.uncertain = out.pushed = true;
      out.stuffed = connection(first()).stable();
      break;
    }
    case Op::fill_: {
      Stream& out = stream(first().out);
      if (out.refused || first().write_shut) break;
      count_calls(first(), 0, kRoom);
      if (!out.full) out.full_for = step[1] <= 32768 ? step[1] : 1;
      // A large one goes in part.
      const long size = std::min(step[1], kOnePiece);
      const long least = (kRoom - out.cost()) / cost_of(size) * size;
      if (!out.uncertain) out.queue.push_back({least, kRoom});
      out.uncertain = out.pushed = true;
      out.full = out.stuffed = connection(first()).stable();
      break;
    }
    case Op::drain_: {
      Stream& in = stream(first().in);
      count_calls(first(), 2 + (in.uncertain ? kFullAtMost : in.bytes()) / step[1], 0);
      while (!in.queue.empty()) consume(in, in.queue.front().bytes);
      in.uncertain = in.full = in.stuffed = false;
      break;
    }
    case Op::readall_:
      count_calls(first(), 2 + step[1] / step[2], 0);
      consume(stream(first().in), step[1]);
      break;
    case Op::warm_:
      count_round_trips(first(), step[2], 16);
      break;
    case Op::ping_:
      count_round_trips(first(), step[2], step[1]);
      pending_->satisfied = true;
      break;
    case Op::epoll_create_: {
      const int set = add_file(Kind::kEpoll);
      file(set).process = process;
      hold(process, step[0], set);
      break;
    }
    case Op::epoll_ctl_: {
      const int member = file_of(step.actor, step[2]);
      std::vector<Member>& members = first().members;
      const auto found = std::find_if(members.begin(), members.end(), [&](const Member& one) {
        return one.file == member && one.name == static_cast<int>(step[2]);
      });
      if (step[1] == EPOLL_CTL_ADD) {
        if (found == members.end()) members.push_back({static_cast<int>(step[2]), member, step[3]});
      } else if (found != members.end()) {
        if (step[1] == EPOLL_CTL_MOD) found->events = step[3];
        if (step[1] == EPOLL_CTL_DEL) members.erase(found);
      }
      break;
    }
    case Op::fionbio_:
    case Op::setfl_:
      first().nonblocking = step[1] != 0;
      break;
    case Op::setopt_:
      disturb(first());
      switch (kSocketOptions[step[1]].value) {
        case SO_RCVTIMEO:
          first().receive_limit = step[2] != 0;
          break;
        case SO_SNDTIMEO:
          first().send_limit = step[2] != 0;
          break;
        case SO_RCVLOWAT:
          // What is negative means all that there can be (sk_setsockopt()).
          first().low_water = step[2] < 0 ? 1L << 31 : std::max(step[2], 1L);
          break;
        case SO_PEEK_OFF:
          first().peek_offset = step[2] >= 0;
          break;
        default:
          break;
      }
      break;
    case Op::thread_:
    case Op::fork_: {
      Actor& child = actor(static_cast<int>(step[0]));
      child.started = true;
      child.creator = step.actor;
      child.process = process;
      if (step.op == Op::thread_) break;
      child.process = static_cast<int>(step[0]);
      for (int held : held_[static_cast<std::size_t>(process)]) {
        if (held == -1) continue;
        ++file(held).holders;
        disturb(file(held));
      }
      held_[static_cast<std::size_t>(child.process)] = held_[static_cast<std::size_t>(process)];
      break;
    }
    case Op::exit_:
      for (int name = 0; name < kMaxNames; ++name) {
        if (file_of(step.actor, name) != -1) drop(process, name);
      }
      actor(step.actor).ended = true;
      ended_unreaped_ = true;
      break;
    case Op::reap_:
      ended_unreaped_ = false;
      break;
    default:
      break;
  }

  if (pending_ && !pending_->satisfied && pending_ready()) pending_->satisfied = true;
  if (pending_ && pending_->satisfied) complete_pending();
}

std::optional<std::string> refuse(const Program& program) {
  Model model;
  for (std::size_t i = 0; i < program.size(); ++i) {
    if (const Refusal refusal = model.refuse(program[i])) {
      return "step " + std::to_string(i) + ": " + std::string(*refusal);
    }
    model.take(program[i]);
  }
  if (!model.may_end()) return "a step is not awaited";
  return {};
}

}  // namespace differential
