// Steps that move bytes in a loop.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "tests/differential/byte_pattern.h"
#include "tests/differential/perform.h"

namespace differential {
namespace {

// A blocking write of all, or what the write that failed returned.
long write_all(int fd, const Outgoing& out, long size) {
  const char* bytes = out.bytes();
  long done = 0;
  while (done < size) {
    const long count = ::write(fd, bytes + done, static_cast<std::size_t>(size - done));
    if (count <= 0) return count;
    done += count;
  }
  out.sent(done);
  return done;
}

// Reads until there are that many bytes; each piece is checked. Returns the bytes, fewer at the
// end of the stream; errors are those of read().
long read_all(int fd, const Incoming& in, Result& result, long size, long piece) {
  long done = 0;
  bool right = true;
  long count = 0;
  while (done < size) {
    count = ::read(fd, scratch(), static_cast<std::size_t>(std::min(size - done, piece)));
    if (count <= 0) break;
    Result check{};
    in.check(check, scratch(), count, false);
    right = right && check.extras[0] == 1;
    done += count;
  }
  if (!right) result.add(0);
  return count < 0 && done == 0 ? -1 : done;
}

}  // namespace

bool Performer::perform_loop(const Step& step, const Route& route, Result& result) {
  if (step.arguments.empty() || kind_of(step.op, 0) != 'd') return false;
  const int one = fd(step[0]);
  const Outgoing out{board_, std::max(route[0].out, 0)};
  const Incoming in{board_, std::max(route[0].in, 0)};
  switch (step.op) {
    case Op::warm_: {
      const int other = fd(step[1]);
      const Outgoing back{board_, std::max(route[1].out, 0)};
      const Incoming there{board_, std::max(route[1].in, 0)};
      long round = 0;
      while (round < step[2] && write_all(one, out, 16) == 16 &&
             read_all(other, there, result, 16, 16) == 16 && write_all(other, back, 16) == 16 &&
             read_all(one, in, result, 16, 16) == 16) {
        ++round;
      }
      result.value = round;
      if (round < step[2]) result.error = errno;
      return true;
    }
    case Op::ping_:
    case Op::echo_: {
      const bool first = step.op == Op::ping_;
      long round = 0;
      while (round < step[2] && (!first || write_all(one, out, step[1]) == step[1]) &&
             read_all(one, in, result, step[1], step[1]) == step[1] &&
             (first || write_all(one, out, step[1]) == step[1])) {
        ++round;
      }
      result.value = round;
      if (round < step[2]) result.error = errno;
      return true;
    }
    case Op::push_: {
      const long count = ::send(one, out.bytes(), static_cast<std::size_t>(step[1]), MSG_DONTWAIT);
      result = outcome(count);
      out.sent(count);
      result.value = std::min(count, 1L);
      return true;
    }
    case Op::fill_: {
      long count = 0, total = 0;
      while ((count = ::send(one, out.bytes(), static_cast<std::size_t>(step[1]), MSG_DONTWAIT)) >
             0) {
        out.sent(count);
        total += count;
      }
      result = outcome(count);
      result.add(total > 0);
      return true;
    }
    case Op::drain_: {
      long count = 0;
      bool right = true;
      while ((count = ::recv(one, scratch(), static_cast<std::size_t>(step[1]), MSG_DONTWAIT)) >
             0) {
        Result check{};
        in.check(check, scratch(), count, false);
        right = right && check.extras[0] == 1;
      }
      result = outcome(count);
      result.add(right);
      // Everything that the other end was told it had sent.
      result.add(board_.sent[in.stream] == board_.received[in.stream]);
      return true;
    }
    case Op::readall_:
      result.value = read_all(one, in, result, step[1], step[2]);
      result.error = result.value == -1 ? errno : 0;
      return true;
    default:
      return false;
  }
}

}  // namespace differential
