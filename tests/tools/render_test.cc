#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tools/tssx-stat/escape.h"
#include "tools/tssx-stat/render_json.h"
#include "tools/tssx-stat/render_prometheus.h"
#include "tools/tssx-stat/render_show.h"
#include "tools/tssx-stat/render_summary.h"
#include "tools/tssx-stat/render_text.h"
#include "tools/tssx-stat/sort.h"

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
  connection.directions[0].bytes = 1536;
  connection.directions[0].messages = 3;
  connection.directions[0].reads = 2;
  connection.directions[0].data_sleeps = 5;
  connection.directions[0].space_sleeps = 6;
  connection.directions[0].waiting = 512;
  connection.directions[0].bells = 1;
  connection.directions[0].capacity = 65536;
  connection.directions[0].mode = DirectionMode::ring;
  connection.directions[1].bytes = 10;
  connection.directions[1].messages = 2;
  connection.directions[1].capacity = 65536;
  connection.directions[1].mode = DirectionMode::moving;
  connection.rates[0] = Rate{2048.4, 16.5};
  connection.age_seconds = 65.25;
  return connection;
}

TEST(Table, SaysWhenThereIsNothing) {
  EXPECT_EQ(render_table({}, {}), "no accelerated connections\n");
  EXPECT_EQ(render_remarks({}), "");
  EXPECT_EQ(render_remarks({{}, 1, 0, {}, 0}),
            "1 process could not be looked at (only their user or root may)\n");
}

TEST(Table, HasOneAlignedLinePerConnection) {
  Report report{{example(), example()}, 0, 0, {}, 0};
  report.connections[1].directions[0].bytes = 123456789;
  EXPECT_EQ(
      render_table(report, {}),
      "ID  STATE     AGE  SERVER      CLIENT           USERS    IDS  HOLDERS  TO-CLIENT  MSGS   B/S"
      "  MSG/S  WAITING  BELLS  TO-SERVER  MSGS  B/S  MSG/S  WAITING  BELLS  CAPACITY  PATH\n"
      "42  ring   65.250  100/server  200/a\\x20client  root,me  -    1+2           1536     3  "
      "2048"
      "     17      512      1         10     2    -      -        0      0     65536  "
      "/run/x.sock\n"
      "42  ring   65.250  100/server  200/a\\x20client  root,me  -    1+2      123456789     3  "
      "2048"
      "     17      512      1         10     2    -      -        0      0     65536  "
      "/run/x.sock\n");
  const std::string human = render_table(report, {true, true});
  EXPECT_NE(human.find("1m05s"), std::string::npos);
  EXPECT_NE(human.find("1.5K"), std::string::npos);
  EXPECT_NE(human.find("118M"), std::string::npos);
  EXPECT_NE(human.find("200/a client"), std::string::npos);
}

