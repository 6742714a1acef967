// The smallest correct user of a Channel: what the shim does for read() and write(), without the
// system calls' surface. It follows the protocol of core/channel.h and nothing more.
//
//  - In kernel mode a recvmsg(2) and its inspect() form one step under the receiving lock, and
//    never sleep in it: otherwise a bell behind a cut could be taken for data.
//  - A producer that sleeps while its incoming direction is still the kernel's can't rely on a bell
//    (see ring_for_space()), so it looks again by itself.
#pragma once

#include <errno.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "core/channel.h"
#include "core/channel_detail.h"
#include "core/presence.h"
#include "core/robust_lock.h"
#include "core/sys.h"

namespace tssx {

// What tests see of a Channel's inside.
struct ChannelTestAccess {
  static Direction& in(Channel& channel) { return channel.in(); }
  static Direction& out(Channel& channel) { return channel.out(); }
  static Phase phase(const Channel& channel) { return channel.phase(); }
  static SegmentView& view(Channel& channel) { return channel.view_; }
};

}  // namespace tssx

namespace tssx::test {

class Endpoint {
 public:
  // Takes the descriptor over.
  Endpoint(int fd, Role role, const Nonce& nonce) : fd_(fd) {
    const ChannelOrigin origin{role, nonce, "/run/test", 9};
    open_ = channel_.open(origin);
    EXPECT_TRUE(open_);
  }
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;
  ~Endpoint() { close(); }

  void close() {
    if (!open_) return;
    open_ = false;
    channel_.close();
    ::close(fd_);
  }
  // As a process that is killed: nothing but the kernel's close.
  void vanish() {
    ::close(fd_);
    fd_ = -1;
  }

  // Another process goes on with it.
  void forget() { open_ = false; }

  [[nodiscard]] int fd() const { return fd_; }
  Channel& channel() { return channel_; }
  [[nodiscard]] bool sends_to_ring() const { return channel_.sends_to_ring(); }
  [[nodiscard]] bool receives_from_ring() const { return channel_.receives_from_ring(); }

  // --- one attempt ---

  Outcome try_send(const iovec* parts, std::size_t count, std::size_t skip = 0) {
    channel_.look_for_offer(fd_);
    for (;;) {
      if (channel_.sends_to_ring()) {
        const Outcome sent = channel_.send(fd_, parts, count, skip);
        if (sent.status != Status::kernel) return sent;
      }
      const Route route = channel_.before_kernel_send(fd_);
      if (route == Route::ring) continue;
      if (route == Route::wait) return {Status::would_block};
      if (route == Route::ended) return {Status::failed, 0, EPIPE};
      const Outcome sent = kernel_send(parts, count, skip);
      channel_.after_kernel_send(static_cast<long>(sent.bytes));
      return sent;
    }
  }
  Outcome try_send(std::string_view bytes) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    return try_send(&part, 1);
  }

  Outcome try_receive(char* buffer, std::size_t size, Peek peek = Peek::no) {
    iovec part{buffer, size};
    bool looked_for_end = false;
    for (;;) {
      if (channel_.receives_from_ring()) {
        const Outcome got = channel_.receive(fd_, &part, 1, peek);
        if (got.status == Status::would_block && !std::exchange(looked_for_end, true) &&
            channel_.look_for_end(fd_, false)) {
          continue;
        }
        if (got.status != Status::kernel) return got;
      }
      bool again = false;
      const Outcome got = kernel_receive(part, peek, &again);
      if (again) continue;
      if (peek == Peek::no) channel_.note_receive(fd_);
      return got;
    }
  }

  // --- blocking ---

