// sigaction(2) and its kin.
//
// Two signals are also ours once there is an endpoint: SIGSEGV and SIGBUS, by which a copy in bad
// memory becomes EFAULT (core/fault.h); SIGSYS is a third where TSSX_SECCOMP asks for it. The
// kernel then calls our handler, with the mask and the flags that the application asked for, and
// what is not ours goes to the application's action as the kernel would have done it. The
// application sees and sets its own action alone.
//
// Of all signals this file keeps whether a handler without SA_RESTART is installed.

#include "shim/call_signal.h"

#include <errno.h>
#include <ucontext.h>

#include <atomic>
#include <cstring>

#include "core/fault.h"
#include "core/sys.h"
#include "shim/real.h"

using namespace tssx;

namespace {

constexpr std::size_t kMaskSize = 8;  // of the kernel's signal sets, in bytes
using Handler = void (*)(int);
using LongHandler = void (*)(int, siginfo_t*, void*);

// What we may change of the application's flags when we tell the kernel.
constexpr int kOurFlags = static_cast<int>(SA_SIGINFO | SA_RESETHAND | SA_NODEFER | SA_RESTART);

bool is_signal(int number) noexcept { return number > 0 && number < 65; }

// What the application wants of a signal that we took. Written under `writing`; the handler reads
// what it needs without it.
struct Taken {
  std::atomic<bool> active;
  std::atomic<Handler> handler;
  std::atomic<int> flags;
  std::atomic<void (*)()> restorer;
  std::atomic<std::uint64_t> mask;
};
constinit Taken segv{};
constinit Taken bus{};
constinit Taken sys_signal{};
std::atomic<bool (*)(const siginfo_t&, void*)> trap_handler{nullptr};

Taken* taken(int number) noexcept {
  Taken* found = number == SIGSEGV  ? &segv
                 : number == SIGBUS ? &bus
                 : number == SIGSYS ? &sys_signal
                                    : nullptr;
  return found != nullptr && found->active.load(std::memory_order_acquire) ? found : nullptr;
}

// The kernel's part of a signal set.
std::uint64_t mask_of(const sigset_t& set) noexcept {
  std::uint64_t mask = 0;
  std::memcpy(&mask, &set, sizeof mask);
  return mask;
}
sigset_t set_of(std::uint64_t mask) noexcept {
  sigset_t set{};
  std::memcpy(&set, &mask, sizeof mask);
  return set;
}

// One bit for each signal.
std::atomic<std::uint64_t> not_restarting{0};
std::atomic<std::uint64_t> interrupts_calls{0};  // by siginterrupt(3), for what signal(2) installs

constexpr std::uint64_t bit(int number) noexcept { return std::uint64_t{1} << (number - 1); }

void set_bit(std::atomic<std::uint64_t>& bits, int number, bool on) noexcept {
  if (on) {
    bits.fetch_or(bit(number), std::memory_order_relaxed);
  } else if ((bits.load(std::memory_order_relaxed) & bit(number)) != 0) {
    bits.fetch_and(~bit(number), std::memory_order_relaxed);
  }
}

void note_action(int number, Handler handler, int flags) noexcept {
  set_bit(not_restarting, number,
          handler != SIG_DFL && handler != SIG_IGN && (flags & SA_RESTART) == 0);
}

// After a call that changed the action inside libc.
void ask_action(int number) noexcept {
  if (!is_signal(number)) return;
  const int saved = errno;
  struct sigaction now {};
  if (real::sigaction(number, nullptr, &now) == 0) {
    note_action(number, now.sa_handler, now.sa_flags);
  }
  errno = saved;
}

// Held while an action changes, with every signal blocked, so that no handler meets it.
std::atomic<bool> writing{false};

class Writing {
 public:
  Writing() noexcept {
    const std::uint64_t all = ~std::uint64_t{0};
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::word(&all), sys::word(&previous_), kMaskSize);
    while (writing.exchange(true, std::memory_order_acquire)) sys::sched_yield();
  }
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;
  ~Writing() {
    writing.store(false, std::memory_order_release);
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::word(&previous_), 0, kMaskSize);
  }

 private:
  std::uint64_t previous_ = 0;
};

