/// \file
/// BitLinear: a linear layer of ternary weights and int8 activations (BitNet b1.58, arXiv 2402.17764; MatMul-free LM,
/// arXiv 2406.02528).
///
///     xn = x / sqrt(mean(x^2) + eps) * gain                      or xn = x, in models that normalise outside
///     a = max(max |xn|, 1e-5),  q = round(xn * (127 / a))        per token, int8
///     y = (float(sum q w) * (a / 127)) * scale                   the sum is exact in 32 bits
///
/// A row of zeros gives zeros, also with an eps of 0.
///
/// The integers, and so y, have the same bits on every instruction set and for any number of tokens and workers.
#pragma once

#include <array>

#include <heed/floats.hpp>
#include <heed/layer/check.hpp>
#include <heed/ternary/import/floats.hpp>
#include <heed/ternary/product.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI {

/// How a layer makes int8 activations from its input.
struct BitLinearOptions {
  /// eps of the inner norm, finite and at least 0. MatMul-free LM's models use its fused layers, which have 1e-6; its plain
  /// class has 1e-8.
  double norm_eps = 1e-6;
  Rounding rounding = Rounding::half_even;  ///< how xn * (127 / a) becomes an integer
};

/// The weights of a layer y = BitLinear(x); bit_linear() computes it. Owns its weights. Immutable: threads may share
/// it. One that was default-made or moved from has in() = out() = 0, and bit_linear() refuses it.
template <TernaryLayout L = TwoBit>
class BitLinear {
 public:
  BitLinear() = default;

  /// From ternary weights and the inner norm's gain, [in]. Without a gain there is no inner norm. The gain is copied.
  /// invalid_argument naming `name`, or out_of_memory.
  [[nodiscard]] static Result<BitLinear> create(const char* name, TernaryMatrix<L> weights, const Tensor& norm = {},
                                                const BitLinearOptions& options = {}) {
    if (Status status = detail::check_shape(name, weights.rows(), weights.cols()); !status.ok()) return status;
    BitLinear made;
    if (!norm.empty()) {
      if (Status status = check_tensor(name, norm, 1, weights.cols()); !status.ok()) return status;
      if (!(options.norm_eps >= 0 && detail::is_finite(options.norm_eps))) {
        return fail(StatusCode::invalid_argument, name, ": norm_eps is ", options.norm_eps,
                    ", must be a finite number of at least 0");
      }
      Result<detail::Floats> gain = detail::Floats::create(weights.cols(), name);
      if (!gain.ok()) return gain.status();
      detail::copy(norm.data.data(), norm.data.data() + weights.cols(), gain->data());
      made.gain_ = *std::move(gain);
      made.has_norm_ = true;
    }
    made.weights_ = std::move(weights);
    made.options_ = options;
    return made;
  }

  /// From float weights of shape [out, in], quantised here: see ternary_from_floats().
  [[nodiscard]] static Result<BitLinear> create(const char* name, const Tensor& weight, Index out, Index in,
                                                const Tensor& norm = {}, const BitLinearOptions& options = {}) {
    if (Status status = check_tensor(name, weight, out, in); !status.ok()) return status;
    Result<TernaryMatrix<L>> weights = ternary_from_floats<L>(name, weight);
    if (!weights.ok()) return weights.status();
    return create(name, *std::move(weights), norm, options);
  }

  /// Number of inputs.
  [[nodiscard]] Index in() const noexcept { return weights_.cols(); }
  /// Number of outputs.
  [[nodiscard]] Index out() const noexcept { return weights_.rows(); }
  /// The ternary weights: rows are outputs.
  [[nodiscard]] const TernaryMatrix<L>& weights() const noexcept { return weights_; }
  /// As given to create().
  [[nodiscard]] const BitLinearOptions& options() const noexcept { return options_; }
  /// Gain of the inner norm, [in]; null without an inner norm.
  [[nodiscard]] const float* gain() const noexcept { return has_norm_ ? gain_.data() : nullptr; }
  /// Bytes of weights and gain.
  [[nodiscard]] Index bytes() const noexcept { return weights_.bytes() + Index(gain_.span().size_bytes()); }

 private:
  TernaryMatrix<L> weights_;
  detail::Floats gain_;
  bool has_norm_ = false;
  BitLinearOptions options_;
};

/// One layer of a bit_linear() call and where its output goes. Nothing is owned.
template <TernaryLayout L>
struct BitLinearOutput {
  const BitLinear<L>* linear = nullptr;  ///< must not be null
  std::span<float> y = {};               ///< [tokens][linear->out()]
};

