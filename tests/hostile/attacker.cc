// The peer that nobody wants: a client of another user, without the library, that knows all of its
// protocol and keeps to none of it.
//
//   hostile_attacker PATH SECONDS SEED [WAY]
//
// Connects again and again, marked or not, and does on each connection one of the things listed in
// attack(), or always the same. Prints what it did.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "core/presence.h"
#include "core/rendezvous.h"
#include "core/sys.h"
#include "tests/fuzz/attacker.h"
#include "tests/fuzz/input.h"

using namespace tssx;
using fuzz::Attacker;
using fuzz::Input;

namespace {

constexpr std::size_t kMostSilent = 48;

const char* server_path = nullptr;
std::uint64_t end_ns = 0;
int only = -1;
std::uint64_t state = 1;
std::uint64_t connections = 0;
std::uint64_t in_ring = 0;
std::uint64_t bells = 0;
std::uint64_t notices = 0;
std::uint64_t killed = 0;

std::uint64_t random_number() {
  state ^= state << 13U;
  state ^= state >> 7U;
  state ^= state << 17U;
  return state;
}

// A script of random bytes. Each has its own memory, which lasts until the next.
Input random_script(std::size_t size) {
  static std::vector<std::uint8_t> bytes;
  bytes.resize(size);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random_number() >> 24U);
  return {bytes.data(), bytes.size()};
}

// Mostly short, so that there are many; some long enough to be felt by others.
std::uint64_t flood_end() {
  return sys::now_ns() + (random_number() % 4 == 0 ? 1'500'000'000 : 20'000'000);
}

bool is_over() { return sys::now_ns() >= end_ns; }

// Nobody waits for an attacker: what can't be done at once is not done.
int connect_to(const Nonce& nonce, unsigned how) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un mark{};
  const socklen_t length = make_mark(nonce, &mark);
  if (how == 0) mark.sun_path[1 + random_number() % 12] ^= 1;  // another version, or none
  if (how != 1) static_cast<void>(::bind(fd, reinterpret_cast<sockaddr*>(&mark), length));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", server_path);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd);
    ::usleep(200);
    return -1;
  }
  ++connections;
  return fd;
}

void wait_readable(int fd) {
  pollfd look{fd, POLLIN, 0};
  ::poll(&look, 1, 20);
}

// Behaves until the server has offered, and takes the offer. False if it did not.
bool move_to_ring(Attacker& attacker) {
  for (int i = 0; i < 40 && attacker.page() == nullptr; ++i) {
    static_cast<void>(::send(attacker.fd(), "hello", 5, MSG_NOSIGNAL | MSG_DONTWAIT));
    wait_readable(attacker.fd());
    attacker.listen();
  }
  SegmentPage* const page = attacker.page();
  if (page == nullptr) return false;
  std::uint32_t none = 0;
  page->answer.answer.compare_exchange_strong(none, 1);
  page->direction[1].producer.mode.store(1);
  attacker.cut(TokenKind::to_ring);
  for (int i = 0; i < 10 && page->direction[0].producer.mode.load() != 1; ++i) {
    wait_readable(attacker.fd());
    attacker.listen();
  }
  ++in_ring;
  return true;
}

