/// \file
/// The table of mechanisms. A new one is a header with its mixer or network, and a line here.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "model/decoder.hpp"
#include "model/grouped_mixer.hpp"
#include "model/matmulfree.hpp"
#include "model/mfa_mixer.hpp"
#include "model/mla_mixer.hpp"

namespace heed_examples {

/// What a config's `mechanism` means.
struct Mechanism {
  const char* name;
  MakeNetwork make;
};

/// A decoder with the mixer that Make makes.
template <auto Make>
[[nodiscard]] std::unique_ptr<Network> decoder(const ModelConfig& config, TensorReader& tensors,
                                               const ModelOptions& options) {
  const AttentionConfig attention(config);
  return std::make_unique<Decoder>(config, tensors,
                                   [&](TensorReader& reader) { return Make(attention, reader, options); });
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
    Mechanism{"mha", decoder<make_grouped<heed::Mha, C, B>>},
    Mechanism{"gqa", decoder<make_grouped<heed::Gqa, C, B>>},
    Mechanism{"mqa", decoder<make_grouped<heed::Mqa, C, B>>},
    Mechanism{"mla", decoder<make_mla<C, B>>},
    Mechanism{"mfa", decoder<make_mfa<heed::Mfa, C, B>>},
    Mechanism{"mfa_kr", decoder<make_mfa<heed::MfaKr, C, B>>},
    Mechanism{"mha_ansan", decoder<make_retained<C, B>>},
    Mechanism{"mha_sepllm", decoder<make_retained<C, B>>},
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

/// The network of any mechanism on backend B: a MakeNetwork.
template <heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Network> make_network(const ModelConfig& config, TensorReader& tensors,
                                                    const ModelOptions& options) {
  if (options.codec == heed::F32::name) return detail::make_with<B, heed::F32>(config, tensors, options);
  if (options.codec == heed::Bf16::name) return detail::make_with<B, heed::Bf16>(config, tensors, options);
  if (options.codec == heed::F16::name) return detail::make_with<B, heed::F16>(config, tensors, options);
  throw ModelError("codec is '" + options.codec + "', must be f32, bf16 or f16");
}

}  // namespace heed_examples
