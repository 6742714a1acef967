#include "tools/tssx-stat/watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <optional>
#include <utility>

#include "tools/tssx-stat/filter.h"
#include "tools/tssx-stat/frame.h"
#include "tools/tssx-stat/output.h"
#include "tools/tssx-stat/sample.h"
#include "tools/tssx-stat/sandbox.h"
#include "tools/tssx-stat/terminal.h"

namespace tssx::stat_tool {
namespace {

constexpr std::array kEnds{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr double kFirstInterval = 0.3;  // seconds: rates need two looks, nobody wants to wait

// Written by the handler, which runs only while ppoll(2) waits.
volatile sig_atomic_t ended_by = 0;
volatile sig_atomic_t resized = 0;
volatile sig_atomic_t suspended = 0;

void note_signal(int number) {
  if (number == SIGWINCH) {
    resized = 1;
  } else if (number == SIGTSTP) {
    suspended = 1;
  } else {
    ended_by = number;
  }
}

// Blocks what is of interest here, but for the time of a wait. Returns the mask for that.
sigset_t catch_signals() {
  sigset_t blocked;
  sigset_t open;
  sigemptyset(&blocked);
  struct sigaction action {};
  action.sa_handler = note_signal;
  const auto take = [&](int number) {
    ::sigaction(number, &action, nullptr);
    sigaddset(&blocked, number);
  };
  for (const int number : kEnds) take(number);
  take(SIGWINCH);
  take(SIGTSTP);
  ::signal(SIGPIPE, SIG_IGN);  // told by write(2)
  ::sigprocmask(SIG_BLOCK, &blocked, &open);
  for (const int number : kEnds) sigdelset(&open, number);
  sigdelset(&open, SIGWINCH);
  sigdelset(&open, SIGTSTP);
  return open;
}

double monotonic_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

class Watch {
 public:
  Watch(const Options& options, TextStyle style)
      : options_(options), style_(style), open_(catch_signals()) {
    screen_.interval = *options.watch;
    screen_.sort = options.sort.value_or(SortKey::rate);
  }

  int run() {
    // Once before the sandbox: user names may need more than files, and are remembered.
    if (!look()) return fail("/proc");
    const std::string no_sandbox = enter_sandbox(Sandbox::watching);
    if (options_.verbose && !no_sandbox.empty()) complain("no seccomp sandbox: " + no_sandbox);
    if (style_.human && !terminal_.enter()) return fail("writing");
    double next = monotonic_seconds() + std::min(kFirstInterval, screen_.interval);
    bool ok = show();
    while (ok && !screen_.quit && ended_by == 0) {
      if (wait_until(next)) {
        ok = !style_.human || show();
        continue;
      }
      if (ended_by != 0) break;
      if (!look()) return fail("/proc");
      ok = show();
      next = monotonic_seconds() + screen_.interval;
    }
    const int error = errno;
    terminal_.leave();
    if (ended_by != 0) return 128 + ended_by;
    errno = error;
    return ok ? kExitOk : fail("writing");
  }

 private:
  int fail(std::string_view what) {
    const int error = errno;
    terminal_.leave();
    complain(fmt::format("{}: {}", what, std::strerror(error)));
    return kExitFailure;
  }

  // A new report. False, with errno, without /proc.
  bool look() {
    std::optional<Gathered> gathered = gather();
    if (!gathered) return false;
    const double now = monotonic_seconds();
    Report report = take_sample(*gathered);
    if (looked_) add_rates(report, report_, now - looked_at_);
    report_ = std::move(report);
    looked_at_ = now;
    looked_ = true;
    return true;
  }

  bool show() {
    Report shown = report_;
    Options wanted = options_;
    wanted.sort = screen_.sort;
    apply_filters(shown, wanted);
    if (!style_.human) return print(STDOUT_FILENO, render_table(shown, style_) + "\n");
    shown_ = shown.connections.size();
    (void)Terminal::size(screen_.rows, screen_.columns);
    return terminal_.draw(make_frame(shown, screen_, style_));
  }

  // Until that time. True if something happened before it: a key, or another size.
  bool wait_until(double deadline) {
    for (;;) {
      const double left = std::max(0.0, deadline - monotonic_seconds());
      const timespec timeout{static_cast<time_t>(left),
                             static_cast<long>((left - std::floor(left)) * 1e9)};
      pollfd keys{STDIN_FILENO, POLLIN, 0};
      const nfds_t count = terminal_.has_keys() ? 1 : 0;
      const int ready = ::ppoll(&keys, count, &timeout, &open_);
      if (ended_by != 0 || ready == 0) return false;
      if (suspended != 0) return suspend();
      if (resized != 0) {
        resized = 0;
        return true;
      }
      if (ready < 0) continue;
      std::array<char, 256> typed{};
      const ssize_t size = ::read(STDIN_FILENO, typed.data(), typed.size());
      if (size <= 0) {  // the terminal is gone
        ended_by = SIGHUP;
        return false;
      }
      if (take_keys(screen_, {typed.data(), static_cast<std::size_t>(size)}, shown_)) return true;
    }
  }

  // ^Z: gives the terminal back, and takes it again when it goes on.
  bool suspend() {
    suspended = 0;
    terminal_.leave();
    ::raise(SIGSTOP);
    return !style_.human || terminal_.enter();
  }

  const Options& options_;
  TextStyle style_;
  sigset_t open_;
  Terminal terminal_;
  Screen screen_;
  Report report_;
  double looked_at_ = 0;
  bool looked_ = false;
  std::size_t shown_ = 0;
};

}  // namespace

int watch(const Options& options, TextStyle style) { return Watch(options, style).run(); }

}  // namespace tssx::stat_tool
