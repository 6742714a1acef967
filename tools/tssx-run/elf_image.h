// What an ELF file says about who runs it: its architecture and its dynamic linker.
//
// The file may be anybody's: every offset and size is checked before it is used.
//
// Thread safety: pure functions.
//
// Invariants:
//  1. Any bytes may be passed: the result is nullopt or an image, never undefined behaviour.
//  2. No more is read than the header, kMaxHeaders bytes of program headers, and one path.
//
// Source: elf(5), and what load_elf_binary() of Linux fs/binfmt_elf.c accepts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tssx::run_tool {

// What a program and a library must have in common.
struct Architecture {
  std::uint8_t bits = 0;        // EI_CLASS
  std::uint8_t byte_order = 0;  // EI_DATA
  std::uint16_t machine = 0;    // e_machine
  bool operator==(const Architecture&) const = default;
};

// "x86-64", or "machine 4711" for what has no name here; with ", 32 bits" where that is not
// implied.
[[nodiscard]] std::string to_string(const Architecture& architecture);

// The one this program was compiled for.
[[nodiscard]] Architecture own_architecture();

struct ElfImage {
  Architecture architecture;
  // Of another architecture only that is known: nothing below is filled in.
  bool loadable = false;    // ET_EXEC or ET_DYN, with program headers that make sense
  std::string interpreter;  // path of the dynamic linker; empty: none, so it is static
};

// Fills the whole buffer from that offset; false if the file does not have so many bytes.
using ReadAt = std::function<bool(std::uint64_t offset, std::span<std::byte> buffer)>;

constexpr std::size_t kMaxHeaders = 65536;

// nullopt: no ELF file.
[[nodiscard]] std::optional<ElfImage> parse_elf(const ReadAt& read_at);

// The same for an open file.
[[nodiscard]] std::optional<ElfImage> read_elf(int fd);

}  // namespace tssx::run_tool
