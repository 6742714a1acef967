#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "tools/tssx-stat/escape.h"
#include "tools/tssx-stat/render_json.h"
#include "tools/tssx-stat/render_text.h"

namespace tssx::stat_tool {
namespace {

constexpr EscapeStyle kUnicode{true, false};
constexpr EscapeStyle kAscii{false, false};

TEST(Escape, LeavesPrintableTextAlone) {
  EXPECT_EQ(escape("/run/my app.sock~", kUnicode), "/run/my app.sock~");
  EXPECT_EQ(escape("/run/\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", kUnicode),
            "/run/\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(escape("", kUnicode), "");
}

TEST(Escape, DisarmsControlCharacters) {
  EXPECT_EQ(escape("\x1b[2J\r\n\t\x7f", kUnicode), "\\x1b[2J\\x0d\\x0a\\x09\\x7f");
  EXPECT_EQ(escape(std::string_view("a\0b", 3), kUnicode), "a\\x00b");
  EXPECT_EQ(escape("\xc2\x9b", kUnicode), "\\xc2\\x9b") << "CSI as a C1 control";
  EXPECT_EQ(escape("\xe2\x80\xae", kUnicode), "\\xe2\\x80\\xae") << "right-to-left override";
  EXPECT_EQ(escape("\xe2\x80\xa8", kUnicode), "\\xe2\\x80\\xa8") << "line separator";
}

TEST(Escape, EscapesWhatIsNotUtf8) {
  EXPECT_EQ(escape("\x9b\xff", kUnicode), "\\x9b\\xff");
  EXPECT_EQ(escape("\xc3", kUnicode), "\\xc3") << "cut";
  EXPECT_EQ(escape("\xc0\xaf", kUnicode), "\\xc0\\xaf") << "overlong";
  EXPECT_EQ(escape("\xe0\x80\xaf", kUnicode), "\\xe0\\x80\\xaf") << "overlong";
  EXPECT_EQ(escape("\xed\xa0\x80", kUnicode), "\\xed\\xa0\\x80") << "surrogate";
  EXPECT_EQ(escape("\xf4\x90\x80\x80", kUnicode), "\\xf4\\x90\\x80\\x80") << "above U+10FFFF";
}

TEST(Escape, IsUnambiguousAndKnowsItsStyles) {
  EXPECT_EQ(escape("\\x1b", kUnicode), "\\\\x1b");
  EXPECT_EQ(escape("\xc3\xbc", kAscii), "\\xc3\\xbc");
  EXPECT_EQ(escape("tmux: server", {true, true}), "tmux:\\x20server");
}

TEST(Escape, LeavesNothingDangerousInRandomBytes) {
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    for (const char c : escape(bytes, kAscii)) {
      EXPECT_TRUE(c >= 0x20 && c < 0x7f) << static_cast<int>(c);
    }
    const std::string text = escape(bytes, kUnicode);
    EXPECT_EQ(escape(text, kUnicode).size(),
              text.size() + static_cast<std::size_t>(std::count(text.begin(), text.end(), '\\')))
        << "the result is valid and printable, so only backslashes change again";
  }
}

TEST(Escape, CountsCharactersForTheWidth) {
  EXPECT_EQ(width_of("abc"), 3U);
  EXPECT_EQ(width_of("\xc3\xbc\xe2\x82\xac"), 2U);
}

TEST(HumanUnits, AreShortAndNeverMisleading) {
  EXPECT_EQ(human_bytes(0), "0");
  EXPECT_EQ(human_bytes(1023), "1023");
  EXPECT_EQ(human_bytes(1024), "1.0K");
  EXPECT_EQ(human_bytes(10240), "10K");
  EXPECT_EQ(human_bytes(1048575), "1.0M");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16E");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1500), "1.5k");
  EXPECT_EQ(human_count(999'999), "1.0M");
  EXPECT_EQ(human_duration(7.9), "7s");
  EXPECT_EQ(human_duration(307), "5m07s");
  EXPECT_EQ(human_duration(7500), "2h05m");
  EXPECT_EQ(human_duration(3.2 * 86400), "3d04h");
  EXPECT_EQ(human_duration(-1), "0s");
  EXPECT_FALSE(human_duration(1e300).empty());
}

Connection example() {
  Connection connection;
  connection.id = {0, 1, 42};
  connection.path = "/run/x.sock";
  connection.state = State::ring;
  connection.parties[0] = {100, "server", "root", 1};
  connection.parties[1] = {200, "a client", "me", 2};
  connection.directions[0] = {1536, 3, 512, 1, 65536, DirectionMode::ring, false, false};
  connection.directions[1] = {10, 2, 0, 0, 65536, DirectionMode::moving, false, false};
  connection.age_seconds = 65.25;
  return connection;
}

TEST(Table, SaysWhenThereIsNothing) {
  EXPECT_EQ(render_table({}, {}), "no accelerated connections\n");
  EXPECT_EQ(render_remarks({}), "");
  EXPECT_EQ(render_remarks({{}, 1, 0}),
            "1 process could not be looked at (only their user or root may)\n");
}

TEST(Table, HasOneAlignedLinePerConnection) {
  Report report{{example(), example()}, 0, 0};
  report.connections[1].directions[0].bytes = 123456789;
  EXPECT_EQ(render_table(report, {}),
            "STATE     AGE  SERVER      CLIENT           HOLDERS  TO-CLIENT  MSGS  WAITING  BELLS"
            "  TO-SERVER  MSGS  WAITING  BELLS  PATH\n"
            "ring   65.250  100/server  200/a\\x20client  1+2           1536     3      512      1"
            "         10     2        0      0  /run/x.sock\n"
            "ring   65.250  100/server  200/a\\x20client  1+2      123456789     3      512      1"
            "         10     2        0      0  /run/x.sock\n");
  const std::string human = render_table(report, {true, true});
  EXPECT_NE(human.find("1m05s"), std::string::npos);
  EXPECT_NE(human.find("1.5K"), std::string::npos);
  EXPECT_NE(human.find("118M"), std::string::npos);
  EXPECT_NE(human.find("200/a client"), std::string::npos);
}

TEST(Table, HasNoRoomForTheEscapesOfOthers) {
  Report report{{example()}, 0, 0};
  report.connections[0].path = "/run/\x1b]0;owned\x07\n/fake";
  report.connections[0].parties[0].program = "\x1b[31m";
  const std::string text = render_table(report, {true, true});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(JsonReport, FollowsItsSchema) {
  const auto json = nlohmann::json::parse(render_json({{example()}, 3, 1}));
  EXPECT_EQ(json, nlohmann::json::parse(R"({
    "connections": [{
      "id": "00:01:42", "path": "/run/x.sock", "state": "ring",
      "server": {"pid": 100, "program": "server", "user": "root", "holders": 1},
      "client": {"pid": 200, "program": "a client", "user": "me", "holders": 2},
      "to_client": {"bytes": 1536, "messages": 3, "waiting": 512, "bells": 1,
                    "capacity": 65536, "mode": "ring"},
      "to_server": {"bytes": 10, "messages": 2, "waiting": 0, "bells": 0,
                    "capacity": 65536, "mode": "moving"},
      "age_seconds": 65.25}],
    "hidden_processes": 3, "unrecognized_segments": 1})"));
}

TEST(JsonReport, IsAnObjectWithAnEmptyListWhenThereIsNothing) {
  const auto json = nlohmann::json::parse(render_json({}));
  EXPECT_EQ(json["connections"], nlohmann::json::array());
  EXPECT_EQ(json["hidden_processes"], 0);
}

TEST(JsonReport, IsAsciiWhateverTheNamesAre) {
  Report report{{example()}, 0, 0};
  report.connections[0].path = std::string("@\0\x1b\xff\xc3\xbc\xc2\x9b", 8);
  report.connections[0].directions[0].bytes = UINT64_MAX;
  const std::string text = render_json(report);
  EXPECT_TRUE(std::all_of(text.begin(), text.end(),
                          [](char c) { return c == '\n' || (c >= 0x20 && c < 0x7f); }));
  const auto json = nlohmann::json::parse(text)["connections"][0];
  EXPECT_EQ(json["path"].get<std::string>(),
            std::string("@\0\x1b\xef\xbf\xbd\xc3\xbc\xc2\x9b", 10));
  EXPECT_EQ(json["to_client"]["bytes"], UINT64_MAX);
}

}  // namespace
}  // namespace tssx::stat_tool
