#include "tools/tssx-run/elf_image.h"

#include <elf.h>
#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <utility>
#include <vector>

namespace tssx::run_tool {
namespace {

template <class T>
std::optional<T> read_object(const ReadAt& read_at, std::uint64_t offset) {
  T object;
  if (!read_at(offset, std::as_writable_bytes(std::span(&object, 1)))) return std::nullopt;
  return object;
}

// The path in PT_INTERP: ended by a NUL within it, as the kernel asks for.
std::optional<std::string> read_interpreter(const ReadAt& read_at, std::uint64_t offset,
                                            std::uint64_t size) {
  if (size < 2 || size > PATH_MAX) return std::nullopt;
  std::string path(static_cast<std::size_t>(size), '\0');
  if (!read_at(offset, std::as_writable_bytes(std::span(path)))) return std::nullopt;
  if (path.back() != '\0') return std::nullopt;
  path.resize(std::strlen(path.c_str()));
  if (path.empty()) return std::nullopt;
  return path;
}

// The rest of a file of our own architecture.
template <class Header, class Segment>
void parse_native(const ReadAt& read_at, ElfImage& image) {
  const auto header = read_object<Header>(read_at, 0);
  if (!header || (header->e_type != ET_EXEC && header->e_type != ET_DYN)) return;
  if (header->e_phentsize != sizeof(Segment) || header->e_phnum == 0) return;
  std::vector<Segment> segments(header->e_phnum);
  if (segments.size() * sizeof(Segment) > kMaxHeaders) return;
  if (!read_at(header->e_phoff, std::as_writable_bytes(std::span(segments)))) return;
  for (const Segment& segment : segments) {
    if (segment.p_type != PT_INTERP) continue;
    auto interpreter = read_interpreter(read_at, segment.p_offset, segment.p_filesz);
    if (!interpreter) return;
    image.interpreter = *std::move(interpreter);
    break;  // the kernel looks at the first one only
  }
  image.loadable = true;
}

constexpr bool kIs64 = sizeof(void*) == 8;

}  // namespace

Architecture own_architecture() {
  constexpr bool kLittle = std::endian::native == std::endian::little;
#if defined(__x86_64__)
  constexpr std::uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
  constexpr std::uint16_t kMachine = EM_AARCH64;
#else
#error "tssx-run: this architecture's number in elf.h is not known"
#endif
  return {kIs64 ? ELFCLASS64 : ELFCLASS32, kLittle ? ELFDATA2LSB : ELFDATA2MSB, kMachine};
}

std::string to_string(const Architecture& architecture) {
  struct Name {
    std::uint16_t machine;
    std::uint8_t usual_bits;
    const char* text;
  };
  constexpr Name kNames[] = {
      {EM_386, ELFCLASS32, "i386"},
      {EM_X86_64, ELFCLASS64, "x86-64"},
      {EM_ARM, ELFCLASS32, "arm"},
      {EM_AARCH64, ELFCLASS64, "aarch64"},
      {EM_RISCV, ELFCLASS64, "riscv"},
      {EM_PPC64, ELFCLASS64, "ppc64"},
      {EM_S390, ELFCLASS64, "s390"},
      {EM_MIPS, ELFCLASS32, "mips"},
      {EM_LOONGARCH, ELFCLASS64, "loongarch"},
  };
  const char* bits = architecture.bits == ELFCLASS32 ? ", 32 bits" : ", 64 bits";
  for (const Name& name : kNames) {
    if (name.machine != architecture.machine) continue;
    return architecture.bits == name.usual_bits ? name.text : std::string(name.text) + bits;
  }
  return fmt::format("machine {}{}", architecture.machine, bits);
}

std::optional<ElfImage> parse_elf(const ReadAt& read_at) {
  // Up to e_machine all classes have the same shape.
  const auto start = read_object<Elf32_Ehdr>(read_at, 0);
  if (!start || std::memcmp(start->e_ident, ELFMAG, SELFMAG) != 0) return std::nullopt;
  const std::uint8_t order = start->e_ident[EI_DATA];
  const bool swapped = order != own_architecture().byte_order;
  ElfImage image;
  image.architecture = {start->e_ident[EI_CLASS], order,
                        swapped ? __builtin_bswap16(start->e_machine) : start->e_machine};
  if (image.architecture != own_architecture()) return image;
  if constexpr (kIs64) {
    parse_native<Elf64_Ehdr, Elf64_Phdr>(read_at, image);
  } else {
    parse_native<Elf32_Ehdr, Elf32_Phdr>(read_at, image);
  }
  return image;
}

std::optional<ElfImage> read_elf(int fd) {
  return parse_elf([fd](std::uint64_t offset, std::span<std::byte> buffer) {
    while (!buffer.empty()) {
      if (offset > static_cast<std::uint64_t>(SSIZE_MAX)) return false;
      const ssize_t count = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(offset));
      if (count <= 0) return false;
      buffer = buffer.subspan(static_cast<std::size_t>(count));
      offset += static_cast<std::uint64_t>(count);
    }
    return true;
  });
}

}  // namespace tssx::run_tool
