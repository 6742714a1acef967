#include "shim/epoll_member.h"

#include "core/sys.h"

namespace tssx {
namespace {

// tag: 32 random bits | 12 bits of generation | 20 bits of index
constexpr std::uint32_t kIndexBits = 20;
constexpr std::uint32_t kMaxMembers = 1U << 18U;
constexpr std::uint32_t kGenerationMask = (1U << 12U) - 1;

static_assert(kKickIndex == (1U << kIndexBits) - 1);
static_assert(kSpentIndex >= kMaxMembers);

Member* members = nullptr;
std::uint32_t secret = 0;
std::atomic<std::uint32_t> next_member{0};

}  // namespace

bool open_members() noexcept {
  if (sys::getrandom(&secret, sizeof secret) != sizeof secret) return false;
  secret |= 0x80000000U;  // no pointer and no small number looks like a tag
  void* memory = sys::mmap(kMaxMembers * sizeof(Member), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  members = static_cast<Member*>(memory);
  return members != nullptr;
}

Member* take_member() noexcept {
  if (members == nullptr) return nullptr;
  const std::uint32_t start = next_member.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < kMaxMembers; ++i) {
    const std::uint32_t index = (start + i) % kMaxMembers;
    std::uint32_t free = 0;
    if (members[index].taken.load(std::memory_order_relaxed) == 0 &&
        members[index].taken.compare_exchange_strong(free, 1, std::memory_order_acquire)) {
      next_member.store(index + 1 == kMaxMembers ? 0 : index + 1, std::memory_order_relaxed);
      return &members[index];
    }
  }
  return nullptr;
}

void give_member(Member& member) noexcept {
  const std::uint32_t generation = member.generation + 1;
  const std::uint32_t index = static_cast<std::uint32_t>(&member - members);
  member.set = nullptr;
  member.endpoint = nullptr;
  member.inner = nullptr;
  member.generation = generation;
  member.taken.store(0, std::memory_order_release);
  next_member.store(index, std::memory_order_relaxed);  // reuse warm slots first
}

std::uint64_t tag_of(std::uint32_t index, std::uint32_t generation) noexcept {
  return std::uint64_t{secret} << 32U | std::uint64_t{generation & kGenerationMask} << kIndexBits |
         index;
}

std::uint64_t tag_of(const Member& member) noexcept {
  return tag_of(static_cast<std::uint32_t>(&member - members), member.generation);
}

bool is_tag(std::uint64_t data) noexcept { return members != nullptr && data >> 32U == secret; }

std::uint32_t index_of(std::uint64_t tag) noexcept {
  return static_cast<std::uint32_t>(tag) & ((1U << kIndexBits) - 1);
}

Member* member_of(std::uint64_t tag, const EpollSet* set) noexcept {
  const std::uint32_t index = index_of(tag);
  if (index >= kMaxMembers) return nullptr;
  Member& member = members[index];
  const bool current = member.taken.load(std::memory_order_acquire) != 0 && member.set == set &&
                       tag_of(member) == tag;
  return current ? &member : nullptr;  // otherwise stale: of a member that was removed
}

}  // namespace tssx