void on_signal(int number, siginfo_t* info, void* context);

// Tells the kernel. SIG_IGN is told as it is, so that a signal sent by a process interrupts nothing
// and exec(2) hands it on; then faults are no longer caught. SIGSYS can't be ignored where a
// filter raises it.
int install(int number, const Taken& action) noexcept {
  struct sigaction wanted {};
  const Handler handler = action.handler.load(std::memory_order_relaxed);
  wanted.sa_mask = set_of(action.mask.load(std::memory_order_relaxed));
  wanted.sa_flags = action.flags.load(std::memory_order_relaxed);
  if (number == SIGSYS) {
    // The system call that we carry out in the handler runs under the caller's mask, and may trap
    // again.
    ::sigemptyset(&wanted.sa_mask);
    wanted.sa_flags |= SA_NODEFER | SA_RESTART;
  } else if (handler == SIG_IGN) {
    wanted.sa_handler = SIG_IGN;
    return real::sigaction(number, &wanted, nullptr);
  } else {
    ::sigfillset(&wanted.sa_mask);
  }
  wanted.sa_flags = (wanted.sa_flags & ~SA_RESETHAND) | SA_SIGINFO;
  wanted.sa_sigaction = on_signal;
  return real::sigaction(number, &wanted, nullptr);
}

void take(int number, Taken& action) noexcept {
  if (action.active.load(std::memory_order_acquire)) return;
  real::ensure();
  const int saved = errno;
  Writing lock;
  struct sigaction before {};
  if (!action.active.load(std::memory_order_relaxed) &&
      real::sigaction(number, nullptr, &before) == 0) {
    action.handler.store(before.sa_handler, std::memory_order_relaxed);
    action.flags.store(before.sa_flags, std::memory_order_relaxed);
    action.restorer.store(before.sa_restorer, std::memory_order_relaxed);
    action.mask.store(mask_of(before.sa_mask), std::memory_order_relaxed);
    if (install(number, action) == 0) action.active.store(true, std::memory_order_release);
  }
  errno = saved;
}

// sigaction(2) of a signal that is ours too. `wanted` and `previous` may be null.
int change(int number, Taken& action, const struct sigaction* wanted,
           struct sigaction* previous) noexcept {
  // libc's touches both as we do, in user space.
  struct sigaction next {};
  struct sigaction before {};
  if (wanted != nullptr) next = *wanted;
  int result = 0;
  {
    Writing lock;
    before.sa_handler = action.handler.load(std::memory_order_relaxed);
    before.sa_flags = action.flags.load(std::memory_order_relaxed);
    before.sa_restorer = action.restorer.load(std::memory_order_relaxed);
    before.sa_mask = set_of(action.mask.load(std::memory_order_relaxed));
    if (wanted != nullptr) {
      action.handler.store(next.sa_handler, std::memory_order_relaxed);
      action.flags.store(next.sa_flags, std::memory_order_relaxed);
      action.mask.store(mask_of(next.sa_mask) & ~bit(SIGKILL) & ~bit(SIGSTOP),
                        std::memory_order_relaxed);
      result = install(number, action);
      // What libc and the kernel made of it shows in what they tell.
      struct sigaction kept {};
      if (result == 0 && real::sigaction(number, nullptr, &kept) == 0) {
        action.flags.store((kept.sa_flags & ~kOurFlags) | (next.sa_flags & kOurFlags),
                           std::memory_order_relaxed);
        action.restorer.store(kept.sa_restorer, std::memory_order_relaxed);
      }
    }
  }
  if (result == 0 && previous != nullptr) *previous = before;
  return result;
}

