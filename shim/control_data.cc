#include "shim/control_data.h"

#include <algorithm>
#include <cstring>

#include "core/fault.h"
#include "core/sys.h"

namespace tssx {

void deliver_control(const msghdr& received, msghdr& wanted, int& flags) noexcept {
  const std::size_t room = wanted.msg_control == nullptr ? 0 : wanted.msg_controllen;
  std::size_t used = 0;
  auto* out = static_cast<unsigned char*>(wanted.msg_control);
  msghdr source = received;
  for (cmsghdr* header = CMSG_FIRSTHDR(&source); header != nullptr;
       header = CMSG_NXTHDR(&source, header)) {
    const std::size_t payload = header->cmsg_len - CMSG_LEN(0);
    const bool rights = header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS;
    std::size_t fits = room > used + CMSG_LEN(0) ? room - used - CMSG_LEN(0) : 0;
    if (fits < payload) flags |= MSG_CTRUNC;
    std::size_t take = std::min(fits, payload);
    if (rights) take -= take % sizeof(int);
    if (room < used + CMSG_LEN(0)) take = 0;
    cmsghdr copy = *header;
    copy.cmsg_len = CMSG_LEN(take);
    if (take != 0 && (!copy_to_application(out + used, &copy, sizeof copy) ||
                      !copy_to_application(out + used + CMSG_LEN(0), CMSG_DATA(header), take))) {
      take = 0;
      if (rights) flags |= MSG_CTRUNC;
    }
    for (std::size_t at = take; rights && at + sizeof(int) <= payload; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + at, sizeof fd);
      sys::close(fd);
    }
    if (take != 0) used += std::min(CMSG_SPACE(take), room - used);
  }
  wanted.msg_controllen = used;
}

}  // namespace tssx
