#include "tools/tssx-stat/explain.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/layout.h"

namespace tssx::stat_tool {
namespace {

std::vector<std::uint8_t> executable(std::uint8_t width, std::uint16_t machine,
                                     const std::string& linker) {
  std::vector<std::uint8_t> bytes(256);
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = width;
  header.e_machine = machine;
  header.e_phoff = sizeof header;
  header.e_phnum = linker.empty() ? 0 : 1;
  std::memcpy(bytes.data(), &header, sizeof header);
  Elf64_Phdr segment{};
  segment.p_type = PT_INTERP;
  segment.p_offset = 128;
  segment.p_filesz = linker.size();
  std::memcpy(bytes.data() + sizeof header, &segment, sizeof segment);
  std::memcpy(bytes.data() + 128, linker.data(), linker.size());
  return bytes;
}

#if defined(__x86_64__)
constexpr std::uint16_t kHere = EM_X86_64;
#else
constexpr std::uint16_t kHere = EM_AARCH64;
#endif

TEST(Program, IsKnownByItsFirstBytes) {
  EXPECT_EQ(kind_of_program(executable(ELFCLASS64, kHere, "/lib64/ld-linux-x86-64.so.2")),
            ProgramKind::loadable);
  EXPECT_EQ(kind_of_program(executable(ELFCLASS64, kHere, "")), ProgramKind::statically_linked);
  EXPECT_EQ(kind_of_program(executable(ELFCLASS64, kHere, "/lib/ld-musl-x86_64.so.1")),
            ProgramKind::other_libc);
  EXPECT_EQ(kind_of_program(executable(ELFCLASS32, EM_386, "/lib/ld-linux.so.2")),
            ProgramKind::other_architecture);
  EXPECT_EQ(kind_of_program({}), ProgramKind::unknown);
}

TEST(Program, OfRandomHeadersIsSomeKind) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 5000; ++round) {
    auto bytes = executable(ELFCLASS64, kHere, "/lib64/ld-linux-x86-64.so.2");
    for (int i = 0; i < 8; ++i) {
      bytes[16 + random() % 100] = static_cast<std::uint8_t>(random());
    }
    bytes.resize(random() % 257);
    (void)kind_of_program(bytes);
  }
}

TEST(Program, IsSecureWhereTheKernelSaysSo) {
  std::vector<Elf64_auxv_t> auxv(3);
  auxv[0].a_type = AT_PAGESZ;
  auxv[1].a_type = AT_SECURE;
  auxv[1].a_un.a_val = 1;
  const auto bytes = [&] {
    return std::span(reinterpret_cast<const std::uint8_t*>(auxv.data()),
                     auxv.size() * sizeof auxv[0]);
  };
  EXPECT_TRUE(is_secure(bytes()));
  EXPECT_FALSE(is_secure(bytes().first(20)));
  auxv[1].a_un.a_val = 0;
  EXPECT_FALSE(is_secure(bytes()));
}

class Explanation : public ::testing::Test {
 protected:
  Explanation() {
    link_.path = "/run/x.sock";
    link_.mark = ClientMark::ours;
    link_.server = able(100);
    link_.client = able(200);
    link_.server.end = EndSnapshot{};
    link_.client.end = EndSnapshot{};
    link_.server.end->stage = EndSnapshot::Stage::candidate;
    link_.client.end->stage = EndSnapshot::Stage::candidate;
  }
  static EndFacts able(pid_t pid) {
    EndFacts facts;
    facts.holders = {pid};
    facts.party.pid = pid;
    facts.program = {true, true, false, ProgramKind::loadable};
    facts.settings = ProcessSettings{kProtocolVersion, "0.1.0", {"/run/*"}, false, {}};
    return facts;
  }
  Connection& moved(State state) {
    link_.connection = Connection{};
    link_.connection->state = state;
    return *link_.connection;
  }
  void expect(const std::string& code, const std::string& side) {
    const Verdict verdict = explain(link_);
    EXPECT_EQ(verdict.code, code);
    EXPECT_EQ(verdict.side, side) << code;
    EXPECT_EQ(verdict.accelerated, code == "accelerated");
    EXPECT_FALSE(verdict.text.empty());
  }

  LinkFacts link_;
};

TEST_F(Explanation, FollowsTheStateOfTheSharedMemory) {
  moved(State::ring);
  expect("accelerated", "");
  moved(State::handshake);
  expect("moving", "");
  moved(State::offered);
  expect("offered", "client");
  moved(State::closing);
  expect("closing", "");
  const auto end = std::exchange(link_.client.end, std::nullopt);
  expect("left", "client");
  link_.connection->directions[0].gone = true;
  expect("closing", "");
  link_.client.end = end;
  moved(State::damaged);
  expect("damaged", "");
  moved(State::mixed);
  expect("moving-back", "");
  moved(State::kernel).directions[outgoing(Role::client)].stays = true;
  expect("back", "client");
  link_.client.end->reason = Reason::executed;
  expect("executed", "client");
  link_.client.end->reason = Reason::none;
  link_.client.end->asides = 2;
  link_.client.end->returns = 1;
  expect("aside", "client");
  link_.client.end->returns = 2;
  link_.server.end.reset();
  expect("left", "server");
}

TEST_F(Explanation, TellsWhatTheServerWaitsFor) {
  expect("not-yet", "server");
  link_.server.end->postponed = Reason::busy;
  expect("busy", "server");
  link_.server.end->postponed = Reason::no_queue;
  expect("no-queue", "server");
  link_.server.end->stage = EndSnapshot::Stage::offered;
  expect("offered", "client");
  link_.server.end->stage = EndSnapshot::Stage::established;
  expect("moving", "");
  link_.server.end->stage = EndSnapshot::Stage::retired;
  expect("back", "");
  link_.server.end->reason = Reason::no_segment;
  link_.server.end->detail = 24;
  expect("no-segment", "server");
  EXPECT_NE(explain(link_).text.find("Too many open files"), std::string::npos);
}

TEST_F(Explanation, TellsWhatKeepsAProcessOut) {
  link_.mark = ClientMark::none;
  expect("unmarked", "client");
  link_.client.filtered = true;
  expect("own-filter", "client");
  link_.client.settings->patterns = {"/other"};
  expect("not-listed", "client");
  link_.client.settings->protocol = kProtocolVersion + 1;
  expect("other-version", "client");
  link_.client.settings.reset();
  expect("no-use-tssx", "client");
  link_.client.other_version = true;
  expect("other-version", "client");
  link_.client.other_version = false;
  link_.client.program.secure = true;
  expect("setuid", "client");
  link_.client.program.library = false;
  expect("setuid", "client");
  link_.client.program.secure = false;
  expect("not-preloaded", "client");
  link_.client.program.kind = ProgramKind::statically_linked;
  expect("static", "client");
  link_.client.program.kind = ProgramKind::other_architecture;
  expect("other-architecture", "client");
  link_.client.program.kind = ProgramKind::other_libc;
  expect("other-libc", "client");
  link_.client.holders.clear();
  expect("hidden", "client");
}

TEST_F(Explanation, BlamesTheServerForAMarkedClientWithoutAnOffer) {
  link_.server.end.reset();
  expect("left", "server");
  link_.server.settings->patterns.clear();
  expect("not-listed", "server");
}

TEST_F(Explanation, KnowsEndsThatWereLeft) {
  link_.client.end.reset();
  expect("left", "client");
  link_.server.end->reason = Reason::peer_absent;
  expect("peer-absent", "server");
}

}  // namespace
}  // namespace tssx::stat_tool