// The default action, by the kernel: for a fault that happens again as soon as we return, and for a
// signal that was sent, sent again.
void do_default(int number, siginfo_t* info) noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  real::sigaction(number, &standard, nullptr);
  const bool happens_again = info->si_code > 0 && number != SIGSYS &&
                             !(number == SIGBUS && info->si_code == BUS_MCEERR_AO);
  if (happens_again) return;
  const auto process = static_cast<int>(sys::getpid());
  const auto thread = static_cast<int>(sys::gettid());
  if (sys::call(SYS_rt_tgsigqueueinfo, process, thread, number, sys::word(info)) != 0) {
    sys::tgkill(process, thread, number);
  }
  const std::uint64_t only = bit(number);
  sys::call(SYS_rt_sigprocmask, SIG_UNBLOCK, sys::word(&only), 0, kMaskSize);
}

void hand_on(int number, Taken& action, siginfo_t* info, void* context) {
  const int flags = action.flags.load(std::memory_order_relaxed);
  Handler handler = action.handler.load(std::memory_order_relaxed);
  if (handler == SIG_IGN) {
    // Signals that a process sent are ignored; a fault can't be (force_sig_info_to_task()).
    if (info->si_code <= 0) return;
    handler = SIG_DFL;
  }
  if (handler == SIG_DFL) {
    do_default(number, info);
    return;
  }
  if ((flags & SA_RESETHAND) != 0) {
    // By whoever comes first, as under the kernel's lock; then the default.
    if (!action.handler.compare_exchange_strong(handler, SIG_DFL)) {
      hand_on(number, action, info, context);
      return;
    }
    note_action(number, SIG_DFL, flags);
  }
  // The mask that the kernel would have set (signal_delivered()).
  std::uint64_t mask = mask_of(static_cast<ucontext_t*>(context)->uc_sigmask) |
                       action.mask.load(std::memory_order_relaxed);
  if ((flags & SA_NODEFER) == 0) mask |= bit(number);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::word(&mask), 0, kMaskSize);
  // On x86-64 the kernel hands over all three, whatever SA_SIGINFO says (setup_rt_frame()).
  reinterpret_cast<LongHandler>(reinterpret_cast<void*>(handler))(number, info, context);
}

void on_signal(int number, siginfo_t* info, void* context) {
  if (number == SIGSYS) {
    const auto handler = trap_handler.load(std::memory_order_acquire);
    if (handler != nullptr && handler(*info, context)) return;
  } else if (recover_from_fault(*info, context)) {
    return;
  }
  Taken* action = taken(number);
  if (action != nullptr) hand_on(number, *action, info, context);
}

int do_sigaction(int number, const struct sigaction* wanted, struct sigaction* previous) noexcept {
  real::ensure();
  Handler handler = SIG_DFL;
  int flags = 0;
  if (wanted != nullptr) {
    handler = wanted->sa_handler;
    flags = wanted->sa_flags;
  }
  Taken* const action = taken(number);
  const int result = action != nullptr ? change(number, *action, wanted, previous)
                                       : real::sigaction(number, wanted, previous);
  if (result == 0 && wanted != nullptr) note_action(number, handler, flags);
  return result;
}

// The older calls in terms of sigaction(2), as libc has them, for signals that are ours too.
// SIG_ERR with errno set on failure.
Handler replace_handler(int number, Handler handler, int flags, bool block_itself) noexcept {
  if (handler == SIG_ERR) {
    errno = EINVAL;
    return SIG_ERR;
  }
  struct sigaction wanted {};
  struct sigaction previous {};
  wanted.sa_handler = handler;
  wanted.sa_flags = flags;
  ::sigemptyset(&wanted.sa_mask);
  if (block_itself) ::sigaddset(&wanted.sa_mask, number);
  return do_sigaction(number, &wanted, &previous) == 0 ? previous.sa_handler : SIG_ERR;
}

template <class Function>
Handler do_bsd_signal(Function function, int number, Handler handler) noexcept {
  real::ensure();
  if (taken(number) != nullptr) {
    const bool interrupts = (interrupts_calls.load(std::memory_order_relaxed) & bit(number)) != 0;
    return replace_handler(number, handler, interrupts ? 0 : SA_RESTART, true);
  }
  const Handler previous = function(number, handler);
  if (previous != SIG_ERR) ask_action(number);
  return previous;
}

