#include "tools/tssx-bench/worker/talk.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

constexpr std::size_t kRoomBehind = 4096;

}  // namespace

Wait wait_of(const std::string& name) {
  if (name == "blocking") return Wait::blocking;
  if (name == "poll") return Wait::poll;
  if (name == "epoll-level") return Wait::epoll_level;
  if (name == "epoll-edge") return Wait::epoll_edge;
  throw std::invalid_argument("no such way to wait: " + name);
}

Talk::Talk(Descriptor socket, Wait wait, std::size_t message_size)
    : socket_(std::move(socket)),
      wait_(wait),
      size_(message_size),
      buffer_(message_size + kRoomBehind) {
  if (wait_ == Wait::blocking) return;
  make_nonblocking(socket_.get());
  if (wait_ == Wait::poll) return;
  set_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  if (!set_) throw_errno("epoll_create1");
  epoll_event event{};
  event.events = EPOLLIN;
  if (wait_ == Wait::epoll_edge) event.events |= EPOLLET;
  if (::epoll_ctl(set_.get(), EPOLL_CTL_ADD, socket_.get(), &event) != 0) throw_errno("epoll_ctl");
}

void Talk::receive() {
  std::size_t got = 0;
  while (got < size_) {
    if (wait_ != Wait::blocking) wait_to_read();
    const ssize_t count = ::read(socket_.get(), buffer_.data() + got, buffer_.size() - got);
    if (count > 0) {
      got += static_cast<std::size_t>(count);
    } else if (count == 0) {
      throw std::system_error(ECONNRESET, std::generic_category(), "read: end of file");
    } else if (errno != EAGAIN && errno != EINTR) {
      throw_errno("read");
    }
  }
  if (got > size_) throw std::runtime_error("read more than was sent");
}

void Talk::send() {
  std::size_t sent = 0;
  while (sent < size_) {
    const ssize_t count = ::write(socket_.get(), buffer_.data() + sent, size_ - sent);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      wait_to_write();
    } else if (errno != EINTR) {
      throw_errno("write");
    }
  }
}

void Talk::wait_to_read() {
  if (wait_ == Wait::poll) {
    pollfd entry{socket_.get(), POLLIN, 0};
    while (::poll(&entry, 1, -1) < 0) {
      if (errno != EINTR) throw_errno("poll");
    }
    return;
  }
  epoll_event event{};
  while (::epoll_wait(set_.get(), &event, 1, -1) < 0) {
    if (errno != EINTR) throw_errno("epoll_wait");
  }
}

// Rare: messages are smaller than what a connection takes, at times not by much.
void Talk::wait_to_write() {
  pollfd entry{socket_.get(), POLLOUT, 0};
  while (::poll(&entry, 1, -1) < 0) {
    if (errno != EINTR) throw_errno("poll");
  }
}

}  // namespace tssx::bench
