#include "tools/tssx-bench/worker/resting.h"

#include "tools/tssx-bench/worker/sockets.h"

namespace tssx::bench {
namespace {

// A connection moves after 8 or 24 calls of the server and two cuts.
constexpr int kWarmRounds = 40;
// The standard ones, a listener, a set, and what the library may keep.
constexpr std::size_t kOtherDescriptors = 200;

}  // namespace

Resting resting_of(const Job& job) { return {job.count("connections"), job.text("socket")}; }

RestingServer::RestingServer(const Resting& resting)
    : connections_(resting.connections), server_(resting.path) {
  allow_descriptors(resting.connections + kOtherDescriptors);
  server_.accept_all(resting.connections);
}

RestingClient::RestingClient(const Resting& resting) : client_(resting.path) {
  allow_descriptors(resting.connections + kOtherDescriptors);
  client_.connect_all(resting.connections);
}

void RestingClient::warm() { client_.warm(0, kWarmRounds); }

}  // namespace tssx::bench
