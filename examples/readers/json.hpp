/// \file
/// JSON from files that nobody trusts.
#pragma once

#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace heed_examples {

/// Says what is wrong with the text, as the end of a sentence: "is not JSON: ...".
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr std::size_t max_json_name_bytes = 1 << 20;

/// The value of `text`, at most `max_depth` objects and lists deep: nlohmann reads any depth, but destroys, prints and
/// compares values recursively. It also keeps the last of two equal keys, skips a byte order mark and takes a NUL for the
/// end of the text; here all three are errors. Throws JsonError.
[[nodiscard]] inline nlohmann::json parse_json(std::string_view text, int max_depth) {
  using Json = nlohmann::json;
  if (text.starts_with("\xEF\xBB\xBF")) throw JsonError("begins with a byte order mark");
  if (const std::size_t at = text.find('\0'); at != text.npos) {
    throw JsonError("has a NUL at byte " + std::to_string(at));
  }
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > max_depth) throw JsonError("is nested deeper than " + std::to_string(max_depth));
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (key.size() > max_json_name_bytes) throw JsonError("has a name of " + std::to_string(key.size()) + " bytes");
      if (!keys.back().insert(key).second) throw JsonError("has the key '" + key + "' twice");
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::exception& error) {
    throw JsonError(std::string("is not JSON: ") + error.what());
  }
}

}  // namespace heed_examples