// Bytes for the server, by the ring.
void ask_by_ring(Attacker& attacker, std::size_t size, const char* text = nullptr) {
  Direction& way = attacker.page()->direction[1];
  const std::uint64_t head = way.producer.head.load();
  if (head + size - way.consumer.tail.load() > attacker.capacity()) return;
  if (text != nullptr) {
    auto* const data = reinterpret_cast<std::uint8_t*>(attacker.page()) + kHeaderSize;
    std::memcpy(data + attacker.capacity() + (head & (attacker.capacity() - 1)), text, size);
  }
  way.producer.head.store(head + size);
  if ((way.data_wait.word.fetch_and(~kWaiting) & kWaiting) == 0) return;
  if (::send(attacker.fd(), "\a", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1) ++bells;
}

// Long enough for the server to be stuck, if it can be.
void hold() {
  if (only < 0) {
    ::usleep(50'000);
    return;
  }
  std::puts("holding");
  std::fflush(stdout);
  while (!is_over()) ::usleep(10'000);
}

// --- the ways ---

void act_at_random(Attacker& attacker) {
  Input script = random_script(400);
  while (!script.empty()) attacker.act(script);
}

void scribble_for_a_while(Attacker& attacker) {
  if (!move_to_ring(attacker)) return;
  const std::uint64_t until = sys::now_ns() + random_number() % 60'000'000;
  while (sys::now_ns() < until && !is_over()) {
    Input script = random_script(512);
    while (!script.empty()) attacker.write_word(script);
    if (random_number() % 4 == 0) ask_by_ring(attacker, random_number() % 5000);
    if (random_number() % 16 == 0) {
      Input more = random_script(64);
      attacker.act(more);
    }
  }
}

// One word after the other, each to a value that asks for work.
void flip_flags(Attacker& attacker) {
  if (!move_to_ring(attacker)) return;
  Direction& in = attacker.page()->direction[0];
  Direction& out = attacker.page()->direction[1];
  const std::uint64_t until = sys::now_ns() + random_number() % 60'000'000;
  while (sys::now_ns() < until && !is_over()) {
    ask_by_ring(attacker, random_number() % 3000);
    const auto bit = static_cast<std::uint32_t>(1U << random_number() % 6);
    switch (random_number() % 8) {
      case 0:
        in.data_wait.word.store(bit | kWaiting);
        break;
      case 1:
        out.producer.flags.store(bit);
        break;
      case 2:
        out.producer.mode.store(bit & 1U);
        break;
      case 3:
        out.producer.asks.store(bit & (kTellReads | kEnding));
        out.space_wait.word.store(kWaiting);
        break;
      case 5:
        in.consumer.end.store(
            end_word(in.producer.head.load() - random_number() % 3, bit & kEndBits));
        break;
      case 6:
        out.consumer.end.store(
            end_word(out.producer.head.load() - random_number() % 3, bit & kEndBits));
        in.consumer.claim.store(in.producer.head.load() + random_number() % 3);
        break;
      case 4:
        in.consumer.tail.store(in.producer.head.load() - random_number() % 3);
        break;
      default:
        break;
    }
    ::usleep(static_cast<useconds_t>(random_number() % 300));
  }
}

void flood_bells(Attacker& attacker) {
  const bool ring = random_number() % 4 != 0 && move_to_ring(attacker);
  static char bytes[8192];
  const std::size_t size = random_number() % 2 == 0 ? 1 : sizeof bytes;
  const std::uint64_t until = flood_end();
  while (sys::now_ns() < until && !is_over()) {
    const ssize_t sent = ::send(attacker.fd(), bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) bells += static_cast<std::uint64_t>(sent);
    if (sent < 0 && errno != EAGAIN) return;
    if (!ring) attacker.listen();
  }
}

// The same messages of ours again and again, made once: as fast as it goes.
void flood_notices(Attacker& attacker, const Nonce& nonce) {
  if (random_number() % 2 == 0 && !move_to_ring(attacker)) return;
  int tokens[2];
  for (int i = 0; i < 2; ++i) {
    Token token{
        kTokenMagic, kProtocolVersion, i == 0 ? TokenKind::to_ring : TokenKind::to_kernel, {}};
    std::memcpy(token.nonce, nonce.bytes, kNonceSize);
    tokens[i] = ::memfd_create("token", MFD_CLOEXEC);
    if (::write(tokens[i], &token, sizeof token) != sizeof token) return;
  }
  const std::uint64_t until = flood_end();
  const std::uint64_t kinds = random_number() % 3;
  for (unsigned i = 0; sys::now_ns() < until && !is_over(); ++i) {
    const int failed = send_with_descriptor(attacker.fd(), tokens[kinds == 2 ? i % 2 : kinds]);
    if (failed == 0) ++notices;
    if (failed != 0 && failed != -EAGAIN && failed != -ETOOMANYREFS) break;
  }
  for (const int token : tokens) ::close(token);
}

void send_many_descriptors(Attacker& attacker) {
  if (random_number() % 2 == 0 && !move_to_ring(attacker)) return;
  for (int i = 0; i < 12; ++i) {
    std::uint8_t bytes[] = {3, static_cast<std::uint8_t>(random_number()), 255, 0, 0, 0, 0, 0};
    Input script(bytes, sizeof bytes);
    attacker.send_descriptors(script);
  }
}

// Asks and asks, and reads nothing, while it wants a bell for everything.
void never_read(Attacker& attacker) {
  if (!move_to_ring(attacker)) return;
  Direction& in = attacker.page()->direction[0];
  const auto word =
      static_cast<std::uint32_t>(random_number() % 4 == 0   ? kFrozen | kWantKernel
                                 : random_number() % 2 == 0 ? kWantKernel
                                                            : 1U << random_number() % 8);
  for (int i = 0; i < 400 && !is_over(); ++i) {
    in.data_wait.word.fetch_or(kWaiting);
    ask_by_ring(attacker, 1000 + random_number() % 3000);
    if (i == 200) in.data_wait.word.fetch_or(word);
    if (i % 16 == 0) ::usleep(200);
  }
  ::usleep(20'000);
}

// Lets the bells that it asks for fill its queue; then asks for an answer that has to go by the
// kernel. Where this is all it does, it stays like that.
void drown_in_bells(Attacker& attacker) {
  if (!move_to_ring(attacker)) return;
  Direction& in = attacker.page()->direction[0];
  for (int i = 0; i < 400 && !is_over(); ++i) {
    in.data_wait.word.fetch_or(kWaiting);
    in.consumer.tail.store(in.producer.head.load());
    const std::uint64_t before = in.producer.head.load();
    ask_by_ring(attacker, 8);
    for (int k = 0; k < 500 && in.producer.head.load() == before; ++k) ::usleep(10);
  }
  ask_by_ring(attacker, 10, "descriptor");
  hold();
}

// Says that something has come, or is about to, which then never does.
void announce_nothing(Attacker& attacker) {
  if (!move_to_ring(attacker)) return;
  Direction& in = attacker.page()->direction[0];
  Direction& out = attacker.page()->direction[1];
  // So fast that waiting without sleep has paid.
  for (int i = 0; i < 2000 && !is_over(); ++i) {
    const std::uint64_t before = in.producer.head.load();
    in.consumer.tail.store(before);
    ask_by_ring(attacker, 1);
    for (int k = 0; k < 20'000 && in.producer.head.load() == before; ++k) __builtin_ia32_pause();
    attacker.listen();
  }
  if (random_number() % 2 == 0) {
    out.producer.flags.store(kGone);
  } else {
    out.producer.mode.store(0);
  }
  ask_by_ring(attacker, 1);
  hold();
}

// Dies in the middle of it.
void be_killed(Attacker& attacker) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (move_to_ring(attacker)) {
      for (;;) {
        Input script = random_script(64);
        attacker.act(script);
      }
    }
    ::_exit(0);
  }
  ::usleep(static_cast<useconds_t>(random_number() % 20'000));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ++killed;
}

void attack(const Nonce& nonce, std::vector<std::unique_ptr<Attacker>>& silent) {
  const int fd = connect_to(nonce, static_cast<unsigned>(random_number() % 12));
  if (fd < 0) return;
  auto attacker = std::make_unique<Attacker>(fd, Role::client, nonce);
  switch (only >= 0 ? static_cast<unsigned>(only) : random_number() % 12) {
    case 0:
      // Marks itself and says nothing.
      if (silent.size() >= kMostSilent) silent.erase(silent.begin());
      silent.push_back(std::move(attacker));
      break;
    case 1:
    case 2:
      act_at_random(*attacker);
      break;
    case 3:
      scribble_for_a_while(*attacker);
      break;
    case 4:
      flip_flags(*attacker);
      break;
    case 5:
      flood_bells(*attacker);
      break;
    case 6:
      flood_notices(*attacker, nonce);
      break;
    case 7:
      send_many_descriptors(*attacker);
      break;
    case 8:
      never_read(*attacker);
      break;
    case 9:
      be_killed(*attacker);
      break;
    case 10:
      drown_in_bells(*attacker);
      break;
    case 11:
      announce_nothing(*attacker);
      break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  if (argc > 4) only = std::atoi(argv[4]);
  server_path = argv[1];
  end_ns = sys::now_ns() + std::strtoull(argv[2], nullptr, 10) * 1'000'000'000U;
  state = std::strtoull(argv[3], nullptr, 10) * 2 + 1;
  ::signal(SIGPIPE, SIG_IGN);
  std::vector<std::unique_ptr<Attacker>> silent;
  while (!is_over()) {
    Nonce nonce{};
    if (!make_nonce(&nonce)) return 1;
    attack(nonce, silent);
  }
  const Attacker::Counts& did = Attacker::counts;
  const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf(
      "attacker (user %u): %llu connections, %llu of them in the ring, %llu killed; %llu words "
      "written, %llu bells, %llu cuts and %llu more in floods, %llu offers, %llu descriptors, %llu "
      "bytes\n",
      ::getuid(), number(connections), number(in_ring), number(killed), number(did.words),
      number(bells), number(did.cuts), number(notices), number(did.offers), number(did.descriptors),
      number(did.bytes));
  return in_ring != 0 ? 0 : 1;
}
