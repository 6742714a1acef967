#include "shim/stream_io.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <sys/un.h>

#include <cstring>

#include "core/fault.h"
#include "core/fault_point.h"
#include "core/socket_look.h"
#include "core/sys.h"
#include "shim/control_data.h"
#include "shim/epoll_set.h"
#include "shim/real.h"
#include "shim/status_flags.h"
#include "shim/stream_sleep.h"

namespace tssx {
namespace {

constexpr std::uint64_t kSharedSleepNs = 100'000'000;
// Parts of a vector that are handled at once where its beginning is done already: small, for the
// smallest of stacks.
constexpr std::size_t kParts = 64;

ssize_t fail(int error) noexcept {
  errno = error;
  return -1;
}

std::size_t total_size(const msghdr& message) noexcept {
  std::size_t total = 0;
  for (std::size_t i = 0; i < message.msg_iovlen; ++i) total += message.msg_iov[i].iov_len;
  return total;
}

// Does the kernel accept these parts at all? (import_iovec(): EINVAL, EMSGSIZE, EFAULT)
int check_parts(const msghdr& message) noexcept {
  if (message.msg_iovlen > 1024) return EMSGSIZE;
  if (!is_readable(message.msg_iov, message.msg_iovlen * sizeof(iovec))) return EFAULT;
  bool bad = false;
  for (std::size_t i = 0; i < message.msg_iovlen; ++i) {
    const iovec& part = message.msg_iov[i];
    if (static_cast<ssize_t>(part.iov_len) < 0) return EINVAL;
    if (is_kernel_address(part.iov_base, part.iov_len)) bad = true;
  }
  return bad ? EFAULT : 0;
}

std::uint64_t timeout_of(int fd, int option, std::atomic<std::uint64_t>& cached) noexcept {
  std::uint64_t value = cached.load(std::memory_order_relaxed);
  if (value != kUnknownTimeout) return value;
  timeval time{};
  socklen_t length = sizeof time;
  value = 0;
  if (sys::getsockopt(fd, SOL_SOCKET, option, &time, &length) == 0) {
    value = static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
            static_cast<std::uint64_t>(time.tv_usec) * 1000U;
  }
  cached.store(value, std::memory_order_relaxed);
  return value;
}

// A wait that ended without a sleep. Two threads that wait at once may count as one.
void count_active(Channel& channel, WaitCounts& counts) noexcept {
  std::atomic<std::uint64_t>& counter =
      channel.waiter.take_yielded() ? counts.yielded : counts.spun;
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void count_sleep(Channel& channel, WaitCounts& counts) noexcept {
  channel.waiter.take_yielded();
  counts.slept.store(counts.slept.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// For bytes, or for room for what has to go first: nobody else may be there to send that, and the
// peer may wait for it. The caller is counted as a sleeper.
Wake sleep_beside_rest(Channel& channel, int fd, std::uint64_t deadline, bool restartable) {
  const Sleep sleep(channel);
  const int ready = poll_until(fd, POLLIN | POLLOUT, deadline);
  if (ready < 0) return after_signal(deadline == 0 && restartable);
  return ready == 0 ? Wake::timed_out : Wake::look_again;
}

Wake wait_for_data(Channel& channel, int fd, std::uint64_t deadline, bool restartable) {
  if (channel.waiter.wait(channel.peer_cpu(), [&] { return channel.may_receive(); })) {
    count_active(channel, channel.counts().receiving);
    return Wake::look_again;
  }
  const bool untimed = deadline == 0 && restartable;
  const bool consuming = channel.is_exclusive() && untimed;
  if (clear_bells(channel, fd, consuming, untimed) == Wake::interrupted) return Wake::interrupted;
  if (!channel.arm_data()) return Wake::look_again;
  count_sleep(channel, channel.counts().receiving);
  if (channel.has_rest()) return sleep_beside_rest(channel, fd, deadline, restartable);
  return sleep_on_socket(channel, fd, deadline, restartable);
}

Wake wait_for_space(Channel& channel, int fd, std::uint64_t deadline, bool restartable) {
  if (channel.waiter.wait(channel.peer_cpu(), [&] { return channel.may_send(); })) {
    count_active(channel, channel.counts().sending);
    return Wake::look_again;
  }
  const bool untimed = deadline == 0 && restartable;
  if (!channel.receives_from_ring() || channel.has_read_cut()) {
    // What lies on the socket is data, not bells, and the peer can't ring yet: look now and then.
    if (deadline != 0 && sys::now_ns() >= deadline) return Wake::timed_out;
    return nap(kNapNs * 4, untimed);
  }
  const bool consuming = channel.is_exclusive() && untimed;
  if (clear_bells(channel, fd, consuming, untimed) == Wake::interrupted) return Wake::interrupted;
  if (!channel.arm_space()) return Wake::look_again;
  count_sleep(channel, channel.counts().sending);
  if (channel.is_exclusive()) return sleep_on_socket(channel, fd, deadline, restartable);
  // Another thread may take this direction back to the kernel, which makes nothing readable here:
  // look from time to time.
  const std::uint64_t soon = sys::now_ns() + kSharedSleepNs;
  const bool bounded = deadline == 0 || soon < deadline;
  const Wake wake = sleep_on_socket(channel, fd, bounded ? soon : deadline, restartable);
  if (wake == Wake::interrupted) return after_signal(untimed);
  return bounded && wake == Wake::timed_out ? Wake::look_again : wake;
}

// Bytes that the peer left in the ring have to go first, and the socket has no room for them: as
// sock_wait_for_wmem() of the kernel waits.
Wake wait_for_socket(int fd, std::uint64_t deadline, bool restartable) {
  const int ready = poll_until(fd, POLLOUT, deadline);
  if (ready < 0) return after_signal(deadline == 0 && restartable);
  return ready == 0 ? Wake::timed_out : Wake::look_again;
}

// When a send by this descriptor has to end; 0: never.
std::uint64_t send_deadline(Channel& channel, int fd) noexcept {
  const std::uint64_t timeout = timeout_of(fd, SO_SNDTIMEO, channel.side().state.send_timeout_ns);
  return timeout != 0 ? sys::now_ns() + timeout : 0;
}

// --- receiving by the kernel ---

struct KernelReceive {
  ssize_t bytes;  // -1: failed, errno set
  bool again;     // it stopped at a message of ours: there may be more behind it
  bool named;     // the kernel told the sender's name
};

[[gnu::cold]] void skip_parts(msghdr& message, iovec* parts, std::size_t skip) noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < message.msg_iovlen && count < kParts; ++i) {
    iovec part = message.msg_iov[i];
    const std::size_t cut = std::min(skip, part.iov_len);
    skip -= cut;
    part.iov_base = static_cast<char*>(part.iov_base) + cut;
    part.iov_len -= cut;
    if (part.iov_len != 0 || skip == 0) parts[count++] = part;
  }
  message.msg_iov = parts;
  message.msg_iovlen = count;
}

// Sleeps until bytes come by the kernel, beside other threads: one of them may take the cut to the
// ring off the socket meanwhile, and then asks for a bell for whoever is counted as asleep.
[[gnu::cold]] KernelReceive sleep_for_kernel_bytes(Channel& channel, int fd,
                                                   std::uint64_t& deadline) {
  if (deadline == 0) {
    const std::uint64_t timeout =
        timeout_of(fd, SO_RCVTIMEO, channel.side().state.receive_timeout_ns);
    if (timeout != 0) deadline = sys::now_ns() + timeout;
  }
  if (!channel.arm_data()) return {0, true, false};
  const bool has_rest = channel.has_rest();
  if (deadline != 0 || has_rest) {
    switch (has_rest ? sleep_beside_rest(channel, fd, deadline, true)
                     : sleep_on_socket(channel, fd, deadline, false)) {
      case Wake::look_again:
        return {0, true, false};
      case Wake::interrupted:
        return {fail(EINTR), false, false};
      case Wake::timed_out:
        return {fail(EAGAIN), false, false};
    }
  }
  Sleep sleep(channel);
  char byte = 0;
  return {real::recv(fd, &byte, 1, MSG_PEEK) < 0 ? -1 : 0, true, false};
}

// Several processes may read here, and the peer's cut to the ring lie behind what is there. Who
// takes it may be killed before it is noted, so it is taken by itself (core/channel_resume.cc): how
// many bytes lie before it, or all that fit; 0 at the end, and where there is nothing else; < 0:
// -errno. Called with the receiving lock.
[[gnu::cold]] ssize_t bytes_before_cut(Channel& channel, int fd, const msghdr& parts,
                                       bool* cut) noexcept {
  iovec wider[kParts];
  char beyond = 0;
  const std::size_t count = std::min(parts.msg_iovlen, kParts - 1);
  std::memcpy(wider, parts.msg_iov, count * sizeof(iovec));
  wider[count] = iovec{&beyond, 1};
  alignas(cmsghdr) char control[kControlRoom];
  msghdr look{};
  look.msg_iov = wider;
  look.msg_iovlen = count + 1;
  look.msg_control = control;
  look.msg_controllen = sizeof control;
  const long got = sys::recvmsg(fd, &look, MSG_DONTWAIT | MSG_PEEK | MSG_CMSG_CLOEXEC);
  if (got <= 0) return got;
  const std::size_t bytes =
      channel.inspect(fd, look, static_cast<std::size_t>(got), Peek::yes, cut);
  if (!*cut) {
    msghdr nobody{};
    int flags = 0;
    deliver_control(look, nobody, flags);  // closes what it brought
  }
  return static_cast<ssize_t>(bytes);
}

// The first `size` bytes of the parts; fewer of many parts.
void limit_parts(msghdr& message, iovec* parts, std::size_t size) noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < message.msg_iovlen && count < kParts && size != 0; ++i) {
    parts[count] = message.msg_iov[i];
    parts[count].iov_len = std::min(parts[count].iov_len, size);
    size -= parts[count++].iov_len;
  }
  message.msg_iov = parts;
  message.msg_iovlen = count;
}

// One recvmsg(2) in kernel mode, our notices taken out of it. `by_kernel`: which may also wait, as
// nobody else reads here, and there is nothing to be done meanwhile.
[[gnu::cold]] KernelReceive receive_from_kernel(EndpointRef& endpoint, msghdr& wanted,
                                                msghdr& parts, int flags, bool by_kernel,
                                                bool may_block, std::uint64_t& deadline) {
  Channel& channel = endpoint.channel();
  const int fd = endpoint.fd();
  alignas(cmsghdr) char control[kControlRoom];
  msghdr message{};
  message.msg_iov = parts.msg_iov;
  message.msg_iovlen = parts.msg_iovlen;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  sockaddr_un name{};
  message.msg_name = &name;
  message.msg_namelen = sizeof name;

  // Where nothing but an offer to be dropped can come any more, the mode can't change under us.
  const bool retired = channel.is_retired();
  const bool exclusive = by_kernel || retired;
  ssize_t got = 0;
  bool notice = false;
  const Peek peek = (flags & MSG_PEEK) != 0 ? Peek::yes : Peek::no;
  if (retired && peek == Peek::yes) channel.settle(fd);
  // A peek whose room is used up reports descriptors of later messages too (the kernel's
  // unix_stream_read_generic()). With a byte of room beyond the application's, a notice is the last
  // byte of what was peeked.
  iovec wider[kParts];
  char beyond[2];
  const std::size_t room = peek == Peek::yes ? total_size(parts) : 0;
  if (peek == Peek::yes && !retired && parts.msg_iovlen < kParts) {
    std::memcpy(wider, parts.msg_iov, parts.msg_iovlen * sizeof(iovec));
    wider[parts.msg_iovlen] = iovec{beyond, room == 0 ? std::size_t{2} : std::size_t{1}};
    message.msg_iov = wider;
    message.msg_iovlen = parts.msg_iovlen + 1;
  }
  if (exclusive) {
    got = channel.is_exclusive() && !retired ? receive_asleep(channel, fd, message, flags, false)
                                             : real::recvmsg(fd, &message, flags);
    TSSX_FAULT_POINT(kernel_received_alone);
    if (got < 0 && errno == EMSGSIZE) return {0, true, false};
    if (got > 0 && !(retired && peek == Peek::yes)) {
      got = static_cast<ssize_t>(
          channel.inspect(fd, message, static_cast<std::size_t>(got), peek, &notice));
    }
  } else {
    // Others read here too: what is taken off the socket, and what it means, belong together.
    bool crowded = false;  // a message of ours is left for sleepers to see
    bool settled = false;  // a message of ours was taken by itself
    {
      LockScope lock(channel.side().receiving.lock, false);
      channel.finish_receiving(fd);
      if (channel.receives_from_ring()) return {0, true, false};
      const bool others_sleep = channel.has_sleepers();
      crowded = others_sleep && channel.settle_locked(fd, Channel::Notices::leave_for_a_while) ==
                                    Channel::Front::notice;
      if (channel.receives_from_ring()) return {0, true, false};
      bool cut = false;
      ssize_t limit = 1;
      if (!crowded && peek == Peek::no && channel.expects_cut()) {
        limit = bytes_before_cut(channel, fd, parts, &cut);
        limit_parts(message, wider, static_cast<std::size_t>(std::max<ssize_t>(limit, 0)));
      }
      if (cut && limit == 0) {
        channel.settle_locked(fd, Channel::Notices::leave_for_a_while);
        settled = true;
      } else if (limit < 0) {
        got = fail(static_cast<int>(-limit));
      } else if (!crowded && limit != 0) {
        got = real::recvmsg(fd, &message, flags | MSG_DONTWAIT);
      }
      TSSX_FAULT_POINT(kernel_received);
      if (got > 0) {
        got = static_cast<ssize_t>(
            channel.inspect(fd, message, static_cast<std::size_t>(got), peek, &notice));
      }
    }
    if (settled) {
      follow_mode(*endpoint);  // without the lock
      return {0, true, false};
    }
    if (crowded) {
      if (!may_block) return {fail(EAGAIN), false, false};
      if (nap(kNapNs, deadline == 0) == Wake::interrupted) return {fail(EINTR), false, false};
      return {0, true, false};
    }
    if (got < 0 && errno == EAGAIN && may_block) {
      const KernelReceive woken = sleep_for_kernel_bytes(channel, fd, deadline);
      if (woken.bytes == 0) return woken;
      got = -1;
    }
  }
  if (got == 0 || (got < 0 && errno == ECONNRESET)) {
    const int failed = got < 0 ? ECONNRESET : 0;
    if (total_size(parts) != 0 && channel.takes_rest_from_ring(fd)) {
      if (failed != 0 && !channel.is_own_reset()) {
        channel.side().state.reset.store(1, std::memory_order_relaxed);
      }
      return {0, true, false};
    }
    if (failed != 0) errno = failed;
  }
  follow_mode(*endpoint);
  if (got < 0) {
    const bool told = channel.side().state.reset_reported.load(std::memory_order_relaxed) != 0;
    if (errno == ECONNRESET && (told || channel.is_own_reset())) return {0, false, false};
    if (errno == ECONNRESET) channel.note_reset_told();
    return {-1, false, false};
  }
  if (got == 0 && (channel.sends_to_ring() ||
                   channel.side().state.reset.load(std::memory_order_relaxed) != 0)) {
    // What the peer left unread lies in the ring, where the kernel knows nothing of it; or it told
    // us already.
    channel.poll_hang_up(fd);
    if (const int reset = channel.pending_error(true); reset != 0) {
      return {fail(reset), false, false};
    }
  }
  if (peek == Peek::no) channel.note_receive(fd);
  if (peek == Peek::yes && static_cast<std::size_t>(got) > room) {
    got = static_cast<ssize_t>(room);
  }
  wanted.msg_flags = message.msg_flags;
  if (notice) {
    wanted.msg_flags &= ~MSG_CTRUNC;
    if (got == 0) {
      if (peek == Peek::yes) channel.settle(fd);
      return {0, true, false};
    }
    if (wanted.msg_control != nullptr) wanted.msg_controllen = 0;
    return {got, true, true};
  } else {
    deliver_control(message, wanted, wanted.msg_flags);
  }
  return {got, false, message.msg_namelen != 0};
}

// Is there more to read without waiting?
[[gnu::cold]] bool more_at_once(Channel& channel, int fd) noexcept {
  if (channel.receives_from_ring()) return channel.bytes_to_read() != 0;
  // An error is left for the next call.
  int unread = 0;
  return sys::call(SYS_ioctl, fd, SIOCINQ, sys::word(&unread)) == 0 && unread != 0;
}

// sock_rcvlowat(). Of SO_RCVLOWAT it is known that it takes the connection back to the kernel, but
// the ring may still hold something.
[[gnu::cold]] std::size_t least_to_return(int fd, std::size_t wanted) noexcept {
  const int low_water = option_of(fd, SO_RCVLOWAT, 1);
  return low_water < 1 ? 1 : std::min(static_cast<std::size_t>(low_water), wanted);
}

// recvmsg(2) on a stream tells the sender's name if it has one: a server's, where a marked client
// has none (unix_stream_read_generic(), unix_copy_addr()). False if there is no memory for it.
bool name_sender(EndpointRef& endpoint, msghdr& message) noexcept {
  if (message.msg_name == nullptr) return true;
  if (endpoint.channel().role() == Role::server) {
    message.msg_namelen = 0;
    return true;
  }
  sockaddr_un name{};
  socklen_t length = sizeof name;
  if (sys::call(SYS_getpeername, endpoint.fd(), sys::word(&name), sys::word(&length)) != 0) {
    length = 0;
  }
  if (length <= sizeof(sa_family_t)) length = 0;
  const socklen_t room = std::min(message.msg_namelen, length);
  message.msg_namelen = length;
  return copy_to_application(message.msg_name, &name, room);
}

// The end of a receive from the ring: at the end of the stream there is no sender.
ssize_t named(EndpointRef& endpoint, msghdr& message, std::size_t received) noexcept {
  if (received == 0) {
    message.msg_namelen = 0;
  } else if (!name_sender(endpoint, message)) {
    return fail(EFAULT);
  }
  return static_cast<ssize_t>(received);
}

ssize_t receive_plain(EndpointRef& endpoint, msghdr& message, int flags) {
  // The name of a client is its mark: as if it had none.
  if (message.msg_name == nullptr || endpoint.channel().role() == Role::client) {
    return real::recvmsg(endpoint.fd(), &message, flags);
  }
  void* const name = message.msg_name;
  message.msg_name = nullptr;
  const ssize_t got = real::recvmsg(endpoint.fd(), &message, flags);
  message.msg_name = name;
  if (got >= 0) message.msg_namelen = 0;
  return got;
}

}  // namespace

