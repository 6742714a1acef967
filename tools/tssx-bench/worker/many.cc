#include "tools/tssx-bench/worker/many.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "tools/tssx-bench/clock.h"

namespace tssx::bench {
namespace {

using Request = std::array<char, kRequestSize>;
constexpr char kGoOn = 0;
constexpr char kLast = 1;
constexpr int kEventsAtOnce = 128;
// Few enough to be served in turn, enough for neither process to sleep each time.
constexpr std::size_t kWarmAtOnce = 32;
using Events = std::array<epoll_event, kEventsAtOnce>;

Descriptor make_set() {
  Descriptor set(::epoll_create1(EPOLL_CLOEXEC));
  if (!set) throw_errno("epoll_create1");
  return set;
}

void add_to(int set, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) throw_errno("epoll_ctl");
}

std::span<const epoll_event> wait_for_events(int set, Events& events) {
  for (;;) {
    const int count = ::epoll_wait(set, events.data(), kEventsAtOnce, -1);
    if (count >= 0) return {events.data(), static_cast<std::size_t>(count)};
    if (errno != EINTR) throw_errno("epoll_wait");
  }
}

// Requests are far smaller than what a connection takes, and go whole.
void send(int fd, const Request& request) {
  if (::write(fd, request.data(), request.size()) != static_cast<ssize_t>(request.size())) {
    throw_errno("write");
  }
}

void receive(int fd, Request& request) {
  const ssize_t count = ::read(fd, request.data(), request.size());
  if (count == static_cast<ssize_t>(request.size())) return;
  if (count < 0) throw_errno("read");
  throw std::runtime_error(count == 0 ? "end of file" : "a part of a request");
}

}  // namespace

ManyServer::ManyServer(const std::string& path) : listener_(path), set_(make_set()) {
  make_nonblocking(listener_.get());
  add_to(set_.get(), listener_.get());
}

void ManyServer::accept_one() {
  connections_.push_back(listener_.accept());
  make_nonblocking(connections_.back().get());
  add_to(set_.get(), connections_.back().get());
}

void ManyServer::accept_all(std::size_t connections) {
  Events events;
  while (connections_.size() < connections) {
    // Nothing else is in the set that could be ready: clients connect all before they ask.
    (void)wait_for_events(set_.get(), events);
    accept_one();
  }
}

bool ManyServer::answer(int fd) {
  Request request;
  receive(fd, request);
  send(fd, request);
  return request.front() == kLast;
}

void ManyServer::serve(std::size_t lasts) {
  Events events;
  while (lasts != 0) {
    for (const epoll_event& event : wait_for_events(set_.get(), events)) {
      if (event.data.fd == listener_.get()) {
        accept_one();
      } else if (answer(event.data.fd)) {
        --lasts;
      }
    }
  }
}

ManyClient::ManyClient(std::string path) : path_(std::move(path)), set_(make_set()) {}

void ManyClient::connect_all(std::size_t connections) {
  connections_.reserve(connections);
  while (connections_.size() < connections) {
    connections_.push_back(connect_to(path_));
    make_nonblocking(connections_.back().get());
    add_to(set_.get(), connections_.back().get());
  }
}

void ManyClient::warm(std::size_t first, int rounds) {
  for (std::size_t begin = first; begin < connections_.size(); begin += kWarmAtOnce) {
    const std::size_t end = std::min(begin + kWarmAtOnce, connections_.size());
    for (int round = 1; round <= rounds; ++round) {
      exchange(begin, end, round < rounds ? kGoOn : kLast);
    }
  }
}

void ManyClient::exchange(std::size_t begin, std::size_t end, char what) {
  Events events;
  Request request{};
  request.front() = what;
  for (std::size_t i = begin; i < end; ++i) send(connections_[i].get(), request);
  for (std::size_t under_way = end - begin; under_way != 0;) {
    for (const epoll_event& event : wait_for_events(set_.get(), events)) {
      receive(event.data.fd, request);
      --under_way;
    }
  }
}

std::uint64_t ManyClient::drive(std::size_t busy, std::uint64_t end_ns) {
  Events events;
  Request request{};
  for (std::size_t i = 0; i < busy; ++i) send(connections_[i].get(), request);
  std::uint64_t answers = 0;
  std::size_t under_way = busy;
  std::size_t lasts = 0;
  bool over = false;
  while (under_way != 0) {
    for (const epoll_event& event : wait_for_events(set_.get(), events)) {
      receive(event.data.fd, request);
      ++answers;
      if (request.front() == kLast) {
        --under_way;
        continue;
      }
      request.front() = over ? kLast : kGoOn;
      if (over) ++lasts;
      send(event.data.fd, request);
    }
    if (!over) over = now_ns() >= end_ns;
  }
  if (lasts != busy) throw std::runtime_error("not every connection ended");
  return answers;
}

}  // namespace tssx::bench
