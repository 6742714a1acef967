// A segment as somebody offers it: a file with any header, size and seals; and, where it is mapped,
// a page that says anything at all, to every question that a Channel asks it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "core/segment.h"
#include "core/unique_fd.h"
#include "tests/fuzz/leaks.h"
#include "tests/fuzz/mutator.h"
#include "tests/fuzz/stopped_clock.h"
#include "tests/fuzz/victim.h"

using namespace tssx;
using namespace tssx::fuzz;

namespace {

// What anybody may make of a header that was right.
void distort(SegmentHeader& header, std::uint64_t* size, int* seals, Input& script) {
  const std::uint8_t what = script.byte();
  if ((what & 1U) != 0) header.version = script.byte();
  if ((what & 2U) != 0) header.header_size = script.half();
  if ((what & 4U) != 0) {
    const std::uint8_t power = script.byte();
    header.capacity = (std::uint64_t{1} << power % 64) + power / 64;
    header.size = kHeaderSize + 2 * header.capacity;
    *size = header.size;
  }
  if ((what & 8U) != 0) header.size = script.word();
  if ((what & 16U) != 0) *size = *size + script.half() - 0x8000;
  if ((what & 32U) != 0) *seals = script.byte() & 0x3f;
  if ((what & 64U) != 0) header.nonce[script.byte() % kNonceSize] ^= 1U;
  if ((what & 128U) != 0) {
    const std::size_t at = script.byte();
    if (at < sizeof header) reinterpret_cast<std::uint8_t*>(&header)[at] = script.byte();
  }
}

// Maps it, or not. What is mapped is all there.
void try_to_map(int fd, const Nonce& nonce) {
  const Result<SegmentView> mapped = map_segment(fd, nonce);
  if (!mapped) return;
  const SegmentView& view = mapped.value();
  check(view.capacity >= kMinCapacity && view.capacity <= kMaxCapacity &&
            (view.capacity & (view.capacity - 1)) == 0,
        "a capacity that can't be");
  check(view.size == kHeaderSize + 2 * view.capacity, "a size that can't be");
  // It can't be made smaller any more, which would be SIGBUS.
  check(::ftruncate(fd, 0) != 0, "a segment that can shrink was mapped");
  volatile std::uint8_t* const last = view.data(1) + view.capacity - 1;
  *last = static_cast<std::uint8_t>(*last + 1);
  unmap_segment(view);
}

}  // namespace

// Input: whether to go on with a connection; the distortions; the page; the steps.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Nonce nonce = test_nonce();
  static GuardedSegment place;
  const LeakCheck leaks;
  Input script(data, size);
  const StoppedClock clock;
  const bool connects = script.byte() % 4 != 0;

  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.version = kProtocolVersion;
  header.header_size = kHeaderSize;
  header.capacity = std::uint64_t{1} << 18U;
  header.size = kHeaderSize + 2 * header.capacity;
  std::memcpy(header.nonce, nonce.bytes, kNonceSize);
  std::uint64_t file_size = header.size;
  int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  if (!connects) distort(header, &file_size, &seals, script);

  const UniqueFd fd(::memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  check(static_cast<bool>(fd), "no memfd");
  if (::pwrite(fd.get(), &header, sizeof header, 0) != sizeof header) return 0;
  if (file_size < std::uint64_t{1} << 40U &&
      ::ftruncate(fd.get(), static_cast<off_t>(file_size)) != 0) {
    return 0;
  }
  if (!connects) {
    ::fcntl(fd.get(), F_ADD_SEALS, seals);
    try_to_map(fd.get(), nonce);
    return 0;
  }

  void* const shared =
      ::mmap(nullptr, kHeaderSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  check(shared != MAP_FAILED, "can't map it");
  auto* const page = static_cast<SegmentPage*>(shared);
  ::fcntl(fd.get(), F_ADD_SEALS, seals);
  int fds[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "no sockets");
  {
    const UniqueFd peer(fds[1]);
    Victim victim(fds[0], Role::client, nonce, place);
    char byte = 0;
    send_with_descriptor(peer.get(), fd.get());
    victim.endpoint().try_receive(&byte, 1);
    victim.settle_segment();
    if ((script.byte() & 1U) != 0) {
      send_token(peer.get(), TokenKind::to_ring, nonce);
      victim.endpoint().try_receive(&byte, 1);
    }
    while (!script.empty()) {
      const std::uint8_t what = script.byte();
      if (what < 8) {
        // All of the page at once.
        script.fill(reinterpret_cast<std::uint8_t*>(page), sizeof *page);
      } else if (what < 96) {
        scribble(*page, header.capacity, script);
      } else if (what < 104) {
        send_token(peer.get(), what % 2 == 0 ? TokenKind::to_ring : TokenKind::to_kernel, nonce);
      } else if (what < 112) {
        static_cast<void>(::send(peer.get(), "bells", what % 5, MSG_DONTWAIT | MSG_NOSIGNAL));
      } else if (what == 112) {
        ::shutdown(peer.get(), script.byte() % 3);
      } else {
        victim.act(script);
      }
    }
  }
  ::munmap(shared, kHeaderSize);
  return 0;
}
