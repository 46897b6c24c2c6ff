/// \file
/// The multi-token prediction module of DeepSeek-V3 (arXiv 2412.19437): one decoder layer that guesses the token after the
/// next one. It shares embedding and head with the main model.
///
///     h' = eh_proj [RMSNorm(Emb(t_(i+1)); enorm) ; RMSNorm(h_i; hnorm)]       the embedding first
///     h'' = layer(h'),   a decoder layer with a cache of its own
///     logits of t_(i+2) = head(RMSNorm(h''; shared_head.norm))
///
/// Slot i pairs the main model's hidden h_i (after its last norm) with the token that follows, and has position i. A prompt
/// of n tokens fills slots 0 .. n - 2 from its own tokens, and slot n - 1 with the first token that was decoded. Further
/// drafts feed the module its own hidden, after shared_head.norm; when drafts were accepted their slots are written anew
/// from true hiddens.
#pragma once

#include <heed/layer/check.hpp>
#include <heed/layer/rms_norm.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI {

/// Hugging Face names without "model.layers.61." and ".weight". Shapes [out, in]; norms [1, width].
struct MtpTensors {
  Tensor enorm;             ///< [hidden_size]
  Tensor hnorm;             ///< [hidden_size]
  Tensor eh_proj;           ///< [hidden_size, 2 hidden_size]; the first columns meet the embedding
  Tensor shared_head_norm;  ///< [hidden_size]
};

/// What the checkpoint's config says of the module. `hidden_size` has no default.
struct MtpOptions {
  Index hidden_size = 0;
  double rms_norm_eps = 1e-6;
  /// vLLM takes the embedding of the slot at position 0 for zero; other engines do not.
  bool zero_first_embedding = false;
};

/// What the module has besides its decoder layer. Immutable: threads may share it.
class MtpModule {
 public:
  /// invalid_argument naming a tensor or option, or out_of_memory.
  [[nodiscard]] static Result<MtpModule> create(const MtpOptions& options, const MtpTensors& tensors) {
    const Index width = options.hidden_size;
    MtpModule made;
    Status s = detail::check_positive("hidden_size", width);
    const auto norm = [&](const char* name, const Tensor& tensor, RmsNorm& to) {
      if (s.ok()) s = detail::take(to, RmsNorm::create(name, tensor, width, options.rms_norm_eps));
    };
    norm("enorm", tensors.enorm, made.enorm_);
    norm("hnorm", tensors.hnorm, made.hnorm_);
    norm("shared_head.norm", tensors.shared_head_norm, made.head_norm_);
    if (s.ok()) s = detail::take(made.eh_proj_, Projection::create("eh_proj", tensors.eh_proj, width, 2 * width));
    if (!s.ok()) return s;
    made.zero_first_ = options.zero_first_embedding;
    return made;
  }

  [[nodiscard]] Index hidden_size() const noexcept { return eh_proj_.out(); }

  /// What enters the decoder layer: embeddings and hiddens [slots][hidden_size] at `positions` give x of the same shape.
  /// Rows have the same bits alone and together. invalid_argument naming a wrong size, or out_of_memory.
  template <SimdBackend Backend, Executor E>
  Status combine(std::span<const float> embeddings, std::span<const float> hiddens, std::span<const Index> positions,
                 std::span<float> x, Workspace& workspace, E& executor) const {
    const Index width = hidden_size(), slots = Index(positions.size());
    Status s = detail::first_failure({detail::check_rows("embeddings", embeddings.size(), slots, width),
                                      detail::check_rows("hiddens", hiddens.size(), slots, width),
                                      detail::check_rows("x", x.size(), slots, width)});
    if (s.ok()) s = workspace.reserve(std::uint64_t(slots * 2 * width) * sizeof(float));
    if (!s.ok()) return s;
    auto* const both = reinterpret_cast<float*>(workspace.data());
    enorm_.apply(slots, embeddings.data(), width, both, 2 * width);
    hnorm_.apply(slots, hiddens.data(), width, both + width, 2 * width);
    for (Index i = 0; zero_first_ && i < slots; ++i) {
      if (positions[std::size_t(i)] == 0) std::fill_n(both + i * 2 * width, width, 0.0f);
    }
    eh_proj_.apply<Backend>(slots, both, x.data(), executor);
    return {};
  }

  /// What leaves the layer [slots][hidden_size], normed for the head and for the next draft. May be in place.
  /// invalid_argument naming a wrong size.
  Status finish(std::span<const float> x, std::span<float> normed) const {
    const Index width = hidden_size(), slots = Index(x.size()) / width;
    if (Status s = detail::first_failure({detail::check_rows("x", x.size(), slots, width),
                                          detail::check_rows("normed", normed.size(), slots, width)});
        !s.ok()) {
      return s;
    }
    head_norm_.apply(slots, x.data(), width, normed.data(), width);
    return {};
  }

 private:
  MtpModule() = default;

  RmsNorm enorm_, hnorm_, head_norm_;
  Projection eh_proj_;
  bool zero_first_ = false;
};

}  // namespace heed::inline HEED_ABI
