// Steps that ask what is ready.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "tests/differential/perform.h"

namespace differential {
namespace {

timespec to_timespec(long milliseconds) {
  return {milliseconds / 1000, milliseconds % 1000 * 1'000'000};
}

}  // namespace

bool Performer::perform_readiness(const Step& step, Result& result) {
  switch (step.op) {
    case Op::poll_:
    case Op::ppoll_: {
      pollfd polled[kMaxArguments];
      nfds_t count = 0;
      for (std::size_t i = 1; i + 1 < step.arguments.size(); i += 2) {
        polled[count++] = {fd(step[i]), static_cast<short>(step[i + 1]), 0x5555};
      }
      if (step.op == Op::poll_) {
        result = outcome(::poll(polled, count, static_cast<int>(step[0])));
      } else {
        const timespec limit = to_timespec(step[0]);
        result = outcome(::ppoll(polled, count, &limit, nullptr));
      }
      for (nfds_t i = 0; i < count; ++i) result.add(polled[i].revents);
      return true;
    }
    case Op::select_: {
      fd_set read, write, except;
      FD_ZERO(&read);
      FD_ZERO(&write);
      FD_ZERO(&except);
      int highest = -1;
      for (std::size_t i = 1; i + 1 < step.arguments.size(); i += 2) {
        const int one = fd(step[i]);
        if (one < 0 || one >= FD_SETSIZE) continue;
        highest = std::max(highest, one);
        if ((step[i + 1] & POLLIN) != 0) FD_SET(one, &read);
        if ((step[i + 1] & POLLOUT) != 0) FD_SET(one, &write);
        if ((step[i + 1] & POLLPRI) != 0) FD_SET(one, &except);
      }
      timeval limit{step[0] / 1000, step[0] % 1000 * 1000};
      result = outcome(::select(highest + 1, &read, &write, &except, &limit));
      for (std::size_t i = 1; i + 1 < step.arguments.size(); i += 2) {
        const int one = fd(step[i]);
        if (one < 0 || one >= FD_SETSIZE) continue;
        result.add((FD_ISSET(one, &read) ? POLLIN : 0) | (FD_ISSET(one, &write) ? POLLOUT : 0) |
                   (FD_ISSET(one, &except) ? POLLPRI : 0));
      }
      return true;
    }
    case Op::epoll_create_:
      result = named(::epoll_create1(EPOLL_CLOEXEC), step[0]);
      return true;
    case Op::epoll_ctl_: {
      epoll_event event{};
      event.events = static_cast<std::uint32_t>(step[3]);
      event.data.u64 = static_cast<std::uint64_t>(step[2]);
      result = outcome(::epoll_ctl(fd(step[0]), static_cast<int>(step[1]), fd(step[2]), &event));
      return true;
    }
    case Op::epoll_wait_: {
      epoll_event events[kMaxNames]{};
      const int count = ::epoll_wait(fd(step[0]), events, kMaxNames, static_cast<int>(step[1]));
      result = outcome(count);
      std::sort(events, events + std::max(count, 0),
                [](const epoll_event& a, const epoll_event& b) { return a.data.u64 < b.data.u64; });
      for (int i = 0; i < count; ++i) {
        result.add(static_cast<long>(events[i].data.u64));
        result.add(events[i].events);
      }
      return true;
    }
    default:
      return false;
  }
}

}  // namespace differential
