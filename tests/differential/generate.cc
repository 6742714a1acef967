#include "tests/differential/generate.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/differential/board.h"
#include "tests/differential/model.h"
#include "tests/differential/random.h"

namespace differential {
namespace {

enum class Company { kAlone, kProcesses, kThreads };

// How often each step is chosen, of those that are chosen alone.
struct Weight {
  Op op;
  int weight;
};
constexpr Weight kWeights[] = {
    {Op::pair_, 2},        {Op::listen_, 1},       {Op::connect_, 2},    {Op::accept_, 3},
    {Op::close_, 5},       {Op::shutdown_, 4},     {Op::dup_, 2},        {Op::dup2_, 2},
    {Op::dup3_, 1},        {Op::dupfd_, 1},        {Op::pipe_, 1},       {Op::write_, 12},
    {Op::writev_, 5},      {Op::send_, 10},        {Op::sendto_, 2},     {Op::sendmsg_, 5},
    {Op::sendmmsg_, 3},    {Op::sendfile_, 2},     {Op::splice_to_, 2},  {Op::dprintf_, 2},
    {Op::fwrite_, 1},      {Op::read_, 14},        {Op::readv_, 5},      {Op::recv_, 14},
    {Op::recvfrom_, 3},    {Op::recvmsg_, 5},      {Op::recvmmsg_, 3},   {Op::splice_from_, 2},
    {Op::push_, 2},        {Op::fill_, 3},         {Op::drain_, 4},      {Op::readall_, 2},
    {Op::sendfd_, 3},      {Op::recvfd_, 5},       {Op::poll_, 12},      {Op::ppoll_, 3},
    {Op::select_, 5},      {Op::epoll_create_, 3}, {Op::epoll_ctl_, 12}, {Op::epoll_wait_, 14},
    {Op::fionread_, 4},    {Op::siocoutq_, 2},     {Op::fionbio_, 1},    {Op::getfl_, 1},
    {Op::setfl_, 2},       {Op::getopt_, 4},       {Op::setopt_, 4},     {Op::getsockname_, 1},
    {Op::getpeername_, 1},
};

class Generator {
 public:
  Generator(std::uint64_t seed, std::uint64_t index)
      : random_(seed, index), company_(company_of(index)) {}

  Program make() {
    const long connections = random_.pick({1, 1, 1, 1, 2, 2, 3});
    for (long i = 0; i < connections; ++i) open_connection();
    if (company_ != Company::kAlone && random_.one_in(2)) begin_actor();
    if (random_.percent(65)) warm();
    const long length = 3 + random_.below(random_.pick({8L, 16L, 30L}));
    for (long i = 0; i < length && program_.size() < kMaxSteps - 24; ++i) {
      const long choice = random_.below(100);
      if (choice < 6) {
        warm();
      } else if (company_ != Company::kAlone && choice < 12) {
        begin_actor();
      } else if (company_ != Company::kAlone && choice < 26) {
        in_background();
      } else if (company_ == Company::kProcesses && choice < 28) {
        end_actor();
      } else {
        one_step();
      }
    }
    if (random_.one_in(2)) drain_all();
    return std::move(program_);
  }

 private:
  static Company company_of(std::uint64_t index) {
    switch (index / kMaxBatch % 8) {
      case 5:
      case 6:
        return Company::kProcesses;
      case 7:
        return Company::kThreads;
      default:
        return Company::kAlone;
    }
  }

  bool add(Op op, int actor, std::vector<long> arguments, bool background = false) {
    if (program_.size() >= kMaxSteps) return false;
    Step step{op, static_cast<std::uint8_t>(actor), background, std::move(arguments)};
    if (model_.refuse(step)) return false;
    model_.take(step);
    program_.push_back(std::move(step));
    return true;
  }

  std::vector<int> actors() const {
    std::vector<int> present;
    for (int i = 0; i < kMaxActors; ++i) {
      if (model().actor(i).started && !model().actor(i).ended) present.push_back(i);
    }
    return present;
  }

  const Model& model() const { return model_; }

  // An unused name that is not one of those, or -1.
  int new_name(int other = -1) const {
    const int name = model_.unused_name();
    if (name == -1 || name != other) return name;
    return name + 1 < kMaxNames ? name + 1 : -1;
  }

  void open_connection() {
    const int client = new_name(), server = new_name(client);
    if (random_.percent(85)) {
      add(Op::pair_, 0, {client, server});
      return;
    }
    const int listener = client;
    add(Op::listen_, 0, {listener});
    const int connected = new_name();
    add(Op::connect_, 0, {connected, listener});
    add(Op::accept_, 0, {new_name(), listener, random_.one_in(4) ? 1 : 0});
  }

