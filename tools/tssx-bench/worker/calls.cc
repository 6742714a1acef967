#include "tools/tssx-bench/worker/calls.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "tools/tssx-bench/clock.h"
#include "tools/tssx-bench/descriptor.h"
#include "tools/tssx-bench/worker/sockets.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace tssx::bench {
namespace {

// A call that fails would be quick, and prove nothing.
void require(bool succeeded, const char* what) {
  if (!succeeded) throw_errno(what);
}

// Makes `calls` calls. A class for each, so that the loop has the call itself in it.
class Calls {
 public:
  Calls() = default;
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;
  virtual ~Calls() = default;
  virtual void make(std::uint64_t calls) = 0;
};

class NullCalls : public Calls {
 public:
  // By number: libc's getpid() and its like might answer by themselves.
  void make(std::uint64_t calls) override {
    for (std::uint64_t i = 0; i < calls; ++i) require(::syscall(SYS_getppid) >= 0, "getppid");
  }
};

class Reads : public Calls {
 public:
  void make(std::uint64_t calls) override {
    char byte = 0;
    for (std::uint64_t i = 0; i < calls; ++i) require(::read(file_.get(), &byte, 1) == 1, "read");
  }

 private:
  Descriptor file_{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
};

class Writes : public Calls {
 public:
  void make(std::uint64_t calls) override {
    const char byte = 0;
    for (std::uint64_t i = 0; i < calls; ++i) require(::write(file_.get(), &byte, 1) == 1, "write");
  }

 private:
  Descriptor file_{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
};

class Polls : public Calls {
 public:
  void make(std::uint64_t calls) override {
    pollfd entry{event_.get(), POLLIN, 0};
    for (std::uint64_t i = 0; i < calls; ++i) require(::poll(&entry, 1, -1) == 1, "poll");
  }

 private:
  Descriptor event_{::eventfd(1, EFD_CLOEXEC)};
};

class EpollWaits : public Calls {
 public:
  EpollWaits() {
    epoll_event entry{};
    entry.events = EPOLLIN;
    require(::epoll_ctl(set_.get(), EPOLL_CTL_ADD, event_.get(), &entry) == 0, "epoll_ctl");
  }
  void make(std::uint64_t calls) override {
    epoll_event event{};
    for (std::uint64_t i = 0; i < calls; ++i) {
      require(::epoll_wait(set_.get(), &event, 1, -1) == 1, "epoll_wait");
    }
  }

 private:
  Descriptor set_{::epoll_create1(EPOLL_CLOEXEC)};
  Descriptor event_{::eventfd(1, EFD_CLOEXEC)};
};

// A program that does nothing, with this process's environment, and so preloaded if this is.
class Starts : public Calls {
 public:
  void make(std::uint64_t calls) override {
    std::array<char, 5> name{"true"};
    std::array<char*, 2> arguments{name.data(), nullptr};
    for (std::uint64_t i = 0; i < calls; ++i) {
      pid_t child = 0;
      const int error =
          ::posix_spawn(&child, "/bin/true", nullptr, nullptr, arguments.data(), environ);
      if (error != 0) throw std::system_error(error, std::generic_category(), "/bin/true");
      int status = 0;
      while (::waitpid(child, &status, 0) < 0) require(errno == EINTR, "waitpid");
      if (status != 0) throw std::runtime_error("/bin/true failed");
    }
  }
};

using CallsMaker = std::unique_ptr<Calls> (*)();
template <typename Kind>
std::unique_ptr<Calls> make_kind() {
  return std::make_unique<Kind>();
}

CallsMaker find_calls(const std::string& name) {
  static constexpr std::array<std::pair<const char*, CallsMaker>, 6> kKinds{{
      {"null", make_kind<NullCalls>},
      {"read", make_kind<Reads>},
      {"write", make_kind<Writes>},
      {"poll", make_kind<Polls>},
      {"epoll_wait", make_kind<EpollWaits>},
      {"start", make_kind<Starts>},
  }};
  for (const auto& [kind, maker] : kKinds) {
    if (name == kind) return maker;
  }
  throw std::invalid_argument("no such call: " + name);
}

class Caller : public Role {
 public:
  Caller(CallsMaker maker, double seconds, double& result)
      : calls_(maker()), duration_ns_(to_ns(seconds)), result_(result) {}

  // Finds out how many calls take about a millisecond, so that the clock is read rarely.
  void warm() override {
    std::uint64_t begin = now_ns();
    while (calls_->make(batch_), now_ns() - begin < 1'000'000) {
      batch_ *= 2;
      begin = now_ns();
    }
  }

  void measure() override {
    const std::uint64_t begin = now_ns();
    std::uint64_t now = begin;
    std::uint64_t made = 0;
    while (now - begin < duration_ns_) {
      calls_->make(batch_);
      made += batch_;
      now = now_ns();
    }
    result_ = static_cast<double>(now - begin) / static_cast<double>(made);
  }

 private:
  std::unique_ptr<Calls> calls_;
  std::uint64_t duration_ns_;
  double& result_;
  std::uint64_t batch_ = 1;
};

}  // namespace

Scenario make_calls(const Job& job, Board& board) {
  const CallsMaker maker = find_calls(job.text("call"));
  const double seconds = job.number("seconds");
  Scenario scenario;
  scenario.actors.push_back(
      {-1, [=, &board] { return std::make_unique<Caller>(maker, seconds, board.values[0]); }});
  scenario.report = [](const Board& results) {
    return std::vector<Metric>{{"time", results.values[0]}};
  };
  return scenario;
}

}  // namespace tssx::bench
