/// \file
/// The table of mechanisms. A new one is a header with its mixer or network, and a line here.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <heed/codec/codecs.hpp>

#include "model/decoder.hpp"
#include "model/grouped_mixer.hpp"
#include "model/matmulfree.hpp"
#include "model/mfa_mixer.hpp"
#include "model/mla_mixer.hpp"
#include "model/mtp_drafter.hpp"

namespace heed_examples {

/// What a config's `mechanism` means.
struct Mechanism {
  const char* name;
  MakeNetwork make;
};

/// The MTP module that a config with num_nextn_predict_layers describes, with the mixer that Make makes.
template <auto Make, heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Drafter> make_drafter(const ModelConfig& config, TensorReader& tensors,
                                                    const Decoder& decoder, const ModelOptions& options) {
  const AttentionConfig layer(mtp_config(config));
  return std::make_unique<MtpDrafter<B>>(layer, tensors, decoder, *options.executor,
                                         [&](TensorReader& reader) { return Make(layer, reader, options); });
}

/// A decoder with the mixer that Make makes, and the MTP module of its file.
template <auto Make, heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Network> decoder(const ModelConfig& config, TensorReader& tensors,
                                               const ModelOptions& options) {
  const AttentionConfig attention(config);
  auto made = std::make_unique<Decoder>(config, tensors,
                                        [&](TensorReader& reader) { return Make(attention, reader, options); });
  if (config.keys.has("num_nextn_predict_layers")) {
    made->set_drafter(make_drafter<Make, B>(config, tensors, *made, options));
  }
  return made;
}

template <heed::TernaryBackend B>
[[nodiscard]] std::unique_ptr<Network> make_matmulfree(const ModelConfig& config, TensorReader& tensors,
                                                       const ModelOptions& options) {
  return std::make_unique<MatMulFree<B>>(config, tensors, options);
}

/// The layers of mha, trained with a retention rule that the config must have.
template <heed::Codec C, heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Mixer> make_retained(const AttentionConfig& config, TensorReader& tensors,
                                                   const ModelOptions& options) {
  if (!config.keys.object("retention")) config.keys.fail("config has no 'retention'");
  return make_grouped<heed::Mha, C, B>(config, tensors, options);
}

template <heed::Codec C, heed::SimdBackend B>
inline constexpr std::array mechanisms{
    Mechanism{"mha", decoder<make_grouped<heed::Mha, C, B>, B>},
    Mechanism{"gqa", decoder<make_grouped<heed::Gqa, C, B>, B>},
    Mechanism{"mqa", decoder<make_grouped<heed::Mqa, C, B>, B>},
    Mechanism{"mla", decoder<make_mla<C, B>, B>},
    Mechanism{"mfa", decoder<make_mfa<heed::Mfa, C, B>, B>},
    Mechanism{"mfa_kr", decoder<make_mfa<heed::MfaKr, C, B>, B>},
    Mechanism{"mha_ansan", decoder<make_retained<C, B>, B>},
    Mechanism{"mha_sepllm", decoder<make_retained<C, B>, B>},
    Mechanism{"deepseek", decoder<make_mla<C, B>, B>},
    Mechanism{"matmulfree", make_matmulfree<B>},
};

namespace detail {

template <heed::SimdBackend B, heed::Codec C>
[[nodiscard]] std::unique_ptr<Network> make_with(const ModelConfig& config, TensorReader& tensors,
                                                 const ModelOptions& options) {
  std::string known;
  for (const Mechanism& mechanism : mechanisms<C, B>) {
    if (config.mechanism == mechanism.name) return mechanism.make(config, tensors, options);
    known += std::string(known.empty() ? "" : ", ") + mechanism.name;
  }
  config.keys.fail("config 'mechanism' is \"" + config.mechanism + "\", known are " + known);
}

}  // namespace detail

/// Calls f.template operator()<C>() with the codec of that name.
template <class F>
auto with_codec(const std::string& name, const F& f) {
  std::optional<decltype(f.template operator()<heed::Codecs::First>())> made;
  if (!heed::Codecs::with_name(name, [&]<class C>() { made = f.template operator()<C>(); })) {
    std::string known;
    for (const char* const one : heed::Codecs::names()) known += std::string(known.empty() ? "" : ", ") + one;
    throw ModelError("codec is '" + name + "', must be one of " + known);
  }
  return *std::move(made);
}

/// The network of any mechanism on backend B: a MakeNetwork.
template <heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Network> make_network(const ModelConfig& config, TensorReader& tensors,
                                                    const ModelOptions& options) {
  return with_codec(options.codec, [&]<heed::Codec C>() { return detail::make_with<B, C>(config, tensors, options); });
}

/// Gives `decoder`, an MLA model, the MTP module in the file `path`: an AttachMtp. Throws SafetensorsError, ModelError or
/// heed::Error, whose messages name the file.
template <heed::SimdBackend B>
void attach_mtp(Decoder& decoder, const std::filesystem::path& path, const ModelOptions& options) {
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
    decoder.set_drafter(with_codec(options.codec, [&]<heed::Codec C>() {
      return make_drafter<make_mla<C, B>, B>(config, tensors, decoder, options);
    }));
  } catch (const heed::Error& error) {
    config.keys.fail(error.what());
  }
  tensors.finish();
}

}  // namespace heed_examples
