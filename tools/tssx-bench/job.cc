#include "tools/tssx-bench/job.h"

#include <stdexcept>

namespace tssx::bench {

const std::string& Job::text(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) throw std::invalid_argument(kind_ + " without " + name);
  return found->second;
}

double Job::number(const std::string& name) const {
  const std::string& value = text(name);
  std::size_t used = 0;
  const double result = std::stod(value, &used);
  if (used != value.size()) throw std::invalid_argument(name + "=" + value);
  return result;
}

std::size_t Job::count(const std::string& name) const {
  const std::string& value = text(name);
  std::size_t used = 0;
  const unsigned long result = std::stoul(value, &used);
  if (used != value.size()) throw std::invalid_argument(name + "=" + value);
  return result;
}

std::vector<std::string> Job::words() const {
  std::vector<std::string> result{kind_};
  for (const auto& [name, value] : values_) result.push_back(name + "=" + value);
  return result;
}

Job Job::from_words(const std::vector<std::string>& words) {
  if (words.empty()) throw std::invalid_argument("no job");
  Job job(words.front());
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::size_t equals = words[i].find('=');
    if (equals == std::string::npos) throw std::invalid_argument(words[i]);
    job.set(words[i].substr(0, equals), words[i].substr(equals + 1));
  }
  return job;
}

}  // namespace tssx::bench
