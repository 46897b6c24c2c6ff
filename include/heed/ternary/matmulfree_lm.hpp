/// \file
/// The MatMul-free language model (arXiv 2406.02528; ridgerchu/matmulfreellm): embedding, blocks of MLGRU and GLU,
/// ternary head. Every matrix product is ternary, and no memory grows with the text.
///
///     x = embedding[id]
///     x <- x + MLGRU(RMSNorm(x; attn_norm)),  x <- x + GLU(RMSNorm(x; mlp_norm))       for each layer
///     logits = BitLinear_head(RMSNorm(x; norm))
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <heed/codec/bf16.hpp>
#include <heed/ternary/glu.hpp>
#include <heed/ternary/mlgru.hpp>

namespace heed::inline HEED_ABI {

/// Sizes and options of a model; names are those of its config.json. heed supports num_heads 1, expand_ratio 1 and
/// use_short_conv false, which all released models have.
struct MatMulFreeConfig {
  Index vocab_size = 32000;          ///< ids are in [0, vocab_size)
  Index hidden_size = 0;             ///< width of the embedding; must be set
  Index num_hidden_layers = 0;       ///< number of blocks of MLGRU and GLU; must be set
  Index intermediate_size = 0;       ///< width of the GLU; see default_intermediate_size()
  double rms_norm_eps = 1e-6;        ///< eps of the norms before MLGRU and GLU, of the last norm and of g_norm
  double bitlinear_norm_eps = 1e-6;  ///< eps of the norms inside BitLinear; not in config.json, see BitLinearOptions
  bool use_lower_bound = true;       ///< the forget gates have lower bounds: the checkpoint has "model.lower_bounds"
  GateOrder gate_order = GateOrder::norm_gate_swish_h;  ///< not in config.json, see GateOrder
  Rounding rounding = Rounding::half_even;              ///< of the int8 activations; not in config.json

  /// floor(8 hidden_size / 3), rounded up to a multiple of 256: what the released models have.
  [[nodiscard]] static constexpr Index default_intermediate_size(Index hidden_size) noexcept {
    return round_up(Count((8 * Count(hidden_size)).value() / 3), 256).value();
  }
  /// Number of ternary weights. Norms, lower bounds and the embedding do not count.
  [[nodiscard]] constexpr Index ternary_parameters() const noexcept {
    const Count width = hidden_size, layer = 4 * width * width + 3 * width * intermediate_size;
    return (num_hidden_layers * layer + vocab_size * width).value();
  }
  /// Number of weights of the embedding.
  [[nodiscard]] constexpr Index embedding_parameters() const noexcept {
    return (Count(vocab_size) * hidden_size).value();
  }
  /// Bytes of a sequence's state, in float32. They do not depend on its length.
  [[nodiscard]] constexpr Index state_bytes() const noexcept {
    return (Count(num_hidden_layers) * hidden_size * Index(sizeof(float))).value();
  }
};

/// The released models (ridgerchu/MMfreeLM-370M, -1.3B, -2.7B on Hugging Face).
/// \{
inline constexpr MatMulFreeConfig matmulfree_370m{
    .hidden_size = 1024, .num_hidden_layers = 24, .intermediate_size = 2816};
inline constexpr MatMulFreeConfig matmulfree_1_3b{
    .hidden_size = 2048, .num_hidden_layers = 24, .intermediate_size = 5632};
inline constexpr MatMulFreeConfig matmulfree_2_7b{
    .hidden_size = 2560, .num_hidden_layers = 32, .intermediate_size = 6912};
/// \}

/// A model with ternary weights in layout L and its embedding stored by codec C. Owns its weights. Immutable: threads
/// may share it. One that was default-made or moved from refuses its calls with wrong_state; its config() is
/// MatMulFreeConfig().
template <TernaryLayout L = TwoBit, Codec C = Bf16>
class MatMulFreeLm {
 public:
  /// Where weights come from: float tensors by name, and ternary projections by name. Names are Hugging Face's, such as
  /// "model.layers.3.mlp_norm.weight" for a tensor and "model.layers.3.attn.f_proj" for a projection.
  struct Source {
    /// Returns the tensor. Its memory only has to last until the next call.
    FunctionRef<Result<Tensor>(const char* name)> tensor;
    /// Returns the projection of shape [out, in] with its inner norm. For float checkpoints use from_floats() instead.
    FunctionRef<Result<BitLinear<L>>(const char* name, Index out, Index in)> projection;
  };

