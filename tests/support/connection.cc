#include "tests/support/connection.h"

#include <dirent.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

#include "tests/support/io.h"

namespace tssx_test {
namespace {

constexpr int kWarmUpRounds = 64;
constexpr std::size_t kWarmUpSize = 16;

void warm_up_write(int fd, int round) {
  ASSERT_EQ(write_all(fd, std::string(kWarmUpSize, static_cast<char>('a' + round % 26))),
            kWarmUpSize);
}

void warm_up_read(int fd, int round) {
  ASSERT_EQ(read_exactly(fd, kWarmUpSize),
            std::string(kWarmUpSize, static_cast<char>('a' + round % 26)));
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  char name[] = "/tmp/tssx-calls-XXXXXX";
  if (::mkdtemp(name) == nullptr) {
    ADD_FAILURE() << "mkdtemp: " << std::strerror(errno);
    return;
  }
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  if (path_.empty()) return;
  if (DIR* directory = ::opendir(path_.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      if (entry->d_name[0] != '.') ::unlink(path(entry->d_name).c_str());
    }
    ::closedir(directory);
  }
  ::rmdir(path_.c_str());
}

Address::Address(const std::string& name) {
  storage.sun_family = AF_UNIX;
  EXPECT_LT(name.size(), sizeof storage.sun_path);
  std::memcpy(storage.sun_path, name.data(), name.size());
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  if (name.starts_with('@')) {
    storage.sun_path[0] = '\0';
  } else {
    ++length;
  }
}

Listener::Listener(int backlog, int type_flags)
    : path_(directory_.path("socket")), fd_(::socket(AF_UNIX, SOCK_STREAM | type_flags, 0)) {
  const Address address(path_);
  EXPECT_NE(fd_.get(), -1);
  EXPECT_EQ(::bind(fd_.get(), address.get(), address.length), 0) << std::strerror(errno);
  EXPECT_EQ(::listen(fd_.get(), backlog), 0) << std::strerror(errno);
}

UniqueFd Listener::connect() const {
  UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  const Address address(path_);
  EXPECT_EQ(::connect(client.get(), address.get(), address.length), 0) << std::strerror(errno);
  return client;
}

UniqueFd Listener::accept() const {
  UniqueFd server(::accept(fd_.get(), nullptr, nullptr));
  EXPECT_TRUE(server.valid()) << std::strerror(errno);
  return server;
}

Connection make_connection() {
  const Listener listener;
  Connection connection;
  connection.path = listener.path();
  connection.client = listener.connect();
  connection.server = listener.accept();
  return connection;
}

void warm_up(int a, int b) {
  for (int round = 0; round < kWarmUpRounds && !testing::Test::HasFatalFailure(); ++round) {
    warm_up_write(a, round);
    warm_up_read(b, round);
    warm_up_write(b, round);
    warm_up_read(a, round);
  }
}

void warm_up_as_leader(int fd) {
  for (int round = 0; round < kWarmUpRounds && !testing::Test::HasFatalFailure(); ++round) {
    warm_up_write(fd, round);
    warm_up_read(fd, round);
  }
}

void warm_up_as_follower(int fd) {
  for (int round = 0; round < kWarmUpRounds && !testing::Test::HasFatalFailure(); ++round) {
    warm_up_read(fd, round);
    warm_up_write(fd, round);
  }
}

int accelerated_segments() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:tssx-segment") != std::string::npos) ++count;
  }
  return count;
}

bool preloaded() { return std::getenv("TSSX_TEST_PRELOADED") != nullptr; }

void PrintTo(const Situation& situation, std::ostream* out) {
  *out << (situation.warm ? "warm " : "cold ") << (situation.server ? "server" : "client");
}

std::string situation_name(const testing::TestParamInfo<Situation>& info) {
  return std::string(info.param.warm ? "Warm" : "Cold") + (info.param.server ? "Server" : "Client");
}

void ConnectionTest::SetUp() {
  Connection connection = make_connection();
  path_ = connection.path;
  if (GetParam().warm) {
    ASSERT_NO_FATAL_FAILURE(warm_up(connection.client.get(), connection.server.get()));
    // Without this, a preloaded run could silently test the kernel.
    ASSERT_EQ(accelerated_segments() > 0, preloaded());
  }
  mine_ = std::move(GetParam().server ? connection.server : connection.client);
  peer_ = std::move(GetParam().server ? connection.client : connection.server);
}

ForkedConnection make_forked_connection(Situation situation,
                                        const std::function<void(int fd)>& body) {
  Listener listener;
  ForkedConnection result;
  result.peer = Child([&] {
    UniqueFd fd = situation.server ? listener.connect() : listener.accept();
    listener.close();
    if (situation.warm) warm_up_as_follower(fd.get());
    if (!testing::Test::HasFailure()) body(fd.get());
  });
  result.mine = situation.server ? listener.accept() : listener.connect();
  listener.close();
  if (situation.warm) {
    warm_up_as_leader(result.mine.get());
    EXPECT_EQ(accelerated_segments() > 0, preloaded());
  }
  return result;
}

}  // namespace tssx_test
