// What this process knows of its descriptors.
//
// A descriptor that is not ours costs one bounds check and one load. Kernel numbers index an array;
// negative IDs, which accept() gives to programs that tolerate them, index another.
//
// Thread safety: slots are atomic words. May be called from: anywhere.
//
// Invariants:
//  1. A slot says `endpoint` only while the endpoint counts that descriptor.
//  2. A slot says `hidden` only while its owner holds that number.
//  3. IDs lie below every other negative number in use: errors, AT_FDCWD, -fd and ~fd of real ones.
#pragma once

#include <pthread.h>
#include <sys/single_threaded.h>
#include <sys/un.h>

#include <atomic>
#include <cstdint>

#include "shim/endpoint.h"

namespace tssx {

class EpollSet;

enum class Kind : std::uintptr_t {
  unknown = 0,
  endpoint,  // Endpoint: a marked or accepted connection
  fresh,   // a Unix stream socket, neither bound nor connected, without options that forbid a mark
  marked,  // Endpoint: bound to its mark, not connected
  listener,  // Listener: its name is listed
  ordinary,  // a socket known to be none of our business
  epoll,     // EpollSet
  hidden,    // std::atomic<int>: a descriptor of the library's own; see hide_descriptor()
};

struct alignas(16) Listener {
  std::atomic<std::uint32_t> taken;
  std::uint32_t path_length;
  char path[kPathSize];
};

class Slot {
 public:
  Slot() noexcept = default;
  Slot(Kind kind, const void* object) noexcept
      : word_(reinterpret_cast<std::uintptr_t>(object) | static_cast<std::uintptr_t>(kind)) {}
  explicit Slot(std::uintptr_t word) noexcept : word_(word) {}

  Kind kind() const noexcept { return static_cast<Kind>(word_ & 7U); }
  template <class T>
  T* as() const noexcept {
    return reinterpret_cast<T*>(word_ & ~std::uintptr_t{7});
  }
  std::uintptr_t word() const noexcept { return word_; }

 private:
  std::uintptr_t word_ = 0;
};

class DescriptorTable {
 public:
  static constexpr int kFirstId = -(1 << 30) - 1;
  static constexpr int kMaxIds = 1 << 16;
  static constexpr int kMaxDescriptors = 1 << 20;

  // False without memory: then the library does nothing.
  bool open() noexcept;

  Slot find(int fd) const noexcept {
    if (static_cast<unsigned>(fd) < size_) {
      return Slot(slots_[fd].load(std::memory_order_acquire));
    }
    return fd > kFirstId || size_ == 0 ? Slot() : find_id(fd);
  }
  void set(int fd, Slot slot) noexcept {
    if (static_cast<unsigned>(fd) < size_) slots_[fd].store(slot.word(), std::memory_order_release);
  }
  // Returns what was there.
  Slot exchange(int fd, Slot slot) noexcept;
  bool compare_exchange(int fd, Slot expected, Slot desired) noexcept;

  // An ID for an endpoint whose kernel descriptor is `kernel_fd`; 0 if none is free.
  int add_id(Slot slot, int kernel_fd) noexcept;
  // The kernel's descriptor for `fd`: itself, unless it is an ID.
  int kernel_fd(int fd) const noexcept {
    return fd >= 0 || fd > kFirstId ? fd : kernel_fd_of_id(fd);
  }
  // Where that number is kept; of an ID that add_id() gave.
  std::atomic<int>& number_of_id(int id) noexcept { return ids_[kFirstId - id].kernel_fd; }
  static bool is_id(int fd) noexcept { return fd <= kFirstId && fd > kFirstId - kMaxIds; }

  unsigned size() const noexcept { return size_; }
  int ids_in_use() const noexcept { return ids_end_.load(std::memory_order_acquire); }
  // One past the highest number that ever had a slot: bounds close_range() and exec's walk.
  int highest() const noexcept { return highest_.load(std::memory_order_relaxed); }
  void note_highest(int fd) noexcept;
  // As hide_descriptor(), for callers that hold a lock of an epoll set.
  void hide(std::atomic<int>& owner) noexcept;

 private:
  struct Id {
    std::atomic<std::uintptr_t> slot;
    alignas(8) std::atomic<int> kernel_fd;
  };
  Slot find_id(int fd) const noexcept;
  int kernel_fd_of_id(int fd) const noexcept;

