#include "shim/startup.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unwind.h>

#include "core/fault_point.h"
#include "core/fork_gate.h"
#include "core/presence.h"
#include "core/remote_fence.h"
#include "core/side.h"
#include "core/sys.h"
#include "shim/call_signal.h"
#include "shim/config.h"
#include "shim/descriptor_table.h"
#include "shim/endpoint_pool.h"
#include "shim/epoll_set.h"
#include "shim/leave.h"
#include "shim/log.h"
#include "shim/mark.h"
#include "shim/pool.h"
#include "shim/real.h"
#include "shim/table_size.h"
#include "shim/trap.h"
#include "shim/version.h"

namespace tssx {
namespace {

// A socket that is neither bound nor connected is in two processes now. A mark that one of them
// put on it would be unknown to the other: it stays the kernel's.
void settle_fresh_sockets() noexcept {
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) {
    // Another thread may mark it meanwhile, for a connect(2), or close it and put another there.
    table.compare_exchange(fd, Slot(Kind::fresh, nullptr), Slot(Kind::ordinary, nullptr));
  }
}

// Those that have a descriptor. With a reference, as another thread may be closing it.
template <class Visit>
void for_each_open(Visit&& visit) noexcept {
  endpoints.for_each([&visit](Endpoint& endpoint) {
    if (!take_reference(endpoint.references)) return;
    if (endpoint.descriptors.load(std::memory_order_acquire) != 0) visit(endpoint);
    drop_reference(endpoint);
  });
}

// Each process that will hold them; see core/channel_hold.cc.
void lock_holds() noexcept {
  for_each_endpoint(
      [](EndpointRef& endpoint, int) { endpoint.channel().lock_hold(endpoint.fd()); });
}

}  // namespace

void before_fork() noexcept {
  drop_marks();
  TSSX_FAULT_POINT(fork_begun);
  close_fork_gate();
  lock_holds();
  TSSX_FAULT_POINT(fork_holds_locked);
  lock_sets();
  for_each_open([](Endpoint& endpoint) { endpoint.channel.prepare_fork(); });
}

void after_fork_failed() noexcept {
  for_each_open([](Endpoint& endpoint) { endpoint.channel.undo_fork(); });
}

void after_fork_in_parent(bool child_exists) noexcept {
  TSSX_FAULT_POINT(fork_parent);
  if (child_exists) {
    settle_fresh_sockets();
  } else {
    after_fork_failed();
  }
  unlock_sets();
  open_fork_gate(false);
}

void after_fork_in_child() noexcept {
  TSSX_FAULT_POINT(fork_child);
  forget_thread();
  open_fork_gate(true);
  reset_presence();
  reset_signals();
  reset_sets();
  forget_kept_sides();
  forget_table_size();
  settle_fresh_sockets();
  adopt_marks();
  endpoints.for_each([](Endpoint& endpoint) {
    // Only the forking thread lives on: calls of others will never drop their references.
    endpoint.references.store(endpoint.descriptors.load(std::memory_order_relaxed),
                              std::memory_order_relaxed);
    new (&endpoint.members_lock) RobustLock();
    endpoint.channel.forget_lock();
  });
  TSSX_FAULT_POINT(fork_child_ready);
  lock_holds();
}

void give_up_connections() noexcept {
  TSSX_FAULT_POINT(exiting);
  for_each_endpoint([](EndpointRef& endpoint, int) { finish_before_close(endpoint, true); });
  endpoints.for_each([](Endpoint& endpoint) {
    if (!take_reference(endpoint.references)) return;
    if (endpoint.descriptors.exchange(0, std::memory_order_acq_rel) == 0) {
      drop_reference(endpoint);
      return;
    }
    endpoint.channel.abandon();
    // The reference stays: a thread that closes it now must not abandon it a second time.
  });
}

namespace {

// pthread_cancel() unwinds through our frames by the libgcc_s that glibc loads, but with the
// personality routine of this library's static copy. That copy fills its table of registers when it
// first unwinds something itself, and aborts until then. So let it unwind once.
void prepare_unwinder() noexcept {
  _Unwind_Backtrace([](_Unwind_Context*, void*) { return _URC_END_OF_STACK; }, nullptr);
}

// Takes part from here on, if the environment wants it and there is memory for it.
bool take_part() noexcept {
  if (!config.load()) return false;
  if (!open_members() || !table.open()) {
    log(LogLevel::warn, "no memory for its tables; everything stays in the kernel");
    return false;
  }
  prepare_unwinder();
  take_part_in_fences();  // now, while there is one thread
  pthread_atfork(
      before_fork, [] { after_fork_in_parent(true); }, after_fork_in_child);
  if (config.traps_raw_calls() && !catch_raw_calls()) {
    config.trap_nothing();
    complain("TSSX_SECCOMP", "the kernel takes no filter; ignored");
  }
  return true;
}

// The line of level info: which build, where from, what for, and how.
void introduce(bool takes_part) noexcept {
  LogText text;
  text << kVersionText << ", ";
  Dl_info self{};
  // A path such as ld.so found it by. glibc's own copy of the name, so nothing is allocated.
  if (::dladdr(kVersionText, &self) != 0 && self.dli_fname != nullptr) text.quote(self.dli_fname);
  if (!takes_part) {
    text << ": takes no part, every connection stays in the kernel";
  } else {
    text << ": accept() returns " << (config.hands_out_ids() ? "negative IDs" : "kernel numbers")
         << (config.traps_raw_calls() ? ", raw calls are trapped" : "") << ", spins up to "
         << config.spin_us() << " us, USE_TSSX=";
    text.quote(::secure_getenv("USE_TSSX"));  // last: it may be long
  }
  log(LogLevel::info, text.view());
}

// Order matters:
//  1. the originals: everything below may call them
//  2. the log: the others may have something to say
//  3. the configuration: without one nothing else is touched
//  4. the tables; a failure leaves the process to the kernel
//  5. the atfork handlers: from here on fork() is seen, also inside libc
//  6. the filter of TSSX_SECCOMP: its handler looks into the tables
__attribute__((constructor(101))) void start() {
  real::ensure();
  const int saved = errno;
  open_log();
  const bool takes_part = take_part();
  if (logs(LogLevel::info)) introduce(takes_part);
  errno = saved;
}

// exit(3) closes no descriptor before the process is gone: say so in the segments.
__attribute__((destructor(101))) void stop() { give_up_connections(); }

}  // namespace
}  // namespace tssx