  /// From a checkpoint of float weights: every projection is quantised here (ternary_from_floats()). `tensor` is called
  /// for one name at a time; its memory only has to last until the next call. Errors as create().
  [[nodiscard]] static Result<MatMulFreeLm> from_floats(const MatMulFreeConfig& config,
                                                        FunctionRef<Result<Tensor>(const char* name)> tensor) {
    const auto projection = [&](const char* name, Index out, Index in) -> Result<BitLinear<L>> {
      const Result<Tensor> weight = tensor((std::string(name) + ".weight").c_str());
      if (!weight.ok()) return weight.status();
      if (Status status = check_tensor(name, *weight, out, in); !status.ok()) return status;
      Result<TernaryMatrix<L>> ternary = ternary_from_floats<L>(name, *weight);
      if (!ternary.ok()) return ternary.status();
      const Result<Tensor> norm = tensor((std::string(name) + ".norm.weight").c_str());
      if (!norm.ok()) return norm.status();
      if (Status status = check_tensor(name, *norm, 1, in); !status.ok()) return status;  // every projection has a norm
      return BitLinear<L>::create(name, *std::move(ternary), *norm, {config.bitlinear_norm_eps, config.rounding});
    };
    return create(config, {tensor, projection});
  }

  /// From `source`. Errors: invalid_argument naming an option or tensor, out_of_memory, or what the source returns.
  [[nodiscard]] static Result<MatMulFreeLm> create(const MatMulFreeConfig& config, const Source& source) {
    MatMulFreeLm made;
    made.config_ = config;
    const Index width = config.hidden_size, layers = config.num_hidden_layers;
    Status status = detail::check_range("hidden_size", width, 1, L::max_cols);
    if (status.ok()) status = detail::check_range("num_hidden_layers", layers, 1, detail::most_layers);
    if (status.ok()) status = detail::check_range("intermediate_size", config.intermediate_size, 1, L::max_cols);
    if (status.ok()) status = detail::check_range("vocab_size", config.vocab_size, 1, Index{1} << 24);
    if (status.ok()) status = made.read_embedding(source);
    detail::Floats bounds;
    if (status.ok() && config.use_lower_bound) {
      const Result<Tensor> parameter = source.tensor("model.lower_bounds");
      status = parameter.ok() ? check_tensor("model.lower_bounds", *parameter, layers, width) : parameter.status();
      if (status.ok()) {
        status = detail::take(bounds, detail::Floats::create(Count(layers) * width, "model.lower_bounds"));
      }
      if (status.ok()) {
        status = forget_lower_bounds(parameter->data, layers, width, {bounds.data(), std::size_t(layers * width)});
      }
    }
    for (Index layer = 0; status.ok() && layer < layers; ++layer) {
      std::span<const float> bound;
      if (layer > 0 && config.use_lower_bound) {
        bound = bounds.span().subspan(std::size_t(layer * width), std::size_t(width));
      }
      status = made.read_layer(source, layer, bound);
    }
    if (status.ok()) status = made.read_norm(source, "model.norm.weight", made.norm_);
    if (status.ok()) status = read_projection(source, "lm_head", config.vocab_size, width, made.head_);
    if (!status.ok()) return status;
    return made;
  }

  /// As given to create().
  [[nodiscard]] const MatMulFreeConfig& config() const noexcept { return config_; }
  /// Bytes of all weights: ternary, norms, lower bounds, embedding.
  [[nodiscard]] Index bytes() const noexcept {
    Index sum = embedding_.size() + head_.bytes() + norm_.width() * Index(sizeof(float));
    for (const Layer& layer : layers_) {
      sum += layer.mixer.bytes() + layer.channel.bytes() + 2 * config_->hidden_size * Index(sizeof(float));
    }
    return sum;
  }
  /// An empty state for one sequence. layers and width of `options` are set here. Errors as RecurrentState::create().
  [[nodiscard]] Result<RecurrentState> make_state(RecurrentOptions options = {}) const {
    if (Status status = detail::check_made("MatMulFreeLm", config_->hidden_size); !status.ok()) return status;
    options.layers = config_->num_hidden_layers;
    options.width = config_->hidden_size;
    return RecurrentState::create(options);
  }

