// Steps that are one call and move bytes.
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "tests/differential/byte_pattern.h"
#include "tests/differential/perform.h"

namespace differential {
namespace {

constexpr std::size_t kGap = 16;  // between the parts of a vector, and after the last
constexpr char kUntouched = '\xEE';

// The parts of a vector whose sizes are the step's numbers from `first` on.
struct Parts {
  iovec vector[kMaxArguments];
  std::size_t count = 0;

  // Over bytes to send, one behind the other.
  Parts(const Step& step, std::size_t first, const char* bytes) {
    for (std::size_t i = first; i < step.arguments.size(); ++i) {
      const auto size = static_cast<std::size_t>(step[i]);
      vector[count++] = {const_cast<char*>(bytes), size};
      bytes += size;
    }
  }

  // To receive into, with gaps that must stay as they are. Inside of a part, behind what was
  // received, one byte of ours may be: exclusions.h, kByteBehind.
  Parts(const Step& step, std::size_t first) {
    char* at = scratch();
    for (std::size_t i = first; i < step.arguments.size(); ++i) {
      const auto size = static_cast<std::size_t>(step[i]);
      vector[count++] = {at, size};
      at += size;
      std::memset(at, kUntouched, kGap);
      at += kGap;
    }
  }

  // What `received` bytes filled, in one piece; minus the number of bytes written outside.
  long gather(long received, char* into) const {
    long stray = 0;
    auto left = static_cast<std::size_t>(std::max(received, 0L));
    for (std::size_t i = 0; i < count; ++i) {
      const char* base = static_cast<const char*>(vector[i].iov_base);
      const std::size_t size = vector[i].iov_len, taken = std::min(size, left);
      std::memcpy(into, base, taken);
      into += taken;
      left -= taken;
      for (std::size_t j = size; j < size + kGap; ++j) stray -= base[j] != kUntouched;
    }
    return stray;
  }
};

// A buffer for what gather() puts together.
char* gathered() {
  thread_local const std::unique_ptr<char[]> bytes(new char[kMaxTransfer]);
  return bytes.get();
}

void check_parts(Result& result, const Incoming& in, const Parts& parts, long received,
                 bool peeked) {
  if (const long stray = parts.gather(received, gathered()); stray != 0) result.add(stray);
  in.check(result, gathered(), received, peeked);
}

// One message for each part.
struct Messages {
  mmsghdr headers[kMaxArguments]{};
  unsigned count;
  explicit Messages(Parts& parts) : count(static_cast<unsigned>(parts.count)) {
    for (std::size_t i = 0; i < parts.count; ++i) {
      headers[i].msg_hdr.msg_iov = &parts.vector[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
  }
};

long splice_through_pipe_to(int fd, const char* bytes, std::size_t size) {
  int ends[2];
  if (::pipe(ends) == -1) return -1;
  ::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
  long count = ::write(ends[1], bytes, size);
  if (count > 0)
    count = ::splice(ends[0], nullptr, fd, nullptr, static_cast<std::size_t>(count), 0);
  const int error = errno;
  ::close(ends[0]);
  ::close(ends[1]);
  errno = error;
  return count;
}

long splice_through_pipe_from(int fd, char* bytes, std::size_t size) {
  int ends[2];
  if (::pipe(ends) == -1) return -1;
  const long count = ::splice(fd, nullptr, ends[1], nullptr, size, SPLICE_F_NONBLOCK);
  const int error = errno;
  long there = 0;
  while (there < count) {
    const long more = ::read(ends[0], bytes + there, size - static_cast<std::size_t>(there));
    if (more <= 0) break;
    there += more;
  }
  ::close(ends[0]);
  ::close(ends[1]);
  errno = error;
  return count == there || count == -1 ? count : -3;
}

long write_as_file(int fd, const char* bytes, std::size_t size, int& closed) {
  char buffer[4096];
  const int copy = ::dup(fd);
  FILE* file = ::fdopen(copy, "w");
  if (file == nullptr) {
    ::close(copy);
    return -1;
  }
  // Of one size: libc's own depends on the kind of file.
  std::setvbuf(file, buffer, _IOFBF, sizeof buffer);
  const long count = static_cast<long>(std::fwrite(bytes, 1, size, file));
  closed = std::fclose(file);
  return count;
}

}  // namespace

bool Performer::perform_bytes(const Step& step, const Route& route, Result& result) {
  if (step.arguments.empty() || kind_of(step.op, 0) != 'd') return false;
  const int to = fd(step[0]);
  const Outgoing out{board_, std::max(route[0].out, 0)};
  const Incoming in{board_, std::max(route[0].in, 0)};
  const auto size = [&](std::size_t i) { return static_cast<std::size_t>(step[i]); };
  const auto flags = [&](std::size_t i) { return static_cast<int>(step[i]); };
  const auto peeks = [&](std::size_t i) { return (step[i] & MSG_PEEK) != 0; };
  switch (step.op) {
    case Op::write_:
      result = outcome(::write(to, out.bytes(), size(1)));
      break;
    case Op::send_:
      result = outcome(::send(to, out.bytes(), size(1), flags(2)));
      break;
    case Op::sendto_:
      result = outcome(::sendto(to, out.bytes(), size(1), flags(2), nullptr, 0));
      break;
    case Op::writev_: {
      const Parts parts(step, 1, out.bytes());
      result = outcome(::writev(to, parts.vector, static_cast<int>(parts.count)));
      break;
    }
    case Op::sendmsg_: {
      Parts parts(step, 2, out.bytes());
      msghdr message{};
      message.msg_iov = parts.vector;
      message.msg_iovlen = parts.count;
      result = outcome(::sendmsg(to, &message, flags(1)));
      break;
    }
    case Op::sendmmsg_: {
      Parts parts(step, 2, out.bytes());
      Messages messages(parts);
      result = outcome(::sendmmsg(to, messages.headers, messages.count, flags(1)));
      for (long i = 0; i < result.value; ++i) {
        result.add(messages.headers[i].msg_len);
        out.sent(messages.headers[i].msg_len);
      }
      return true;
    }
    case Op::sendfile_: {
      off_t offset = pattern_file_offset(out.stream, board_.sent[out.stream]);
      const off_t start = offset;
      result = outcome(::sendfile(to, pattern_file(), &offset, size(1)));
      result.add(offset - start);
      break;
    }
    case Op::splice_to_:
      result = outcome(splice_through_pipe_to(to, out.bytes(), size(1)));
      break;
    case Op::dprintf_:
      // Not a literal in whole, or the compiler would turn it into something else.
      result = outcome(::dprintf(to, "%.*s", flags(1), out.bytes()));
      break;
    case Op::fwrite_: {
      int closed = 0;
      result = outcome(write_as_file(to, out.bytes(), size(1), closed));
      result.add(closed);
      break;
    }
    case Op::read_: {
      const Parts parts(step, 1);
      const long count = ::read(to, parts.vector[0].iov_base, size(1));
      result = outcome(count);
      check_parts(result, in, parts, count, false);
      return true;
    }
    case Op::readv_: {
      const Parts parts(step, 1);
      result = outcome(::readv(to, parts.vector, static_cast<int>(parts.count)));
      check_parts(result, in, parts, result.value, false);
      return true;
    }
    case Op::recv_:
    case Op::recvfrom_: {
      const Step one{.arguments = {step[1]}};
      const Parts parts(one, 0);
      sockaddr_un from;
      std::memset(&from, 0x55, sizeof from);
      socklen_t length = sizeof from;
      const bool bare = step.op == Op::recv_;
      result = outcome(bare ? ::recv(to, parts.vector[0].iov_base, size(1), flags(2))
                            : ::recvfrom(to, parts.vector[0].iov_base, size(1), flags(2),
                                         reinterpret_cast<sockaddr*>(&from), &length));
      if (!bare && result.value != -1) result.add(length);
      check_parts(result, in, parts, result.value, peeks(2));
      return true;
    }
    case Op::recvmsg_: {
      Parts parts(step, 2);
      sockaddr_un from{};
      msghdr message{};
      message.msg_iov = parts.vector;
      message.msg_iovlen = parts.count;
      message.msg_name = &from;
      message.msg_namelen = sizeof from;
      result = outcome(::recvmsg(to, &message, flags(1)));
      if (result.value != -1) {
        result.add(message.msg_flags);
        result.add(message.msg_namelen);
      }
      check_parts(result, in, parts, result.value, peeks(1));
      return true;
    }
    case Op::recvmmsg_: {
      Parts parts(step, 2);
      Messages messages(parts);
      result = outcome(::recvmmsg(to, messages.headers, messages.count, flags(1), nullptr));
      for (long i = 0; i < result.value; ++i) {
        const long count = messages.headers[i].msg_len;
        result.add(count);
        result.add(messages.headers[i].msg_hdr.msg_flags);
        in.check(result, static_cast<const char*>(parts.vector[i].iov_base), count, peeks(1));
      }
      return true;
    }
    case Op::splice_from_: {
      const long count = splice_through_pipe_from(to, scratch(), size(1));
      result = outcome(count);
      in.check(result, scratch(), count, false);
      return true;
    }
    default:
      return false;
  }
  out.sent(result.value);
  return true;
}

}  // namespace differential
