/// \file
/// The table of mechanisms. A new one is a header with its mixer, and a line here.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "model/grouped_mixer.hpp"
#include "model/mfa_mixer.hpp"
#include "model/mla_mixer.hpp"

namespace heed_examples {

/// Makes the mixer of a model: takes its tensors from the reader, may throw ModelError or heed::Error.
using MakeMixer = std::unique_ptr<Mixer> (*)(const ModelConfig&, TensorReader&, const MixerOptions&);

/// What a config's `mechanism` means.
struct Mechanism {
  const char* name;
  MakeMixer make;
};

/// The layers of mha, trained with a retention rule that the config must have.
template <heed::Codec C, heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Mixer> make_retained(const ModelConfig& config, TensorReader& tensors,
                                                   const MixerOptions& options) {
  if (!config.keys.object("retention")) config.keys.fail("config has no 'retention'");
  return make_grouped<heed::Mha, C, B>(config, tensors, options);
}

template <heed::Codec C, heed::SimdBackend B>
inline constexpr std::array mechanisms{
    Mechanism{"mha", make_grouped<heed::Mha, C, B>}, Mechanism{"gqa", make_grouped<heed::Gqa, C, B>},
    Mechanism{"mqa", make_grouped<heed::Mqa, C, B>}, Mechanism{"mla", make_mla<C, B>},
    Mechanism{"mfa", make_mfa<heed::Mfa, C, B>},     Mechanism{"mfa_kr", make_mfa<heed::MfaKr, C, B>},
    Mechanism{"mha_ansan", make_retained<C, B>},     Mechanism{"mha_sepllm", make_retained<C, B>},
};

namespace detail {

template <heed::SimdBackend B, heed::Codec C>
[[nodiscard]] std::unique_ptr<Mixer> make_with(const ModelConfig& config, TensorReader& tensors,
                                               const MixerOptions& options) {
  std::string known;
  for (const Mechanism& mechanism : mechanisms<C, B>) {
    if (config.mechanism == mechanism.name) return mechanism.make(config, tensors, options);
    known += std::string(known.empty() ? "" : ", ") + mechanism.name;
  }
  config.keys.fail("config 'mechanism' is \"" + config.mechanism + "\", known are " + known);
}

}  // namespace detail

/// The mixer of any mechanism on backend B: a MakeMixer.
template <heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Mixer> make_mixer(const ModelConfig& config, TensorReader& tensors,
                                                const MixerOptions& options) {
  if (options.codec == heed::F32::name) return detail::make_with<B, heed::F32>(config, tensors, options);
  if (options.codec == heed::Bf16::name) return detail::make_with<B, heed::Bf16>(config, tensors, options);
  if (options.codec == heed::F16::name) return detail::make_with<B, heed::F16>(config, tensors, options);
  throw ModelError("codec is '" + options.codec + "', must be f32, bf16 or f16");
}

}  // namespace heed_examples