  /// Reads ids [tokens] and writes logits [tokens][vocab_size], those after each token. If `logits` is [vocab_size], it
  /// gets those after the last token only. `step` is an open step of `tokens` tokens; commit it afterwards. masked[t]
  /// != 0 marks left padding. Allocates only if `workspace` is too small. invalid_argument naming a wrong size or id,
  /// wrong_state if the step is closed, or out_of_memory; nothing is then written.
  template <TernaryBackend Backend, Executor E>
  Status forward(std::span<const std::int32_t> ids, RecurrentState::Step& step, std::span<float> logits,
                 Workspace& workspace, E& executor, std::span<const std::uint8_t> masked = {}) const {
    const Index tokens = Index(ids.size()), width = config_->hidden_size;
    if (Status made = detail::check_made("MatMulFreeLm", width); !made.ok()) return made;
    if (tokens == 0) return {};
    const bool last_only = Index(logits.size()) == config_->vocab_size;
    Status status = last_only ? Status() : detail::check_rows("logits", logits.size(), tokens, config_->vocab_size);
    if (status.ok() && !masked.empty()) status = detail::check_rows("masked", masked.size(), tokens, 1);
    if (status.ok() && step.tokens() != tokens) {
      status = fail(StatusCode::invalid_argument, "step has ", step.tokens(), " tokens, ids ", tokens);
    }
    if (status.ok() && !step.open()) status = step.layer(0).status();
    if (status.ok() && (step.layers() != config_->num_hidden_layers || step.width() != width)) {
      status = fail(StatusCode::invalid_argument, "step has ", step.layers(), " layers of ", step.width(),
                    ", must have ", config_->num_hidden_layers, " of ", width);
    }
    for (std::size_t t = 0; status.ok() && t < ids.size(); ++t) {
      if (ids[t] >= 0 && ids[t] < config_->vocab_size) continue;
      status =
          fail(StatusCode::invalid_argument, "ids[", t, "] is ", ids[t], ", must be in 0 .. ", config_->vocab_size - 1);
    }
    if (status.ok()) status = detail::check_workers(executor.workers());
    if (status.ok()) {
      status = workspace.reserve(std::uint64_t(scratch_bytes<Backend>(tokens, executor.workers())));
    }
    if (!status.ok()) return status;

    detail::Carver scratch(workspace.data());
    float* const x = scratch.take<float>(tokens * width);
    float* const normed = scratch.take<float>(tokens * width);
    std::byte* const inner = scratch.take<std::byte>(0);
    for (Index t = 0; t < tokens; ++t) {
      C::decode(embedding_.data() + ids[std::size_t(t)] * C::row_bytes(width), width, x + t * width);
    }
    for (Index l = 0; l < config_->num_hidden_layers; ++l) {
      const Layer& layer = layers_[std::size_t(l)];
      const Result<RecurrentLayer> state = step.layer(l);
      if (!state.ok()) return state.status();
      layer.attn_norm.apply(tokens, x, width, normed, width);
      layer.mixer.template forward_in<Backend>(normed, tokens, *state, normed, inner, executor, masked);
      for (Index i = 0; i < tokens * width; ++i) x[i] += normed[i];
      layer.mlp_norm.apply(tokens, x, width, normed, width);
      layer.channel.template forward_in<Backend>(normed, tokens, normed, inner, executor);
      for (Index i = 0; i < tokens * width; ++i) x[i] += normed[i];
    }
    const Index scored = last_only ? 1 : tokens, first = tokens - scored;
    norm_.apply(scored, x + first * width, width, normed, width);
    const BitLinearOutput<L> head = detail::output_of(head_, logits.data(), scored);
    detail::bit_linear_in<Backend>(std::span(&head, 1), normed, scored, inner, executor);
    return {};
  }

 private:
  struct Layer {
    RmsNorm attn_norm;
    Mlgru<L> mixer;
    RmsNorm mlp_norm;
    BitGlu<L> channel;
  };

