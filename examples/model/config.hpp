/// \file
/// The configuration of a model file, checked: the `config` JSON in its metadata, keys as Hugging Face names them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <heed/types.hpp>
#include <nlohmann/json.hpp>

#include "readers/safetensors.hpp"

namespace heed_examples {

/// Says which file, and which key, tensor or number in it, is wrong.
class ModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Typed, range-checked access to the JSON. Every member throws ModelError.
class ConfigKeys {
 public:
  ConfigKeys(const Safetensors& file, std::string file_name) : file_(std::move(file_name)) {
    const auto found = file.metadata().find("config");
    if (found == file.metadata().end()) fail("has no 'config' in its metadata, so it is not a model file");
    try {
      json_ = parse_json(found->second, 16);
    } catch (const JsonError& error) {
      fail(std::string("has a 'config' in its metadata that ") + error.what());
    }
    if (!json_.is_object()) fail("has a 'config' in its metadata that is not a JSON object");
  }

  [[nodiscard]] heed::Index integer(const char* key, heed::Index least, heed::Index most) const {
    const nlohmann::json& value = at(key);
    const bool wraps = value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t(most);
    if (!value.is_number_integer() || wraps || value.get<heed::Index>() < least || value.get<heed::Index>() > most) {
      fail("config '" + std::string(key) + "' is " + value.dump() + ", must be an integer in " + std::to_string(least) +
           " .. " + std::to_string(most));
    }
    return value.get<heed::Index>();
  }

  [[nodiscard]] double positive(const char* key) const {
    const nlohmann::json& value = at(key);
    if (!value.is_number() || !(value.get<double>() > 0) || !std::isfinite(value.get<double>())) {
      fail("config '" + std::string(key) + "' is " + value.dump() + ", must be a positive number");
    }
    return value.get<double>();
  }

  [[nodiscard]] bool flag(const char* key) const {
    const nlohmann::json& value = at(key);
    if (!value.is_boolean()) fail("config '" + std::string(key) + "' is " + value.dump() + ", must be true or false");
    return value.get<bool>();
  }

  /// A list of integers.
  [[nodiscard]] std::vector<std::int32_t> integers(const char* key, heed::Index least, heed::Index most) const {
    const nlohmann::json& value = at(key);
    const bool good = value.is_array() && std::all_of(value.begin(), value.end(), [&](const nlohmann::json& number) {
                        return number.is_number_integer() && number >= least && number <= most;
                      });
    if (!good) {
      fail("config '" + std::string(key) + "' is " + value.dump() + ", must be a list of integers in " +
           std::to_string(least) + " .. " + std::to_string(most));
    }
    return value.get<std::vector<std::int32_t>>();
  }

  /// The keys of an object in the config; nothing if there is none of that name.
  [[nodiscard]] std::optional<ConfigKeys> object(const char* key) const {
    if (!json_.contains(key)) return {};
    ConfigKeys inner(*this);
    inner.json_ = at(key);
    if (!inner.json_.is_object())
      fail("config '" + std::string(key) + "' is " + at(key).dump() + ", must be an object");
    return inner;
  }

  [[nodiscard]] bool has(const char* key) const { return json_.contains(key); }

  [[nodiscard]] std::string text(const char* key) const {
    const nlohmann::json& value = at(key);
    if (!value.is_string()) fail("config '" + std::string(key) + "' is " + value.dump() + ", must be a string");
    return value.get<std::string>();
  }

  [[noreturn]] void fail(const std::string& what) const { throw ModelError(file_ + ": " + what); }

 private:
  [[nodiscard]] const nlohmann::json& at(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail("config has no '" + std::string(key) + "'");
    return *found;
  }

  std::string file_;
  nlohmann::json json_;
};

/// What all models share. A mechanism reads its own keys from `keys`.
struct ModelConfig {
  explicit ModelConfig(ConfigKeys checked)
      : keys(std::move(checked)),
        mechanism(keys.text("mechanism")),
        vocab_size(keys.integer("vocab_size", 256, 256)),  // a token is a byte
        hidden_size(keys.integer("hidden_size", 1, 1 << 16)),
        num_layers(keys.integer("num_hidden_layers", 1, 1 << 10)),
        intermediate_size(keys.integer("intermediate_size", 1, 1 << 18)),
        max_positions(keys.integer("max_position_embeddings", 1, 1 << 24)),
        rms_norm_eps(float(keys.positive("rms_norm_eps"))),
        tied_head(keys.flag("tie_word_embeddings")) {}

  ConfigKeys keys;
  std::string mechanism;
  heed::Index vocab_size;
  heed::Index hidden_size;
  heed::Index num_layers;
  heed::Index first_layer = 0;  ///< in the file: an MTP module is the layer after the last one
  heed::Index intermediate_size;
  heed::Index max_positions;
  float rms_norm_eps;
  bool tied_head;
};

/// What all mechanisms with attention share.
struct AttentionConfig : ModelConfig {
  explicit AttentionConfig(const ModelConfig& shared)
      : ModelConfig(shared),
        num_heads(keys.integer("num_attention_heads", 1, 1 << 10)),
        head_dim(keys.integer("head_dim", 1, 1 << 12)),
        rope_theta(keys.positive("rope_theta")),
        rope_layout(keys.text("rope_layout")) {
    if (rope_layout != "half" && rope_layout != "interleaved") {
      keys.fail("config 'rope_layout' is \"" + rope_layout + "\", must be \"half\" or \"interleaved\"");
    }
  }

  heed::Index num_heads;
  heed::Index head_dim;
  double rope_theta;
  std::string rope_layout;
};

}  // namespace heed_examples