namespace detail {

/// `linear` with its output for `tokens` tokens at y.
template <TernaryLayout L>
[[nodiscard]] BitLinearOutput<L> output_of(const BitLinear<L>& linear, float* y, Index tokens) noexcept {
  return {&linear, {y, std::size_t(tokens * linear.out())}};
}

/// Most products of one call.
inline constexpr std::size_t most_outputs = 8;

/// Where the parts of a call lie in the workspace.
template <TernaryLoops T, TernaryLayout L>
struct BitLinearScratch {
  TokenTiles<T> tiles;
  Index inputs = 0;  ///< quantised copies of x: layers that quantise alike share one
  Index workers = 0;

  [[nodiscard]] Index q_bytes() const noexcept { return round_up(tiles.bytes(), block_alignment); }
  [[nodiscard]] Index row_bytes() const noexcept {
    return round_up(tiles.tokens * Index(sizeof(QuantizedRow)), block_alignment);
  }
  [[nodiscard]] Index worker_bytes() const noexcept { return ProductScratch<T, L>{tiles}.bytes(); }
  [[nodiscard]] Index bytes() const noexcept { return inputs * (q_bytes() + row_bytes()) + workers * worker_bytes(); }

  [[nodiscard]] QuantizedTokens input(std::byte* data, Index i) const noexcept {
    std::byte* at = data + i * (q_bytes() + row_bytes());
    return {reinterpret_cast<std::int8_t*>(at), reinterpret_cast<QuantizedRow*>(at + q_bytes())};
  }
  [[nodiscard]] std::byte* worker(std::byte* data, Index worker) const noexcept {
    return data + inputs * (q_bytes() + row_bytes()) + worker * worker_bytes();
  }
};

/// true if two layers quantise an input to the same integers.
template <TernaryLayout L>
[[nodiscard]] bool same_input(const BitLinear<L>& a, const BitLinear<L>& b) noexcept {
  if (a.options().rounding != b.options().rounding || (a.gain() == nullptr) != (b.gain() == nullptr)) return false;
  return a.gain() == nullptr || (a.options().norm_eps == b.options().norm_eps && same_bits(a.gain(), b.gain(), a.in()));
}

}  // namespace detail

namespace detail {

/// true if the scratch of a call fits into 64 bits, whatever its widths are: no width is above 2^19.
[[nodiscard]] constexpr bool has_scratch_size(Index tokens, Index workers) noexcept {
  return tokens >= 0 && tokens <= Index{1} << 38 && workers >= 0 && workers <= most_workers;
}

/// Bytes of scratch for a call with `tokens` tokens and `outputs` layers of `in` inputs each.
template <TernaryBackend Backend, TernaryLayout L>
[[nodiscard]] Index bit_linear_bytes(Index in, Index outputs, Index tokens, Index workers) noexcept {
  return BitLinearScratch<typename Backend::Ternary, L>{{tokens, L::blocks(in) * L::block_cols}, outputs, workers}
      .bytes();
}

/// bit_linear() without checks. `data` is bit_linear_bytes() of scratch, aligned to block_alignment.
template <TernaryBackend Backend, TernaryLayout L, Executor E>
void bit_linear_in(std::span<const BitLinearOutput<L>> outputs, const float* x, Index tokens, std::byte* data,
                   E& executor) {
  using T = typename Backend::Ternary;
  const Index in = outputs[0].linear->in();
  std::array<Index, most_outputs> input_of{};  // which quantised input an output reads
  std::array<const BitLinear<L>*, most_outputs> inputs{};
  Index count = 0, groups = 0;
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    const BitLinear<L>& linear = *outputs[o].linear;
    Index i = 0;
    while (i < count && !same_input(*inputs[std::size_t(i)], linear)) ++i;
    if (i == count) inputs[std::size_t(count++)] = &linear;
    input_of[o] = i;
    groups += linear.weights().groups();
  }
  const TokenTiles<T> tiles{tokens, L::blocks(in) * L::block_cols};
  const BitLinearScratch<T, L> scratch{tiles, count, executor.workers()};

