// ELF files, sound, damaged and hostile.
#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/unique_fd.h"
#include "tools/tssx-run/elf_image.h"

namespace tssx::run_tool {
namespace {

using Bytes = std::vector<std::byte>;

std::optional<ElfImage> parse(const Bytes& bytes) {
  return parse_elf([&](std::uint64_t offset, std::span<std::byte> buffer) {
    if (offset > bytes.size() || buffer.size() > bytes.size() - offset) return false;
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), buffer.size(), buffer.begin());
    return true;
  });
}

template <class T>
void put(Bytes& bytes, std::size_t offset, const T& object) {
  if (bytes.size() < offset + sizeof object) bytes.resize(offset + sizeof object);
  std::memcpy(bytes.data() + offset, &object, sizeof object);
}

constexpr std::size_t kPathOffset = 512;
const std::string kLinker = "/lib64/ld-linux-x86-64.so.2";

// A program with a header, a PT_LOAD, a PT_INTERP, and the path.
struct Program {
  Elf64_Ehdr header{};
  Elf64_Phdr load{};
  Elf64_Phdr interp{};
  std::string path = kLinker + '\0';

  Program() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = own_architecture().bits;
    header.e_ident[EI_DATA] = own_architecture().byte_order;
    header.e_type = ET_DYN;
    header.e_machine = own_architecture().machine;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    load.p_type = PT_LOAD;
    interp.p_type = PT_INTERP;
    interp.p_offset = kPathOffset;
    interp.p_filesz = path.size();
  }
  Bytes bytes() const {
    Bytes bytes;
    put(bytes, 0, header);
    put(bytes, sizeof header, load);
    put(bytes, sizeof header + sizeof load, interp);
    bytes.resize(kPathOffset);
    for (const char byte : path) bytes.push_back(static_cast<std::byte>(byte));
    return bytes;
  }
};

TEST(ElfImage, TellsTheDynamicLinker) {
  const auto image = parse(Program().bytes());
  ASSERT_TRUE(image);
  EXPECT_EQ(image->architecture, own_architecture());
  EXPECT_TRUE(image->loadable);
  EXPECT_EQ(image->interpreter, kLinker);
}

TEST(ElfImage, HasNoDynamicLinkerWhereItIsStatic) {
  Program program;
  program.header.e_phnum = 1;
  const auto image = parse(program.bytes());
  ASSERT_TRUE(image);
  EXPECT_TRUE(image->loadable);
  EXPECT_EQ(image->interpreter, "");
}

TEST(ElfImage, ReadsThisProgram) {
  const UniqueFd self(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto image = read_elf(self.get());
  ASSERT_TRUE(image);
  EXPECT_EQ(image->architecture, own_architecture());
  EXPECT_TRUE(image->loadable);
  EXPECT_EQ(::access(image->interpreter.c_str(), X_OK), 0) << image->interpreter;
}

TEST(ElfImage, IsNoneOfWhatDoesNotBeginLikeOne) {
  EXPECT_FALSE(parse({}));
  Bytes bytes = Program().bytes();
  bytes[1] = std::byte{'e'};
  EXPECT_FALSE(parse(bytes));
  bytes = Program().bytes();
  bytes.resize(20);
  EXPECT_FALSE(parse(bytes));
}

TEST(ElfImage, TellsAForeignArchitectureAndNoMore) {
  Program program;
  program.header.e_machine = EM_RISCV;
  auto image = parse(program.bytes());
  ASSERT_TRUE(image);
  EXPECT_EQ(to_string(image->architecture), "riscv");
  EXPECT_EQ(image->interpreter, "");

  program.header.e_machine = EM_X86_64;  // x32
  program.header.e_ident[EI_CLASS] = ELFCLASS32;
  image = parse(program.bytes());
  ASSERT_TRUE(image);
  EXPECT_EQ(to_string(image->architecture), "x86-64, 32 bits");
  EXPECT_EQ(image->interpreter, "");

  // In the other byte order.
  program.header.e_ident[EI_CLASS] = ELFCLASS64;
  program.header.e_ident[EI_DATA] =
      own_architecture().byte_order == ELFDATA2LSB ? ELFDATA2MSB : ELFDATA2LSB;
  program.header.e_machine = __builtin_bswap16(EM_S390);
  image = parse(program.bytes());
  ASSERT_TRUE(image);
  EXPECT_EQ(to_string(image->architecture), "s390");
  EXPECT_EQ(to_string({ELFCLASS64, ELFDATA2LSB, 4711}), "machine 4711, 64 bits");
}

TEST(ElfImage, IsNotLoadableWithHeadersThatMakeNoSense) {
  const auto refuses = [](const auto& change) {
    Program program;
    change(program);
    const auto image = parse(program.bytes());
    return image && !image->loadable && image->interpreter.empty();
  };
  EXPECT_TRUE(refuses([](Program& p) { p.header.e_type = ET_REL; }));
  EXPECT_TRUE(refuses([](Program& p) { p.header.e_type = ET_CORE; }));
  EXPECT_TRUE(refuses([](Program& p) { p.header.e_phnum = 0; }));
  EXPECT_TRUE(refuses([](Program& p) { p.header.e_phnum = 65535; }));
  EXPECT_TRUE(refuses([](Program& p) { p.header.e_phentsize = 1; }));
  EXPECT_TRUE(refuses([](Program& p) { p.header.e_phentsize = 0; }));
  EXPECT_TRUE(refuses([](Program& p) { p.header.e_phoff = ~std::uint64_t{0}; }));
  EXPECT_TRUE(refuses([](Program& p) { p.header.e_phoff = ~std::uint64_t{0} - 100; }));
  EXPECT_TRUE(refuses([](Program& p) { p.interp.p_filesz = 0; }));
  EXPECT_TRUE(refuses([](Program& p) { p.interp.p_filesz = 1; }));
  EXPECT_TRUE(refuses([](Program& p) { p.interp.p_filesz = PATH_MAX + 1; }));
  EXPECT_TRUE(refuses([](Program& p) { p.interp.p_filesz = ~std::uint64_t{0}; }));
  EXPECT_TRUE(refuses([](Program& p) { p.interp.p_offset = ~std::uint64_t{0} - 4; }));
  EXPECT_TRUE(refuses([](Program& p) { p.path.back() = 'x'; }));
  EXPECT_TRUE(refuses([](Program& p) { p.path = std::string(p.path.size(), '\0'); }));
  EXPECT_FALSE(refuses([](Program&) {}));
}

TEST(ElfImage, EndsThePathAtItsFirstNul) {
  Program program;
  program.path[4] = '\0';
  EXPECT_EQ(parse(program.bytes())->interpreter, "/lib");
}

TEST(ElfImage, OfAnyPartOfAFileIsSafe) {
  const Bytes whole = Program().bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto image =
        parse(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
    // All of it is needed.
    EXPECT_TRUE(!image || !image->loadable) << size;
  }
}

TEST(ElfImage, OfAnyBytesIsSafe) {
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    Bytes bytes = Program().bytes();
    for (int i = 0; i < 4; ++i) {
      // Mostly where it matters: behind the identification, in the headers.
      bytes[EI_NIDENT + random() % (sizeof(Elf64_Ehdr) - EI_NIDENT + 2 * sizeof(Elf64_Phdr))] =
          static_cast<std::byte>(random());
    }
    const auto image = parse(bytes);
    ASSERT_TRUE(image);
    EXPECT_LE(image->interpreter.size(), static_cast<std::size_t>(PATH_MAX));
  }
}

}  // namespace
}  // namespace tssx::run_tool
