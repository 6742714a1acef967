// The lines of /proc/PID/maps, status and comm, and the reader that finds them.
#include "tools/tssx-stat/scan.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "tools/tssx-stat/proc_file.h"
#include "tools/tssx-stat/processes.h"

namespace tssx::stat_tool {
namespace {

constexpr const char* kSegmentLine =
    "7f1200000000-7f1200021000 rw-s 00000000 00:01 2057                       "
    "/memfd:tssx-segment (deleted)";

std::string with(std::string_view from, std::string_view to) {
  std::string line = kSegmentLine;
  return line.replace(line.find(from), from.size(), to);
}

TEST(MapsLine, GivesAddressAndIdentity) {
  const auto entry = parse_maps_line(kSegmentLine);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->address, 0x7f1200000000U);
  EXPECT_EQ(entry->id, (SegmentId{0, 1, 2057}));
  EXPECT_EQ(to_string(entry->id), "00:01:2057");
  EXPECT_EQ(parse_maps_line(with("00:01", "fe:1a"))->id, (SegmentId{0xfe, 0x1a, 2057}));
}

TEST(MapsLine, RefusesWhatIsNotTheStartOfASharedSegment) {
  EXPECT_FALSE(parse_maps_line(with("rw-s", "rw-p")));
  EXPECT_FALSE(parse_maps_line(with("rw-s", "---s")));
  EXPECT_FALSE(parse_maps_line(with("00000000 00:01", "00001000 00:01")));
  EXPECT_FALSE(parse_maps_line(with("7f1200021000", "7f1200000fff")));
  EXPECT_FALSE(parse_maps_line(with("7f1200021000", "7f1100000000")));
  EXPECT_FALSE(parse_maps_line(with("/memfd", "/tmp/memfd")));
  EXPECT_FALSE(parse_maps_line(with("(deleted)", "(deleted) ")));
  EXPECT_FALSE(parse_maps_line(with("tssx-segment", "tssx-segments")));
}

TEST(MapsLine, SurvivesEveryTruncationAndOverflow) {
  const std::string line = kSegmentLine;
  for (std::size_t size = 0; size < line.size(); ++size) {
    EXPECT_FALSE(parse_maps_line(line.substr(0, size))) << size;
  }
  EXPECT_FALSE(parse_maps_line(with("2057", "99999999999999999999999")));
  EXPECT_FALSE(parse_maps_line(with("00:01", "00:123456789")));
}

TEST(StatusLine, GivesParentUserAndInnermostPid) {
  Status status;
  for (const char* line : {"Name:\tPPid:\t9", "PPid:\t17", "Uid:\t1000\t1001\t1002\t1003",
                           "NSpid:\t4242\t33\t7", "Threads:\t1"}) {
    parse_status_line(line, status);
  }
  EXPECT_EQ(status.parent, 17);
  EXPECT_EQ(status.uid, 1000U);
  EXPECT_EQ(status.inner_pid, 7);
}

TEST(StatusLine, IgnoresGarbage) {
  Status status;
  for (const char* line :
       {"", "PPid:", "PPid:\tx", "Uid:\t", "NSpid:\t", "NSpid:\t99999999999999"}) {
    parse_status_line(line, status);
  }
  EXPECT_EQ(status.parent, 0);
  EXPECT_EQ(status.inner_pid, 0);
}

TEST(ProgramName, IsCommCompletedByTheExecutableWhereItWasCut) {
  EXPECT_EQ(program_name("postgres", ""), "postgres");
  EXPECT_EQ(program_name("postgres", "/usr/bin/other"), "postgres");
  EXPECT_EQ(program_name("a-very-long-nam", "/opt/a-very-long-name"), "a-very-long-name");
  EXPECT_EQ(program_name("a-very-long-nam", "/opt/a-very-long-name (deleted)"), "a-very-long-name");
  EXPECT_EQ(program_name("a-very-long-nam", "/usr/bin/python3"), "a-very-long-nam");
  EXPECT_EQ(program_name("", ""), "");
}

// A file with the text, read through LineReader.
std::vector<std::string> lines_of(const std::string& text, std::string_view needle = {}) {
  const UniqueFd file(::memfd_create("lines", MFD_CLOEXEC));
  EXPECT_EQ(::write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  std::vector<std::string> lines;
  LineReader reader(AT_FDCWD, ("/proc/self/fd/" + std::to_string(file.get())).c_str());
  EXPECT_EQ(reader.error(), 0);
  reader.read([&](std::string_view line) { lines.emplace_back(line); }, needle);
  return lines;
}

TEST(LineReader, GivesLinesAndOnlyThoseWithTheNeedle) {
  EXPECT_EQ(lines_of("a\n\nbc\n"), (std::vector<std::string>{"a", "", "bc"}));
  EXPECT_EQ(lines_of("xa\nxb\nyb\nxc\nbx x\n", "x"),
            (std::vector<std::string>{"xa", "xb", "xc", "bx x"}));
}

TEST(LineReader, JoinsLinesAcrossReadsAndLeavesOutEndlessOnes) {
  std::vector<std::string> expected;
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    expected.push_back("line " + std::to_string(i) +
                       std::string(static_cast<std::size_t>(i) % 50, '.'));
    text += expected.back() + "\n";
    if (i == 2500) text += std::string(200000, 'z') + "\n";
  }
  EXPECT_EQ(lines_of(text), expected);
}

TEST(LineReader, ReportsWhatCouldNotBeOpened) {
  EXPECT_EQ(LineReader(AT_FDCWD, "/proc/self/no-such-file").error(), ENOENT);
}

TEST(Scan, FindsASegmentThatThisProcessMaps) {
  const UniqueFd memory(::memfd_create("tssx-segment", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memory.get(), 8192), 0);
  void* first = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  void* second = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  ASSERT_NE(first, MAP_FAILED);
  ASSERT_NE(second, MAP_FAILED);
  const UniqueFd proc(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto scan = scan_processes(proc.get());
  ASSERT_TRUE(scan);
  int found = 0;
  for (const FoundSegment& segment : scan->segments) {
    for (const Mapper& mapper : segment.mappers) found += mapper.pid == ::getpid() ? 1 : 0;
  }
  EXPECT_EQ(found, 1) << "mapped twice, listed once";
  const Scan own = scan_processes(proc.get(), std::array{::getpid()});
  ASSERT_EQ(own.segments.size(), 1U);
  ASSERT_EQ(own.segments[0].mappers.size(), 1U);
  EXPECT_EQ(own.segments[0].mappers[0].pid, ::getpid());
  EXPECT_TRUE(scan_processes(proc.get(), {}).segments.empty());
  ::munmap(first, 8192);
  ::munmap(second, 8192);
}

TEST(Scan, KnowsAFileThatIsMappedAlsoOnceItIsReplaced) {
  std::string path = ::testing::TempDir() + "tssx-scan-XXXXXX.so";
  const UniqueFd file(::mkstemps(path.data(), 3));
  ASSERT_TRUE(file);
  ASSERT_EQ(::ftruncate(file.get(), 4096), 0);
  void* mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const UniqueFd proc = open_proc();
  EXPECT_EQ(maps_file(proc.get(), ::getpid(), path), std::optional(true));
  ::unlink(path.c_str());
  EXPECT_EQ(maps_file(proc.get(), ::getpid(), path), std::optional(true));
  EXPECT_EQ(maps_file(proc.get(), ::getpid(), path + "x"), std::optional(false));
  EXPECT_EQ(maps_file(proc.get(), ::getpid(), path.substr(0, path.size() - 1)),
            std::optional(false));
  EXPECT_EQ(maps_file(proc.get(), 2147483647, path), std::nullopt);
  ::munmap(mapped, 4096);
}

}  // namespace
}  // namespace tssx::stat_tool