template <class Function>
Handler do_sysv_signal(Function function, int number, Handler handler) noexcept {
  real::ensure();
  if (taken(number) != nullptr) {
    return replace_handler(number, handler, static_cast<int>(SA_RESETHAND | SA_NODEFER), false);
  }
  const Handler previous = function(number, handler);
  if (previous != SIG_ERR) ask_action(number);
  return previous;
}

}  // namespace

namespace tssx {

void catch_faults() noexcept {
  if (faults_are_caught()) return;
  take(SIGSEGV, segv);
  take(SIGBUS, bus);
  set_faults_caught(true);
}

void catch_traps(bool (*handler)(const siginfo_t& info, void* context)) noexcept {
  trap_handler.store(handler, std::memory_order_release);
  take(SIGSYS, sys_signal);
}

bool every_handler_restarts() noexcept {
  return not_restarting.load(std::memory_order_relaxed) == 0;
}

void reset_signals() noexcept { writing.store(false, std::memory_order_relaxed); }

}  // namespace tssx

TSSX_INTERPOSED int sigaction(int number, const struct sigaction* wanted,
                              struct sigaction* previous) noexcept {
  return do_sigaction(number, wanted, previous);
}
TSSX_INTERPOSED int __sigaction(int number, const struct sigaction* wanted,
                                struct sigaction* previous) noexcept {
  return do_sigaction(number, wanted, previous);
}

TSSX_INTERPOSED Handler signal(int number, Handler handler) noexcept {
  return do_bsd_signal(real::signal, number, handler);
}
TSSX_INTERPOSED Handler bsd_signal(int number, Handler handler) noexcept {
  return do_bsd_signal(real::bsd_signal, number, handler);
}
TSSX_INTERPOSED Handler ssignal(int number, Handler handler) noexcept {
  return do_bsd_signal(real::ssignal, number, handler);
}
TSSX_INTERPOSED Handler sysv_signal(int number, Handler handler) noexcept {
  return do_sysv_signal(real::sysv_signal, number, handler);
}
TSSX_INTERPOSED Handler __sysv_signal(int number, Handler handler) noexcept {
  return do_sysv_signal(real::__sysv_signal, number, handler);
}

TSSX_INTERPOSED Handler sigset(int number, Handler handler) noexcept {
  real::ensure();
  if (taken(number) == nullptr) {
    const Handler previous = real::sigset(number, handler);
    if (previous != SIG_ERR) ask_action(number);
    return previous;
  }
  sigset_t one;
  sigset_t masked;
  ::sigemptyset(&one);
  ::sigaddset(&one, number);
  if (handler == SIG_HOLD) {
    struct sigaction now {};
    ::sigprocmask(SIG_BLOCK, &one, &masked);
    if (::sigismember(&masked, number) == 1) return SIG_HOLD;
    return do_sigaction(number, nullptr, &now) == 0 ? now.sa_handler : SIG_ERR;
  }
  const Handler previous = replace_handler(number, handler, 0, false);
  if (previous == SIG_ERR) return SIG_ERR;
  ::sigprocmask(SIG_UNBLOCK, &one, &masked);
  return ::sigismember(&masked, number) == 1 ? SIG_HOLD : previous;
}

TSSX_INTERPOSED int sigignore(int number) noexcept {
  real::ensure();
  if (taken(number) != nullptr) {
    return replace_handler(number, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
  }
  const int result = real::sigignore(number);
  if (result == 0) ask_action(number);
  return result;
}

TSSX_INTERPOSED int siginterrupt(int number, int interrupt) noexcept {
  real::ensure();
  if (taken(number) == nullptr) {
    const int result = real::siginterrupt(number, interrupt);
    if (result == 0) {
      set_bit(interrupts_calls, number, interrupt != 0);
      ask_action(number);
    }
    return result;
  }
  struct sigaction action {};
  if (do_sigaction(number, nullptr, &action) != 0) return -1;
  set_bit(interrupts_calls, number, interrupt != 0);
  action.sa_flags = interrupt != 0 ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
  return do_sigaction(number, &action, nullptr);
}
