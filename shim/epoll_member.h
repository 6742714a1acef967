// A member of an epoll set that may be ours, and the tag by which the kernel names it to us.
//
// Members live in one array that is mapped at the start and never given back, so a tag of a member
// that is gone leads to a slot of another generation, never to unmapped memory.
//
// Thread safety: take_member() and give_member() are lock-free; a member's fields are guarded by
// its set's lock, `next_of_owner` by the owner's as well. May be called from: anywhere; no
// malloc.
#pragma once

#include <atomic>
#include <cstdint>

namespace tssx {

struct Endpoint;
class EpollSet;

struct Member {
  std::atomic<std::uint32_t> taken;
  std::uint32_t generation;  // of this slot; part of the tag
  EpollSet* set;
  // What is a member: an endpoint, another set, or, with neither, a socket that is not connected.
  Endpoint* endpoint;
  EpollSet* inner;
  Member* next_of_owner;  // of the endpoint's or the inner set's list, or of the set's loose ones
  Member* next_of_set;
  Member* previous_of_set;
  Member* next_hot;
  Member* previous_hot;     // of the hot list, or of those at rest
  std::atomic<bool> poked;  // on the set's list of those whose bells were taken by somebody else
  Member* next_poked;
  int fd;                // the application's number or ID
  int kernel_fd;         // under which the kernel knows the registration
  int other_fd;          // another number of the endpoint, once `fd` is closed
  bool told_tag;         // the kernel's registration bears our tag (see surrender())
  std::uint32_t events;  // as the application asked
  std::uint64_t data;
  bool managed;  // the kernel's registration is ours
  bool hot;
  bool at_rest;                 // went cold for a sleep, and is to be hot after it (rest())
  std::uint32_t rests;          // in a row without an event
  bool disabled;                // EPOLLONESHOT has fired
  bool fresh;                   // just added or modified: report once whatever the edges say
  bool kernel_edge;             // the kernel reported something since the last look
  bool in_front;                // registered in the set's front rather than in the set
  std::uint32_t kernel_events;  // of the kernel's registration
  std::uint32_t socket_events;
  std::uint32_t misses;
  std::uint32_t ended;  // HUP, RDHUP and ERR told already (edge-triggered)
  std::uint64_t seen_head;
  std::uint64_t seen_tail;
  // Set while it waits for a look at the room in its ring (epoll_room.cc).
  bool awaits_room;
  bool asked_for_reads;    // a bell will tell; looked at once more
  std::uint64_t room_due;  // when to look; sys::now_ns()
  Member* next_room;
  Member* previous_room;
  std::uint64_t outside_head;  // as the last look from outside of the set found it
};

// Tags that belong to no member: of the eventfd that wakes a set's sleepers, of the application's
// set in its front, and of a registration that has nothing to tell any more.
inline constexpr std::uint32_t kKickIndex = (1U << 20U) - 1;
inline constexpr std::uint32_t kSetIndex = kKickIndex - 1;
inline constexpr std::uint32_t kSpentIndex = kSetIndex - 1;

// False without memory: then no set has members of ours, and no endpoint in a set is accelerated.
bool open_members() noexcept;

// nullptr when all are in use.
Member* take_member() noexcept;
void give_member(Member& member) noexcept;

std::uint64_t tag_of(std::uint32_t index, std::uint32_t generation) noexcept;
std::uint64_t tag_of(const Member& member) noexcept;
bool is_tag(std::uint64_t data) noexcept;
std::uint32_t index_of(std::uint64_t tag) noexcept;
// nullptr if the tag is stale: of a member that was removed.
Member* member_of(std::uint64_t tag, const EpollSet* set) noexcept;

}  // namespace tssx
