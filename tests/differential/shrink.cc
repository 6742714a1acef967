#include "tests/differential/shrink.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "tests/differential/model.h"

namespace differential {
namespace {

// A hang needs to be seen, not waited for as long as in a batch; a candidate that was merely slow
// is lost, no more.
constexpr int kShortPatience = 700;  // milliseconds

// It is to be read by a person, not to be perfect.
constexpr std::chrono::seconds kLongEnough{60};

class Shrinker {
  using Clock = std::chrono::steady_clock;

 public:
  Shrinker(Oracle& oracle, Program program, Difference& difference)
      : oracle_(oracle),
        program_(std::move(program)),
        difference_(difference),
        op_(difference.op(program_)) {}

  Program run() {
    for (bool again = true; again;) {
      again = remove_steps();
      again = remove_names() || again;
      again = join_actors() || again;
      again = simplify_steps() || again;
    }
    return std::move(program_);
  }

 private:
  // Takes the candidate over if it may be played and still differs.
  bool keep(Program candidate) {
    if (candidate == program_ || refuse(candidate) || Clock::now() >= end_) return false;
    std::optional<Difference> difference = oracle_.play(candidate, kShortPatience);
    if (!difference || difference->hung_on_kernel() || difference->op(candidate) != op_) {
      return false;
    }
    // By chance? What comes and goes would lead astray.
    if (!(difference = oracle_.play(candidate, kShortPatience)) ||
        difference->op(candidate) != op_) {
      return false;
    }
    program_ = std::move(candidate);
    difference_ = std::move(*difference);
    return true;
  }

  bool remove_steps() {
    bool progress = false;
    for (std::size_t size = std::max(program_.size() / 2, std::size_t{1}); size > 0; size /= 2) {
      for (std::size_t at = program_.size(); at > 0;) {
        at = at > size ? at - size : 0;
        Program candidate = program_;
        const auto first = candidate.begin() + static_cast<std::ptrdiff_t>(at);
        candidate.erase(first,
                        first + static_cast<std::ptrdiff_t>(std::min(size, candidate.size() - at)));
        progress = keep(std::move(candidate)) || progress;
        at = std::min(at, program_.size());
      }
    }
    return progress;
  }

  // Removes a name with everything that says it, and what it leads to.
  bool remove_names() {
    bool progress = false;
    for (std::size_t i = program_.size(); i-- > 0;) {
      if (i >= program_.size()) continue;
      std::array<bool, kMaxNames> gone{};
      bool makes = false;
      Program candidate(program_.begin(), program_.begin() + static_cast<std::ptrdiff_t>(i));
      for (std::size_t j = i; j < program_.size(); ++j) {
        const Step& step = program_[j];
        bool out = j == i;
        for (std::size_t k = 0; k < step.arguments.size(); ++k) {
          const char kind = kind_of(step.op, k);
          if (kind == 'd') out = out || gone[static_cast<std::size_t>(step[k])];
        }
        for (std::size_t k = 0; out && k < step.arguments.size(); ++k) {
          if (kind_of(step.op, k) != 'D') continue;
          gone[static_cast<std::size_t>(step[k])] = true;
          makes = true;
        }
        if (!out) candidate.push_back(step);
      }
      if (makes) progress = keep(std::move(candidate)) || progress;
    }
    return progress;
  }

  // Gives one actor's steps to another.
  bool join_actors() {
    bool progress = false;
    for (std::uint8_t from = kMaxActors - 1; from > 0; --from) {
      for (std::uint8_t to = 0; to < from; ++to) {
        Program candidate;
        for (Step step : program_) {
          const bool starts =
              step.op == Op::thread_ || step.op == Op::fork_ || step.op == Op::reap_;
          if ((starts && step[0] == from) || (step.op == Op::exit_ && step.actor == from)) continue;
          if (step.actor == from) {
            step.actor = to;
            step.background = false;
          }
          candidate.push_back(std::move(step));
        }
        progress = keep(std::move(candidate)) || progress;
      }
    }
    return progress;
  }

