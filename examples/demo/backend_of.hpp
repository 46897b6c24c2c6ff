/// \file
/// Makes a ModelBackend. Included only by the files that CMakeLists.txt makes.
#pragma once

#include <memory>

#include <heed/compiled.hpp>

#include "demo/backends.hpp"
#include "model/matmulfree.hpp"

namespace heed_examples {

template <heed::SimdBackend B>
heed::Status combine_mtp(const heed::MtpModule& module, std::span<const float> embeddings,
                         std::span<const float> hiddens, std::span<const heed::Index> positions, std::span<float> x,
                         heed::Workspace& workspace, heed::ThreadPool& executor) {
  return module.combine<B>(embeddings, hiddens, positions, x, workspace, executor);
}

template <heed::TernaryBackend B>
std::unique_ptr<Network> make_matmulfree_on(const ModelConfig& config, TensorReader& tensors,
                                            const ModelOptions& options) {
  return std::make_unique<MatMulFree<B>>(config, tensors, options);
}

/// One kernel for each codec of a list.
template <class B, class... C>
std::array<const heed::Kernel*, sizeof...(C)> kernels_of(heed::List<C...> /*codecs*/) {
  return {&heed::kernel<B, C, C>()...};
}

template <class B>
ModelBackend model_backend() {
  return {.name = B::name,
          .kernels = kernels_of<B>(heed::Codecs()),
          .combine = combine_mtp<B>,
          .make_matmulfree = make_matmulfree_on<B>};
}

}  // namespace heed_examples
