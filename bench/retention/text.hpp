/// \file
/// Real text as token ids: words and punctuation, so that separators come where writers put them.
#pragma once

#include <cctype>
#include <cstdint>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <heed/retention/token_set.hpp>

namespace bench {

/// The tokens of a text, over and over again.
class TextTokens {
 public:
  explicit TextTokens(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open " + path);
    std::map<std::string, std::int32_t> known;
    std::string word;
    const auto add = [&](const std::string& token) {
      ids_.push_back(known.emplace(token, std::int32_t(known.size())).first->second);
    };
    const auto flush = [&] {
      if (!word.empty()) add(word);
      word.clear();
    };
    for (char c = 0; file.get(c);) {
      if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
        word += c;
        continue;
      }
      flush();
      if (c != ' ') add(std::string(1, c));
    }
    flush();
    if (ids_.empty()) throw std::runtime_error(path + " has no words");
    std::vector<std::int32_t> separators;
    for (const char* token : {".", ",", ";", ":", "?", "!", "\n"}) {
      if (const auto found = known.find(token); found != known.end()) separators.push_back(found->second);
    }
    separators_ = heed::TokenSet(separators);
  }

  [[nodiscard]] std::size_t size() const { return ids_.size(); }
  [[nodiscard]] std::int32_t operator[](heed::Index i) const { return ids_[std::size_t(i) % ids_.size()]; }
  [[nodiscard]] const heed::TokenSet& separators() const { return separators_; }
  /// Tokens per separator.
  [[nodiscard]] double distance() const {
    std::size_t count = 0;
    for (const std::int32_t id : ids_) count += separators_.contains(id);
    return double(ids_.size()) / double(count);
  }

 private:
  std::vector<std::int32_t> ids_;
  heed::TokenSet separators_;
};

}  // namespace bench
