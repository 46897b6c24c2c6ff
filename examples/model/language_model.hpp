/// \file
/// A byte-level language model from its file.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "model/codec_models.hpp"

namespace heed_examples {

class LanguageModel {
 public:
  /// Reads a model file. Throws SafetensorsError, ModelError or heed::Error, whose messages name the file.
  [[nodiscard]] static LanguageModel open(const std::filesystem::path& path, const ModelOptions& options) {
    return LanguageModel(Safetensors::open(path), path.filename().string(), options);
  }

  /// The same from a file in memory; `name` is for messages.
  LanguageModel(const Safetensors& file, const std::string& name, const ModelOptions& options)
      : config_(ConfigKeys(file, name)) {
    TensorReader tensors(file, name);
    try {
      network_ = make_network(config_, tensors, options);
    } catch (const heed::Error& error) {  // knows its arguments, but not the file they came from
      config_.keys.fail(error.what());
    }
    tensors.finish();
    parameters_ = tensors.parameters();
    trained_bits_per_byte_ = trained_bits_per_byte(file);
  }

  /// Appends bytes to the text seen so far. Returns logits [bytes][256] for the byte after each of them; they live until
  /// the next call. Throws heed::Error beyond config().max_positions bytes, and has then seen nothing.
  const Matrix& forward(std::span<const std::uint8_t> bytes) {
    network_->forward(bytes, logits_);
    return logits_;
  }
  /// Forgets the text.
  void clear() { network_->clear(); }

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] Network& network() { return *network_; }
  [[nodiscard]] const SequenceMemory& memory() const { return network_->memory(); }
  [[nodiscard]] heed::Index parameters() const { return parameters_; }
  /// What the trainer measured on the held-out text, if the file says so.
  [[nodiscard]] std::optional<double> trained_bits_per_byte() const { return trained_bits_per_byte_; }

 private:
  [[nodiscard]] static std::optional<double> trained_bits_per_byte(const Safetensors& file) {
    const auto found = file.metadata().find("training");
    if (found == file.metadata().end()) return {};
    try {
      const nlohmann::json json = parse_json(found->second, 16);
      const auto value = json.is_object() ? json.find("heldout_bits_per_byte") : json.end();
      if (value == json.end() || !value->is_number()) return {};
      return value->get<double>();
    } catch (const JsonError&) {
      return {};
    }
  }

  ModelConfig config_;
  std::unique_ptr<Network> network_;
  heed::Index parameters_ = 0;
  std::optional<double> trained_bits_per_byte_;
  Matrix logits_;
};

}  // namespace heed_examples