  std::atomic<std::uintptr_t>* slots_ = nullptr;
  unsigned size_ = 0;
  Id* ids_ = nullptr;
  std::atomic<int> ids_end_{0};  // one past the highest index ever used
  std::atomic<int> highest_{0};
};

extern DescriptorTable table;

// Keeps an endpoint alive for the length of a call.
class EndpointRef {
 public:
  EndpointRef() noexcept = default;
  // Takes `fd`'s endpoint if it has one.
  explicit EndpointRef(int fd) noexcept;
  EndpointRef(EndpointRef&& other) noexcept
      : endpoint_(other.endpoint_), kernel_fd_(other.kernel_fd_) {
    other.endpoint_ = nullptr;
  }
  EndpointRef(const EndpointRef&) = delete;
  EndpointRef& operator=(const EndpointRef&) = delete;
  EndpointRef& operator=(EndpointRef&& other) noexcept {
    if (this != &other) {
      reset();
      endpoint_ = other.endpoint_;
      kernel_fd_ = other.kernel_fd_;
      other.endpoint_ = nullptr;
    }
    return *this;
  }
  ~EndpointRef() { reset(); }

  explicit operator bool() const noexcept { return endpoint_ != nullptr; }
  Endpoint& operator*() const noexcept { return *endpoint_; }
  Endpoint* operator->() const noexcept { return endpoint_; }
  Channel& channel() const noexcept { return endpoint_->channel; }
  int fd() const noexcept {
    const int kept = endpoint_->kept_fd.load(std::memory_order_relaxed);
    return kept < 0 ? kernel_fd_ : kept;
  }

 private:
  void reset() noexcept;

  Endpoint* endpoint_ = nullptr;
  int kernel_fd_ = -1;
};

// Calls visit(EndpointRef&, number) for each number and ID that stands for an endpoint; for one
// that has several, as often.
template <class Visit>
void for_each_endpoint(Visit&& visit) noexcept {
  const auto look = [&visit](int number) {
    if (table.find(number).kind() != Kind::endpoint) return;
    if (EndpointRef endpoint(number); endpoint) visit(endpoint, number);
  };
  const int end = table.highest();
  for (int fd = 0; fd < end; ++fd) look(fd);
  const int ids = table.ids_in_use();
  for (int i = 0; i < ids; ++i) look(DescriptorTable::kFirstId - i);
}

// Calls visit(id) for each ID whose socket has the kernel's number `kernel_fd`.
template <class Visit>
void for_each_id_of(int kernel_fd, Visit&& visit) noexcept {
  for (int i = 0; i < table.ids_in_use(); ++i) {
    const int id = DescriptorTable::kFirstId - i;
    if (table.kernel_fd(id) == kernel_fd) visit(id);
  }
}

// read(2) and its like are cancellation points also where they need no system call
// (pthreads(7)). One thread alone can't be cancelled.
inline void act_on_cancellation() {
  if (__libc_single_threaded == 0) ::pthread_testcancel();
}

// A duplicate of `fd`, close-on-exec, at a number for descriptors of the library's own. -1 without
// one: none is free there, or RLIMIT_NOFILE ends below.
int duplicate_out_of_the_way(int fd) noexcept;

// The same, and closes `fd`. Without such a number the descriptor stays where it is. Returns where
// it is now.
int move_out_of_the_way(int fd) noexcept;

// The descriptor in `owner` (>= 0) is the library's own from now on: close() and its like spare it.
// When the application puts a file of its own on the number, the descriptor moves and `owner` says
// where to; so it is read at each use. `owner` is aligned to 8 bytes and outlives the descriptor.
void hide_descriptor(std::atomic<int>& owner) noexcept;

// Closes it, and leaves `none` in `owner`.
void close_hidden(std::atomic<int>& owner, int none) noexcept;

// Moves the hidden descriptor `fd` to another number. Its old one stays open, for the caller to
// replace or close: else another thread's might land there. False if there is no other number.
bool move_hidden(int fd) noexcept;

// A number that the kernel has just handed out: whatever we knew of it is stale.
void forget_stale(int fd) noexcept;

// Takes `fd` out of the table, ends its hold on the endpoint, and deletes our epoll registrations
// if that was the last one. The kernel's descriptor itself is the caller's to close.
void release_descriptor(int fd) noexcept;

Listener* take_listener() noexcept;

}  // namespace tssx
