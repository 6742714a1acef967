// SIGSEGV and SIGBUS belong to the application, also while the library uses them itself.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <thread>
#include <tuple>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/connection.h"
#include "tests/support/io.h"
#include "tests/support/known_difference.h"
#include "tests/support/memory.h"
#include "tests/support/pattern.h"
#include "tests/support/signals.h"

namespace tssx_test {
namespace {

constexpr int kRestorer = 0x04000000;  // SA_RESTORER, which libc adds to whatever is set

// What the handlers below saw.
volatile sig_atomic_t calls = 0;
void* volatile seen_address = nullptr;
void* volatile seen_stack = nullptr;
volatile int seen_code = 0;
volatile int seen_value = 0;
volatile int seen_signal = 0;
volatile bool segv_was_blocked = false;
volatile bool usr1_was_blocked = false;
sigjmp_buf way_out;
volatile int connection = -1;

void note(int number, siginfo_t* info) {
  char here = 0;
  seen_signal = number;
  seen_stack = &here;
  if (info != nullptr) {
    seen_address = info->si_addr;
    seen_code = info->si_code;
    seen_value = info->si_value.sival_int;
  }
  sigset_t mask;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  segv_was_blocked = ::sigismember(&mask, SIGSEGV) == 1;
  usr1_was_blocked = ::sigismember(&mask, SIGUSR1) == 1;
  calls = calls + 1;
}
void note_and_return(int number, siginfo_t* info, void*) { note(number, info); }
void note_and_leave(int number, siginfo_t* info, void*) {
  note(number, info);
  siglongjmp(way_out, 1);
}
void leave(int number) {
  note(number, nullptr);
  siglongjmp(way_out, 1);
}
void first_handler(int) {}
void second_handler(int) {}

void handle(int number, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = flags | SA_SIGINFO;
  ::sigemptyset(&action.sa_mask);
  ASSERT_EQ(::sigaction(number, &action, nullptr), 0);
}

struct sigaction action_of(int number) {
  struct sigaction now {};
  EXPECT_EQ(::sigaction(number, nullptr, &now), 0);
  return now;
}

// In children that are to die of it.
void leave_no_core() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

class FaultSignal : public ConnectionTest {
 protected:
  void SetUp() override {
    ConnectionTest::SetUp();
    before_ = action_of(SIGSEGV);
    bus_before_ = action_of(SIGBUS);
    calls = 0;
    connection = mine();
  }
  void TearDown() override {
    ::sigaction(SIGSEGV, &before_, nullptr);
    ::sigaction(SIGBUS, &bus_before_, nullptr);
  }
  // Faults in our own code; the handler leaves by siglongjmp.
  void touch(char* address) {
    if (sigsetjmp(way_out, 1) == 0) {
      *static_cast<volatile char*>(address) = 'x';
      FAIL() << "no fault";
    }
  }
  // A bad buffer is EFAULT, and nobody's handler hears of it.
  void expect_efault() {
    const sig_atomic_t before = calls;
    ASSERT_EQ(write_all(peer(), "precious"), 8U);
    errno = 0;
    EXPECT_EQ(::read(mine(), page_.beyond(), 8), -1);
    EXPECT_EQ(errno, EFAULT);
    EXPECT_EQ(read_once(mine(), 100), "precious");
    EXPECT_EQ(calls, before);
  }
  GuardedPage page_;
  struct sigaction before_ {};
  struct sigaction bus_before_ {};
};
INSTANTIATE_TEST_SUITE_P(, FaultSignal, every_situation(), situation_name);

TEST_P(FaultSignal, ActionIsTheDefaultAtFirst) {
  for (const int number : {SIGSEGV, SIGBUS}) {
    const struct sigaction now = action_of(number);
    EXPECT_EQ(now.sa_handler, SIG_DFL);
    EXPECT_EQ(now.sa_flags & ~kRestorer, 0);
    EXPECT_EQ(::sigisemptyset(&now.sa_mask), 1);
  }
}

TEST_P(FaultSignal, ActionIsWhatWasSet) {
  for (const int number : {SIGSEGV, SIGBUS, SIGUSR1}) {
    struct sigaction first {};
    first.sa_sigaction = note_and_return;
    first.sa_flags = static_cast<int>(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND);
    ::sigemptyset(&first.sa_mask);
    ::sigaddset(&first.sa_mask, SIGUSR2);
    ::sigaddset(&first.sa_mask, SIGKILL);
    struct sigaction second {};
    second.sa_handler = first_handler;
    second.sa_flags = SA_NODEFER;
    struct sigaction told {};
    ASSERT_EQ(::sigaction(number, &first, nullptr), 0);
    ASSERT_EQ(::sigaction(number, &second, &told), 0);
    EXPECT_EQ(told.sa_sigaction, note_and_return);
    EXPECT_EQ(told.sa_flags & ~kRestorer, first.sa_flags);
    EXPECT_EQ(::sigismember(&told.sa_mask, SIGUSR2), 1);
    EXPECT_EQ(::sigismember(&told.sa_mask, SIGKILL), 0);
    EXPECT_EQ(::sigismember(&told.sa_mask, number), 0);
    ASSERT_EQ(::sigaction(number, nullptr, &told), 0);
    EXPECT_EQ(told.sa_handler, first_handler);
    EXPECT_EQ(told.sa_flags & ~kRestorer, SA_NODEFER);
    EXPECT_EQ(::sigisemptyset(&told.sa_mask), 1);
    ASSERT_EQ(::sigaction(number, &told, nullptr), 0) << "can be given back as it is";
    EXPECT_EQ(action_of(number).sa_handler, first_handler);
    EXPECT_EQ(::signal(number, SIG_DFL), first_handler);
  }
  expect_efault();
}

// The same for a signal that is the library's too, and for one that is not.
TEST_P(FaultSignal, OlderCallsDoWhatTheyDoWithOtherSignals) {
  const auto flags_of = [](int number) {
    return action_of(number).sa_flags & (SA_RESTART | SA_NODEFER | static_cast<int>(SA_RESETHAND));
  };
  const auto masks_itself = [](int number) {
    const struct sigaction now = action_of(number);
    return ::sigismember(&now.sa_mask, number) == 1;
  };
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const auto story = [&](int number) {
    std::vector<std::tuple<int, sighandler_t, int, bool>> told;
    const auto tell = [&](int step, sighandler_t previous) {
      told.emplace_back(step, previous, flags_of(number), masks_itself(number));
    };
    tell(1, ::signal(number, first_handler));
    tell(2, ::signal(number, second_handler));
    tell(3, reinterpret_cast<sighandler_t>(static_cast<std::intptr_t>(::siginterrupt(number, 1))));
    tell(4, ::signal(number, first_handler));
    tell(5, reinterpret_cast<sighandler_t>(static_cast<std::intptr_t>(::siginterrupt(number, 0))));
    tell(6, ::sysv_signal(number, second_handler));
    tell(7, ::ssignal(number, first_handler));
    tell(8, ::sigset(number, second_handler));
    tell(9, ::sigset(number, SIG_HOLD));
    tell(10, ::sigset(number, first_handler));
    tell(11, ::sigset(number, second_handler));
    tell(12, reinterpret_cast<sighandler_t>(static_cast<std::intptr_t>(::sigignore(number))));
    tell(13, ::signal(number, SIG_ERR));
    tell(14, ::signal(number, SIG_DFL));
    return told;
  };
#pragma GCC diagnostic pop
  const auto other = story(SIGUSR2);
  EXPECT_EQ(story(SIGSEGV), other);
  EXPECT_EQ(story(SIGBUS), other);
  expect_efault();
}

TEST_P(FaultSignal, OwnFaultReachesTheHandler) {
  handle(SIGSEGV, note_and_leave, 0);
  touch(page_.beyond() + 123);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(seen_signal, SIGSEGV);
  EXPECT_EQ(seen_address, page_.beyond() + 123);
  EXPECT_EQ(seen_code, SEGV_ACCERR);
  EXPECT_TRUE(segv_was_blocked);
  EXPECT_FALSE(usr1_was_blocked);
  expect_efault();
  touch(page_.beyond() + 7);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(seen_address, page_.beyond() + 7);
  expect_efault();
}

TEST_P(FaultSignal, HandlerOfOneArgumentIsCalled) {
  ASSERT_EQ(::signal(SIGSEGV, leave), SIG_DFL);
  touch(page_.beyond());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(seen_signal, SIGSEGV);
  expect_efault();
}

TEST_P(FaultSignal, BusErrorReachesItsHandler) {
  const int file = ::memfd_create("short", 0);
  ASSERT_EQ(::ftruncate(file, 4096), 0);
  auto* const memory =
      static_cast<char*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  ::close(file);
  handle(SIGBUS, note_and_leave, 0);
  touch(memory + 5000);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(seen_signal, SIGBUS);
  EXPECT_EQ(seen_address, memory + 5000);
  EXPECT_EQ(seen_code, BUS_ADRERR);
  ::munmap(memory, 8192);
  expect_efault();
}

TEST_P(FaultSignal, HandlerMayMendTheMemoryAndReturn) {
  static char* page;
  page = page_.beyond();
  handle(
      SIGSEGV,
      [](int number, siginfo_t* info, void*) {
        note(number, info);
        ::mprotect(page, GuardedPage::kSize, PROT_READ | PROT_WRITE);
      },
      0);
  *static_cast<volatile char*>(page + 9) = 'y';
  EXPECT_EQ(page[9], 'y');
  EXPECT_EQ(calls, 1);
}

TEST_P(FaultSignal, HandlerRunsWithTheMaskItAskedFor) {
  struct sigaction action {};
  action.sa_sigaction = note_and_leave;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigaddset(&action.sa_mask, SIGUSR1);
  ASSERT_EQ(::sigaction(SIGSEGV, &action, nullptr), 0);
  touch(page_.beyond());
  EXPECT_FALSE(segv_was_blocked);
  EXPECT_TRUE(usr1_was_blocked);
  sigset_t mask;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(::sigisemptyset(&mask), 1);
  expect_efault();
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(::sigisemptyset(&mask), 1);
}

TEST_P(FaultSignal, HandlerRunsOnItsAlternateStack) {
  std::vector<char> memory(64U << 10U);
  const stack_t stack{memory.data(), 0, memory.size()};
  stack_t previous{};
  ASSERT_EQ(::sigaltstack(&stack, &previous), 0);
  handle(SIGSEGV, note_and_leave, SA_ONSTACK);
  expect_efault();
  touch(page_.beyond());
  EXPECT_GE(seen_stack, memory.data());
  EXPECT_LT(seen_stack, memory.data() + memory.size());
  handle(SIGSEGV, note_and_leave, 0);
  touch(page_.beyond());
  EXPECT_FALSE(seen_stack >= memory.data() && seen_stack < memory.data() + memory.size());
  ASSERT_EQ(::sigaltstack(&previous, nullptr), 0);
}

TEST_P(FaultSignal, ResetHandlerIsCalledOnce) {
  handle(SIGSEGV, note_and_leave, static_cast<int>(SA_RESETHAND));
  expect_efault();
  EXPECT_EQ(action_of(SIGSEGV).sa_sigaction, note_and_leave) << "EFAULT used it up";
  touch(page_.beyond());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(action_of(SIGSEGV).sa_handler, SIG_DFL);
  expect_efault();
  Child child([&] {
    leave_no_core();
    *static_cast<volatile char*>(page_.beyond()) = 'x';
  });
  EXPECT_EQ(child.wait(), 128 + SIGSEGV);
}

TEST_P(FaultSignal, DefaultIsDeath) {
  const auto dies = [&](const std::function<void()>& how) {
    Child child([&] {
      leave_no_core();
      expect_efault();
      how();
    });
    EXPECT_EQ(child.wait(), 128 + SIGSEGV);
  };
  dies([&] { *static_cast<volatile char*>(page_.beyond()) = 'x'; });
  dies([] { ::kill(::getpid(), SIGSEGV); });
  dies([] { ::raise(SIGSEGV); });
  dies([] { ::sigqueue(::getpid(), SIGSEGV, sigval{}); });
  // Not a canonical address: the kernel tells none.
  dies([] { *reinterpret_cast<volatile char*>(opaque(std::uintptr_t{1} << 62U)) = 'x'; });
  dies([&] { std::thread([&] { *static_cast<volatile char*>(page_.beyond()) = 'x'; }).join(); });
  dies([] { std::thread([] { ::pthread_kill(::pthread_self(), SIGSEGV); }).join(); });
}

TEST_P(FaultSignal, SentByAProcessReachesTheHandler) {
  handle(SIGSEGV, note_and_return, 0);
  ASSERT_EQ(::kill(::getpid(), SIGSEGV), 0);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(seen_code, SI_USER);
  sigval value{};
  value.sival_int = 4711;
  ASSERT_EQ(::sigqueue(::getpid(), SIGSEGV, value), 0);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(seen_code, SI_QUEUE);
  EXPECT_EQ(seen_value, 4711);
  ASSERT_EQ(::raise(SIGSEGV), 0);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(seen_code, SI_TKILL);
  expect_efault();
}

TEST_P(FaultSignal, IgnoredIsIgnoredWhenSent) {
  ASSERT_EQ(::signal(SIGSEGV, SIG_IGN), SIG_DFL);
  ASSERT_EQ(::kill(::getpid(), SIGSEGV), 0);
  ASSERT_EQ(::raise(SIGSEGV), 0);
  EXPECT_EQ(action_of(SIGSEGV).sa_handler, SIG_IGN);
  Child child([&] {
    leave_no_core();
    *static_cast<volatile char*>(page_.beyond()) = 'x';
  });
  EXPECT_EQ(child.wait(), 128 + SIGSEGV) << "a fault can't be ignored";
  EXPECT_EQ(::signal(SIGSEGV, SIG_DFL), SIG_IGN);
  expect_efault();
}

TEST_P(FaultSignal, IgnoredStaysIgnoredInAnotherProgram) {
  const auto ignored = [](sighandler_t action) {
    ::signal(SIGSEGV, action);
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::execl("/bin/cat", "cat", "/proc/self/status", nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    const std::string status = read_to_end(ends[0]);
    ::close(ends[0]);
    EXPECT_EQ(wait_for_exit(child), 0);
    const std::string mask = status.substr(status.find("SigIgn:") + 7, 20);
    return (std::stoull(mask, nullptr, 16) >> (SIGSEGV - 1) & 1U) != 0;
  };
  EXPECT_TRUE(ignored(SIG_IGN));
  EXPECT_FALSE(ignored(first_handler));
  EXPECT_FALSE(ignored(SIG_DFL));
}

TEST_P(FaultSignal, HandlerMayUseTheConnection) {
  handle(
      SIGSEGV,
      [](int number, siginfo_t* info, void*) {
        note(number, info);
        char bytes[8] = {};
        if (::read(connection, bytes, sizeof bytes) == 8) {
          [[maybe_unused]] const ssize_t sent = ::write(connection, bytes, 8);
        }
        siglongjmp(way_out, 1);
      },
      0);
  ASSERT_EQ(write_all(peer(), "precious"), 8U);
  touch(page_.beyond());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(read_once(peer(), 100), "precious");
  expect_efault();
}

// Copies that fault, interrupted at any instruction by a handler whose copies fault too.
TEST_P(FaultSignal, FaultsInsideFaultsAreAllTold) {
  static char* nowhere;
  static volatile sig_atomic_t wrong;
  nowhere = page_.beyond();
  wrong = 0;
  struct sigaction action {};
  action.sa_handler = [](int) {
    const int saved = errno;
    if (::write(connection, nowhere - 100, 200) != -1 || errno != EFAULT) wrong = wrong + 1;
    calls = calls + 1;
    errno = saved;
  };
  action.sa_flags = SA_RESTART;
  struct sigaction previous {};
  ASSERT_EQ(::sigaction(SIGALRM, &action, &previous), 0);
  {
    const PeriodicAlarm alarm(1);
    const std::string bytes = pattern(0, 3000);
    for (int turn = 0; calls < 50 || turn < 200; ++turn) {
      ASSERT_EQ(write_all(peer(), bytes), bytes.size());
      for (const std::size_t before : {0U, 10U, 1000U, 2999U}) {
        errno = 0;
        ASSERT_EQ(::read(mine(), page_.beyond() - before, 3000), -1) << before;
        ASSERT_EQ(errno, EFAULT);
      }
      ASSERT_TRUE(matches_pattern(read_exactly(mine(), bytes.size()), 0));
    }
  }
  ::sigaction(SIGALRM, &previous, nullptr);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

// A handler that leaves a copy by siglongjmp leaves nothing behind that could take the next fault
// for that copy's.
TEST_P(FaultSignal, LeavingACopyLeavesNothingBehind) {
  struct sigaction action {};
  action.sa_handler = [](int) { siglongjmp(way_out, 1); };
  action.sa_flags = SA_NODEFER;
  struct sigaction previous {};
  ASSERT_EQ(::sigaction(SIGALRM, &action, &previous), 0);
  set_nonblocking(mine(), true);
  volatile int left = 0;
  const std::string bytes(100, 'x');
  while (left < 20) {
    if (sigsetjmp(way_out, 1) == 0) {
      // Once: a second one would jump out of what comes next.
      itimerval once{};
      once.it_value.tv_usec = 1000;
      ASSERT_EQ(::setitimer(ITIMER_REAL, &once, nullptr), 0);
      for (;;) {
        [[maybe_unused]] const ssize_t sent = ::write(mine(), page_.beyond() - 100, 200);
      }
    }
    left = left + 1;
    handle(SIGSEGV, note_and_leave, 0);
    touch(page_.beyond() + 50);
    EXPECT_EQ(calls, left);
    EXPECT_EQ(seen_address, page_.beyond() + 50);
  }
  ::sigaction(SIGALRM, &previous, nullptr);
  set_nonblocking(mine(), false);
  ASSERT_EQ(write_all(mine(), "still here"), 10U);
  EXPECT_EQ(read_once(peer(), 100), "still here");
}

TEST_P(FaultSignal, BlockedSignalMakesNoDifferenceToABadBuffer) {
  TSSX_KNOWN_DIFFERENCE("bad buffers with SIGSEGV blocked");
  const ScopedBlock block(SIGSEGV);
  expect_efault();
}

TEST_P(FaultSignal, ForkedChildIsToldTheSame) {
  Child child([&] { expect_efault(); });
  EXPECT_EQ(child.wait(), 0);
  expect_efault();
}

TEST_P(FaultSignal, ThreadsFaultAtOnce) {
  handle(SIGSEGV, note_and_return, 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 500; ++turn) {
        errno = 0;
        EXPECT_EQ(::write(mine(), page_.beyond() - 10, 20), -1);
        EXPECT_EQ(errno, EFAULT);
      }
    });
  }
  for (int turn = 0; turn < 200; ++turn) handle(SIGSEGV, note_and_return, turn % 2 * SA_RESTART);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(poll_now(peer(), POLLIN), 0);
}

}  // namespace
}  // namespace tssx_test
