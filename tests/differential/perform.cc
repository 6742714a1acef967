#include "tests/differential/perform.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "tests/differential/byte_pattern.h"

namespace differential {
namespace {

thread_local volatile sig_atomic_t pipes_broken = 0;

}  // namespace

void count_sigpipes() {
  struct sigaction action {};
  action.sa_handler = [](int) { pipes_broken = pipes_broken + 1; };
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGPIPE, &action, nullptr);
}

long sigpipes() { return pipes_broken; }

char* scratch() {
  thread_local const std::unique_ptr<char[]> bytes(new char[kMaxTransfer + 4096]);
  return bytes.get();
}

Result outcome(long value) {
  Result result{};
  result.value = value;
  result.error = value == -1 ? errno : 0;
  return result;
}

const char* Outgoing::bytes() const { return stream_bytes(stream, board.sent[stream]); }

void Outgoing::sent(long count) const {
  if (count > 0) board.sent[stream] += count;
}

void Incoming::check(Result& result, const char* bytes, long count, bool peeked) const {
  if (count <= 0) return;
  const auto size = static_cast<std::size_t>(count);
  const bool right = std::memcmp(bytes, stream_bytes(stream, board.received[stream]), size) == 0;
  result.add(right ? 1 : 0);
  if (!right) {
    std::uint64_t hash = 14695981039346656037U;  // FNV-1a
    for (std::size_t i = 0; i < size; ++i) {
      hash = (hash ^ static_cast<unsigned char>(bytes[i])) * 1099511628211U;
    }
    result.add(static_cast<long>(hash >> 1));
  }
  if (!peeked) board.received[stream] += count;
}

Performer::Performer(Board& board, std::string directory, std::string path, int listener)
    : board_(board), directory_(std::move(directory)), path_(std::move(path)), listener_(listener) {
  fds_.fill(-1);
}

Result Performer::named(int descriptor, long name) {
  Result result = outcome(descriptor == -1 ? -1 : 0);
  if (descriptor != -1) slot(name) = descriptor;
  return result;
}

Result Performer::perform(const Step& step, const Route& route) {
  Result result{};
  errno = 0;
  const long before = sigpipes();
  const bool known = perform_bytes(step, route, result) || perform_loop(step, route, result) ||
                     perform_readiness(step, result) || perform_state(step, result) ||
                     perform_descriptor(step, route, result);
  if (!known) result.value = -2;
  if (sigpipes() != before) result.add(1000 + sigpipes() - before);
  return result;
}

void Performer::close_all() {
  for (int& descriptor : fds_) {
    if (descriptor != -1) ::close(descriptor);
    descriptor = -1;
  }
}

}  // namespace differential