  // False on an error, which is then in *error.
  bool send_all(std::string_view bytes, int* error = nullptr) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const Outcome outcome = try_send(&part, 1, sent);
      if (outcome.status == Status::done) {
        sent += outcome.bytes;
      } else if (outcome.status == Status::would_block) {
        wait_for_space();
      } else {
        if (error != nullptr) *error = outcome.error;
        return false;
      }
    }
    return true;
  }

  // Never would_block.
  Outcome receive_some(char* buffer, std::size_t size) {
    for (;;) {
      const Outcome got = try_receive(buffer, size);
      if (got.status != Status::would_block) return got;
      wait_for_data();
    }
  }

  // Shorter only at the end of the stream or on an error.
  std::string receive_exactly(std::size_t size) {
    std::string bytes(size, '\0');
    std::size_t got = 0;
    while (got < size) {
      const Outcome outcome = receive_some(bytes.data() + got, size - got);
      if (outcome.status != Status::done) break;
      got += outcome.bytes;
    }
    bytes.resize(got);
    return bytes;
  }

  void wait_for_data() {
    clear_bells();
    if (!channel_.arm_data()) return;
    poll_for(POLLIN);
    channel_.woken();
  }

  void wait_for_space() {
    if (!channel_.sends_to_ring()) {
      poll_for(POLLOUT);
    } else if (!channel_.receives_from_ring()) {
      ::usleep(200);
    } else {
      clear_bells();
      if (!channel_.arm_space()) {
        ::usleep(50);  // the cut back to the kernel found the queue full: let the peer empty it
        return;
      }
      poll_for(POLLIN);
      channel_.woken();
    }
  }

  // One thread for both directions.
  void wait_for_either(bool wants_space) {
    clear_bells();
    const bool by_kernel = wants_space && !channel_.sends_to_ring();
    if (wants_space && !by_kernel && !channel_.receives_from_ring()) {
      ::usleep(200);
      return;
    }
    if (!channel_.arm_data()) return;
    if (wants_space && !by_kernel && !channel_.arm_space()) {
      channel_.woken();
      ::usleep(50);
      return;
    }
    poll_for(by_kernel ? POLLIN | POLLOUT : POLLIN);
    channel_.woken();
    if (wants_space && !by_kernel) channel_.woken();
  }

  // Takes the bells off the socket. False if they were left for another sleeper to see.
  bool look(Channel::Notices which = Channel::Notices::leave_to_sleepers) {
    LockScope lock(channel_.side().receiving.lock, channel_.is_exclusive());
    if (!channel_.receives_from_ring()) return true;
    return channel_.look_at_socket(fd_, which);
  }

  // What poll(2) would say of this endpoint.
  short events() {
    pollfd control{fd_, 0, 0};
    control.events = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLWRBAND | POLLRDHUP;
    ::poll(&control, 1, 0);
    return channel_.readiness(fd_, control.revents);
  }

 private:
  Outcome kernel_send(const iovec* parts, std::size_t count, std::size_t skip) const {
    // Only the first part is ever skipped into: enough for a test.
    iovec first = *parts;
    first.iov_base = static_cast<char*>(first.iov_base) + skip;
    first.iov_len -= skip;
    msghdr message{};
    message.msg_iov = count == 1 ? &first : const_cast<iovec*>(parts);
    message.msg_iovlen = count;
    const long sent = sys::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return {Status::done, static_cast<std::size_t>(sent)};
    if (sent == -EAGAIN) return {Status::would_block};
    return {Status::failed, 0, static_cast<int>(-sent)};
  }

  Outcome kernel_receive(iovec part, Peek peek, bool* again) {
    LockScope lock(channel_.side().receiving.lock, channel_.is_exclusive());
    *again = channel_.receives_from_ring();
    if (*again) return {Status::kernel};
    alignas(cmsghdr) char control[kControlRoom];
    char spare = 0;  // for a peek alone, see Channel::inspect()
    iovec parts[] = {part, {&spare, 1}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = peek == Peek::yes ? 2 : 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const int flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (peek == Peek::yes ? MSG_PEEK : 0);
    // A raw call, as core's close() is: the thread sanitizer would see the numbers of descriptors
    // come and never go.
    const long got = sys::recvmsg(fd_, &message, flags);
    if (got == -EAGAIN) return {Status::would_block};
    if (got < 0 && !(got == -ECONNRESET && channel_.is_own_reset())) {
      return {Status::failed, 0, static_cast<int>(-got)};
    }
    if (got <= 0) {
      if (!channel_.is_established()) return {Status::end_of_file};
      channel_.poll_hang_up(fd_);
      const int error = channel_.pending_error(true);
      return error != 0 ? Outcome{Status::failed, 0, error} : Outcome{Status::end_of_file};
    }
    bool notice = false;
    const std::size_t bytes =
        channel_.inspect(fd_, message, static_cast<std::size_t>(got), peek, &notice);
    if (!notice) {
      // The application's descriptors, of which it wants none.
      channel_detail::Descriptors others;
      channel_detail::collect(message, &others);
      channel_detail::close_all(others);
    }
    if (bytes == 0 && notice) {
      if (peek == Peek::yes) consume_notice();
      *again = true;
    }
    return {Status::done, std::min(bytes, part.iov_len)};
  }

  void consume_notice() {
    char byte = 0;
    iovec part{&byte, 1};
    alignas(cmsghdr) char control[kControlRoom];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const long got = sys::recvmsg(fd_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    bool notice = false;
    if (got == 1) channel_.inspect(fd_, message, 1, Peek::no, &notice);
    EXPECT_TRUE(notice);
  }

  // Before a sleep, so that it lasts. Others that sleep here get a moment to see the bells.
  void clear_bells() {
    for (int naps = 0;
         !look(naps >= 20 ? Channel::Notices::take_all : Channel::Notices::leave_to_sleepers);
         ++naps) {
      ::usleep(100);
    }
  }

  // Where other threads use this end too, one of them may take the bells in spite of that moment
  // (a busy machine), or leave the ring: then nothing on the socket tells, and only a look does.
  void poll_for(int events) const {
    pollfd control{fd_, static_cast<short>(events), 0};
    ::poll(&control, 1, channel_.is_exclusive() ? -1 : 100);
  }

  int fd_;
  bool open_ = false;
  Channel channel_;
};

// Two ends of one connection: `server` has accepted the marked `client`.
class Pair {
 public:
  Pair() : Pair(new_sockets()) {}

  Endpoint server;
  Endpoint client;

  // Moves both directions into the ring. Both must read and write for that.
  void establish() {
    for (int i = 0; i < 40 && !is_established(); ++i) {
      ping(server, client);
      ping(client, server);
    }
    ASSERT_TRUE(is_established());
  }
  [[nodiscard]] bool is_established() const {
    return server.sends_to_ring() && server.receives_from_ring() && client.sends_to_ring() &&
           client.receives_from_ring();
  }

  static void ping(Endpoint& from, Endpoint& to) {
    char byte = 0;
    ASSERT_EQ(from.try_send("p").bytes, 1U);
    ASSERT_EQ(to.try_receive(&byte, 1).bytes, 1U);
    ASSERT_EQ(byte, 'p');
  }

 private:
  struct Sockets {
    int fd[2];
    Nonce nonce;
  };
  static Sockets new_sockets() {
    Sockets made{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made.fd), 0);
    EXPECT_TRUE(make_nonce(&made.nonce));
    return made;
  }
  explicit Pair(const Sockets& made)
      : server(made.fd[0], Role::server, made.nonce),
        client(made.fd[1], Role::client, made.nonce) {}
};

}  // namespace tssx::test