  // Ends of connections that an actor holds.
  std::vector<int> ends_of(int actor) const {
    std::vector<int> names = model_.names_of(actor);
    std::erase_if(names, [&](int name) {
      return model().file(model().file_of(actor, name)).kind != Kind::kEndpoint;
    });
    return names;
  }

  // Some actor with a name for the other end of what `name` is to `actor`; -1 in first if none.
  std::pair<int, int> find_peer(int actor, int name, bool other_actor) {
    const int peer = model().file(model().file_of(actor, name)).peer;
    std::vector<std::pair<int, int>> found;
    for (const int one : actors()) {
      if (other_actor && one == actor) continue;
      for (const int held : model_.names_of(one)) {
        if (model().file_of(one, held) == peer) found.emplace_back(one, held);
      }
    }
    return found.empty() ? std::pair{-1, -1} : random_.pick(found);
  }

  // Round trips: in one actor, or between two with one in the background.
  void warm() {
    const int actor = random_.pick(actors());
    const std::vector<int> names = ends_of(actor);
    if (names.empty()) return;
    const int name = random_.pick(names);
    const bool between = company_ != Company::kAlone && random_.one_in(2);
    const auto [other, peer] = find_peer(actor, name, between);
    if (other == -1) return;
    const long rounds = random_.one_in(2) ? 12 + random_.below(20) : random_.below(16) + 1;
    if (other == actor) {
      add(Op::warm_, actor, {name, peer, rounds});
      return;
    }
    const long size = random_.one_in(3) ? size_of_transfer() % 40000 + 1 : 16;
    attempt([&] {
      return add(Op::echo_, other, {peer, size, rounds}, true) &&
             add(Op::ping_, actor, {name, size, rounds}) && add(Op::sync_, other, {});
    });
  }

  // All of it or nothing.
  template <typename Body>
  void attempt(Body body) {
    const Model model = model_;
    const std::size_t size = program_.size();
    if (body()) return;
    model_ = model;
    program_.resize(size);
  }

  void begin_actor() {
    int next = 1;
    while (next < kMaxActors && model().actor(next).started) ++next;
    if (next == kMaxActors || (next > 1 && random_.one_in(2))) return;
    const int creator = random_.pick(actors());
    const bool process = company_ == Company::kProcesses && !random_.one_in(8);
    if (!add(process ? Op::fork_ : Op::thread_, creator, {next}) || !process) return;
    if (random_.percent(60)) {
      // As servers do: each goes on with one end.
      for (const int name : ends_of(creator)) {
        const auto [other, peer] = find_peer(creator, name, false);
        if (other == -1 || random_.one_in(8)) continue;
        add(Op::close_, creator, {name});
        add(Op::close_, next, {peer});
      }
    }
  }

  void end_actor() {
    const int actor = random_.pick(actors());
    const int parent = model().actor(actor).creator;
    attempt([&] {
      return add(Op::exit_, actor, {random_.below(3)}) && add(Op::reap_, parent, {actor});
    });
  }

  void drain_all() {
    for (const int actor : actors()) {
      for (const int name : ends_of(actor)) add(Op::drain_, actor, {name, 65536});
    }
  }

  // --- arguments ---

  long size_of_transfer() {
    const long choice = random_.below(20);
    if (choice < 9) return random_.below(40);
    if (choice < 16) {
      return random_.pick({1L, 64L, 1024L, 4096L, 8192L, 16384L, 32768L, 65536L, 131072L}) - 1 +
             random_.below(3);
    }
    if (choice < 19) return random_.below(9000);
    return random_.below(140000);
  }

  long size_to_receive(int in) {
    const long there = in == -1 ? 0 : model().stream(in).bytes();
    switch (random_.below(6)) {
      case 0:
        return there;
      case 1:
        return there + 1;
      case 2:
        return std::max(there - 1, 0L);
      case 3:
        return 262143 + random_.below(3);
      case 4:
        return there > 1 ? random_.below(there) : 1;
      default:
        return size_of_transfer();
    }
  }

  long send_flags() {
    long flags = 0;
    if (random_.one_in(2)) flags |= MSG_DONTWAIT;
    if (random_.one_in(3)) flags |= MSG_NOSIGNAL;
    if (random_.one_in(12)) flags |= random_.pick({MSG_MORE, MSG_EOR});
    if (random_.one_in(40)) flags |= MSG_OOB;
    return flags;
  }

