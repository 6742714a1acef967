// Which of the processes that were counted as holders are gone?
//
// Side::holders goes down when a process closes the endpoint or leaves by exit(3). One that is
// killed, calls _exit(2), or executes a program that does not inherit the descriptor says nothing.
// The kernel knows: it drops a process's record locks (fcntl(2), F_SETLK) when the process closes
// the file, whichever way. So around a fork each holder puts a read lock on the socket itself, and
// who has to know whether it is alone asks for a lock that would conflict with another process's.
//
// That says something only while each of the others has taken its lock, so Side::locked counts
// them, and always less than the truth:
//  - up after the lock is there, down before anything that may end it while the hold goes on: the
//    kernel drops a process's locks on a file when it closes any of its descriptors for it;
//  - a child is counted in `holders` before the fork, and in `locked` only when it has locked.
#include "core/channel.h"
#include "core/channel_detail.h"
#include "core/fault_point.h"

namespace tssx {

using namespace channel_detail;

namespace {

struct flock first_byte(short type) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  return lock;
}

}  // namespace

void Channel::lock_hold(int fd) noexcept {
  if (hold_is_locked_.load(relaxed) || phase() != Phase::candidate) return;
  const struct flock mine = first_byte(F_RDLCK);
  if (sys::fcntl(fd, F_SETLK, sys::word(&mine)) != 0) return;  // then it is never known to be gone
  TSSX_FAULT_POINT(hold_locked);
  hold_is_locked_.store(true, relaxed);
  side_->locked.fetch_add(1, std::memory_order_acq_rel);
  TSSX_FAULT_POINT(hold_counted);
}

void Channel::drop_lock() noexcept {
  if (hold_is_locked_.exchange(false, relaxed)) {
    side_->locked.fetch_sub(1, std::memory_order_acq_rel);
  }
}

// Called inside a SetUpScope: this process makes no further holder meanwhile. Nor do others, if it
// is true that there are none.
bool Channel::is_only_holder(int fd) noexcept {
  const std::uint32_t holders = side_->holders.load(acquire);
  if (holders == 1) return true;
  if (side_->locked.load(acquire) != holders) return false;
  struct flock other = first_byte(F_WRLCK);
  if (sys::fcntl(fd, F_GETLK, sys::word(&other)) != 0 || other.l_type != F_UNLCK) return false;
  TSSX_FAULT_POINT(holders_corrected);
  // This process's own share stays as it is.
  side_->locked.fetch_sub(holders - 1, std::memory_order_acq_rel);
  side_->holders.fetch_sub(holders - 1, std::memory_order_acq_rel);
  return true;
}

}  // namespace tssx
