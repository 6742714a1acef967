#include "tools/tssx-stat/program.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "tools/tssx-stat/proc_file.h"
#include "tools/tssx-stat/scan.h"

namespace tssx::stat_tool {
namespace {

constexpr std::size_t kStart = 4096;  // program headers and the linker's name lie at the front

#if defined(__x86_64__)
constexpr std::uint16_t kMachine = EM_X86_64;
#else
constexpr std::uint16_t kMachine = EM_AARCH64;
#endif

// False where that lies outside.
template <typename T>
bool load(std::span<const std::uint8_t> bytes, std::uint64_t offset, T& value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof value) return false;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return true;
}

std::vector<std::uint8_t> read_start(int proc, const std::string& path) {
  std::vector<std::uint8_t> bytes(kStart);
  const UniqueFd file(::openat(proc, path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const ssize_t size = file ? ::read(file.get(), bytes.data(), bytes.size()) : 0;
  bytes.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return bytes;
}

}  // namespace

ProgramKind kind_of_program(std::span<const std::uint8_t> start) {
  Elf64_Ehdr header{};
  if (!load(start, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return ProgramKind::unknown;
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != kMachine) {
    return ProgramKind::other_architecture;
  }
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    if (header.e_phoff > start.size() ||
        !load(start, header.e_phoff + i * sizeof segment, segment)) {
      return ProgramKind::unknown;
    }
    if (segment.p_type != PT_INTERP) continue;
    if (segment.p_offset > start.size()) return ProgramKind::loadable;
    const std::size_t room = start.size() - static_cast<std::size_t>(segment.p_offset);
    const auto* name = reinterpret_cast<const char*>(start.data() + segment.p_offset);
    const std::string_view linker(name, std::min<std::size_t>(room, segment.p_filesz));
    return linker.find("musl") != std::string_view::npos ? ProgramKind::other_libc
                                                         : ProgramKind::loadable;
  }
  return ProgramKind::statically_linked;
}

bool is_secure(std::span<const std::uint8_t> auxv) {
  Elf64_auxv_t entry{};
  for (std::size_t at = 0; load(auxv, at, entry) && entry.a_type != AT_NULL; at += sizeof entry) {
    if (entry.a_type == AT_SECURE) return entry.a_un.a_val != 0;
  }
  return false;
}

ProgramBytes read_program(int proc, pid_t pid) {
  ProgramBytes program;
  const std::optional<bool> library = maps_file(proc, pid, "/libtssx.so");
  program.known = library.has_value();
  if (!program.known) return program;
  program.library = *library;
  program.executable = read_start(proc, fmt::format("{}/exe", pid));
  program.auxv = read_start(proc, fmt::format("{}/auxv", pid));
  return program;
}

ProgramFacts facts_of(const ProgramBytes& bytes) {
  return {bytes.known, bytes.library, is_secure(bytes.auxv), kind_of_program(bytes.executable)};
}

}  // namespace tssx::stat_tool
