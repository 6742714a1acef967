#include "tests/fault/records.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstring>

#include "tests/support/attach.h"

namespace fault {
namespace {

constexpr std::uint64_t kMagic = 0x7364726f63657221;
constexpr std::uint64_t kAnswer = 0x5e00000000000000;

struct Record {
  std::uint64_t magic;
  std::uint64_t id;
  std::uint64_t load[6];
};
static_assert(sizeof(Record) == kRecord);

Record make(std::uint64_t id) {
  Record record{kMagic, id, {}};
  for (std::uint64_t i = 0; i < 6; ++i) record.load[i] = (id + 1) * 0x9E3779B97F4A7C15U ^ i << 40U;
  return record;
}

void check(const Record& record, std::size_t size, const char* what) {
  const Record expected = make(record.id);
  if (size != kRecord || std::memcmp(&record, &expected, kRecord) != 0) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&record);
    blame("%s is no record: %zu bytes, %02x %02x %02x %02x %02x %02x %02x %02x", what, size,
          bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]);
  }
}

}  // namespace

bool is_dead(pid_t process) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
  if (fd < 0) return true;
  pollfd exited{fd, POLLIN, 0};
  timespec now{};
  const bool dead = ::syscall(SYS_ppoll, &exited, 1, &now, nullptr, 8) == 1;
  ::syscall(SYS_close, fd);
  return dead;
}

namespace {

constexpr int kTicks = 4;
constexpr suseconds_t kTickMicroseconds = 25'000;
Requester* current = nullptr;

void set_timer(suseconds_t microseconds, void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigaction(SIGVTALRM, &action, nullptr);
  static timer_t timer = [] {
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGVTALRM;
    timer_t made{};
    if (::timer_create(CLOCK_MONOTONIC, &event, &made) != 0) blame("timer_create");
    return made;
  }();
  itimerspec when{};
  when.it_value.tv_nsec = when.it_interval.tv_nsec = microseconds * 1000;
  ::timer_settime(timer, 0, &when, nullptr);
}

}  // namespace

Requester::Requester(int fd, Ledger& ledger, Connection& connection)
    : fd_(fd), ledger_(ledger), connection_(connection) {
  current = this;
  set_timer(kTickMicroseconds, tick, SA_RESTART);
}

Requester::~Requester() {
  set_timer(0, SIG_IGN, 0);
  current = nullptr;
}

// Is what is missing what dead processes had in their hands?
bool Requester::may_be_lost() const {
  std::uint64_t in_hands = 0;
  bool alive = false;
  bool any = false;
  for (const Worker& worker : connection_.workers) {
    if (worker.process == 0) continue;
    any = true;
    if (!is_dead(worker.process)) {
      alive = true;
    } else if (worker.taking != 0 || worker.answered == 0) {
      ++in_hands;
    }
  }
  return any && alive && in_hands != 0 && sent_ - answered_ - lost_ <= in_hands;
}

void Requester::tick(int /*signal*/) {
  const int error = errno;
  if (!current->may_be_lost()) {
    current->ticks_ = 0;
  } else if (++current->ticks_ >= kTicks) {
    // The next one interrupts the call.
    struct sigaction action {};
    action.sa_handler = tick;
    ::sigaction(SIGVTALRM, &action, nullptr);
  }
  errno = error;
}

// The end was told: then all that held the other end are gone, or about to be.
void Requester::end_for_all() {
  constexpr int kTries = 2000;
  for (const Worker& worker : connection_.workers) {
    if (worker.process == 0) continue;
    // A process that ends closes its descriptors first.
    for (int i = 0; !is_dead(worker.process); ++i) {
      if (i == kTries) blame("the end was told, and a process holds the other end");
      ::usleep(1000);
    }
  }
  lost_ = sent_ - answered_;
}

void Requester::post(std::uint64_t count) {
  for (; count != 0; --count) {
    const Record request = make(sent_);
    ssize_t moved = 0;
    do {
      moved = ::write(fd_, &request, kRecord);
    } while (moved < 0 && (errno == EINTR || errno == EAGAIN));
    if (moved < 0 && (errno == EPIPE || errno == ECONNRESET)) return end_for_all();
    if (moved != static_cast<ssize_t>(kRecord)) {
      blame("a request: %zd of 64 bytes, %s", moved, std::strerror(errno));
    }
    ++sent_;
  }
}

void Requester::take_until(std::uint64_t outstanding) {
  while (sent_ - answered_ - lost_ > outstanding) {
    Record answer{};
    const ssize_t got = ::read(fd_, &answer, kRecord);
    if (got < 0 && errno == EINTR) {
      if (ticks_ > kTicks && may_be_lost()) lost_ += sent_ - answered_ - lost_;
      continue;
    }
    if (got <= 0 && (got == 0 || errno == ECONNRESET)) {
      return end_for_all();
    }
    check(answer, static_cast<std::size_t>(got), "an answer");
    const std::uint64_t id = answer.id ^ kAnswer;
    if (id >= sent_ || id / 64 >= 512 || (seen_[id / 64] >> id % 64 & 1U) != 0) {
      blame("an answer to request %llu, of %llu; or its second",
            static_cast<unsigned long long>(id), static_cast<unsigned long long>(sent_));
    }
    seen_[id / 64] |= std::uint64_t{1} << id % 64;
    ++answered_;
    ticks_ = 0;
    ledger_.bytes += kRecord;
  }
}

void Requester::ask(std::uint64_t count, std::uint64_t window) {
  for (; count != 0; --count) {
    post(1);
    take_until(window - 1);
  }
  take_until(0);
}

namespace {

// In a message that brings a descriptor, if asked: which a read(2) at the other end drops.
ssize_t send_record(int fd, Record& record, bool with_descriptor) {
  if (!with_descriptor) return ::write(fd, &record, kRecord);
  return tssx_test::send_attached(fd, &record, kRecord, STDERR_FILENO);
}

}  // namespace

Served serve_one(int fd, Worker& worker, int flags, bool with_descriptor) {
  Record request{};
  worker.taking = 1;
  const ssize_t got = ::recv(fd, &request, kRecord, flags);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
    worker.taking = 0;
    return Served::again;
  }
  if (got == 0 || (got < 0 && errno == ECONNRESET)) {
    worker.taking = 0;
    return Served::end;
  }
  if (got < 0) blame("a request: %s", std::strerror(errno));
  check(request, static_cast<std::size_t>(got), "a request");
  worker.request = request.id;
  worker.answered = 0;
  worker.taking = 0;
  Record answer = make(request.id ^ kAnswer);
  ssize_t moved = 0;
  do {
    moved = send_record(fd, answer, with_descriptor);
  } while (moved < 0 && errno == EINTR);
  if (moved < 0 && (errno == EPIPE || errno == ECONNRESET)) return Served::end;
  if (moved != static_cast<ssize_t>(kRecord)) blame("an answer: %zd of 64 bytes", moved);
  worker.answered = 1;
  return Served::answered;
}

void serve_all(int fd, Worker& worker) {
  while (serve_one(fd, worker) != Served::end) {
  }
}

}  // namespace fault
