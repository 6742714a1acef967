// What a worker process is to measure, as words on its command line: "pingpong size=64 wait=poll".
//
// Thread safety: immutable once made.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tssx::bench {

class Job {
 public:
  Job() = default;
  explicit Job(std::string kind) : kind_(std::move(kind)) {}

  Job& set(const std::string& name, std::string value) {
    values_[name] = std::move(value);
    return *this;
  }

  [[nodiscard]] const std::string& kind() const { return kind_; }
  // The value of that name; throws std::invalid_argument if there is none, or if it is no number.
  [[nodiscard]] const std::string& text(const std::string& name) const;
  [[nodiscard]] double number(const std::string& name) const;
  [[nodiscard]] std::size_t count(const std::string& name) const;

  [[nodiscard]] std::vector<std::string> words() const;
  static Job from_words(const std::vector<std::string>& words);

 private:
  std::string kind_;
  std::map<std::string, std::string> values_;
};

}  // namespace tssx::bench
