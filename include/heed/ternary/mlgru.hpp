/// \file
/// MLGRU, the token mixer of MatMul-free LM (arXiv 2406.02528; HGRNBit in its code): a gated recurrence over ternary
/// projections, with a state of constant size.
///
///     i, f, g = BitLinear_i(u), BitLinear_f(u), BitLinear_g(u)
///     f = sigmoid(f);  f = bound + (1 - bound) f         the second from the second layer on
///     h_t = f_t h_(t-1) + swish(i_t) (1 - f_t)           in float32
///     y = BitLinear_o(gate(g, h))
#pragma once

#include <cmath>
#include <span>

#include <heed/cache/recurrent_state.hpp>
#include <heed/floats.hpp>
#include <heed/layer/check.hpp>
#include <heed/layer/rms_norm.hpp>
#include <heed/ternary/bit_linear.hpp>

namespace heed::inline HEED_ABI {

/// The function gate(g, h). Three forms exist; a model needs the one it was trained with.
enum class GateOrder {
  norm_gate_swish_h,  ///< RMSNorm(g) * swish(h): the released code and models of MatMul-free LM
  norm_h_swish_gate,  ///< RMSNorm(h) * swish(g): flash-linear-attention's HGRN since its correction of July 2024
  sigmoid_gate,       ///< sigmoid(g) * h, no norm: the paper's printed equation
};

/// Lower bounds of the forget gates of all layers, from the parameter [layers][width]. With p the softmax of the
/// parameter over the layers, bound_l = p_1 + ... + p_l, so bound_0 = 0. Writes bounds [layers][width], which must not
/// overlap the parameter. Computed in float64. invalid_argument naming a wrong size; nothing is then written.
[[nodiscard]] inline Status forget_lower_bounds(std::span<const float> parameter, Index layers, Index width,
                                                std::span<float> bounds) {
  Status status = detail::first_failure({detail::check_range("layers", layers, 1, detail::most_layers),
                                         detail::check_width("width", width),
                                         check_tensor("parameter", {parameter, layers, width}, layers, width),
                                         check_tensor("bounds", {bounds, layers, width}, layers, width)});
  for (Index i = 0; status.ok() && i < width; ++i) {
    const auto logit = [&](Index layer) { return double(parameter[std::size_t(layer * width + i)]); };
    double most = logit(0), sum = 0, below = 0;
    for (Index l = 1; l < layers; ++l) most = detail::larger(most, logit(l));
    for (Index l = 0; l < layers; ++l) sum += std::exp(logit(l) - most);
    for (Index l = 0; l < layers; ++l) {
      if (l > 0) below += std::exp(logit(l) - most) / sum;
      bounds[std::size_t(l * width + i)] = float(below);
    }
  }
  return status;
}

/// The four projections of the formula, [hidden_size, hidden_size] each, with their inner norms.
template <TernaryLayout L>
struct MlgruProjections {
  BitLinear<L> i;  ///< input
  BitLinear<L> f;  ///< forget gate
  BitLinear<L> g;  ///< output gate
  BitLinear<L> o;  ///< output
};

/// What differs between MLGRU models.
struct MlgruOptions {
  GateOrder gate_order = GateOrder::norm_gate_swish_h;  ///< must be the one the model was trained with
  double norm_eps = 1e-6;                               ///< eps of g_norm
};

/// One MLGRU layer. Owns its weights. Immutable: threads may share it. The state of a sequence is in a RecurrentState.
/// One that was default-made or moved from refuses its calls with wrong_state; its forward_in() writes nothing.
template <TernaryLayout L = TwoBit>
class Mlgru {
 public:
  /// `g_norm` [hidden_size] is the gain of the gate's norm; empty for sigmoid_gate. `lower_bound` [hidden_size], each
  /// in 0 .. 1; empty for none, as in the first layer. Both are copied. invalid_argument naming what is wrong, or
  /// out_of_memory.
  [[nodiscard]] static Result<Mlgru> create(MlgruProjections<L> projections, const Tensor& g_norm,
                                            std::span<const float> lower_bound, const MlgruOptions& options = {}) {
    const Index width = projections.i.in();
    const std::pair<const char*, const BitLinear<L>*> all[] = {
        {"i_proj", &projections.i}, {"f_proj", &projections.f}, {"g_proj", &projections.g}, {"o_proj", &projections.o}};
    for (const auto& [name, linear] : all) {
      if (linear->in() == width && linear->out() == width && width > 0) continue;
      return fail(StatusCode::invalid_argument, name, " has shape [", linear->out(), ", ", linear->in(), "], must be [",
                  width, ", ", width, "]");
    }
    Mlgru made;
    if (options.gate_order != GateOrder::sigmoid_gate) {
      Status status = detail::take(made.g_norm_, RmsNorm::create("g_norm", g_norm, width, options.norm_eps));
      if (!status.ok()) return status;
    } else if (!g_norm.empty()) {
      return fail(StatusCode::invalid_argument, "g_norm has ", g_norm.data.size(),
                  " numbers, sigmoid_gate has no norm");
    }
    if (!lower_bound.empty()) {
      if (Status status = detail::check_rows("lower_bound", lower_bound.size(), 1, width); !status.ok()) return status;
      for (const float bound : lower_bound) {
        if (!(bound >= 0 && bound <= 1)) {
          return fail(StatusCode::invalid_argument, "lower_bound has ", bound, ", must be in 0 .. 1");
        }
      }
      if (Status status = detail::take(made.bound_, detail::Floats::create(width, "lower_bound")); !status.ok()) {
        return status;
      }
      detail::copy(lower_bound.data(), lower_bound.data() + width, made.bound_.data());
      made.has_bound_ = true;
    }
    made.projections_ = std::move(projections);
    made.order_ = options.gate_order;
    return made;
  }

