/// \file
/// The inner loops of the models as a value: models are compiled once, and run on any backend.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include <heed/codec/codecs.hpp>
#include <heed/heed.hpp>
#include <heed/layer/mtp.hpp>

#include "model/network.hpp"

namespace heed_examples {

/// heed::MtpModule::combine() on one backend.
using CombineMtp = heed::Status (*)(const heed::MtpModule& module, std::span<const float> embeddings,
                                    std::span<const float> hiddens, std::span<const heed::Index> positions,
                                    std::span<float> x, heed::Workspace& workspace, heed::ThreadPool& executor);

/// What models take from a backend of heed::Backends.
struct ModelBackend {
  const char* name;
  std::array<const heed::Kernel*, heed::Codecs::size> kernels;  ///< one for each codec, of keys and values alike
  CombineMtp combine;
  MakeNetwork make_matmulfree;
};

/// The attention kernel for keys and values stored by codec C.
template <heed::Codec C>
[[nodiscard]] const heed::Kernel& kernel_for(const ModelBackend& backend) {
  return **std::find_if(backend.kernels.begin(), backend.kernels.end(), [](const heed::Kernel* kernel) {
    return std::string_view(kernel->key_codec) == C::name;
  });
}

}  // namespace heed_examples
