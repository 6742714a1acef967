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
// Thread safety: words are atomics; share_sets() runs with the sets locked.

#include <errno.h>
#include <poll.h>

#include "core/channel.h"
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

void share_sets() noexcept {
  sets.for_each([](EpollSet& set) {
    if (set.custody_ != nullptr || set.locked_by_ == 0) return;
    std::atomic<std::uint64_t>* word = take_word();
    if (word == nullptr) return;
    const bool used = set.used_.load(std::memory_order_acquire);
    word->store(used ? process_id() : 0, std::memory_order_release);
    set.custody_ = word;
  });
}

// The rest of the page is the parent's to give out.
void forget_shared_words() noexcept { words = nullptr; }

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
  if (keeper != kShared) custody_->store(kShared, std::memory_order_release);
  used_.store(true, std::memory_order_release);
  surrender();
  // The keeper may be asleep in the set.
  LockScope lock(lock_, is_exclusive_process());
  kick();
  return false;
}

}  // namespace tssx
