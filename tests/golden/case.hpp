/// \file
/// One case of a golden set: its configuration, its tensors, and a record of what was looked at. A handler must look at
/// everything that changes the maths; finish() fails a case whose options or weights nobody asked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "readers/safetensors.hpp"

namespace heed_golden {

using Int = std::int64_t;
using TensorShape = std::vector<Int>;

/// The case cannot be run as it asks to be; the message names the option or tensor.
class Unusable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The "config" object of a case. An option that is absent or null is off.
class Config {
 public:
  explicit Config(nlohmann::json json) : json_(std::move(json)) {}

  template <class T>
  [[nodiscard]] std::optional<T> maybe(const std::string& name) {
    used_.insert(name);
    const auto found = json_.find(name);
    if (found == json_.end() || found->is_null()) return std::nullopt;
    try {
      return found->get<T>();
    } catch (const nlohmann::json::exception&) {
      throw Unusable("config option '" + name + "' has the value " + found->dump() + ", which has the wrong type");
    }
  }
  template <class T>
  [[nodiscard]] T get(const std::string& name) {
    if (auto value = maybe<T>(name)) return *value;
    throw Unusable("config has no '" + name + "'");
  }
  template <class T>
  [[nodiscard]] T get_or(const std::string& name, T otherwise) {
    return maybe<T>(name).value_or(otherwise);
  }
  /// Fails unless the option is absent, null, or starts with `text`: for options of which one value is known.
  void expect(const std::string& name, const std::string& text) {
    const auto value = maybe<std::string>(name);
    if (value && !value->starts_with(text)) throw Unusable("config option '" + name + "' is unknown: " + *value);
  }
  /// For options that only repeat what the tensors' shapes say, or change nothing.
  void skip(const std::string& name) { used_.insert(name); }

  /// Fails if somebody set an option that the handler did not look at: it might change the maths.
  void finish() const {
    for (const auto& [name, value] : json_.items()) {
      if (!value.is_null() && !used_.contains(name)) {
        throw Unusable("config option '" + name + "' (" + value.dump() + ") is not known to this handler");
      }
    }
  }

 private:
  nlohmann::json json_;
  std::set<std::string> used_;
};

/// The reference numbers of one result, exact ones if the case has both.
struct Reference {
  std::string name;
  std::vector<double> numbers;
};

class Case {
 public:
  /// Opens the file of an entry of index.json and checks it against the entry.
  Case(const nlohmann::json& entry, const std::filesystem::path& folder)
      : config(entry.value("config", nlohmann::json::object())),
        tensors_(heed_examples::Safetensors::open(folder / entry.at("file").get<std::string>())) {
    const auto listed = entry.value("tensors", nlohmann::json::object());
    for (const auto& [name, description] : listed.items()) {
      if (description.at("shape").get<TensorShape>() != tensors_.info(name).shape) {
        throw Unusable("tensor '" + name + "' has another shape than the index says");
      }
    }
  }

  Config config;

  [[nodiscard]] bool has(const std::string& name) const { return tensors_.contains(name); }
  [[nodiscard]] TensorShape shape(const std::string& name) const { return tensors_.info(name).shape; }

  /// The numbers of a tensor that must have this shape; -1 is any extent.
  template <class T>
  [[nodiscard]] std::vector<T> get(const std::string& name, const TensorShape& wanted) {
    used_.insert(name);
    if (!has(name)) throw Unusable("there is no tensor '" + name + "'");
    const TensorShape& got = tensors_.info(name).shape;
    bool same = got.size() == wanted.size();
    for (std::size_t i = 0; same && i < got.size(); ++i) same = wanted[i] == -1 || wanted[i] == got[i];
    if (!same) throw Unusable("tensor '" + name + "' has shape " + text(got) + ", expected " + text(wanted));
    return tensors_.get<T>(name);
  }

  /// A result to compare with, if the case has it: `name`_f64 if there, else `name`.
  [[nodiscard]] std::optional<Reference> reference(const std::string& name, const TensorShape& wanted) {
    used_.insert({name, name + "_f64"});
    for (const std::string& candidate : {name + "_f64", name}) {
      if (has(candidate)) return Reference{candidate, get<double>(candidate, wanted)};
    }
    return std::nullopt;
  }

  /// Fails if an option was not looked at, or a tensor that sounds like an input; returns the names of other tensors
  /// nobody looked at.
  [[nodiscard]] std::vector<std::string> finish() const {
    config.finish();
    std::vector<std::string> others;
    for (const auto& [name, info] : tensors_.tensors()) {
      if (used_.contains(name)) continue;
      for (const char* part : {"weight", "bias", "mask", "norm", "slope", "sink_logits", "scale"}) {
        if (name.find(part) != std::string::npos) throw Unusable("tensor '" + name + "' is not known to this handler");
      }
      others.push_back(name);
    }
    return others;
  }

 private:
  [[nodiscard]] static std::string text(const TensorShape& shape) { return nlohmann::json(shape).dump(); }

  heed_examples::Safetensors tensors_;
  std::set<std::string> used_;
};

}  // namespace heed_golden