void follow_mode(Endpoint& endpoint) noexcept {
  if (endpoint.members.load(std::memory_order_relaxed) == nullptr) return;
  // Who sleeps in a set has to see when there is room for a rest.
  if (endpoint.managed.load(std::memory_order_relaxed) != endpoint.channel.is_established() ||
      endpoint.channel.has_rest() || endpoint.channel.waits_for_socket()) {
    move_registrations(endpoint);
  }
}

ssize_t receive_stream(EndpointRef& endpoint, msghdr& message, int flags) {
  Channel& channel = endpoint.channel();
  int fd = endpoint.fd();
  if (channel.is_plain()) return receive_plain(endpoint, message, flags);
  act_on_cancellation();
  channel.note_user(fd);

  if (const int error = check_parts(message); error != 0) return fail(error);
  const std::size_t wanted = total_size(message);
  if ((flags & MSG_OOB) != 0) {
    // A ring knows no urgent byte: it comes by the socket, where the kernel finds it out of turn.
    channel.note_reason(Reason::urgent);
    channel.retire(fd);
    return real::recvmsg(fd, &message, flags);
  }
  const Peek peek = (flags & MSG_PEEK) != 0 ? Peek::yes : Peek::no;
  const bool all = (flags & MSG_WAITALL) != 0 && peek == Peek::no;
  std::size_t enough = all ? wanted : 1;
  std::size_t received = 0;
  std::uint64_t deadline = 0;
  bool looked_for_end = false;
  int nonblocking = (flags & MSG_DONTWAIT) != 0 ? 1 : -1;  // -1: not asked yet
  bool rest_is_optional = false;
  const std::size_t control_room = message.msg_control != nullptr ? message.msg_controllen : 0;

  for (;;) {
    fd = endpoint.fd();
    msghdr rest = message;
    iovec remaining[kParts];
    if (received != 0) skip_parts(rest, remaining, received);

    if (channel.receives_from_ring()) {
      const Outcome outcome = channel.receive(fd, rest.msg_iov, rest.msg_iovlen, peek);
      switch (outcome.status) {
        case Status::done:
          received += outcome.bytes;
          message.msg_flags = flags & MSG_CMSG_CLOEXEC;
          if (message.msg_control != nullptr && received == outcome.bytes) {
            message.msg_controllen = 0;
          }
          if (received < wanted && !all && peek == Peek::no && channel.peer_is_leaving()) {
            // What lies behind the cut belongs to the same read(2), if it is there.
            flags |= MSG_DONTWAIT;
            nonblocking = 1;
            continue;
          }
          if (received < wanted && !all && peek == Peek::no && channel.will_stay_in_kernel()) {
            enough = least_to_return(fd, wanted);
            if (received < enough) {
              flags |= MSG_DONTWAIT;
              nonblocking = 1;
              continue;
            }
          }
          if (received >= wanted || !all) {
            if (!name_sender(endpoint, message)) return fail(EFAULT);
            return static_cast<ssize_t>(received);
          }
          continue;
        case Status::end_of_file:
          message.msg_flags = flags & MSG_CMSG_CLOEXEC;
          if (message.msg_control != nullptr) message.msg_controllen = 0;
          return named(endpoint, message, received);
        case Status::failed:
          if (received == 0) return fail(outcome.error);
          // Who has to have more drops it, as the kernel (unix_stream_read_generic()).
          if (received >= enough && outcome.error == ECONNRESET) channel.keep_error();
          return named(endpoint, message, received);
        case Status::kernel:
          follow_mode(*endpoint);
          continue;
        case Status::would_block:
          break;
      }
      if (nonblocking < 0) nonblocking = is_nonblocking(channel, fd) ? 1 : 0;
      if (nonblocking == 1) {
        const bool told = endpoint->members.load(std::memory_order_relaxed) != nullptr;
        // Once: a hostile peer may show the same for ever.
        if (!looked_for_end && channel.look_for_end(fd, told)) {
          looked_for_end = true;
          continue;
        }
        return received != 0 ? named(endpoint, message, received) : fail(EAGAIN);
      }
      if (deadline == 0) {
        const std::uint64_t timeout =
            timeout_of(fd, SO_RCVTIMEO, channel.side().state.receive_timeout_ns);
        if (timeout != 0) deadline = sys::now_ns() + timeout;
      }
      switch (wait_for_data(channel, fd, deadline, received == 0)) {
        case Wake::look_again:
          continue;
        case Wake::interrupted:
          return received != 0 ? named(endpoint, message, received) : fail(EINTR);
        case Wake::timed_out:
          return received != 0 ? named(endpoint, message, received) : fail(EAGAIN);
      }
    }

    if (channel.is_plain() && received == 0) return receive_plain(endpoint, message, flags);
    // A receive that has something ends before an urgent byte (manage_oob()), or an error.
    if (received != 0 && (is_at_mark(fd) || (!all && !more_at_once(channel, fd)))) {
      return named(endpoint, message, received);
    }
    channel.help_sending(fd);
    const bool has_rest = channel.has_rest();
    if (nonblocking < 0 && (!channel.is_exclusive() || has_rest)) {
      nonblocking = is_nonblocking(channel, fd) ? 1 : 0;
    }
    // With MSG_WAITALL the kernel itself waits for all of it: what it returns short was
    // interrupted.
    const bool by_kernel = (channel.is_exclusive() && !has_rest) || channel.is_back();
    // A receive of nothing takes the descriptors of the next message all the same, and would leave
    // the byte of an offer or a cut without its own: it only looks.
    // Unless something of the application's is in front.
    const int how = wanted == 0 && !channel.settle(fd) ? flags | MSG_PEEK : flags;
    if (wanted == 0 && channel.receives_from_ring()) continue;
    message.msg_controllen = control_room;
    const KernelReceive got =
        receive_from_kernel(endpoint, message, rest, how, by_kernel, nonblocking != 1, deadline);
    if (got.bytes < 0 && received != 0) message.msg_controllen = 0;
    if (got.bytes < 0) return received != 0 ? named(endpoint, message, received) : -1;
    received += static_cast<std::size_t>(got.bytes);
    if (got.bytes == 0 && got.again) {
      if (received != 0) message.msg_controllen = 0;
      if (rest_is_optional && !more_at_once(channel, fd)) return static_cast<ssize_t>(received);
      continue;
    }
    if (received != 0 || got.named) {
      if (!name_sender(endpoint, message)) return fail(EFAULT);
    } else {
      message.msg_namelen = 0;  // at the end there is no sender
    }
    // A message with ancillary data ends the read that brings it (unix_stream_read_generic()).
    if (got.bytes == 0 || received >= wanted || message.msg_controllen != 0) {
      return static_cast<ssize_t>(received);
    }
    if (all && !got.again && by_kernel && got.bytes < static_cast<ssize_t>(total_size(rest))) {
      return static_cast<ssize_t>(received);
    }
    if (all) continue;
    // One read(2) takes all that is there. If a message of ours cut it in two, go on behind it, but
    // don't wait for it.
    if (!got.again || peek == Peek::yes || !more_at_once(channel, fd)) {
      return static_cast<ssize_t>(received);
    }
    rest_is_optional = true;
    flags |= MSG_DONTWAIT;
    nonblocking = 1;
  }
}

