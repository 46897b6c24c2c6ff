/// \file
/// The table of mechanisms. A new one is a header with its mixer or network, and a line here. Included only by the files
/// that CMakeLists.txt makes.
#pragma once

#include <array>
#include <memory>

#include "model/backend.hpp"
#include "model/codec_models.hpp"
#include "model/grouped_mixer.hpp"
#include "model/mfa_mixer.hpp"
#include "model/mla_mixer.hpp"
#include "model/mtp_drafter.hpp"

namespace heed_examples {

/// An MTP module with the mixer that Make makes: a MakeDrafter.
template <auto Make>
[[nodiscard]] std::unique_ptr<Drafter> make_drafter(const ModelConfig& config, TensorReader& tensors,
                                                    const Decoder& decoder, const ModelOptions& options) {
  const AttentionConfig layer(mtp_config(config));
  return std::make_unique<MtpDrafter>(layer, tensors, decoder, options,
                                      [&](TensorReader& reader) { return Make(layer, reader, options); });
}

/// A decoder with the mixer that Make makes, and the MTP module of its file.
template <auto Make>
[[nodiscard]] std::unique_ptr<Network> decoder(const ModelConfig& config, TensorReader& tensors,
                                               const ModelOptions& options) {
  const AttentionConfig attention(config);
  auto made = std::make_unique<Decoder>(config, tensors,
                                        [&](TensorReader& reader) { return Make(attention, reader, options); });
  if (config.keys.has("num_nextn_predict_layers")) {
    made->set_drafter(make_drafter<Make>(config, tensors, *made, options));
  }
  return made;
}

/// No attention, so no codec: the whole network is the backend's.
[[nodiscard]] inline std::unique_ptr<Network> make_matmulfree(const ModelConfig& config, TensorReader& tensors,
                                                              const ModelOptions& options) {
  return options.backend->make_matmulfree(config, tensors, options);
}

/// The layers of mha, trained with a retention rule that the config must have.
template <heed::Codec C>
[[nodiscard]] std::unique_ptr<Mixer> make_retained(const AttentionConfig& config, TensorReader& tensors,
                                                   const ModelOptions& options) {
  if (!config.keys.object("retention")) config.keys.fail("config has no 'retention'");
  return make_grouped<heed::Mha, C>(config, tensors, options);
}

template <heed::Codec C>
inline constexpr std::array mechanisms{
    Mechanism{"mha", decoder<make_grouped<heed::Mha, C>>},
    Mechanism{"gqa", decoder<make_grouped<heed::Gqa, C>>},
    Mechanism{"mqa", decoder<make_grouped<heed::Mqa, C>>},
    Mechanism{"mla", decoder<make_mla<C>>},
    Mechanism{"mfa", decoder<make_mfa<heed::Mfa, C>>},
    Mechanism{"mfa_kr", decoder<make_mfa<heed::MfaKr, C>>},
    Mechanism{"mha_ansan", decoder<make_retained<C>>},
    Mechanism{"mha_sepllm", decoder<make_retained<C>>},
    Mechanism{"deepseek", decoder<make_mla<C>>},
    Mechanism{"matmulfree", make_matmulfree},
};

template <heed::Codec C>
CodecModels codec_models() {
  return {.mechanisms = mechanisms<C>, .make_mla_drafter = make_drafter<make_mla<C>>};
}

}  // namespace heed_examples
