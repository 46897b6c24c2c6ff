/// \file
/// The models by the codec of their caches, and by name. Each codec's are compiled in a file of its own.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <heed/codec/codecs.hpp>

#include "model/decoder.hpp"

namespace heed_examples {

/// What a config's `mechanism` means.
struct Mechanism {
  const char* name;
  MakeNetwork make;
};

/// Makes the MTP module that a config with num_nextn_predict_layers describes.
using MakeDrafter = std::unique_ptr<Drafter> (*)(const ModelConfig&, TensorReader&, const Decoder&,
                                                 const ModelOptions&);

/// The models whose caches store rows by one codec.
struct CodecModels {
  std::span<const Mechanism> mechanisms;  ///< the same names for every codec
  MakeDrafter make_mla_drafter;
};

/// Defined in model/mechanisms.hpp, which the file of the codec includes. CMakeLists.txt makes these files.
template <heed::Codec C>
[[nodiscard]] CodecModels codec_models();

/// The models of the codec of that name. Throws ModelError if there is none.
[[nodiscard]] inline CodecModels codec_models(const std::string& name) {
  CodecModels models;
  if (!heed::Codecs::with_name(name, [&]<class C>() { models = codec_models<C>(); })) {
    std::string known;
    for (const char* const one : heed::Codecs::names()) known += std::string(known.empty() ? "" : ", ") + one;
    throw ModelError("codec is '" + name + "', must be one of " + known);
  }
  return models;
}

/// Every mechanism.
[[nodiscard]] inline std::vector<std::string> mechanism_names() {
  std::vector<std::string> names;
  for (const Mechanism& mechanism : codec_models<heed::Codecs::First>().mechanisms) names.emplace_back(mechanism.name);
  return names;
}

/// The network of any mechanism: a MakeNetwork.
[[nodiscard]] inline std::unique_ptr<Network> make_network(const ModelConfig& config, TensorReader& tensors,
                                                           const ModelOptions& options) {
  std::string known;
  for (const Mechanism& mechanism : codec_models(options.codec).mechanisms) {
    if (config.mechanism == mechanism.name) return mechanism.make(config, tensors, options);
    known += std::string(known.empty() ? "" : ", ") + mechanism.name;
  }
  config.keys.fail("config 'mechanism' is \"" + config.mechanism + "\", known are " + known);
}

/// Gives `decoder`, an MLA model, the MTP module in the file `path`. Throws SafetensorsError, ModelError or heed::Error,
/// whose messages name the file.
inline void attach_mtp(Decoder& decoder, const std::filesystem::path& path, const ModelOptions& options) {
  const Safetensors file = Safetensors::open(path);
  const std::string name = path.filename().string();
  const ModelConfig config{ConfigKeys(file, name)};
  TensorReader tensors(file, name);
  if (config.mechanism != "mla_mtp" || decoder.config().mechanism != "mla") {
    config.keys.fail("is a \"" + config.mechanism + "\" for a \"" + decoder.config().mechanism +
                     "\", must be a \"mla_mtp\" for a \"mla\"");
  }
  if (config.hidden_size != decoder.config().hidden_size || config.num_layers != decoder.config().num_layers) {
    config.keys.fail("is made for " + std::to_string(config.num_layers) + " layers of " +
                     std::to_string(config.hidden_size) + ", the model has " +
                     std::to_string(decoder.config().num_layers) + " of " +
                     std::to_string(decoder.config().hidden_size));
  }
  try {
    decoder.set_drafter(codec_models(options.codec).make_mla_drafter(config, tensors, decoder, options));
  } catch (const heed::Error& error) {
    config.keys.fail(error.what());
  }
  tensors.finish();
}

}  // namespace heed_examples