namespace {

// Counts a kernel send, also when the thread is cancelled in it.
class KernelSend {
 public:
  explicit KernelSend(Channel& channel) noexcept : channel_(channel) {}
  KernelSend(const KernelSend&) = delete;
  KernelSend& operator=(const KernelSend&) = delete;
  ~KernelSend() { channel_.after_kernel_send(sent_); }
  void set(ssize_t sent) noexcept { sent_ = sent; }

 private:
  Channel& channel_;
  ssize_t sent_ = 0;
};

// One sendmsg(2) that before_kernel_send() or before_ancillary_send() has counted.
[[gnu::cold]] ssize_t send_by_kernel(EndpointRef& endpoint, const msghdr& message, int flags) {
  Channel& channel = endpoint.channel();
  ssize_t moved = 0;
  {
    KernelSend scope(channel);
    moved = real::sendmsg(endpoint.fd(), &message, flags);
    TSSX_FAULT_POINT(kernel_sent);
    scope.set(moved);
  }
  if (moved < 0) {
    // Told once, by whichever call finds it first.
    if (errno == ECONNRESET) channel.note_reset_told();
    return -1;
  }
  TSSX_FAULT_POINT(kernel_send_told);
  channel.look_for_offer(endpoint.fd());
  follow_mode(*endpoint);
  return moved;
}

[[gnu::cold]] ssize_t broken_pipe(int flags) noexcept {
  if ((flags & MSG_NOSIGNAL) == 0) {
    const std::uint64_t self = thread_token();
    sys::tgkill(static_cast<int>(self >> 32U), static_cast<int>(self & 0xffffffffU), SIGPIPE);
  }
  return fail(EPIPE);
}

// Who slept for room gets the socket's error, or EPIPE, without SIGPIPE, which is for who finds the
// end shut (sock_alloc_send_pskb()).
ssize_t ended_asleep(Channel& channel, int error) noexcept {
  const int reset = channel.pending_error(true);
  return fail(reset != 0 ? reset : error);
}

}  // namespace

