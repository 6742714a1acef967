// Sets that more than one process uses.
//
// The kernel's set is shared by a fork; our lists are not. So one process keeps a set's members
// over rings, and it alone. When a second one uses the set (a mere close() is no use), all give
// their members to the kernel, for good: their connections go back to it, and the registrations
// bear the application's own data.
//
// Who keeps a set stands in a word that the processes share, given to every set at a fork:
//
//   0        nobody: the set has no member of ours. The first process to add one keeps it
//   pid      that process; when it is dead, whoever comes next
//   kShared  nobody ever more
//
// Thread safety: words are atomics; share() runs with the sets locked.

#include <errno.h>
#include <poll.h>

#include "core/channel.h"
#include "core/fault_point.h"
#include "core/sys.h"
#include "core/unique_fd.h"
#include "shim/epoll_set.h"

namespace tssx {
namespace {

constexpr std::uint64_t kShared = ~std::uint64_t{0};
constexpr std::size_t kPage = 4096;

std::atomic<std::uint64_t>* words = nullptr;  // a page, some of it in use
std::size_t words_in_use = 0;

std::atomic<std::uint64_t>* take_word() noexcept {
  constexpr std::size_t kPerPage = kPage / sizeof(*words);
  if (words == nullptr || words_in_use == kPerPage) {
    words = static_cast<std::atomic<std::uint64_t>*>(
        sys::mmap(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1));
    words_in_use = 0;
    if (words == nullptr) return nullptr;
  }
  return &words[words_in_use++];
}

// A process that was killed is there until its parent waits for it, but its pidfd tells.
bool is_dead(std::uint64_t pid) noexcept {
  const UniqueFd process(static_cast<int>(sys::pidfd_open(static_cast<int>(pid))));
  if (!process) return true;
  pollfd exited{process.get(), POLLIN, 0};
  const timespec now{0, 0};
  return sys::poll(&exited, 1, &now) == 1;
}

}  // namespace

void EpollSet::share() noexcept {
  // The child's own eventfd would go with it, if it is killed, and with that the wake-up of a
  // keeper that has not run since; one that the keeper has open as well stays. For members that
  // come later the child holds nothing.
  if (used_.load(std::memory_order_acquire)) prepare_kick();
  if (custody_ != nullptr) return;
  std::atomic<std::uint64_t>* word = take_word();
  if (word == nullptr) return;
  const bool used = used_.load(std::memory_order_acquire);
  word->store(used ? process_id() : 0, std::memory_order_release);
  custody_ = word;
}

// The rest of the page is the parent's to give out.
void forget_shared_words() noexcept { words = nullptr; }

// Notes which registrations in a set of the kernel's bear our tags: its fdinfo lists them, in lines
// like "tfd:        5 events: 8000001d data: ffffffff00000000  pos:0 ino:61 sdev:9" (proc(5)).
void EpollSet::find_tags(int epfd) noexcept {
  char path[40] = "/proc/self/fdinfo/";
  char digits[12];
  int length = 0;
  for (int rest = epfd; length == 0 || rest > 0; rest /= 10) {
    digits[length++] = static_cast<char>('0' + rest % 10);
  }
  std::size_t end = sizeof "/proc/self/fdinfo/" - 1;
  while (length > 0) path[end++] = digits[--length];
  path[end] = '\0';
  const UniqueFd file(
      static_cast<int>(sys::call(SYS_openat, AT_FDCWD, sys::word(path), O_RDONLY | O_CLOEXEC)));
  if (!file) {
    // Without /proc: as if all were as we left them.
    for (Member* at = members_; at != nullptr; at = at->next_of_set) at->told_tag = true;
    return;
  }
  constexpr char kData[] = "data:";
  char text[1024];
  std::size_t matched = 0;  // characters of kData
  bool in_number = false;
  std::uint64_t number = 0;
  for (;;) {
    const long got = sys::call(SYS_read, file.get(), sys::word(text), sizeof text);
    if (got <= 0) return;
    for (long i = 0; i < got; ++i) {
      const char c = text[i];
      if (in_number) {
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit >= 0) {
          number = number << 4U | static_cast<unsigned>(digit);
        } else if (number != 0 || c != ' ') {
          in_number = false;
          Member* member =
              is_tag(number) && index_of(number) < kSetIndex ? member_of(number, this) : nullptr;
          if (member != nullptr) member->told_tag = true;
        }
      } else if (c == kData[matched]) {
        if (++matched == sizeof kData - 1) {
          matched = 0;
          in_number = true;
          number = 0;
        }
      } else {
        matched = c == kData[0] ? 1 : 0;
      }
    }
  }
}

bool EpollSet::is_keeper() const noexcept {
  if (surrendered_.load(std::memory_order_acquire)) return false;
  return custody_ == nullptr || custody_->load(std::memory_order_acquire) == process_id();
}

// Does this process keep the members? With `claim` it is about to add one. If not, they are the
// kernel's when this returns.
bool EpollSet::is_kept_here(bool claim) noexcept {
  if (surrendered_.load(std::memory_order_acquire)) return false;
  if (custody_ == nullptr) return true;
  const std::uint64_t self = process_id();
  std::uint64_t keeper = custody_->load(std::memory_order_acquire);
  if (keeper == self || (keeper == 0 && !claim)) return true;
  if (keeper != kShared && (keeper == 0 || is_dead(keeper)) &&
      custody_->compare_exchange_strong(keeper, self, std::memory_order_acq_rel)) {
    return true;
  }
  if (keeper == self) return true;  // another thread of ours was faster
  TSSX_FAULT_POINT(epoll_set_shared);
  if (keeper != kShared) custody_->store(kShared, std::memory_order_release);
  used_.store(true, std::memory_order_release);
  TSSX_FAULT_POINT(epoll_surrendering);
  // The keeper may be asleep in the set. It is to come back also if this process ends on the way.
  const auto wake_keeper = [this] {
    LockScope lock(lock_, is_exclusive_process());
    kick();
  };
  wake_keeper();
  surrender();
  wake_keeper();
  return false;
}

}  // namespace tssx
