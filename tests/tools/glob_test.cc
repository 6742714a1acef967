#include "tools/tssx-stat/glob.h"

#include <fnmatch.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace tssx::stat_tool {
namespace {

TEST(Glob, KnowsStarsQuestionsAndBrackets) {
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("/run/*", "/run/a/b"));
  EXPECT_TRUE(matches("/run/?.sock", "/run/x.sock"));
  EXPECT_TRUE(matches("/run/[xy].sock", "/run/y.sock"));
  EXPECT_FALSE(matches("/run/[!xy].sock", "/run/y.sock"));
  EXPECT_TRUE(matches("/run/[[:digit:]].sock", "/run/7.sock"));
  EXPECT_TRUE(matches("/srv/my\\ app", "/srv/my app"));
  EXPECT_FALSE(matches("/run/x", "/run/x.sock"));
  EXPECT_FALSE(matches("", "x"));
}

// fnmatch(3) is the library's own judge (shim/config.cc).
TEST(Glob, AgreesWithFnmatch) {
  std::mt19937 random(11);
  constexpr std::string_view kPattern = "ab*?[]!-\\/^";
  constexpr std::string_view kText = "ab-]/.!";
  int matched = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string pattern(random() % 9, 'a');
    std::string text(random() % 7, 'a');
    for (char& c : pattern) c = kPattern[random() % kPattern.size()];
    for (char& c : text) c = kText[random() % kText.size()];
    const bool expected = ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
    matched += expected ? 1 : 0;
    ASSERT_EQ(matches(pattern, text), expected) << "pattern " << pattern << " text " << text;
  }
  EXPECT_GT(matched, 1000);
}

TEST(Glob, TakesNoTimeOverManyStars) {
  std::string pattern;
  for (int i = 0; i < 60; ++i) pattern += "*a";
  EXPECT_FALSE(matches(pattern + "b", std::string(108, 'a')));
}

}  // namespace
}  // namespace tssx::stat_tool