  const auto quantize = [&](Index token, Index) {
    const float* row = x + token * in;
    double squares = 0;
    bool summed = false;
    for (Index i = 0; i < count; ++i) {
      const BitLinear<L>& linear = *inputs[std::size_t(i)];
      NormedRow normed{.x = row, .n = in};
      if (linear.gain() != nullptr) {
        if (!summed) squares = sum_of_squares(row, in);
        summed = true;
        normed.norm = rms_factors(squares, in, linear.options().norm_eps);
        normed.gain = linear.gain();
      }
      const QuantizedTokens to = scratch.input(data, i);
      to.rows[token] = quantize_row(normed, linear.options().rounding, tiles.cols, to.q + tiles.offset(token),
                                    tokens == 1 ? 4 : 4 * tiles.tile_of(token));
    }
  };
  if (tokens == 1) {
    quantize(0, 0);
  } else {
    for (Index i = 0; i < count; ++i) {  // zeros for the tokens that only fill up the last tile
      std::int8_t* const q = scratch.input(data, i).q;
      for (Index t = tokens; t < tiles.padded_tokens(); ++t) {
        std::int8_t* quad = q + tiles.offset(t);
        for (Index c = 0; c < tiles.cols; c += 4, quad += 4 * tiles.tile_of(t)) std::memset(quad, 0, 4);
      }
    }
    executor.parallel_for(tokens, quantize);
  }

  // Few tasks, because each begins to read at another place (two workers with tasks of 64 KiB: 37 GB/s of 42). Enough
  // tasks, so that all workers end at about the same time. Enough weights in a task to pay for handing it out.
  constexpr Index task_bytes = 64 * 1024, worker_tasks = 4;
  const Index group_bytes = L::blocks(in) * L::block_bytes, most_tasks = worker_tasks * executor.workers();
  const Index least = std::max<Index>(task_bytes / (group_bytes * std::min<Index>(tokens, 16)), 1);
  const Index step = std::max(least, (groups + most_tasks - 1) / most_tasks);
  executor.parallel_for((groups + step - 1) / step, [&](Index task, Index worker) {
    Index first = task * step, end = std::min(first + step, groups);
    for (std::size_t o = 0; o < outputs.size() && end > 0; ++o) {
      const TernaryMatrix<L>& weights = outputs[o].linear->weights();
      const Index stop = std::min(end, weights.groups());
      if (first < stop) {
        ternary_product<T>(weights, tiles, scratch.input(data, input_of[o]), first, stop, outputs[o].y.data(),
                           scratch.worker(data, worker));
      }
      first = std::max<Index>(first - weights.groups(), 0);
      end -= weights.groups();
    }
  });
}

}  // namespace detail

/// Several layers of one input, such as MLGRU's three or an attention's q, k and v. x [tokens][in]; outputs as in
/// BitLinearOutput, 1 to 8 of them; no y may overlap x. Layers that quantise alike share one quantised copy of x, and
/// the rows of all layers are one parallel loop. Allocates only if `workspace` is too small. invalid_argument naming a
/// wrong size or number of workers, wrong_state if a layer was moved from, or out_of_memory; nothing is then written.
template <TernaryBackend Backend, TernaryLayout L, Executor E>
Status bit_linear(std::span<const BitLinearOutput<L>> outputs, std::span<const float> x, Workspace& workspace,
                  E& executor) {
  if (outputs.empty() || outputs.size() > detail::most_outputs) {
    return fail(StatusCode::invalid_argument, "outputs has ", outputs.size(), " entries, must have 1 .. ",
                detail::most_outputs);
  }
  const Index in = outputs[0].linear->in(), tokens = in == 0 ? 0 : Index(x.size()) / in;
  Status status;
  for (std::size_t o = 0; status.ok() && o < outputs.size(); ++o) {
    status = detail::check_made("BitLinear", outputs[o].linear->in());
  }
  if (status.ok()) status = detail::check_rows("x", x.size(), tokens, in);
  if (status.ok()) status = detail::check_workers(executor.workers());
  for (std::size_t o = 0; status.ok() && o < outputs.size(); ++o) {
    const BitLinear<L>& linear = *outputs[o].linear;
    if (linear.in() != in) {
      status = fail(StatusCode::invalid_argument, "outputs[", o, "] has in ", linear.in(), ", the first one ", in);
    }
    if (status.ok()) status = detail::check_rows("y", outputs[o].y.size(), tokens, linear.out());
  }
  if (!status.ok() || tokens == 0) return status;
  const Index bytes = detail::bit_linear_bytes<Backend, L>(in, Index(outputs.size()), tokens, executor.workers());
  if (status = workspace.reserve(std::uint64_t(bytes)); !status.ok()) return status;
  detail::bit_linear_in<Backend>(outputs, x.data(), tokens, workspace.data(), executor);
  return {};
}

/// One layer: y [tokens][out] = BitLinear(x [tokens][in]). All else as above.
template <TernaryBackend Backend, TernaryLayout L, Executor E>
Status bit_linear(const BitLinear<L>& linear, std::span<const float> x, std::span<float> y, Workspace& workspace,
                  E& executor) {
  const BitLinearOutput<L> output{&linear, y};
  return bit_linear<Backend>(std::span(&output, 1), x, workspace, executor);
}

}  // namespace heed::inline HEED_ABI
