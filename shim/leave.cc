#include "shim/leave.h"

#include <errno.h>

#include <atomic>

#include "core/fault_point.h"
#include "shim/config.h"
#include "shim/descriptor_table.h"
#include "shim/status_flags.h"
#include "shim/stream_io.h"

namespace tssx {
namespace {

// A close() of the kernel's waits for nobody, but loses nothing either.
constexpr std::uint64_t kPatienceNs = 5'000'000'000;
constexpr std::uint64_t kNonblockingPatienceNs = 1'000'000'000;

std::atomic<bool> in_kernel{false};

}  // namespace

int leave_to_kernel(int fd, Reason why) noexcept {
  EndpointRef endpoint(fd);
  if (!endpoint) return table.kernel_fd(fd);
  const int saved = errno;
  endpoint.channel().note_reason(why);
  TSSX_FAULT_POINT(leave_begun);
  endpoint.channel().leave_for_good(endpoint.fd());
  follow_mode(*endpoint);
  errno = saved;
  return endpoint.fd();
}

void finish_before_close(EndpointRef& endpoint, bool process) noexcept {
  Channel& channel = endpoint.channel();
  if (!channel.peer_has_left() || channel.side().holders.load(std::memory_order_acquire) > 1 ||
      (!process && endpoint->descriptors.load(std::memory_order_acquire) > 1)) {
    return;
  }
  const int saved = errno;
  const bool nonblocking = is_nonblocking(channel, endpoint.fd());
  channel.finish_with_leaver(endpoint.fd(), nonblocking ? kNonblockingPatienceNs : kPatienceNs);
  errno = saved;
}

void stay_in_kernel() noexcept {
  if (table.size() == 0) return;
  const int saved = errno;
  in_kernel.store(true, std::memory_order_relaxed);
  config.note_filter();
  // In two steps, since both ends of one connection may be among them.
  for_each_endpoint([](EndpointRef& endpoint, int) {
    endpoint.channel().note_reason(Reason::own_filter);
    endpoint.channel().freeze(endpoint.fd());
  });
  for_each_endpoint([](EndpointRef& endpoint, int) {
    endpoint.channel().leave_for_good(endpoint.fd());
    follow_mode(*endpoint);
    // Where an offer may still come, it would take a recvmsg(2) to see it.
    endpoint.channel().stop_looking();
  });
  errno = saved;
}

bool stays_in_kernel() noexcept { return in_kernel.load(std::memory_order_relaxed); }

}  // namespace tssx
