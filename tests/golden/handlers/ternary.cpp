// BitLinear: integers to the last one, floats within 2e-5 of a row's largest number, and the same bits on every backend,
// in both layouts and in any calls.
#include <string>
#include <utility>
#include <vector>

#include <heed/ternary/import/hugging_face.hpp>

#include "golden/handlers/ternary_run.hpp"
#include "oracle/ternary_packings.hpp"

namespace heed_golden::ternary_handler {
namespace {

std::vector<std::uint8_t> read_bytes(Case& one, const std::string& name, const TensorShape& shape) {
  const auto from = one.get<Int>(name, shape);
  return {from.begin(), from.end()};
}
Trits read_trits(Case& one, const std::string& name, const TensorShape& shape) {
  const auto from = one.get<Int>(name, shape);
  return {from.begin(), from.end()};
}

/// Rows as bit_linear() quantises them.
struct Quantized {
  Trits q;
  Floats scale;
};

Quantized quantized(const Floats& x, Int cols, const Floats& gain = {}, double eps = 0,
                    heed::Rounding rounding = heed::Rounding::half_even) {
  Quantized made;
  Trits row(std::size_t(heed::round_up(cols, 20)));
  for (std::size_t at = 0; at < x.size(); at += std::size_t(cols)) {
    heed::detail::NormedRow normed{.x = x.data() + at, .n = cols};
    if (!gain.empty()) {
      normed.norm = heed::detail::rms_factors(heed::detail::sum_of_squares(normed.x, cols), cols, eps);
      normed.gain = gain.data();
    }
    made.scale.push_back(heed::detail::quantize_row(normed, rounding, Int(row.size()), row.data(), 4).scale);
    made.q.insert(made.q.end(), row.begin(), row.begin() + cols);
  }
  return made;
}

/// The integer sums of tokens q, as floats: they are below 2^24.
template <heed::TernaryLoops T, class L>
Floats sums(const heed::TernaryMatrix<L>& weights, const std::int8_t* q, Int tokens) {
  const Int cols = weights.cols();
  const heed::detail::TokenTiles<T> tiles{tokens, L::blocks(cols) * L::block_cols};
  Trits laid(std::size_t(tiles.bytes()), 0);
  std::vector<heed::detail::QuantizedRow> rows(std::size_t(tokens), {.scale = 1, .sum = 0});
  for (Int t = 0; t < tokens; ++t) {
    for (Int c = 0; c < cols; ++c, ++q) {
      laid[std::size_t(tiles.offset(t) + c / 4 * 4 * tiles.tile_of(t) + c % 4)] = *q;
      rows[std::size_t(t)].sum += *q;
    }
  }
  Floats y(std::size_t(tokens * weights.rows()));
  heed::Workspace scratch;
  heed::check(scratch.reserve(std::size_t(heed::detail::ProductScratch<T, L>{tiles}.bytes())));
  heed::detail::ternary_product<T>(weights, tiles, {laid.data(), rows.data()}, 0, weights.groups(), y.data(),
                                   scratch.data());
  return y;
}

/// The sums of all tokens at once, and of one after the other, with weights [rows][cols].
template <class Backend, class L>
Results all_sums(const Trits& weights, Int cols, const Trits& q) {
  const Int rows = Int(weights.size()) / cols, tokens = Int(q.size()) / cols;
  const auto matrix = heed::value_or_throw(heed::ternary_from_values<L>("weight", weights, rows, cols, 1));
  Floats alone;
  for (Int t = 0; t < tokens; ++t) {
    const Floats one = sums<typename Backend::Ternary>(matrix, q.data() + t * cols, 1);
    alone.insert(alone.end(), one.begin(), one.end());
  }
  return {{"acc", sums<typename Backend::Ternary>(matrix, q.data(), tokens)}, {"acc of single tokens", alone}};
}

/// The layer's y in all calls, and what it quantised to: y of unit weights is q times the row's scale.
template <class Backend, class L>
Results linear_results(const Trits& weights, float scale, const Floats& gain, double eps, const Floats& x, Int cols,
                       const Calls& calls) {
  const heed::Tensor norm{gain, gain.empty() ? 0 : 1, Int(gain.size())};
  const auto layer = [&](const Trits& w, float m) {
    auto matrix = heed::value_or_throw(heed::ternary_from_values<L>("weight", w, Int(w.size()) / cols, cols, m));
    return heed::value_or_throw(heed::BitLinear<L>::create("weight", std::move(matrix), norm, {.norm_eps = eps}));
  };
  Trits unit(std::size_t(cols * cols), 0);
  for (Int i = 0; i < cols; ++i) unit[std::size_t(i * cols + i)] = 1;
  Results results{{"q times scale", linear_in_calls<Backend>(layer(unit, 1), x, calls.front().second)}};
  const auto linear = layer(weights, scale);
  for (const auto& [name, sizes] : calls) results["y, " + name] = linear_in_calls<Backend>(linear, x, sizes);
  return results;
}

/// One layer against the case: q, sx, acc and y, whose names have this suffix.
void check_linear(Case& one, const Setup& setup, const Trits& weights, float scale, const Floats& gain, double eps,
                  const std::string& suffix, Report& report) {
  const Int cols = one.config.get<Int>("in_features"), rows = one.config.get<Int>("out_features");
  const auto x = one.get<float>("x", {-1, cols});
  const Int tokens = Int(x.size()) / cols;
  const Quantized input = quantized(x, cols, gain, eps);
  check_exact("q" + suffix, one.get<Int>("q" + suffix, {tokens, cols}), input.q, report);
  Floats sx, product;
  for (const float a : input.scale) sx.push_back(1 / a);
  check_rows_near("sx" + suffix, sx, one.get<double>("sx" + suffix, {tokens}), 1, report);
  for (std::size_t i = 0; i < input.q.size(); ++i) {
    product.push_back(float(input.q[i]) * input.scale[i / std::size_t(cols)]);
  }
  const Calls calls = all_calls(one, tokens);
  const auto compute = [&]<class Backend, class L>() {
    Results results = linear_results<Backend, L>(weights, scale, gain, eps, x, cols, calls);
    results.merge(all_sums<Backend, L>(weights, cols, input.q));
    return results;
  };
  const Results got = computed(setup, compute, report);
  report.require("the layer reads q" + suffix, same_bits(got.at("q times scale"), product));
  const auto acc = one.get<Int>("acc" + suffix, {tokens, rows});
  check_exact("acc" + suffix, acc, got.at("acc"), report);
  check_exact("acc" + suffix + " of single tokens", acc, got.at("acc of single tokens"), report);
  const auto y = one.get<double>("y" + suffix, {tokens, rows});
  for (const auto& call : calls) {
    report.require("y" + suffix + " in " + call.first + " has the same bits",
                   same_bits(got.at("y, " + call.first), got.at("y, " + calls.front().first)));
  }
  check_rows_near("y" + suffix, got.at("y, " + calls.front().first), y, rows, report);
}

// --- the cases of BitLinear ----------------------------------------------------------------------------------------

// The layer of the MatMul-free models, with both eps that its code has.
void run_normed(Case& one, const Setup& setup, Report& report) {
  Config& config = one.config;
  if (config.get_or("bias", false)) throw Unusable("bias is not supported by this handler");
  const Int cols = config.get<Int>("in_features"), rows = config.get<Int>("out_features");
  const auto master = one.get<float>("weight", {rows, cols});
  const auto gain = one.get<float>("norm.weight", {cols});
  const auto matrix = heed::value_or_throw(heed::ternary_from_floats("weight", {master, rows, cols}));
  const Trits weights = values(matrix);
  check_rows_near("weight_mean_abs", {matrix.scale()}, one.get<double>("weight_mean_abs", {}), 1, report);
  if (one.has("weight_ternary")) {
    check_exact("ternary weights", one.get<Int>("weight_ternary", {rows, cols}), weights, report);
  } else {
    const auto packed = read_bytes(one, "weight_ternary_packed", {(rows + 3) / 4, cols});
    const auto read = heed::value_or_throw(heed::ternary_from_hugging_face(
        "weight_ternary_packed", packed, rows, cols, matrix.scale(), heed::WeightScale::multiplier));
    report.require("ternary weights are those of weight_ternary_packed", values(read) == weights);
  }
  for (const double eps : config.get<Numbers>("rms_norm_eps")) {
    if (eps != 1e-6 && eps != 1e-8) throw Unusable("rms_norm_eps is " + std::to_string(eps));
    check_linear(one, setup, weights, matrix.scale(), gain, eps, eps == 1e-6 ? "_eps1e-6" : "_eps1e-8", report);
  }
}

// The layer of BitNet b1.58 2B4T: no norm, and a scale that divides or multiplies.
void run_bare(Case& one, const Setup& setup, Report& report) {
  if (one.config.get<bool>("norm_inside")) throw Unusable("norm_inside is true, but there are no gains");
  const Int cols = one.config.get<Int>("in_features"), rows = one.config.get<Int>("out_features");
  const auto packed = read_bytes(one, "weight_packed", {(rows + 3) / 4, cols});
  for (const auto& [name, meaning] : {std::pair{"weight_scale_divisor", heed::WeightScale::divisor},
                                      {"weight_scale_multiplier", heed::WeightScale::multiplier}}) {
    const auto scale = one.get<float>(name, {}).at(0);
    const auto matrix =
        heed::value_or_throw(heed::ternary_from_hugging_face("weight_packed", packed, rows, cols, scale, meaning));
    check_linear(one, setup, values(matrix), matrix.scale(), {}, 0, "", report);
  }
}

// Sums that 16 bits do not hold.
void run_adversarial(Case& one, const Setup& setup, Report& report) {
  for (const Int cols : one.config.get<std::vector<Int>>("K")) {
    const std::string k = "_" + std::to_string(cols);
    const Trits weights = read_trits(one, "weight_ternary" + k, {-1, cols}), q = read_trits(one, "q" + k, {-1, cols});
    const auto compute = [&]<class Backend, class L>() { return all_sums<Backend, L>(weights, cols, q); };
    const auto want = one.get<Int>("acc" + k, {Int(q.size()) / cols, Int(weights.size()) / cols});
    for (const auto& [name, got] : computed(setup, compute, report)) check_exact(name + k, want, got, report);
  }
}

void run_activations(Case& one, const Setup&, Report& report) {
  const Int cols = one.shape("x").at(1);
  const auto x = one.get<float>("x", {-1, cols});
  const auto sx = one.get<double>("sx", {-1});
  for (const auto& [name, rounding] :
       {std::pair{"q_half_even", heed::Rounding::half_even}, {"q_half_away", heed::Rounding::half_away}}) {
    const Quantized got = quantized(x, cols, {}, 0, rounding);
    check_exact(name, one.get<Int>(name, {-1, cols}), got.q, report);
    Floats scale;
    for (const float a : got.scale) scale.push_back(1 / a);
    check_rows_near("sx of " + std::string(name), scale, sx, 1, report);
  }
}

void run_weights(Case& one, const Setup&, Report& report) {
  for (const auto& name : one.config.get<std::vector<std::string>>("matrices")) {
    const TensorShape shape = one.shape(name + ".weight");
    const auto master = one.get<float>(name + ".weight", {-1, -1});
    heed::TernaryLayouts::for_each([&]<class L>() {
      const auto got = heed::value_or_throw(heed::ternary_from_floats<L>("weight", {master, shape.at(0), shape.at(1)}));
      check_exact(name + ".ternary", one.get<Int>(name + ".ternary", shape), values(got), report);
      check_rows_near(name + ".mean_abs", {got.scale()}, one.get<double>(name + ".mean_abs", {}), 1, report);
    });
  }
}

void run_packing(Case& one, const Setup&, Report& report) {
  const auto shapes = one.config.get<std::vector<TensorShape>>("shapes");
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const std::string number = std::to_string(i);
    const Int rows = shapes[i].at(0), cols = shapes[i].at(1), quarter = (rows + 3) / 4;
    const auto packed = read_bytes(one, "packed_" + number, {quarter, cols});
    auto unpacked = one.get<Int>("unpacked_" + number, {4 * quarter, cols});
    unpacked.resize(std::size_t(rows * cols));  // the others were not packed
    heed::TernaryLayouts::for_each([&]<class L>() {
      const auto got = heed::value_or_throw(
          heed::ternary_from_hugging_face<L>("packed", packed, rows, cols, 0.5f, heed::WeightScale::multiplier));
      const Trits weights = values(got);
      check_exact("ternary_" + number, one.get<Int>("ternary_" + number, {rows, cols}), weights, report);
      check_exact("unpacked_" + number, unpacked, weights, report);
      report.require("packed_" + number + " again", oracle::hf_packed({rows, cols, weights, 0.5}) == packed);
    });
  }
}

void run_bitlinear(Case& one, const Setup& setup, Report& report) {
  one.config.expect("layout", "R = ceil(N/4); byte[r,k] = sum_i (w[i*R+r,k]+1) << 2i");
  one.config.skip("rows");  // says what the rows of x are
  if (one.has("norm.weight")) return run_normed(one, setup, report);
  if (one.has("weight_packed")) return run_bare(one, setup, report);
  if (one.has("q_half_away")) return run_activations(one, setup, report);
  if (one.has("packed_0")) return run_packing(one, setup, report);
  if (one.config.maybe<std::vector<std::string>>("matrices")) return run_weights(one, setup, report);
  run_adversarial(one, setup, report);
}

const Register bitlinear{{"bitlinear"}, run_bitlinear};

}  // namespace
}  // namespace heed_golden::ternary_handler
