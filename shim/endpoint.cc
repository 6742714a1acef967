#include "shim/endpoint.h"

#include "shim/endpoint_pool.h"
#include "shim/epoll_set.h"

namespace tssx {

constinit Pool<Endpoint> endpoints{};

Endpoint* open_endpoint(const ChannelOrigin& origin) noexcept {
  Endpoint* endpoint = endpoints.take();
  if (endpoint == nullptr) return nullptr;
  endpoint->managed.store(false, std::memory_order_relaxed);
  endpoint->rung.store(false, std::memory_order_relaxed);
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
  Pool<Endpoint>::give(&endpoint);
}

}  // namespace tssx