TEST(Table, HasNoRoomForTheEscapesOfOthers) {
  Report report{{example()}, 0, 0, {}, 0};
  report.connections[0].path = "/run/\x1b]0;owned\x07\n/fake";
  report.connections[0].parties[0].program = "\x1b[31m";
  const std::string text = render_table(report, {true, true});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(Table, GivesWayToANarrowTerminal) {
  Report report{{example()}, 0, 0, {}, 0};
  const auto lines = table_lines(report, {true, true, false, 60, true});
  ASSERT_EQ(lines.size(), 2U);
  for (const std::string& line : lines) EXPECT_LE(width_of(line), 60U) << line;
  EXPECT_NE(lines[0].find("STATE"), std::string::npos);
  EXPECT_NE(lines[0].find("PATH"), std::string::npos);
  EXPECT_EQ(lines[0].find("BELLS"), std::string::npos);
  report.connections[0].path = std::string(200, 'x');
  EXPECT_EQ(width_of(table_lines(report, {true, true, false, 60, true})[1]), 60U);
  EXPECT_GT(width_of(table_lines(report, {true, true, false, 60, false})[1]), 60U);
}

TEST(Table, ColoursStatesOnlyWhereItMay) {
  const Report report{{example()}, 0, 0, {}, 0};
  EXPECT_EQ(render_table(report, {true, true, false, 0, false}).find('\x1b'), std::string::npos);
  EXPECT_NE(render_table(report, {true, true, true, 0, false}).find("\x1b[32mring\x1b[0m  "),
            std::string::npos);
}

EndSnapshot example_end() {
  EndSnapshot end;
  end.reason = Reason::no_segment;
  end.detail = 24;
  end.negative = true;
  end.asides = 3;
  end.receiving = {1, 2, 3};
  end.sent_sizes[0] = 7;
  end.sent_sizes[kSizeBuckets - 1] = 9;
  return end;
}

TEST(JsonReport, TellsWhatAnEndCounts) {
  Report report{{example()}, 0, 0, {}, 0};
  report.connections[0].ends[0] = example_end();
  const auto json = nlohmann::json::parse(render_json(report))["connections"][0];
  EXPECT_EQ(json["descriptors"], "negative");
  const auto& end = json["server"]["end"];
  EXPECT_EQ(end["reason"], "no-segment");
  EXPECT_EQ(end["errno"], 24);
  EXPECT_EQ(end["asides"], 3);
  EXPECT_EQ(end["reading"], nlohmann::json::parse(R"({"spun": 1, "yielded": 2, "slept": 3})"));
  EXPECT_EQ(end["sent_sizes"].size(), kSizeBuckets);
  EXPECT_EQ(end["sent_sizes"][0], nlohmann::json::parse(R"({"below": 16, "messages": 7})"));
  EXPECT_EQ(end["sent_sizes"][15], nlohmann::json::parse(R"({"below": null, "messages": 9})"));
  EXPECT_EQ(end["sent_sizes"][14]["below"], 256 << 10);
}

TEST(JsonReport, ListsTheEndsInTheKernel) {
  Report report;
  report.kernel_ends.push_back({{100, "server", "root", 0}, {100, 101}, example_end(), 2.5});
  const auto json = nlohmann::json::parse(render_json(report))["kernel_ends"];
  ASSERT_EQ(json.size(), 1U);
  EXPECT_EQ(json[0]["pid"], 100);
  EXPECT_EQ(json[0]["role"], "server");
  EXPECT_EQ(json[0]["end"]["reason"], "no-segment");
}

TEST(Summary, AddsUpAndDoesNotOverflow) {
  Report report{{example(), example()}, 0, 0, {}, 0};
  report.connections[1].directions[0].bytes = UINT64_MAX;
  report.connections[1].state = State::kernel;
  const Totals totals = totals_of(report);
  EXPECT_EQ(totals.bytes, UINT64_MAX);
  EXPECT_EQ(totals.messages, 10U);
  EXPECT_EQ(totals.ring, 1U);
  EXPECT_DOUBLE_EQ(totals.bytes_per_second, 2 * 2048.4);
  const std::string text = render_summary(report, {});
  EXPECT_NE(text.find("connections    2 (1 ring, 1 kernel)\n"), std::string::npos) << text;
  report.kernel_ends.push_back({{}, {}, example_end(), 0});
  report.kernel_ends.back().end.stage = EndSnapshot::Stage::retired;
  EXPECT_NE(render_summary(report, {}).find("kernel ends    1 retired: no-segment\n"),
            std::string::npos);
}

TEST(Prometheus, EscapesLabels) {
  EXPECT_EQ(label_value("plain"), "plain");
  EXPECT_EQ(label_value("a\"b"), "a\\\"b");
  EXPECT_EQ(label_value("a\nb"), "a\\\\x0ab");
  EXPECT_EQ(label_value("\xff"), "\\\\xff");
}

TEST(Prometheus, HasOneSampleForEachDirection) {
  Report report{{example()}, 3, 0, {}, 0};
  const std::string text = render_prometheus(report);
  EXPECT_NE(text.find("# TYPE tssx_connection_bytes_total counter\n"
                      "tssx_connection_bytes_total{id=\"00:01:42\",path=\"/run/x.sock\","
                      "direction=\"to_client\"} 1536\n"
                      "tssx_connection_bytes_total{id=\"00:01:42\",path=\"/run/x.sock\","
                      "direction=\"to_server\"} 10\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("tssx_connections{state=\"ring\"} 1\n"), std::string::npos);
  EXPECT_NE(text.find("tssx_connections{state=\"damaged\"} 0\n"), std::string::npos);
  EXPECT_NE(text.find("\ntssx_hidden_processes 3\n"), std::string::npos);
}

TEST(Show, FindsAConnectionByEitherFormOfItsId) {
  const Report report{{example()}, 0, 0, {}, 0};
  EXPECT_EQ(find_connection(report, "42"), &report.connections[0]);
  EXPECT_EQ(find_connection(report, "00:01:42"), &report.connections[0]);
  EXPECT_EQ(find_connection(report, "4"), nullptr);
  EXPECT_EQ(find_connection(report, ""), nullptr);
}

TEST(Show, TellsHowWaitsEndedAndSizes) {
  Connection connection = example();
  connection.ends[0] = example_end();
  connection.directions[1].reads = 10;
  const std::string text = render_show(connection, {});
  EXPECT_NE(text.find("  reads: at once        4 (40.0%)\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  reads: slept          3 (30.0%)\n"), std::string::npos);
  EXPECT_NE(text.find("  size: below 16                   7"), std::string::npos);
  EXPECT_NE(text.find("  size: from 256K                  9"), std::string::npos);
  EXPECT_NE(text.find("no-segment: the shared memory could not be created or mapped (Too many open "
                      "files)"),
            std::string::npos);
  EXPECT_NE(text.find("not known: the process could not be looked at"), std::string::npos);
}

TEST(Order, BeginsWithTheLargest) {
  std::vector<Connection> all(3, example());
  all[0].id.inode = 1;
  all[1].id.inode = 2;
  all[2].id.inode = 3;
  all[1].directions[1].bytes = 1'000'000;
  all[2].age_seconds = 1000;
  all[0].parties[0].pid = 7;
  all[2].rates[0]->bytes = 1e9;
  const auto first = [&all](SortKey key) {
    sort_connections(all, key);
    return all[0].id.inode;
  };
  EXPECT_EQ(first(SortKey::bytes), 2U);
  EXPECT_EQ(first(SortKey::age), 3U);
  EXPECT_EQ(first(SortKey::rate), 3U);
  EXPECT_EQ(first(SortKey::pid), 1U);
  EXPECT_EQ(first(SortKey::path), 3U) << "equal paths: the oldest first";
}

TEST(JsonReport, FollowsItsSchema) {
  const auto json = nlohmann::json::parse(render_json({{example()}, 3, 1, {}, 0}));
  EXPECT_EQ(json, nlohmann::json::parse(R"({
    "connections": [{
      "id": "00:01:42", "path": "/run/x.sock", "state": "ring",
      "server": {"pid": 100, "program": "server", "user": "root", "holders": 1, "end": null},
      "client": {"pid": 200, "program": "a client", "user": "me", "holders": 2, "end": null},
      "to_client": {"bytes": 1536, "messages": 3, "reads": 2, "waiting": 512, "bells": 1,
                    "data_sleeps": 5, "space_sleeps": 6, "capacity": 65536,
                    "bytes_per_second": 2048.4, "messages_per_second": 16.5, "mode": "ring"},
      "to_server": {"bytes": 10, "messages": 2, "reads": 0, "waiting": 0, "bells": 0,
                    "data_sleeps": 0, "space_sleeps": 0, "capacity": 65536,
                    "bytes_per_second": null, "messages_per_second": null, "mode": "moving"},
      "descriptors": "unknown", "age_seconds": 65.25}],
    "schema": 1, "kernel_ends": [],
    "hidden_processes": 3, "unrecognized_segments": 1, "other_versions": 0})"));
}

TEST(JsonReport, IsAnObjectWithAnEmptyListWhenThereIsNothing) {
  const auto json = nlohmann::json::parse(render_json({}));
  EXPECT_EQ(json["connections"], nlohmann::json::array());
  EXPECT_EQ(json["hidden_processes"], 0);
}

TEST(JsonReport, IsAsciiWhateverTheNamesAre) {
  Report report{{example()}, 0, 0, {}, 0};
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
