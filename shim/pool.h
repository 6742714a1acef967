// Objects whose memory is never given back to the system, only reused, and references to them.
//
// So a thread that still holds a stale pointer reads an old object, never unmapped memory.
// Thread safety: take() and give() are lock-free. May be called from: signal handlers; no malloc.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "core/sys.h"

namespace tssx {

// A reference to an object that was found in a table. False if it has none left: then it is being
// closed, or belongs to somebody else already. acquire: what its last owner did to it.
inline bool take_reference(std::atomic<std::uint32_t>& references) noexcept {
  std::uint32_t held = references.load(std::memory_order_relaxed);
  do {
    if (held == 0) return false;
  } while (!references.compare_exchange_weak(held, held + 1, std::memory_order_acquire));
  return true;
}

// T has a member `std::atomic<std::uint32_t> taken`, and survives being constructed once only.
template <class T, std::size_t PerChunk = 64, std::size_t MaxChunks = 4096>
class Pool {
 public:
  T* take() noexcept {
    const std::size_t chunks = count_.load(std::memory_order_acquire);
    const std::size_t start = hint_.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < chunks; ++i) {
      if (T* found = take_from(chunks_[(start + i) % chunks].load(std::memory_order_acquire))) {
        hint_.store((start + i) % chunks, std::memory_order_relaxed);
        return found;
      }
    }
    return grow();
  }

  static void give(T* object) noexcept { object->taken.store(0, std::memory_order_release); }

  // Calls visit(T&) for each object in use.
  template <class Visit>
  void for_each(Visit&& visit) noexcept {
    const std::size_t chunks = count_.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < chunks; ++i) {
      T* chunk = chunks_[i].load(std::memory_order_acquire);
      if (chunk == nullptr) continue;
      for (std::size_t j = 0; j < PerChunk; ++j) {
        if (chunk[j].taken.load(std::memory_order_acquire) != 0) visit(chunk[j]);
      }
    }
  }

 private:
  static T* take_from(T* chunk) noexcept {
    if (chunk == nullptr) return nullptr;
    for (std::size_t i = 0; i < PerChunk; ++i) {
      std::uint32_t free = 0;
      if (chunk[i].taken.load(std::memory_order_relaxed) == 0 &&
          chunk[i].taken.compare_exchange_strong(free, 1, std::memory_order_acquire)) {
        return &chunk[i];
      }
    }
    return nullptr;
  }

  T* grow() noexcept {
    // All of it is written to below: one call brings the pages, instead of a fault for each.
    void* memory = sys::mmap(PerChunk * sizeof(T), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
    if (memory == nullptr) return nullptr;
    T* chunk = static_cast<T*>(memory);
    for (std::size_t i = 0; i < PerChunk; ++i) new (&chunk[i]) T();
    chunk[0].taken.store(1, std::memory_order_relaxed);
    const std::size_t slot = count_.fetch_add(1, std::memory_order_acq_rel);
    if (slot >= MaxChunks) {
      count_.fetch_sub(1, std::memory_order_acq_rel);
      sys::munmap(memory, PerChunk * sizeof(T));
      return nullptr;
    }
    chunks_[slot].store(chunk, std::memory_order_release);
    return &chunk[0];
  }

  // In front of the array, so that they share a page with its first entries.
  std::atomic<std::size_t> count_;
  std::atomic<std::size_t> hint_;
  std::atomic<T*> chunks_[MaxChunks];
};

}  // namespace tssx
