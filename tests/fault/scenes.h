// The processes of the storm: servers and clients that go on until they are killed, or told to
// stop.
//
// Each connection begins with a hello that names its accounts in the ledger. Then the two ends take
// steps whose sizes both know from the connection's number: the client writes so many bytes, the
// server so many.
#pragma once

#include <string>
#include <vector>

#include "tests/fault/ledger.h"

namespace fault {

struct Scene {
  const char* name;
  int clients;
  void (*serve)(int listener, Ledger& ledger);
  void (*ask)(const std::string& path, Ledger& ledger, std::size_t slot);
};

const std::vector<Scene>& scenes();

// A process of its own: the server, or the client in this slot. Returns its exit status.
int play(const std::string& scene, const std::string& who, const std::string& path, Ledger& ledger);

}  // namespace fault
