/// \file
/// The gated linear unit over ternary projections: MatMul-free LM's channel mixer, and BitNet b1.58's feed-forward.
///
///     y = BitLinear_down(act(gate) * up)
#pragma once

#include <optional>

#include <heed/ternary/bit_linear.hpp>

namespace heed::inline HEED_ABI {

/// The activation of a gate.
enum class GluActivation {
  swish,         ///< MatMul-free LM
  relu_squared,  ///< BitNet b1.58 2B4T
};

/// One gated linear unit. Owns its weights. Immutable: threads may share it. If a model normalises the product before
/// the down projection, give that norm as the inner norm of `down`. One that was default-made or moved from refuses
/// its calls with wrong_state; its forward_in() writes nothing.
template <TernaryLayout L = TwoBit>
class BitGlu {
 public:
  /// `gate_and_up` [2 * intermediate_size, hidden_size] is one projection with one scale and one norm, the gate's rows
  /// first, as in MatMul-free LM. `down` [hidden_size, intermediate_size]. invalid_argument naming a wrong shape.
  [[nodiscard]] static Result<BitGlu> create(BitLinear<L> gate_and_up, BitLinear<L> down,
                                             GluActivation activation = GluActivation::swish) {
    return make(std::move(gate_and_up), {}, std::move(down), activation);
  }
  /// `gate` and `up` [intermediate_size, hidden_size] are two projections, each with its own scale. `down` as above.
  [[nodiscard]] static Result<BitGlu> create(BitLinear<L> gate, BitLinear<L> up, BitLinear<L> down,
                                             GluActivation activation) {
    return make(std::move(gate), std::move(up), std::move(down), activation);
  }

  /// Width of x and y.
  [[nodiscard]] Index hidden_size() const noexcept { return gate_.in(); }
  /// Width of gate and up.
  [[nodiscard]] Index intermediate_size() const noexcept { return down_.in(); }
  /// Bytes of all projections.
  [[nodiscard]] Index bytes() const noexcept { return gate_.bytes() + (up_ ? up_->bytes() : 0) + down_.bytes(); }

  /// y [tokens][hidden_size] from x [tokens][hidden_size]. y may be x. Allocates only if `workspace` is too small.
  /// invalid_argument naming a wrong size, or out_of_memory; y is then unchanged.
  template <TernaryBackend Backend, Executor E>
  Status forward(std::span<const float> x, std::span<float> y, Workspace& workspace, E& executor) const {
    const Index tokens = hidden_size() == 0 ? 0 : Index(x.size()) / hidden_size();
    Status status = detail::check_made("BitGlu", hidden_size());
    if (status.ok()) status = detail::check_rows("x", x.size(), tokens, hidden_size());
    if (status.ok()) status = detail::check_rows("y", y.size(), tokens, hidden_size());
    if (status.ok()) status = detail::check_workers(executor.workers());
    if (status.ok()) {
      status = workspace.reserve(std::uint64_t(scratch_bytes<Backend>(tokens, executor.workers())));
    }
    if (!status.ok() || tokens == 0) return status;
    forward_in<Backend>(x.data(), tokens, y.data(), workspace.data(), executor);
    return {};
  }

  /// Bytes of scratch of a call. count_limit for more than 2^38 tokens or 2^16 workers, or fewer than 0.
  template <TernaryBackend Backend>
  [[nodiscard]] Index scratch_bytes(Index tokens, Index workers) const noexcept {
    if (!detail::has_scratch_size(tokens, workers)) return count_limit;
    detail::Carver scratch(nullptr);
    static_cast<void>(scratch.take<float>(tokens * 2 * intermediate_size()));
    return Index(scratch.bytes()) +
           std::max(detail::bit_linear_bytes<Backend, L>(hidden_size(), 2, tokens, workers),
                    detail::bit_linear_bytes<Backend, L>(intermediate_size(), 1, tokens, workers));
  }

  /// forward() without checks. `memory` is scratch_bytes() of scratch, aligned to 64 bytes.
  template <TernaryBackend Backend, Executor E>
  void forward_in(const float* x, Index tokens, float* y, std::byte* memory, E& executor) const {
    const Index width = intermediate_size(), count = tokens * width;
    if (width == 0) return;
    detail::Carver scratch(memory);
    float* const both = scratch.take<float>(2 * count);
    std::byte* const inner = scratch.take<std::byte>(0);
    const BitLinearOutput<L> outputs[] = {detail::output_of(gate_, both, tokens),
                                          up_ ? detail::output_of(*up_, both + count, tokens) : BitLinearOutput<L>()};
    detail::bit_linear_in<Backend>(std::span<const BitLinearOutput<L>>(outputs, up_ ? 2 : 1), x, tokens, inner,
                                   executor);
    // With one projection a row of `both` is a token's gate, then its up. With two, all gates come first, then all ups.
    // The products overwrite the front of `both`, where everything was already read.
    const Index gate_stride = up_ ? width : 2 * width;
    const float* const up = up_ ? both + count : both + width;
    for (Index t = 0; t < tokens; ++t) {
      activate<Backend>(both + t * gate_stride, up + t * gate_stride, width, both + t * width);
    }
    const BitLinearOutput<L> last = detail::output_of(down_, y, tokens);
    detail::bit_linear_in<Backend>(std::span(&last, 1), both, tokens, inner, executor);
  }

 private:
  [[nodiscard]] static Result<BitGlu> make(BitLinear<L> gate, std::optional<BitLinear<L>> up, BitLinear<L> down,
                                           GluActivation activation) {
    const Index hidden = gate.in(), width = down.in(), rows = up ? width : 2 * width;
    const auto wrong = [](const char* name, const BitLinear<L>& linear, Index out, Index in) {
      return fail(StatusCode::invalid_argument, name, " has shape [", linear.out(), ", ", linear.in(), "], must be [",
                  out, ", ", in, "]");
    };
    if (hidden < 1 || gate.out() != rows)
      return wrong(up ? "gate_proj" : "gate_proj (gate and up)", gate, rows, hidden);
    if (up && (up->out() != width || up->in() != hidden)) return wrong("up_proj", *up, width, hidden);
    if (down.out() != hidden) return wrong("down_proj", down, hidden, width);
    BitGlu made;
    made.gate_ = std::move(gate);
    made.up_ = std::move(up);
    made.down_ = std::move(down);
    made.activation_ = activation;
    return made;
  }

  template <TernaryBackend Backend>
  void activate(const float* gate, const float* up, Index n, float* out) const noexcept {
    if (activation_ == GluActivation::swish) return Backend::Gates::swish_times(gate, up, n, out);
    Backend::Gates::relu_squared_times(gate, up, n, out);
  }

  BitLinear<L> gate_;
  std::optional<BitLinear<L>> up_;
  BitLinear<L> down_;
  GluActivation activation_ = GluActivation::swish;
};

}  // namespace heed::inline HEED_ABI
