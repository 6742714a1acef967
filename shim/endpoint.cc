#include "shim/endpoint.h"

#include <sys/single_threaded.h>

#include "core/sys.h"
#include "shim/call_signal.h"
#include "shim/descriptor_table.h"
#include "shim/endpoint_pool.h"
#include "shim/epoll_set.h"

namespace tssx {

constinit Pool<Endpoint> endpoints{};

Endpoint* open_endpoint(const ChannelOrigin& origin) noexcept {
  Endpoint* endpoint = endpoints.take();
  if (endpoint == nullptr) return nullptr;
  catch_faults();
  endpoint->managed.store(false, std::memory_order_relaxed);
  endpoint->rung.store(false, std::memory_order_relaxed);
  endpoint->tells_writes.store(false, std::memory_order_relaxed);
  endpoint->kept_fd.store(-1, std::memory_order_relaxed);
  if (!endpoint->channel.open(origin)) {
    Pool<Endpoint>::give(endpoint);
    return nullptr;
  }
  endpoint->channel.on_bells = look_again;
  endpoint->channel.on_bells_context = endpoint;
  endpoint->descriptors.store(1, std::memory_order_relaxed);
  endpoint->references.store(1, std::memory_order_release);
  return endpoint;
}

void add_descriptor(Endpoint& endpoint) noexcept {
  endpoint.references.fetch_add(1, std::memory_order_relaxed);
  endpoint.descriptors.fetch_add(1, std::memory_order_relaxed);
}

bool drop_descriptor(Endpoint& endpoint) noexcept {
  return endpoint.descriptors.fetch_sub(1, std::memory_order_acq_rel) == 1;
}

void drop_reference(Endpoint& endpoint) noexcept {
  if (endpoint.references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  endpoint.channel.close();
  close_hidden(endpoint.kept_fd, -1);
  Pool<Endpoint>::give(&endpoint);
}

bool is_socket_of(const Channel& channel, int fd) noexcept {
  sockaddr_un name{};
  socklen_t length = sizeof name;
  const long call = channel.role() == Role::client ? SYS_getsockname : SYS_getpeername;
  if (sys::call(call, fd, sys::word(&name), sys::word(&length)) != 0) return false;
  Nonce nonce{};
  return parse_mark(name, length, &nonce) == Mark::ours && nonce == channel.nonce();
}

void keep_for_calls(Endpoint& endpoint, int kernel_fd, std::uint32_t own) noexcept {
  if (__libc_single_threaded != 0 || endpoint.channel.is_plain() ||
      endpoint.references.load(std::memory_order_acquire) <=
          endpoint.descriptors.load(std::memory_order_acquire) + own ||
      endpoint.kept_fd.load(std::memory_order_relaxed) >= 0) {
    return;
  }
  const int number = duplicate_out_of_the_way(kernel_fd);
  if (number < 0) return;
  int none = -1;
  if (!endpoint.kept_fd.compare_exchange_strong(none, number, std::memory_order_relaxed)) {
    sys::close(number);
    return;
  }
  hide_descriptor(endpoint.kept_fd);
}

}  // namespace tssx