  long receive_flags() {
    long flags = 0;
    if (random_.one_in(2)) flags |= MSG_DONTWAIT;
    if (random_.one_in(4)) flags |= MSG_PEEK;
    if (random_.one_in(5)) flags |= MSG_WAITALL;
    if (random_.one_in(12)) flags |= MSG_TRUNC;
    if (random_.one_in(40)) flags |= MSG_OOB;
    return flags;
  }

  long events_to_poll() {
    long events = random_.pick({POLLIN, POLLIN, POLLIN | POLLOUT, POLLOUT, 0});
    if (random_.one_in(3)) events |= POLLRDHUP;
    if (random_.one_in(10)) events |= random_.pick({POLLPRI, POLLRDNORM, POLLWRNORM, POLLRDBAND});
    return events;
  }

  long events_of_member() {
    std::uint32_t events =
        random_.pick<std::uint32_t>({EPOLLIN, EPOLLIN, EPOLLIN | EPOLLOUT, EPOLLOUT});
    if (random_.one_in(3)) events |= EPOLLRDHUP;
    if (random_.one_in(3)) events |= EPOLLET;
    if (random_.one_in(6)) events |= EPOLLONESHOT;
    if (random_.one_in(20)) events |= EPOLLPRI;
    return events;
  }

  long argument(const Step& step, char kind) {
    const std::vector<int> names = model_.names_of(step.actor);
    const bool receives = step.op == Op::read_ || step.op == Op::readv_ || step.op == Op::recv_ ||
                          step.op == Op::recvfrom_ || step.op == Op::recvmsg_ ||
                          step.op == Op::recvmmsg_ || step.op == Op::splice_from_ ||
                          step.op == Op::readall_ || step.op == Op::recvfd_;
    switch (kind) {
      case 'd': {
        if (names.empty()) return 0;
        const bool set =
            (step.op == Op::epoll_ctl_ || step.op == Op::epoll_wait_) && step.arguments.empty();
        const bool listener = step.op == Op::connect_ || step.op == Op::accept_;
        if (set || listener) {
          std::vector<int> found = names;
          std::erase_if(found, [&](int name) {
            return model().file(model().file_of(step.actor, name)).kind !=
                   (set ? Kind::kEpoll : Kind::kListener);
          });
          return found.empty() ? 0 : random_.pick(found);
        }
        const std::vector<int> ends = ends_of(step.actor);
        return !ends.empty() && !random_.one_in(8) ? random_.pick(ends) : random_.pick(names);
      }
      case 'D': {
        const bool second = !step.arguments.empty() && kind_of(step.op, 0) == 'D';
        return std::max(new_name(second ? static_cast<int>(step[0]) : -1), 0);
      }
      case 'n': {
        if (step.op == Op::push_) return random_.pick({212992, 262143, 262144, 262145, 400000});
        if (step.op == Op::fill_) return random_.pick({100, 1024, 4096, 5000, 65536, 131072});
        if (step.op == Op::drain_) return random_.pick({1000, 65536, 300000});
        if (step.op == Op::splice_from_) return random_.below(4097);
        if (!receives) return size_of_transfer();
        const long name = kind_of(step.op, 0) == 'd' ? step[0] : 0;
        const int index = model().file_of(step.actor, name);
        return size_to_receive(index == -1 ? -1 : model().file(index).in);
      }
      case 'm':
        return receives ? receive_flags() : send_flags();
      case 'h':
        return random_.below(3);
      case 'p':
        return events_to_poll();
      case 'e':
        return events_of_member();
      case 'c':
        return random_.pick({EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL});
      case 't':
        return random_.one_in(60) ? 1 : 0;
      case 'o':
        return random_.below(kSocketOptionCount);
      case 'k':
        if (step.op == Op::readall_) return 1 + random_.below(70000);
        if (step.op == Op::setopt_) return random_.pick({0, 1, 1, 0, -1, 2});
        return random_.below(2);
      default:
        return 0;
    }
  }

  // A step with arguments that the model may refuse.
  Step propose(Op op, int actor) {
    Step step{op, static_cast<std::uint8_t>(actor), false, {}};
    for (std::size_t i = 0; i < fixed_arguments(op); ++i) {
      step.arguments.push_back(argument(step, kind_of(op, i)));
    }
    if (const std::size_t more = repeated_arguments(op); more != 0) {
      const long times = 1 + random_.below(3);
      for (std::size_t i = 0; i < more * static_cast<std::size_t>(times); ++i) {
        step.arguments.push_back(argument(step, kind_of(op, fixed_arguments(op) + i)));
      }
    }
    if (op == Op::recvfd_) name_what_comes(step);
    return step;
  }

