#include "core/fault_point.h"

#if defined(TSSX_FAULT_POINTS)

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>

#include <cstring>

#include "core/sys.h"

namespace tssx {
namespace {

enum class Action { none, kill, abort, segv, hold };

constexpr std::size_t kPage = 4096;
constexpr std::size_t kMaxLength = sizeof FaultCount{}.label;
constexpr long kHoldNs = 20'000'000;

// Shared by all that were forked since, where they are to go by one count.
using Reached = std::atomic<std::uint64_t>;

struct Wish {
  char label[kMaxLength];
  std::uint64_t count;
  Action action;
  Reached* reached;
};
constexpr std::size_t kMaxWishes = 2;
Wish wishes[kMaxWishes];
std::size_t wish_count = 0;
FaultCount* counts = nullptr;
std::size_t counts_size = 0;

Action action_of(const char* name) noexcept {
  constexpr struct {
    const char* name;
    Action action;
  } kActions[] = {{"kill", Action::kill},
                  {"abort", Action::abort},
                  {"segv", Action::segv},
                  {"hold", Action::hold}};
  for (const auto& known : kActions) {
    if (std::strncmp(name, known.name, std::strlen(known.name)) == 0) return known.action;
  }
  return Action::none;
}

void read_wishes(const char* text) noexcept {
  auto* page = static_cast<Reached*>(
      sys::mmap(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1));
  while (page != nullptr && text != nullptr && wish_count < kMaxWishes) {
    const char* colon = std::strchr(text, ':');
    if (colon == nullptr || static_cast<std::size_t>(colon - text) >= kMaxLength) return;
    Wish& wish = wishes[wish_count];
    std::memcpy(wish.label, text, static_cast<std::size_t>(colon - text));
    char* end = nullptr;
    wish.count = std::strtoul(colon + 1, &end, 10);
    if (*end != ':') return;
    wish.action = action_of(end + 1);
    wish.reached = &page[wish_count++];
    text = std::strchr(end, ',');
    if (text != nullptr) ++text;
  }
}

void map_counts(const char* path) noexcept {
  const long fd = sys::call(SYS_openat, AT_FDCWD, sys::word(path), O_RDWR | O_CLOEXEC);
  struct stat info {};
  if (fd < 0) return;
  if (sys::fstat(static_cast<int>(fd), &info) == 0 && info.st_size > 0) {
    counts = static_cast<FaultCount*>(sys::mmap(static_cast<std::size_t>(info.st_size),
                                                PROT_READ | PROT_WRITE, MAP_SHARED,
                                                static_cast<int>(fd)));
    counts_size = counts == nullptr ? 0 : static_cast<std::size_t>(info.st_size) / sizeof *counts;
  }
  sys::close(static_cast<int>(fd));
}

// Before the library's own start (startup.cc), which is the first that may come to a label.
__attribute__((constructor(101))) void read_environment() {
  if (const char* wish = ::secure_getenv("TSSX_FAULT"); wish != nullptr) read_wishes(wish);
  if (const char* path = ::secure_getenv("TSSX_FAULT_COUNTS"); path != nullptr) map_counts(path);
}

[[noreturn]] void die(int signal) noexcept {
  // As if nobody handled it; blocked or not.
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)();
    std::uint64_t mask;
  } standard{};
  sys::call(SYS_rt_sigaction, signal, sys::word(&standard), 0, sizeof standard.mask);
  const std::uint64_t nothing = 0;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::word(&nothing), 0, sizeof nothing);
  for (;;) sys::tgkill(static_cast<int>(sys::getpid()), static_cast<int>(sys::gettid()), signal);
}

void act(Action action) noexcept {
  switch (action) {
    case Action::kill:
      die(SIGKILL);
    case Action::abort:
      die(SIGABRT);
    case Action::segv: {
      // A real one first: what the library catches for bad buffers is not this.
      volatile const char* volatile nowhere = nullptr;
      static_cast<void>(*nowhere);
      die(SIGSEGV);
    }
    case Action::hold: {
      const timespec time{0, kHoldNs};
      sys::poll(nullptr, 0, &time);
      return;
    }
    case Action::none:
      return;
  }
}

}  // namespace

void reach_fault_point(const char* label) noexcept {
  for (std::size_t i = 0; i < counts_size; ++i) {
    if (std::strcmp(counts[i].label, label) != 0) continue;
    counts[i].count.fetch_add(1, std::memory_order_relaxed);
    break;
  }
  for (std::size_t i = 0; i < wish_count; ++i) {
    const Wish& wish = wishes[i];
    if (std::strcmp(label, wish.label) != 0) continue;
    const std::uint64_t now = wish.reached->fetch_add(1, std::memory_order_relaxed) + 1;
    if (now == wish.count || wish.count == 0) act(wish.action);
  }
}

}  // namespace tssx

#endif