  template <TernaryBackend Backend>
  [[nodiscard]] Index scratch_bytes(Index tokens, Index workers) const noexcept {
    detail::Carver scratch(nullptr);
    for (int i = 0; i < 2; ++i) static_cast<void>(scratch.take<float>(tokens * config_->hidden_size));
    return Index(scratch.bytes()) +
           std::max({layers_[0].mixer.template scratch_bytes<Backend>(tokens, workers),
                     layers_[0].channel.template scratch_bytes<Backend>(tokens, workers),
                     detail::bit_linear_bytes<Backend, L>(config_->hidden_size, 1, tokens, workers)});
  }

  [[nodiscard]] Status read_embedding(const Source& source) {
    const Index rows = config_->vocab_size, width = config_->hidden_size;
    const Result<Tensor> tensor = source.tensor("model.embeddings.weight");
    if (!tensor.ok()) return tensor.status();
    Status status = check_tensor("model.embeddings.weight", *tensor, rows, width);
    if (status.ok()) {
      status = detail::take(embedding_,
                            Buffer::allocate(default_memory(), rows * C::row_bytes(width), "model.embeddings.weight"));
    }
    for (Index r = 0; status.ok() && r < rows; ++r) {
      C::encode(tensor->data.data() + r * width, width, embedding_.data() + r * C::row_bytes(width));
    }
    return status;
  }

  [[nodiscard]] Status read_norm(const Source& source, const char* name, RmsNorm& to) const {
    const Result<Tensor> tensor = source.tensor(name);
    if (!tensor.ok()) return tensor.status();
    return detail::take(to, RmsNorm::create(name, *tensor, config_->hidden_size, config_->rms_norm_eps));
  }

  [[nodiscard]] static Status read_projection(const Source& source, const char* name, Index out, Index in,
                                              BitLinear<L>& to) {
    Status status = detail::take(to, source.projection(name, out, in));
    if (!status.ok() || (to.out() == out && to.in() == in)) return status;
    return fail(StatusCode::invalid_argument, name, " has shape [", to.out(), ", ", to.in(), "], must be [", out, ", ",
                in, "]");
  }

  [[nodiscard]] Status read_layer(const Source& source, Index index, std::span<const float> bound) {
    const Index width = config_->hidden_size, inner = config_->intermediate_size;
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    const auto projection = [&](const char* name, Index out, Index in, BitLinear<L>& to) {
      return read_projection(source, (prefix + name).c_str(), out, in, to);
    };
    Layer layer;
    MlgruProjections<L> mixer;
    BitLinear<L> gate, down;
    Status status = read_norm(source, (prefix + "attn_norm.weight").c_str(), layer.attn_norm);
    if (status.ok()) status = projection("attn.i_proj", width, width, mixer.i);
    if (status.ok()) status = projection("attn.f_proj", width, width, mixer.f);
    if (status.ok()) status = projection("attn.g_proj", width, width, mixer.g);
    if (status.ok()) status = projection("attn.o_proj", width, width, mixer.o);
    if (status.ok()) status = projection("mlp.gate_proj", 2 * inner, width, gate);
    if (status.ok()) status = projection("mlp.down_proj", width, inner, down);
    if (status.ok()) status = read_norm(source, (prefix + "mlp_norm.weight").c_str(), layer.mlp_norm);
    if (!status.ok()) return status;
    Tensor g_norm;
    if (config_->gate_order != GateOrder::sigmoid_gate) {
      const std::string name = prefix + "attn.g_norm.weight";
      const Result<Tensor> tensor = source.tensor(name.c_str());
      if (!tensor.ok()) return tensor.status();
      if (status = check_tensor(name.c_str(), *tensor, 1, width); !status.ok()) return status;
      g_norm = *tensor;
    }
    status = detail::take(
        layer.mixer, Mlgru<L>::create(std::move(mixer), g_norm, bound, {config_->gate_order, config_->rms_norm_eps}));
    if (status.ok()) status = detail::take(layer.channel, BitGlu<L>::create(std::move(gate), std::move(down)));
    if (status.ok()) layers_.push_back(std::move(layer));
    return status;
  }

  detail::UntilMoved<MatMulFreeConfig> config_;
  Buffer embedding_;
  std::vector<Layer> layers_;
  RmsNorm norm_;
  BitLinear<L> head_;
};

}  // namespace heed::inline HEED_ABI
