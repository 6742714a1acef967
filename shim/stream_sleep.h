// Sleeping on the control socket of a connection.
//
// Thread safety: each sleep is one thread's. May be called from: signal handlers. A sleep is a
// cancellation point, so what sleeps is not noexcept.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstdint>

#include "core/channel.h"
#include "core/sys.h"

namespace tssx {

inline constexpr std::uint64_t kNapNs = 50'000;

// What a sleep ended with.
enum class Wake { look_again, interrupted, timed_out };

// Ends a sleep however it is left: also when the thread is cancelled in it.
class Sleep {
 public:
  explicit Sleep(Channel& channel) noexcept : channel_(channel), start_(sys::now_ns()) {}
  Sleep(const Sleep&) = delete;
  Sleep& operator=(const Sleep&) = delete;
  ~Sleep() {
    channel_.woken();
    channel_.waiter.note_sleep(sys::now_ns() - start_);
  }

 private:
  Channel& channel_;
  std::uint64_t start_;
};

// A signal ended a sleep of ours that the kernel never restarts, within a call that it might
// restart: one without a time limit, that has moved nothing yet (signal(7)). If all handlers asked
// for that, so did the one that ran.
Wake after_signal(bool restartable) noexcept;

// For something that tells no sleeper of itself. `restartable`: as for after_signal().
Wake nap(std::uint64_t nanoseconds, bool restartable);

// poll(2) for `events` on the control socket until the deadline (CLOCK_MONOTONIC nanoseconds, 0 for
// none): 1, 0 when it has passed, ready or not, or -1 with errno.
int poll_until(int fd, short events, std::uint64_t deadline);

// recvmsg(2) by a thread that has the endpoint for itself, for bells, or for bytes that come by the
// kernel. -1 with EMSGSIZE: it is the other of the two that come, or a signal handler has taken
// something off the socket meanwhile.
ssize_t receive_asleep(Channel& channel, int fd, msghdr& message, int flags, bool bells);

// Sleeps on the control socket until a bell, the peer's end, a signal, or the deadline
// (CLOCK_MONOTONIC nanoseconds, 0 for none). With `restartable` nothing has been moved yet: then
// the sleep is a recv(2), and EINTR, SA_RESTART and cancellation are the kernel's own.
Wake sleep_on_socket(Channel& channel, int fd, std::uint64_t deadline, bool restartable);

// Takes the bells off the socket before a sleep, so that the sleep lasts. Where other threads may
// not have seen them yet, gives those a moment. A sleep that is itself a consuming recv(2) needs
// none of it.
Wake clear_bells(Channel& channel, int fd, bool consuming, bool restartable);

}  // namespace tssx
