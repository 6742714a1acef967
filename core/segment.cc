#include "core/segment.h"

#include <errno.h>
#include <linux/magic.h>

#include <cstring>

#include "core/fault_point.h"
#include "core/sys.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace tssx {
namespace {

constexpr int kSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

bool is_valid_capacity(std::uint64_t capacity) noexcept {
  return capacity >= kMinCapacity && capacity <= kMaxCapacity && (capacity & (capacity - 1)) == 0;
}

constexpr std::uint64_t file_size_for(std::uint64_t capacity) noexcept {
  return kHeaderSize + 2 * capacity;
}

SegmentPage* map_shared(int fd, std::size_t size) noexcept {
  return static_cast<SegmentPage*>(sys::mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd));
}

}  // namespace

bool Nonce::operator==(const Nonce& other) const noexcept {
  return std::memcmp(bytes, other.bytes, kNonceSize) == 0;
}

Result<NewSegment> create_segment(std::uint64_t capacity, const SegmentOrigin& origin) noexcept {
  if (!is_valid_capacity(capacity) || origin.path_length > kPathSize) {
    return Result<NewSegment>::failure(EINVAL);
  }
  const std::uint64_t size = file_size_for(capacity);
  rlimit limit{};
  if (sys::prlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur < size) {
    return Result<NewSegment>::failure(EFBIG);
  }
  // Kernels before 6.3 know no MFD_NOEXEC_SEAL and say EINVAL (memfd_create(2)).
  long fd = sys::memfd_create(kSegmentName, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd == -EINVAL) fd = sys::memfd_create(kSegmentName, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Result<NewSegment>::failure(static_cast<int>(-fd));

  NewSegment made;
  made.fd.reset(static_cast<int>(fd));
  if (const long failed = sys::ftruncate(made.fd.get(), size); failed < 0) {
    return Result<NewSegment>::failure(static_cast<int>(-failed));
  }
  if (const long failed = sys::fcntl(made.fd.get(), F_ADD_SEALS, kSeals); failed < 0) {
    return Result<NewSegment>::failure(static_cast<int>(-failed));
  }
  TSSX_FAULT_POINT(segment_sealed);
  SegmentPage* page = map_shared(made.fd.get(), size);
  if (page == nullptr) return Result<NewSegment>::failure(ENOMEM);

  TSSX_FAULT_POINT(segment_mapped);
  // A fresh memfd reads as zeros: every counter, position and flag starts at its right value.
  SegmentHeader& header = page->header;
  header.magic = kSegmentMagic;
  header.version = kProtocolVersion;
  header.header_size = kHeaderSize;
  header.size = size;
  header.capacity = capacity;
  std::memcpy(header.nonce, origin.nonce.bytes, kNonceSize);
  header.created_ns = sys::clock_ns(CLOCK_REALTIME);
  header.server_pid = static_cast<std::uint32_t>(sys::getpid());
  header.client_pid = origin.client_pid;
  header.path_length = origin.path_length;
  std::memcpy(header.path, origin.path, origin.path_length);
  made.view = SegmentView{page, capacity, size};
  return made;
}

bool read_memfd_start(int fd, void* buffer, std::size_t size, std::uint64_t* file_size) noexcept {
  // First what no file system is asked for: only those in memory have seals. On FUSE even fstat(2)
  // waits for an answer of somebody's daemon.
  if (sys::fcntl(fd, F_GET_SEALS) < 0) return false;
  struct stat info {};
  if (sys::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return false;
  struct statfs system {};
  if (sys::fstatfs(fd, &system) != 0 || system.f_type != TMPFS_MAGIC) return false;
  if (info.st_size < static_cast<off_t>(size)) return false;
  *file_size = static_cast<std::uint64_t>(info.st_size);
  return sys::pread(fd, buffer, size, 0) == static_cast<long>(size);
}

Result<SegmentView> map_segment(int fd, const Nonce& nonce) noexcept {
  SegmentHeader header{};
  std::uint64_t file_size = 0;
  if (!read_memfd_start(fd, &header, sizeof header, &file_size) || header.magic != kSegmentMagic ||
      std::memcmp(header.nonce, nonce.bytes, kNonceSize) != 0) {
    return Result<SegmentView>::failure(EBADMSG);
  }
  // From here on it is ours; what follows decides whether it is fit to be mapped. The checks use
  // this copy: the peer may change the page at any time.
  if (header.version != kProtocolVersion || header.header_size != kHeaderSize ||
      !is_valid_capacity(header.capacity) || header.size != file_size_for(header.capacity) ||
      file_size != header.size) {
    return Result<SegmentView>::failure(EPROTO);
  }
  const long seals = sys::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals ||
      (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
    return Result<SegmentView>::failure(EPROTO);
  }
  SegmentPage* page = map_shared(fd, header.size);
  if (page == nullptr) return Result<SegmentView>::failure(ENOMEM);
  return SegmentView{page, header.capacity, header.size};
}

void unmap_segment(const SegmentView& view) noexcept {
  if (view.page != nullptr) sys::munmap(view.page, view.size);
}

}  // namespace tssx