  // The third argument of recvfd is a name, anyone's, of the file whose descriptor comes next.
  void name_what_comes(Step& step) {
    const int index = model().file_of(step.actor, step[0]);
    if (index == -1 || model().file(index).in == -1) return;
    for (const Message& message : model().stream(model().file(index).in).queue) {
      if (message.file == -1) continue;
      for (const int actor : actors()) {
        for (const int name : model_.names_of(actor)) {
          if (model().file_of(actor, name) == message.file) step.arguments[2] = name;
        }
      }
      return;
    }
  }

  Op pick_op() {
    static const long total = [] {
      long sum = 0;
      for (const Weight& one : kWeights) sum += one.weight;
      return sum;
    }();
    long left = random_.below(total);
    for (const Weight& one : kWeights) {
      if ((left -= one.weight) < 0) return one.op;
    }
    return Op::read_;
  }

  void one_step() {
    for (int tries = 0; tries < 12; ++tries) {
      Step step = propose(pick_op(), random_.pick(actors()));
      if (add(step.op, step.actor, std::move(step.arguments))) return;
    }
  }

  // A step that waits, what it waits for, and its end.
  void in_background() {
    if (actors().size() < 2) return;
    const int waiter = random_.pick(actors());
    const std::vector<int> names = ends_of(waiter);
    if (names.empty()) return;
    const int name = random_.pick(names);
    const auto [other, peer] = find_peer(waiter, name, true);
    if (other == -1) return;
    attempt([&, bringer = other, end = peer] {
      const long choice = random_.below(10);
      if (choice < 2) return big_write(waiter, name, bringer, end);
      if (choice < 6) {
        Step step = propose(random_.pick({Op::read_, Op::recv_, Op::recvmsg_, Op::readv_}), waiter);
        step.arguments[0] = name;
        if (kind_of(step.op, step.arguments.size() - 1) == 'm') {
          step.arguments.back() = random_.one_in(3) ? MSG_WAITALL : 0;
        }
        if (step.op == Op::recvmsg_) step.arguments[1] = 0;
        if (!add(step.op, waiter, step.arguments, true)) return false;
      } else if (choice < 8) {
        const Op op = random_.pick({Op::poll_, Op::ppoll_, Op::select_});
        const long events = POLLIN | (random_.one_in(3) && op != Op::select_ ? POLLRDHUP : 0);
        if (!add(op, waiter, {6000, name, events}, true)) return false;
      } else {
        std::vector<int> sets = model_.names_of(waiter);
        std::erase_if(sets, [&](int one) {
          return model().file(model().file_of(waiter, one)).kind != Kind::kEpoll;
        });
        if (sets.empty() || !add(Op::epoll_wait_, waiter, {random_.pick(sets), 6000}, true)) {
          return false;
        }
      }
      if (random_.one_in(2)) add(Op::delay_, bringer, {random_.pick({1L, 60L, 200L})});
      for (int tries = 0; tries < 6; ++tries) {
        if (random_.one_in(6)) {
          random_.one_in(2) ? add(Op::close_, bringer, {end})
                            : add(Op::shutdown_, bringer, {end, random_.below(3)});
        } else {
          const Op op = random_.pick({Op::write_, Op::send_, Op::writev_, Op::sendmsg_});
          Step step = propose(op, bringer);
          step.arguments[0] = end;
          add(op, bringer, step.arguments);
        }
        if (add(Op::sync_, waiter, {})) return true;
      }
      return false;
    });
  }

  bool big_write(int waiter, int name, int reader, int end) {
    const long size = random_.pick({300000L, 400001L, 524288L, 600000L});
    const Op op = random_.pick({Op::write_, Op::send_});
    std::vector<long> arguments{name, size};
    if (op == Op::send_) arguments.push_back(0);
    if (!add(op, waiter, arguments, true)) return false;
    if (random_.one_in(2)) add(Op::delay_, reader, {random_.pick({1L, 60L, 200L})});
    const long before = model().stream(model().file(model().file_of(reader, end)).in).bytes();
    const long piece = random_.pick({1000L, 4096L, 65536L, 262145L, 700000L});
    return add(Op::readall_, reader, {end, before, piece}) && add(Op::sync_, waiter, {});
  }

  Random random_;
  Company company_;
  Model model_;
  Program program_;
};

}  // namespace

Program generate(std::uint64_t seed, std::uint64_t index) { return Generator(seed, index).make(); }

}  // namespace differential
