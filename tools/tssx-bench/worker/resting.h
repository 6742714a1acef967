// Connections that are merely there: what several scenarios start from.
#pragma once

#include <cstddef>
#include <string>

#include "tools/tssx-bench/worker/many.h"
#include "tools/tssx-bench/worker/scenario.h"

namespace tssx::bench {

// How many connections there are, and where the server listens.
struct Resting {
  std::size_t connections;
  std::string path;
};
[[nodiscard]] Resting resting_of(const Job& job);

class RestingServer : public Role {
 public:
  explicit RestingServer(const Resting& resting);
  void warm() override { server_.serve(connections_); }
  void measure() override {}

 protected:
  ManyServer& server() { return server_; }

 private:
  std::size_t connections_;
  ManyServer server_;
};

class RestingClient : public Role {
 public:
  explicit RestingClient(const Resting& resting);
  void warm() override;
  void measure() override {}

 protected:
  ManyClient& client() { return client_; }

 private:
  ManyClient client_;
};

}  // namespace tssx::bench
