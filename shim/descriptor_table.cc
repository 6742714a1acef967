#include "shim/descriptor_table.h"

#include "core/sys.h"
#include "shim/epoll_set.h"
#include "shim/pool.h"

namespace tssx {

DescriptorTable table;

namespace {

constinit Pool<Listener> listeners{};

// Above what select(2) users have, below the usual limit. The presence has numbers of its own
// (core/presence.cc).
constexpr int kFirstHidden = 700;

}  // namespace

bool DescriptorTable::open() noexcept {
  const std::size_t bytes = kMaxDescriptors * sizeof(std::atomic<std::uintptr_t>);
  void* slots =
      sys::mmap(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  void* ids = sys::mmap(kMaxIds * sizeof(Id), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (slots == nullptr || ids == nullptr) return false;
  slots_ = static_cast<std::atomic<std::uintptr_t>*>(slots);
  ids_ = static_cast<Id*>(ids);
  size_ = kMaxDescriptors;
  return true;
}

Slot DescriptorTable::exchange(int fd, Slot slot) noexcept {
  if (static_cast<unsigned>(fd) < size_) {
    return Slot(slots_[fd].exchange(slot.word(), std::memory_order_acq_rel));
  }
  if (!is_id(fd) || size_ == 0) return Slot();
  return Slot(ids_[kFirstId - fd].slot.exchange(slot.word(), std::memory_order_acq_rel));
}

bool DescriptorTable::compare_exchange(int fd, Slot expected, Slot desired) noexcept {
  if (static_cast<unsigned>(fd) >= size_) return false;
  std::uintptr_t word = expected.word();
  return slots_[fd].compare_exchange_strong(word, desired.word(), std::memory_order_acq_rel);
}

Slot DescriptorTable::find_id(int fd) const noexcept {
  const int index = kFirstId - fd;
  if (index >= kMaxIds) return Slot();
  return Slot(ids_[index].slot.load(std::memory_order_acquire));
}

int DescriptorTable::kernel_fd_of_id(int fd) const noexcept {
  const int index = kFirstId - fd;
  if (index >= kMaxIds || size_ == 0) return fd;
  if (ids_[index].slot.load(std::memory_order_acquire) == 0) return fd;  // EBADF, as it should
  return ids_[index].kernel_fd.load(std::memory_order_relaxed);
}

int DescriptorTable::add_id(Slot slot, int kernel_fd) noexcept {
  for (int i = 0; i < kMaxIds; ++i) {
    std::uintptr_t free = 0;
    if (ids_[i].slot.load(std::memory_order_relaxed) != 0) continue;
    // Claimed as "ordinary" until the descriptor stands beside it.
    if (!ids_[i].slot.compare_exchange_strong(free, static_cast<std::uintptr_t>(Kind::ordinary),
                                              std::memory_order_acq_rel)) {
      continue;
    }
    ids_[i].kernel_fd.store(kernel_fd, std::memory_order_relaxed);
    ids_[i].slot.store(slot.word(), std::memory_order_release);
    int end = ids_end_.load(std::memory_order_relaxed);
    while (end < i + 1 && !ids_end_.compare_exchange_weak(end, i + 1, std::memory_order_acq_rel)) {
    }
    return kFirstId - i;
  }
  return 0;
}

void DescriptorTable::note_highest(int fd) noexcept {
  int highest = highest_.load(std::memory_order_relaxed);
  while (highest < fd + 1 &&
         !highest_.compare_exchange_weak(highest, fd + 1, std::memory_order_relaxed)) {
  }
}

void DescriptorTable::hide(std::atomic<int>& owner) noexcept {
  const int fd = owner.load(std::memory_order_relaxed);
  set(fd, Slot(Kind::hidden, &owner));
  note_highest(fd);
}

EndpointRef::EndpointRef(int fd) noexcept {
  const Slot slot = table.find(fd);
  if (slot.kind() != Kind::endpoint) return;
  auto* endpoint = slot.as<Endpoint>();
  if (__libc_single_threaded != 0) {
    endpoint->references.store(endpoint->references.load(std::memory_order_relaxed) + 1,
                               std::memory_order_relaxed);
  } else {
    if (!take_reference(endpoint->references)) return;
    // Another thread may have closed it in between, and a third reused it: look again.
    if (table.find(fd).word() != slot.word()) {
      drop_reference(*endpoint);
      return;
    }
  }
  endpoint_ = endpoint;
  kernel_fd_ = table.kernel_fd(fd);
}

void EndpointRef::reset() noexcept {
  if (endpoint_ == nullptr) return;
  if (__libc_single_threaded != 0) {
    const std::uint32_t left = endpoint_->references.load(std::memory_order_relaxed) - 1;
    if (left != 0) {
      endpoint_->references.store(left, std::memory_order_relaxed);
      endpoint_ = nullptr;
      return;
    }
  }
  drop_reference(*endpoint_);
  endpoint_ = nullptr;
}

void release_descriptor(int fd) noexcept {
  const Slot slot = table.exchange(fd, Slot());
  switch (slot.kind()) {
    case Kind::endpoint:
    case Kind::marked: {
      auto* endpoint = slot.as<Endpoint>();
      endpoint->channel.unlock_hold();
      if (drop_descriptor(*endpoint)) detach_endpoint(*endpoint);
      drop_reference(*endpoint);
      break;
    }
    case Kind::listener:
      Pool<Listener>::give(slot.as<Listener>());
      break;
    case Kind::epoll:
      drop_set(slot.as<EpollSet>());
      break;
    case Kind::unknown:
    case Kind::fresh:
    case Kind::ordinary:
    case Kind::hidden:
      break;
  }
}

void forget_stale(int fd) noexcept {
  if (fd >= 0 && table.find(fd).word() != 0) release_descriptor(fd);
}

int duplicate_out_of_the_way(int fd) noexcept {
  const long high = sys::fcntl(fd, F_DUPFD_CLOEXEC, kFirstHidden);
  return high < 0 ? -1 : static_cast<int>(high);
}

int move_out_of_the_way(int fd) noexcept {
  const int high = duplicate_out_of_the_way(fd);
  if (high < 0) return fd;
  sys::close(fd);
  return high;
}

void hide_descriptor(std::atomic<int>& owner) noexcept {
  forget_stale(owner.load(std::memory_order_relaxed));
  table.hide(owner);
}

void close_hidden(std::atomic<int>& owner, int none) noexcept {
  const int fd = owner.exchange(none, std::memory_order_acq_rel);
  if (fd == none) return;
  table.compare_exchange(fd, Slot(Kind::hidden, &owner), Slot());
  sys::close(fd);
}

bool move_hidden(int fd) noexcept {
  const Slot slot = table.find(fd);
  if (slot.kind() != Kind::hidden) return true;
  auto& owner = *slot.as<std::atomic<int>>();
  const long flags = sys::fcntl(fd, F_GETFD);
  const int duplicate = flags >= 0 && (flags & FD_CLOEXEC) == 0 ? F_DUPFD : F_DUPFD_CLOEXEC;
  long moved = sys::fcntl(fd, duplicate, fd + 1);
  // None is free above. Not among the three that every program has a use for.
  if (moved < 0) moved = sys::fcntl(fd, duplicate, 3);
  if (moved < 0) return false;
  const auto elsewhere = static_cast<int>(moved);
  int current = fd;
  if (!owner.compare_exchange_strong(current, elsewhere, std::memory_order_acq_rel)) {
    sys::close(elsewhere);  // another thread closes it
    return true;
  }
  hide_descriptor(owner);
  move_registrations(fd, elsewhere);
  table.compare_exchange(fd, slot, Slot());
  return true;
}

Listener* take_listener() noexcept { return listeners.take(); }

}  // namespace tssx
