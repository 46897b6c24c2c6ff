/// \file
/// The multi-token prediction module of DeepSeek-V3 (arXiv 2412.19437): one decoder layer that guesses the token after
/// the next token. It shares embedding and head with the main model.
///
///     h' = eh_proj [RMSNorm(Emb(t_(i+1)); enorm) ; RMSNorm(h_i; hnorm)]       the embedding first
///     h'' = layer(h'),   a decoder layer with a cache of its own
///     logits of t_(i+2) = head(RMSNorm(h''; shared_head.norm))
///
/// Slot i of its cache pairs the main model's hidden h_i (after the model's last norm) with the token after it. Its
/// position is i. A prompt of n tokens fills slots 0 .. n - 2 with its own tokens, and slot n - 1 with the first
/// decoded token. For further drafts the module gets its own hidden, after shared_head.norm. Slots of accepted drafts
/// are then written again, with the main model's hiddens.
#pragma once

#include <heed/floats.hpp>
#include <heed/layer/check.hpp>
#include <heed/layer/rms_norm.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI {

/// The module's tensors; names are Hugging Face's without "model.layers.61." and ".weight". Shapes [out, in]; norms
/// [1, width].
struct MtpTensors {
  Tensor enorm;             ///< [hidden_size]
  Tensor hnorm;             ///< [hidden_size]
  Tensor eh_proj;           ///< [hidden_size, 2 hidden_size]; the first columns meet the embedding
  Tensor shared_head_norm;  ///< [hidden_size]
};

/// What the checkpoint's config says of the module.
struct MtpOptions {
  Index hidden_size = 0;       ///< must be set
  double rms_norm_eps = 1e-6;  ///< eps of the three norms
  /// true: the embedding of the slot at position 0 counts as zero, as in vLLM. Other engines use the embedding.
  bool zero_first_embedding = false;
  WeightType weights = WeightType::f32;  ///< how the projection is stored
};

/// The module without its decoder layer, which the caller supplies: combine(), the layer, finish(). Owns its weights.
/// Immutable: threads may share it. If it was moved from, its calls return wrong_state.
class MtpModule {
 public:
  /// invalid_argument naming a tensor or option, or out_of_memory.
  [[nodiscard]] static Result<MtpModule> create(const MtpOptions& options, const MtpTensors& tensors) {
    const Index width = options.hidden_size;
    MtpModule made;
    Status s = detail::check_width("hidden_size", width);
    const auto norm = [&](const char* name, const Tensor& tensor, RmsNorm& to) {
      if (s.ok()) s = detail::take(to, RmsNorm::create(name, tensor, width, options.rms_norm_eps));
    };
    norm("enorm", tensors.enorm, made.enorm_);
    norm("hnorm", tensors.hnorm, made.hnorm_);
    norm("shared_head.norm", tensors.shared_head_norm, made.head_norm_);
    if (s.ok())
      s = detail::take(made.eh_proj_,
                       Projection::create("eh_proj", tensors.eh_proj, width, 2 * width, options.weights));
    if (!s.ok()) return s;
    made.zero_first_ = options.zero_first_embedding;
    return made;
  }

  /// Width of an embedding, of a hidden and of x.
  [[nodiscard]] Index hidden_size() const noexcept { return eh_proj_.out(); }

  /// Computes what enters the decoder layer, x [slots][hidden_size] = h', from embeddings and hiddens
  /// [slots][hidden_size] of the slots at `positions`. A row has the same bits alone and among others. invalid_argument
  /// naming a wrong size, or out_of_memory; x is then unchanged.
  template <SimdBackend Backend, Executor E>
  Status combine(std::span<const float> embeddings, std::span<const float> hiddens, std::span<const Index> positions,
                 std::span<float> x, Workspace& workspace, E& executor) const {
    const Index width = hidden_size(), slots = Index(positions.size());
    Status s = detail::first_failure(
        {detail::check_made("MtpModule", width), detail::check_rows("embeddings", embeddings.size(), slots, width),
         detail::check_rows("hiddens", hiddens.size(), slots, width), detail::check_rows("x", x.size(), slots, width)});
    if (s.ok()) s = workspace.reserve(std::uint64_t(slots * 2 * width) * sizeof(float));
    if (!s.ok()) return s;
    auto* const both = reinterpret_cast<float*>(workspace.data());
    enorm_.apply(slots, embeddings.data(), width, both, 2 * width);
    hnorm_.apply(slots, hiddens.data(), width, both + width, 2 * width);
    for (Index i = 0; zero_first_ && i < slots; ++i) {
      if (positions[std::size_t(i)] == 0) detail::fill(both + i * 2 * width, both + i * 2 * width + width, 0.0f);
    }
    eh_proj_.apply<Backend>(slots, both, x.data(), executor);
    return {};
  }

  /// Normalises what leaves the layer, for the head and for the next draft: normed [slots][hidden_size] from x
  /// [slots][hidden_size]. They may be the same memory. invalid_argument naming a wrong size.
  Status finish(std::span<const float> x, std::span<float> normed) const {
    const Index width = hidden_size(), slots = width == 0 ? 0 : Index(x.size()) / width;
    if (Status s = detail::first_failure({detail::check_made("MtpModule", width),
                                          detail::check_rows("x", x.size(), slots, width),
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