  /// Width of u and y.
  [[nodiscard]] Index hidden_size() const noexcept { return projections_.i.in(); }
  /// As given to create().
  [[nodiscard]] const MlgruProjections<L>& projections() const noexcept { return projections_; }
  /// Bytes of projections, norm and lower bound.
  [[nodiscard]] Index bytes() const noexcept {
    return projections_.i.bytes() + projections_.f.bytes() + projections_.g.bytes() + projections_.o.bytes() +
           g_norm_.width() * Index(sizeof(float)) + Index(bound_.span().size_bytes());
  }

  /// y [tokens][hidden_size] from u [tokens][hidden_size], a prompt or one token: the same bits however the tokens are
  /// split into calls. `state` is a layer of an open RecurrentState step of `tokens` tokens; it is read and written.
  /// masked[t] != 0 leaves out token t's input (left padding); empty: nothing is masked. y may be u. Allocates only if
  /// `workspace` is too small. invalid_argument naming a wrong size, or out_of_memory; nothing is then written.
  template <TernaryBackend Backend, Executor E>
  Status forward(std::span<const float> u, const RecurrentLayer& state, std::span<float> y, Workspace& workspace,
                 E& executor, std::span<const std::uint8_t> masked = {}) const {
    const Index width = hidden_size(), tokens = width == 0 ? 0 : Index(u.size()) / width;
    Status status = detail::check_made("Mlgru", width);
    if (status.ok()) status = detail::check_rows("u", u.size(), tokens, width);
    if (status.ok()) status = detail::check_rows("y", y.size(), tokens, width);
    if (status.ok() && !masked.empty()) status = detail::check_rows("masked", masked.size(), tokens, 1);
    if (status.ok() && state.width() != width) {
      status = fail(StatusCode::invalid_argument, "state has width ", state.width(), ", must be hidden_size ", width);
    }
    if (status.ok()) status = detail::check_workers(executor.workers());
    if (status.ok()) {
      status = workspace.reserve(std::uint64_t(scratch_bytes<Backend>(tokens, executor.workers())));
    }
    if (!status.ok() || tokens == 0) return status;
    forward_in<Backend>(u.data(), tokens, state, y.data(), workspace.data(), executor, masked);
    return {};
  }

