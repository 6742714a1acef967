// Calls that read or write a descriptor inside libc or by threads of libc's, and the vectored calls
// with a position, which on a socket are readv(2) and writev(2) if the position is -1.

#include <errno.h>

#include "core/ring.h"
#include "shim/descriptor_table.h"
#include "shim/leave.h"
#include "shim/real.h"
#include "shim/stream_io.h"

using namespace tssx;

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif

namespace {

// What of preadv2()'s flags a socket obeys: RWF_NOWAIT; it ignores those about files' data and
// refuses the rest (kiocb_set_rw_flags() and sock_read_iter() of the kernel).
constexpr int kIgnored = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND | RWF_NOAPPEND;

bool is_plain_vector(const iovec* parts, int count) noexcept {
  if (count <= 0 || count > 1024 ||
      is_bad_address(parts, static_cast<size_t>(count) * sizeof(iovec))) {
    return false;
  }
  size_t total = 0;
  for (int i = 0; i < count; ++i) total += parts[i].iov_len;
  return total != 0;
}

// readv(2) or writev(2) with flags; the kernel itself checks what is wrong or empty.
template <class Function, class Stream>
ssize_t at_no_position(Function function, Stream stream, int fd, const iovec* parts, int count,
                       off64_t offset, int flags) {
  EndpointRef endpoint(fd);
  if (!endpoint) return function(fd, parts, count, offset, flags);
  if (offset != -1 || endpoint.channel().is_plain() || !is_plain_vector(parts, count)) {
    return function(endpoint.fd(), parts, count, offset, flags);
  }
  if ((flags & ~(kIgnored | RWF_NOWAIT)) != 0 ||
      (flags & (RWF_APPEND | RWF_NOAPPEND)) == (RWF_APPEND | RWF_NOAPPEND)) {
    errno = (flags & ~(kIgnored | RWF_NOWAIT)) != 0 ? EOPNOTSUPP : EINVAL;
    return -1;
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = static_cast<size_t>(count);
  return stream(endpoint, message, (flags & RWF_NOWAIT) != 0 ? MSG_DONTWAIT : 0);
}

ssize_t read_parts(EndpointRef& endpoint, msghdr& message, int flags) {
  return receive_stream(endpoint, message, flags);
}
ssize_t write_parts(EndpointRef& endpoint, msghdr& message, int flags) {
  return send_stream(endpoint, message, flags);
}

// aio(7) reads and writes in threads of libc's, as read(2) and write(2) where there is no position.
// The control block keeps the number until the request is done, so an ID is replaced in it.
template <class Block>
Block* by_kernel(Block* block) noexcept {
  if (table.size() != 0 && !is_bad_address(block, sizeof *block)) {
    block->aio_fildes = leave_to_kernel(block->aio_fildes);
  }
  return block;
}

template <class Function, class Block>
int by_kernel_list(Function function, int mode, Block* const* list, int count, sigevent* event) {
  if (table.size() != 0 && count > 0 &&
      !is_bad_address(list, static_cast<size_t>(count) * sizeof *list)) {
    for (int i = 0; i < count; ++i) {
      if (list[i] != nullptr && list[i]->aio_lio_opcode != LIO_NOP) by_kernel(list[i]);
    }
  }
  return function(mode, list, count, event);
}

}  // namespace

TSSX_INTERPOSED ssize_t preadv2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  real::ensure();
  return at_no_position(real::preadv2, read_parts, fd, parts, count, offset, flags);
}
TSSX_INTERPOSED ssize_t preadv64v2(int fd, const iovec* parts, int count, off64_t offset,
                                   int flags) {
  real::ensure();
  return at_no_position(real::preadv64v2, read_parts, fd, parts, count, offset, flags);
}
TSSX_INTERPOSED ssize_t pwritev2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  real::ensure();
  return at_no_position(real::pwritev2, write_parts, fd, parts, count, offset, flags);
}
TSSX_INTERPOSED ssize_t pwritev64v2(int fd, const iovec* parts, int count, off64_t offset,
                                    int flags) {
  real::ensure();
  return at_no_position(real::pwritev64v2, write_parts, fd, parts, count, offset, flags);
}

#define TSSX_AIO(name, Block)                       \
  TSSX_INTERPOSED int name(Block* block) noexcept { \
    real::ensure();                                 \
    return real::name(by_kernel(block));            \
  }
TSSX_AIO(aio_read, aiocb)
TSSX_AIO(aio_read64, aiocb64)
TSSX_AIO(aio_write, aiocb)
TSSX_AIO(aio_write64, aiocb64)
#undef TSSX_AIO

TSSX_INTERPOSED int lio_listio(int mode, aiocb* const list[], int count, sigevent* event) noexcept {
  real::ensure();
  return by_kernel_list(real::lio_listio, mode, list, count, event);
}
TSSX_INTERPOSED int lio_listio64(int mode, aiocb64* const list[], int count,
                                 sigevent* event) noexcept {
  real::ensure();
  return by_kernel_list(real::lio_listio64, mode, list, count, event);
}

// No bytes move here; only the number has to be the one of the request.
TSSX_INTERPOSED int aio_fsync(int operation, aiocb* block) noexcept {
  real::ensure();
  if (table.size() != 0 && !is_bad_address(block, sizeof *block)) {
    block->aio_fildes = table.kernel_fd(block->aio_fildes);
  }
  return real::aio_fsync(operation, block);
}
TSSX_INTERPOSED int aio_fsync64(int operation, aiocb64* block) noexcept {
  real::ensure();
  if (table.size() != 0 && !is_bad_address(block, sizeof *block)) {
    block->aio_fildes = table.kernel_fd(block->aio_fildes);
  }
  return real::aio_fsync64(operation, block);
}
TSSX_INTERPOSED int aio_cancel(int fd, aiocb* block) noexcept {
  real::ensure();
  return real::aio_cancel(table.kernel_fd(fd), block);
}
TSSX_INTERPOSED int aio_cancel64(int fd, aiocb64* block) noexcept {
  real::ensure();
  return real::aio_cancel64(table.kernel_fd(fd), block);
}

// Eight bytes by read(2) or write(2), whatever the descriptor is.
TSSX_INTERPOSED int eventfd_read(int fd, eventfd_t* value) {
  return ::read(fd, value, sizeof *value) == sizeof *value ? 0 : -1;
}
TSSX_INTERPOSED int eventfd_write(int fd, eventfd_t value) {
  return ::write(fd, &value, sizeof value) == sizeof value ? 0 : -1;
}

TSSX_INTERPOSED void backtrace_symbols_fd(void* const* frames, int count, int fd) noexcept {
  real::ensure();
  real::backtrace_symbols_fd(frames, count, leave_to_kernel(fd));
}

TSSX_INTERPOSED void __backtrace_symbols_fd(void* const* frames, int count, int fd) {
  real::ensure();
  real::__backtrace_symbols_fd(frames, count, leave_to_kernel(fd));
}