ssize_t send_stream(EndpointRef& endpoint, const msghdr& message, int flags) {
  Channel& channel = endpoint.channel();
  int fd = endpoint.fd();
  if (channel.is_plain()) return real::sendmsg(fd, &message, flags);
  act_on_cancellation();
  channel.note_user(fd);
  if (const int error = check_parts(message); error != 0) return fail(error);
  const std::size_t wanted = total_size(message);

  if ((flags & MSG_OOB) != 0 || message.msg_controllen != 0) {
    // Descriptors, credentials and the urgent byte travel by the kernel: this direction goes back
    // there first, and whatever the ring still holds is read before them.
    if ((flags & MSG_OOB) != 0) {
      channel.note_reason(Reason::urgent);
      channel.retire(fd);
    }
    std::uint64_t deadline = 0;
    for (;;) {
      const Route route = channel.before_ancillary_send(fd);
      if (route == Route::kernel) break;
      if (route == Route::ended) return broken_pipe(flags);
      if (route == Route::ring) {
        channel.note_aside();
        channel.step_aside(fd);
        if (!channel.sends_to_ring()) continue;
      }
      follow_mode(*endpoint);
      // There is no room for what has to go first, or for the cut: the peer reads none of the bells
      // that it asked for. So there would be none for the message.
      if ((flags & MSG_DONTWAIT) != 0 || is_nonblocking(channel, fd)) return fail(EAGAIN);
      if (deadline == 0) deadline = send_deadline(channel, fd);
      switch (route == Route::wait || channel.waits_for_socket()
                  ? wait_for_socket(fd, deadline, true)
                  : nap(kNapNs, true)) {
        case Wake::look_again:
          break;
        case Wake::interrupted:
          return fail(EINTR);
        case Wake::timed_out:
          return fail(EAGAIN);
      }
      if (deadline != 0 && sys::now_ns() >= deadline) return fail(EAGAIN);
    }
    return send_by_kernel(endpoint, message, flags);
  } else if (message.msg_namelen != 0 && channel.sends_to_ring()) {
    return fail(EISCONN);
  }

  std::size_t sent = 0;
  std::uint64_t deadline = 0;
  bool waited = false;
  int nonblocking = (flags & MSG_DONTWAIT) != 0 ? 1 : -1;
  for (;;) {
    fd = endpoint.fd();
    if (channel.sends_to_ring()) {
      const bool told = endpoint->members.load(std::memory_order_relaxed) != nullptr;
      const Outcome outcome = channel.send(fd, message.msg_iov, message.msg_iovlen, sent, told);
      switch (outcome.status) {
        case Status::done:
          sent += outcome.bytes;
          note_write(*endpoint);
          if (sent >= wanted) return static_cast<ssize_t>(sent);
          break;
        case Status::would_block:
          break;
        case Status::failed:
          if (sent != 0) return static_cast<ssize_t>(sent);
          if (waited) return ended_asleep(channel, outcome.error);
          return outcome.error == EPIPE ? broken_pipe(flags) : fail(outcome.error);
        case Status::kernel:
          follow_mode(*endpoint);
          continue;
        case Status::end_of_file:
          return fail(EPIPE);
      }
      if (channel.waits_for_socket()) follow_mode(*endpoint);
      if (nonblocking < 0) nonblocking = is_nonblocking(channel, fd) ? 1 : 0;
      if (nonblocking == 1) return sent != 0 ? static_cast<ssize_t>(sent) : fail(EAGAIN);
      if (deadline == 0) deadline = send_deadline(channel, fd);
      waited = true;
      switch (channel.waits_for_socket() ? wait_for_socket(fd, deadline, sent == 0)
                                         : wait_for_space(channel, fd, deadline, sent == 0)) {
        case Wake::look_again:
          continue;
        case Wake::interrupted:
          return sent != 0 ? static_cast<ssize_t>(sent) : fail(EINTR);
        case Wake::timed_out:
          return sent != 0 ? static_cast<ssize_t>(sent) : fail(EAGAIN);
      }
    }

    const Route route = channel.before_kernel_send(fd);
    if (route == Route::ended) return sent != 0 ? static_cast<ssize_t>(sent) : broken_pipe(flags);
    if (route != Route::kernel) follow_mode(*endpoint);
    if (route == Route::ring) continue;
    if (route == Route::wait) {
      if (wanted == 0) return 0;
      if (nonblocking < 0) nonblocking = is_nonblocking(channel, fd) ? 1 : 0;
      if (nonblocking == 1) return sent != 0 ? static_cast<ssize_t>(sent) : fail(EAGAIN);
      if (deadline == 0) deadline = send_deadline(channel, fd);
      waited = true;
      switch (wait_for_socket(fd, deadline, sent == 0)) {
        case Wake::look_again:
          continue;
        case Wake::interrupted:
          return sent != 0 ? static_cast<ssize_t>(sent) : fail(EINTR);
        case Wake::timed_out:
          return sent != 0 ? static_cast<ssize_t>(sent) : fail(EAGAIN);
      }
    }
    if (waited && channel.side().state.hung_up.load(std::memory_order_relaxed) != 0) {
      channel.after_kernel_send(0);
      return sent != 0 ? static_cast<ssize_t>(sent) : ended_asleep(channel, EPIPE);
    }
    msghdr rest = message;
    iovec remaining[kParts];
    if (sent != 0) skip_parts(rest, remaining, sent);
    const ssize_t moved = send_by_kernel(endpoint, rest, flags);
    if (moved < 0) return sent != 0 ? static_cast<ssize_t>(sent) : -1;
    const bool whole = static_cast<std::size_t>(moved) == total_size(rest);
    sent += static_cast<std::size_t>(moved);
    if (whole && sent < wanted) continue;  // parts beyond kParts
    return static_cast<ssize_t>(sent);
  }
}

}  // namespace tssx
