// What tssx-run makes of scripts, search paths and variables.
#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tools/tssx-run/environment.h"
#include "tools/tssx-run/script_line.h"
#include "tools/tssx-run/search.h"

namespace tssx::run_tool {
namespace {

// --- scripts, as load_script() of the kernel reads them -----------------------------------------

std::string interpreter_of(const std::string& start) {
  const auto line = parse_script_line(start);
  return line ? line->interpreter : "none";
}

TEST(ScriptLine, NamesTheInterpreter) {
  EXPECT_EQ(interpreter_of("#!/bin/sh\necho\n"), "/bin/sh");
  EXPECT_EQ(interpreter_of("#! \t /usr/bin/env python3 -u\n"), "/usr/bin/env");
  EXPECT_EQ(interpreter_of("#!/bin/sh\t-e\n"), "/bin/sh");
  EXPECT_EQ(interpreter_of("#!/bin/sh"), "/bin/sh");
  EXPECT_EQ(interpreter_of("#!relative\n"), "relative");
}

TEST(ScriptLine, EndsAtANul) {
  EXPECT_EQ(interpreter_of(std::string("#!/bin/sh\0/more\n", 16)), "/bin/sh");
}

TEST(ScriptLine, MayNameNone) {
  EXPECT_EQ(interpreter_of("#!"), "");
  EXPECT_EQ(interpreter_of("#!\n/bin/sh\n"), "");
  EXPECT_EQ(interpreter_of("#!  \t\n"), "");
}

TEST(ScriptLine, IsNotThere) {
  EXPECT_EQ(interpreter_of(""), "none");
  EXPECT_EQ(interpreter_of("#"), "none");
  EXPECT_EQ(interpreter_of(" #!/bin/sh\n"), "none");
  EXPECT_EQ(interpreter_of("echo\n"), "none");
}

TEST(ScriptLine, MustFitIntoWhatTheKernelLooksAt) {
  const auto of_length = [](std::size_t length) { return std::string(length, 'x'); };
  const std::size_t room = kScriptStart - 2;
  EXPECT_EQ(interpreter_of("#!" + of_length(room)), "");
  EXPECT_EQ(interpreter_of("#!" + of_length(room - 1) + " "), of_length(room - 1));
  EXPECT_EQ(interpreter_of("#!" + of_length(room - 1) + "\n"), of_length(room - 1));
  EXPECT_EQ(interpreter_of("#!" + of_length(room - 1)), of_length(room - 1));
}

// --- the search path, as execvp(3) walks it -----------------------------------------------------

class Search : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "tssx-search.XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    for (const char* folder : {"/a", "/b", "/b/tool"})
      std::filesystem::create_directory(root_ + folder);
    make("/a/data", 0644);
    make("/b/data", 0755);
    make("/a/plain", 0644);
    std::filesystem::create_directory(root_ + "/a/tool");
    make("/b/other", 0755);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void make(const std::string& path, mode_t mode) {
    std::ofstream(root_ + path) << "x";
    ASSERT_EQ(::chmod((root_ + path).c_str(), mode), 0);
  }
  Found find(const std::string& name) {
    return find_program(name, (root_ + "/none:" + root_ + "/a:" + root_ + "/b").c_str());
  }
  std::string root_;
};

TEST_F(Search, GoesOnBehindWhatCanNotBeExecuted) {
  EXPECT_EQ(find("data").path, root_ + "/b/data");
}

TEST_F(Search, TellsWhatWasFoundAndWhatWasNot) {
  EXPECT_EQ(find("plain").error, EACCES);
  EXPECT_EQ(find("nothing").error, ENOENT);
  EXPECT_EQ(find("tool").error, ENOENT);  // directories
  EXPECT_EQ(find("").error, ENOENT);
}

TEST_F(Search, TakesANameWithASlashAsItIs) {
  EXPECT_EQ(find(root_ + "/b/other").path, root_ + "/b/other");
  EXPECT_EQ(find(root_ + "/a/plain").error, EACCES);
  EXPECT_EQ(find(root_ + "/a").error, EISDIR);
  EXPECT_EQ(find(root_ + "/none").error, ENOENT);
}

TEST_F(Search, TakesAnEmptyPartForTheWorkingDirectory) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(root_ + "/b");
  EXPECT_EQ(find_program("other", "").path, "./other");
  EXPECT_EQ(find_program("other", ":/none").path, "./other");
  EXPECT_EQ(find_program("other", "/none:").path, "./other");
  std::filesystem::current_path(before);
  EXPECT_EQ(find_program("sh", nullptr).path, "/bin/sh");
}

// --- variables ----------------------------------------------------------------------------------

TEST(Preload, KeepsWhatIsThereInFront) {
  EXPECT_EQ(add_preload("", "/l.so"), "/l.so");
  EXPECT_EQ(add_preload("/other.so", "/l.so"), "/other.so:/l.so");
  EXPECT_EQ(add_preload("/a.so /b.so", "/l.so"), "/a.so /b.so:/l.so");
}

TEST(Preload, AddsNothingTwice) {
  EXPECT_EQ(add_preload("/l.so", "/l.so"), "/l.so");
  EXPECT_EQ(add_preload("/a.so:/l.so", "/l.so"), "/a.so:/l.so");
  EXPECT_EQ(add_preload("/l.so /a.so", "/l.so"), "/l.so /a.so");
  EXPECT_EQ(add_preload("/l.so.1:/x/l.so", "/l.so"), "/l.so.1:/x/l.so:/l.so");
}

// By the rules of USE_TSSX: a space ends a pattern, a backslash keeps it.
TEST(Patterns, KeepTheirSpaces) {
  EXPECT_EQ(list_patterns({"/a"}), "/a");
  EXPECT_EQ(list_patterns({"/a", "@b*"}), "/a @b*");
  EXPECT_EQ(list_patterns({"/my app", "/c"}), "/my\\ app /c");
  EXPECT_EQ(list_patterns({"/my\\ app", "/c"}), "/my\\ app /c");
  EXPECT_EQ(list_patterns({"/a\\*b"}), "/a\\*b");
  EXPECT_EQ(list_patterns({"/a\\\\ b"}), "/a\\\\\\ b");
  EXPECT_EQ(list_patterns({"/a\\", "/c"}), "/a\\\\ /c");
}

}  // namespace
}  // namespace tssx::run_tool
