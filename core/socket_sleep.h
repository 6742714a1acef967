// A recvmsg(2) that a thread sleeps in, and its end where a signal handler of that thread takes
// something off the same socket, or moves the connection.
//
// What comes by a socket is data or bells, so who sleeps there relies on what it saw before. When a
// handler returns, the kernel goes on with a call that it had not finished, or that the thread was
// about to make: it begins anew, with the message header that it finds in memory then. So that lies
// where the handler reaches it, which spoils it: the call fails with EMSGSIZE (copy_msghdr in
// net/socket.c), and the thread looks again. That costs no system call.
//
// Thread safety: of a thread that has the connection for itself, and its signal handlers.
// May be called from: signal handlers.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <cstddef>

namespace tssx {

class SocketSleep {
 public:
  // What is on the socket is not what a sleeper of this thread, if there is one, has reckoned with.
  void spoil() noexcept {
    if (busy_) const_cast<volatile std::size_t&>(message_.msg_iovlen) = kTooMany;
  }
  // Of another connection from now on.
  void forget() noexcept { busy_ = false; }

  // From before the last look at the connection to the end of the call. Where a call further down
  // the stack has begun one, that is spoilt, and this one can't be.
  class Scope {
   public:
    Scope(SocketSleep& sleep, msghdr& message) noexcept
        : sleep_(sleep), own_(message), owner_(!sleep.busy_) {
      if (owner_) {
        sleep_.message_ = message;
        sleep_.busy_ = true;
      } else {
        sleep_.spoil();
      }
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    // Also where the thread is cancelled in the call. One that siglongjmp leaves stays: then the
    // calls to come can't be spoilt.
    ~Scope() {
      if (!owner_) return;
      std::atomic_signal_fence(std::memory_order_seq_cst);
      sleep_.busy_ = false;
      own_.msg_namelen = sleep_.message_.msg_namelen;
      own_.msg_controllen = sleep_.message_.msg_controllen;
      own_.msg_flags = sleep_.message_.msg_flags;
    }
    msghdr* message() noexcept { return owner_ ? &sleep_.message_ : &own_; }

   private:
    SocketSleep& sleep_;
    msghdr& own_;
    bool owner_;
  };

 private:
  static constexpr std::size_t kTooMany = 1025;  // more than UIO_MAXIOV

  msghdr message_{};
  volatile bool busy_ = false;
};

}  // namespace tssx