  bool try_argument(std::size_t at, std::size_t argument, long value) {
    Program candidate = program_;
    candidate[at].arguments[argument] = value;
    return keep(std::move(candidate));
  }

  bool simplify_steps() {
    bool progress = false;
    for (std::size_t i = 0; i < program_.size(); ++i) {
      progress = simplify_op(i) || progress;
      // Fewer of the arguments that repeat.
      const std::size_t fixed = fixed_arguments(program_[i].op);
      if (const std::size_t more = repeated_arguments(program_[i].op); more != 0) {
        for (std::size_t at = fixed + more; at < program_[i].arguments.size();) {
          Program candidate = program_;
          auto& arguments = candidate[i].arguments;
          const auto first = arguments.begin() + static_cast<std::ptrdiff_t>(at);
          arguments.erase(first, first + static_cast<std::ptrdiff_t>(more));
          if (keep(std::move(candidate))) {
            progress = true;
          } else {
            at += more;
          }
        }
      }
      for (std::size_t j = 0; j < program_[i].arguments.size(); ++j) {
        progress = simplify_argument(i, j) || progress;
      }
    }
    return progress;
  }

  // write() and read() for their relatives.
  bool simplify_op(std::size_t at) {
    const Step& step = program_[at];
    if (step.op == op_) return false;
    const std::string_view arguments = pattern(step.op);
    Program candidate = program_;
    Step& simple = candidate[at];
    switch (step.op) {
      case Op::send_:
      case Op::sendto_:
      case Op::sendfile_:
      case Op::splice_to_:
      case Op::dprintf_:
      case Op::fwrite_:
        simple.op = Op::write_;
        simple.arguments.resize(2);
        break;
      case Op::writev_:
      case Op::sendmsg_:
      case Op::sendmmsg_:
        simple.op = Op::write_;
        simple.arguments = {step[0], sum_of_sizes(step)};
        break;
      case Op::recvfrom_:
        simple.op = Op::recv_;
        break;
      case Op::recv_:
      case Op::splice_from_:
        simple.op = Op::read_;
        simple.arguments.resize(2);
        break;
      case Op::readv_:
      case Op::recvmsg_:
      case Op::recvmmsg_:
        simple.op = Op::read_;
        simple.arguments = {step[0], sum_of_sizes(step)};
        break;
      case Op::ppoll_:
      case Op::select_:
        simple.op = Op::poll_;
        break;
      default:
        static_cast<void>(arguments);
        return false;
    }
    return keep(std::move(candidate));
  }

  bool simplify_argument(std::size_t at, std::size_t argument) {
    bool progress = false;
    const auto value = [&] { return program_[at][argument]; };
    switch (kind_of(program_[at].op, argument)) {
      case 'm':
      case 'p':
      case 'e':
        for (unsigned bit = 0; bit < 32; ++bit) {
          if ((value() & (1L << bit)) == 0) continue;
          progress = try_argument(at, argument, value() & ~(1L << bit)) || progress;
        }
        return progress;
      case 'n':
      case 'k':
        if (value() <= 0) return false;
        for (const long smaller : {0L, 1L, 2L, 10L, 100L, 1000L, 4096L}) {
          if (smaller < value() && try_argument(at, argument, smaller)) return true;
        }
        for (long step = value() / 2; step > 0; step /= 2) {
          while (step < value() && try_argument(at, argument, value() - step)) progress = true;
        }
        return progress;
      case 't':
        return value() != 0 && !program_[at].background && try_argument(at, argument, 0);
      default:
        return false;
    }
  }

  Oracle& oracle_;
  Program program_;
  Difference& difference_;
  const Op op_;
  const Clock::time_point end_ = Clock::now() + kLongEnough;
};

}  // namespace

Program shrink(Oracle& oracle, Program program, Difference& difference) {
  return Shrinker(oracle, std::move(program), difference).run();
}

}  // namespace differential