  /// Bytes of scratch of a call. count_limit for more than 2^38 tokens or 2^16 workers, or fewer than 0.
  template <TernaryBackend Backend>
  [[nodiscard]] Index scratch_bytes(Index tokens, Index workers) const noexcept {
    if (!detail::has_scratch_size(tokens, workers)) return count_limit;
    detail::Carver scratch(nullptr);
    for (int i = 0; i < 3; ++i) static_cast<void>(scratch.take<float>(tokens * hidden_size()));
    for (int i = 0; i < 2; ++i) static_cast<void>(scratch.take<float>(hidden_size()));
    return Index(scratch.bytes()) + detail::bit_linear_bytes<Backend, L>(hidden_size(), 3, tokens, workers);
  }

  /// forward() without checks. `memory` is scratch_bytes() of scratch, aligned to 64 bytes.
  template <TernaryBackend Backend, Executor E>
  void forward_in(const float* u, Index tokens, const RecurrentLayer& state, float* y, std::byte* memory, E& executor,
                  std::span<const std::uint8_t> masked) const {
    const Index width = hidden_size(), count = tokens * width;
    if (width == 0) return;
    detail::Carver scratch(memory);
    float* const input = scratch.take<float>(count);
    float* const forget = scratch.take<float>(count);
    float* const gate = scratch.take<float>(count);
    float* const h = scratch.take<float>(width);
    float* const normed = scratch.take<float>(width);
    std::byte* const inner = scratch.take<std::byte>(0);
    const BitLinearOutput<L> outputs[] = {detail::output_of(projections_.i, input, tokens),
                                          detail::output_of(projections_.f, forget, tokens),
                                          detail::output_of(projections_.g, gate, tokens)};
    detail::bit_linear_in<Backend>(std::span<const BitLinearOutput<L>>(outputs), u, tokens, inner, executor);
    const auto bytes = std::size_t(width) * sizeof(float);
    std::memcpy(h, state.before(), bytes);
    for (Index t = 0; t < tokens; ++t) {
      const bool out = !masked.empty() && masked[std::size_t(t)] != 0;
      Backend::Gates::gated_mix(input + t * width, forget + t * width, has_bound_ ? bound_.data() : nullptr, out, width,
                                h);
      if (float* const to = state.after(t)) std::memcpy(to, h, bytes);
      apply_gate<Backend>(gate + t * width, h, normed);
    }
    const BitLinearOutput<L> last = detail::output_of(projections_.o, y, tokens);
    detail::bit_linear_in<Backend>(std::span(&last, 1), gate, tokens, inner, executor);
  }

 private:
  // gate <- gate(gate, h). `normed` is scratch.
  template <TernaryBackend Backend>
  void apply_gate(float* gate, const float* h, float* normed) const noexcept {
    const Index width = hidden_size();
    switch (order_) {
      case GateOrder::norm_gate_swish_h:
        g_norm_.apply(1, gate, width);
        return Backend::Gates::swish_times(h, gate, width, gate);
      case GateOrder::norm_h_swish_gate:  // h must not change: it is the next token's state
        g_norm_.apply(1, h, width, normed, width);
        return Backend::Gates::swish_times(gate, normed, width, gate);
      case GateOrder::sigmoid_gate: return Backend::Gates::sigmoid_times(gate, h, width, gate);
    }
  }
  MlgruProjections<L> projections_;
  RmsNorm g_norm_;
  detail::Floats bound_;
  bool has_bound_ = false;
  GateOrder order_ = GateOrder::norm_gate_swish_h;
};

}  // namespace heed::inline HEED_ABI
