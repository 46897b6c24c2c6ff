// Kills mutants of the ternary mechanisms: the quantiser, products, layouts, imports, MLGRU, the channel mixer and the
// recurrent state. Everything is compared with the oracle, or with numbers worked out by hand.
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <heed/exec/serial.hpp>
#include <heed/simd/scalar.hpp>
#include <heed/simd/ternary/avx2.hpp>
#include <heed/simd/ternary/vnni.hpp>
#include <heed/ternary/glu.hpp>
#include <heed/ternary/import/ggml.hpp>
#include <heed/ternary/import/hugging_face.hpp>
#include <heed/ternary/import/i2_s.hpp>
#include <heed/ternary/matmulfree_lm.hpp>
#include <heed/ternary/mlgru.hpp>

#include "mutants/expect.hpp"
#include "oracle/mlgru.hpp"
#include "oracle/random.hpp"
#include "oracle/ternary_packings.hpp"

namespace {

using heed::Index;
using killer::expect;
using Floats = std::vector<float>;
using Trits = std::vector<std::int8_t>;

void quantiser() {
  const auto quantized = [](const Floats& x, heed::Rounding rounding = heed::Rounding::half_even) {
    Trits q(std::size_t(heed::round_up(Index(x.size()), 4)), 99);
    const auto row =
        heed::detail::quantize_row({.x = x.data(), .n = Index(x.size())}, rounding, Index(q.size()), q.data(), 4);
    return std::pair{q, row.scale};
  };
  const Floats ties{127, 0.5f, 1.5f, -1.5f, -2.5f};
  expect(quantized(ties).first == Trits{127, 0, 2, -2, -2, 0, 0, 0}, "quantiser: halves", "to even");
  expect(quantized(ties, heed::Rounding::half_away).first == Trits{127, 1, 2, -2, -3, 0, 0, 0}, "quantiser: halves",
         "away from zero");
  expect(quantized({2e-6f, -1e-6f}).first == Trits{25, -13, 0, 0}, "quantiser: small", "the largest counts for 1e-5");
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    expect(std::isnan(quantized({1, bad}).second), "quantiser: not finite", "the row is NaN");
  }
  expect(std::abs(heed::detail::reciprocal_rms(4e-6, 4, 1e-6) - 707.10678f) < 1e-3f, "quantiser: eps", "of the norm");
  const auto normed = [](float x, double eps) {
    const heed::detail::RmsFactors norm = heed::detail::rms_factors(double(x) * double(x), 1, eps);
    return x * norm.lift * norm.rstd;
  };
  expect(normed(0, 0) == 0 && normed(0, 1e-310) == 0, "quantiser: zeros", "stay zero");
  expect(std::abs(normed(0x1p-149f, 0) - 1) < 1e-6f, "quantiser: tiny", "1 / rms is no float");
}

/// All tokens at once, and the first alone, against wide integers.
template <class T, class L>
void product(const char* check, Index rows, Index cols, Index tokens) {
  oracle::Random random(1);
  oracle::TernaryWeights weights{.rows = rows, .cols = cols};
  Trits q;
  for (Index i = 0; i < rows * cols; ++i) {
    weights.w.push_back(std::int8_t(i < cols ? 1 : i < 2 * cols ? -1 : random.below(3) - 1));
  }
  for (Index i = 0; i < tokens * cols; ++i) {
    q.push_back(std::int8_t(i < cols ? 127 : i < 2 * cols ? -127 : random.below(255) - 127));
  }
  const auto matrix = heed::ternary_from_values<L>("w", weights.w, rows, cols, 1);
  if (!matrix.ok()) return expect(false, check, "create");
  for (const Index count : {Index{1}, tokens}) {
    const heed::detail::TokenTiles<T> tiles{count, L::blocks(cols) * L::block_cols};
    Trits laid(std::size_t(tiles.bytes()), 0);
    std::vector<heed::detail::QuantizedRow> scales(std::size_t(count), {.scale = 1, .sum = 0});
    for (Index i = 0; i < count * cols; ++i) {
      const Index t = i / cols, c = i % cols;
      laid[std::size_t(tiles.offset(t) + c / 4 * 4 * tiles.tile_of(t) + c % 4)] = q[std::size_t(i)];
      scales[std::size_t(t)].sum += q[std::size_t(i)];
    }
    Floats y(std::size_t(count * rows));
    heed::Workspace scratch;
    if (!scratch.reserve(std::size_t(heed::detail::ProductScratch<T, L>{tiles}.bytes())).ok()) return;
    heed::detail::ternary_product<T>(*matrix, tiles, {laid.data(), scales.data()}, 0, matrix->groups(), y.data(),
                                     scratch.data());
    const auto want = oracle::integer_products({q.begin(), q.begin() + count * cols}, weights);
    bool same = true;
    for (std::size_t i = 0; i < y.size(); ++i) same = same && y[i] == float(want[i]);
    expect(same, check, count == 1 ? "one token" : "many tokens");
  }
}
template <class T>
void products(const char* check) {
  product<T, heed::TwoBit>(check, 35, 421, 5);
  product<T, heed::FiveTrits>(check, 35, 421, 5);
}

Trits values(const heed::TernaryMatrix<>& matrix) {
  Trits all(std::size_t(matrix.rows() * matrix.cols()));
  for (Index r = 0; r < matrix.rows(); ++r) {
    matrix.read_row(r, std::span(all).subspan(std::size_t(r * matrix.cols()), std::size_t(matrix.cols())));
  }
  return all;
}

oracle::TernaryWeights random_weights(Index rows, Index cols, double scale) {
  oracle::Random random(2);
  oracle::TernaryWeights weights{.rows = rows, .cols = cols, .scale = scale};
  for (Index i = 0; i < rows * cols; ++i) weights.w.push_back(std::int8_t(random.below(3) - 1));
  return weights;
}

void imports() {
  const auto weights = random_weights(6, 256, 0.25);
  const auto same = [&](const heed::Result<heed::TernaryMatrix<>>& read, const char* check, const char* what) {
    expect(read.ok() && values(*read) == weights.w && read->scale() == 0.25f, check, what);
  };
  const auto packed = oracle::hf_packed(weights);
  same(heed::ternary_from_hugging_face("w", packed, 6, 256, 0.25f, heed::WeightScale::multiplier), "import: hf",
       "a scale that multiplies");
  same(heed::ternary_from_hugging_face("w", packed, 6, 256, 4, heed::WeightScale::divisor), "import: hf",
       "a scale that divides");
  same(heed::ternary_from_i2_s("w", oracle::i2_s_packed(weights, oracle::I2sBlock::x86), 6, 256, heed::I2sBlock::x86),
       "import: i2_s", "of x86");
  // The same bytes are another shape's, even if its rows are no whole number of blocks.
  const auto half =
      heed::ternary_from_i2_s("w", oracle::i2_s_packed(weights, oracle::I2sBlock::x86), 16, 96, heed::I2sBlock::x86);
  expect(half.ok() && values(*half) == weights.w, "import: i2_s rows", "of 96");
  same(heed::ternary_from_ggml("w", oracle::ggml_packed(weights, oracle::tq2_0), 6, 256, heed::GgmlTernary::tq2_0),
       "import: ggml", "tq2_0");
  same(heed::ternary_from_ggml("w", oracle::ggml_packed(weights, oracle::tq1_0), 6, 256, heed::GgmlTernary::tq1_0),
       "import: ggml", "tq1_0");
  auto two_scales = oracle::ggml_packed(weights, oracle::tq2_0);
  two_scales.back() = 0x30;
  expect(!heed::ternary_from_ggml("w", two_scales, 6, 256, heed::GgmlTernary::tq2_0).ok(), "import: ggml",
         "two scales are refused");
  const Floats halves{0.5f, -0.5f, 1.5f, -1.5f};  // of a mean of 1
  const auto from_floats = heed::ternary_from_floats("w", {halves, 1, 4});
  expect(from_floats.ok() && values(*from_floats) == Trits{0, 0, 1, -1}, "import: floats", "half of the mean is 0");
}

/// A layer and its oracle.
struct Linear {
  oracle::BitLinear exact;
  Floats gain;

  Linear(oracle::Random& random, Index out, Index in) {
    exact.weights = {.rows = out, .cols = in, .scale = 0.25};
    for (Index i = 0; i < out * in; ++i) exact.weights.w.push_back(std::int8_t(random.below(3) - 1));
    for (Index i = 0; i < in; ++i) gain.push_back(float(1 + 0.3 * random.gaussian()));
    exact.norm = oracle::doubles(gain);
  }
  [[nodiscard]] heed::BitLinear<> make() const {
    auto matrix = heed::ternary_from_values("w", exact.weights.w, exact.weights.rows, exact.weights.cols, 0.25f);
    return heed::value_or_throw(heed::BitLinear<>::create("w", *std::move(matrix), {gain, 1, Index(gain.size())}));
  }
};

bool close(const Floats& got, const oracle::Numbers& want) {
  bool all = got.size() == want.size();
  for (std::size_t i = 0; all && i < want.size(); ++i) {
    all = std::abs(double(got[i]) - want[i]) <= 2e-5 * (1 + std::abs(want[i]));
  }
  return all;
}

/// Only a layer's new owner has weights; nothing is read here if the widths of the old one stayed.
void moves() {
  oracle::Random random(4);
  heed::BitLinear<> layer = Linear(random, 3, 5).make();
  const heed::BitLinear<> taken(std::move(layer));
  expect(taken.in() == 5 && taken.out() == 3, "move: layer", "its widths go along");
  expect(layer.in() == 0 && layer.out() == 0, "move: layer", "none are left");  // NOLINT(bugprone-use-after-move)
}

/// Tokens of one step, the first of them padding, in every gate order; inputs are random, and no tie is near.
void mlgru() {
  constexpr Index width = 12, tokens = 5;
  oracle::Random random(3);
  const Linear i(random, width, width), f(random, width, width), g(random, width, width), o(random, width, width);
  const Floats u = random.gaussians(tokens * width), parameter = random.gaussians(3 * width);
  Floats norm;
  for (Index d = 0; d < width; ++d) norm.push_back(float(1 + 0.3 * random.gaussian()));
  Floats bounds(parameter.size());
  expect(heed::forget_lower_bounds(parameter, 3, width, bounds).ok(), "mlgru", "lower bounds");
  const auto exact_bounds = oracle::lower_bounds(oracle::doubles(parameter), width);
  expect(close(bounds, exact_bounds), "mlgru: bounds", "of three layers");
  const Floats bound(bounds.begin() + width, bounds.begin() + 2 * width);
  for (const auto& [order, exact_order] :
       {std::pair{heed::GateOrder::norm_gate_swish_h, oracle::GateOrder::norm_gate_swish_h},
        {heed::GateOrder::norm_h_swish_gate, oracle::GateOrder::norm_h_swish_gate},
        {heed::GateOrder::sigmoid_gate, oracle::GateOrder::sigmoid_gate}}) {
    const bool normed = order != heed::GateOrder::sigmoid_gate;
    const heed::Tensor g_norm = normed ? heed::Tensor{norm, 1, width} : heed::Tensor{};
    const auto layer = heed::Mlgru<>::create({i.make(), f.make(), g.make(), o.make()}, g_norm, bound, {order, 1e-6});
    auto state = heed::RecurrentState::create({.layers = 1, .width = width});
    if (!layer.ok() || !state.ok()) return expect(false, "mlgru", "create");
    const oracle::Mlgru want{.i_proj = i.exact,
                             .f_proj = f.exact,
                             .g_proj = g.exact,
                             .o_proj = o.exact,
                             .g_norm = oracle::doubles(norm),
                             .lower_bound = oracle::doubles(bound),
                             .order = exact_order};
    const std::vector<std::uint8_t> masked{1, 0, 0, 0, 0};
    Floats y(tokens * width);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    auto step = state->begin(heed::NumTokens(tokens));
    const auto place = (*step).layer(0);
    const bool ran = layer->forward<heed::Scalar>(u, *place, y, workspace, executor, masked).ok();
    oracle::Numbers exact_state;
    const auto steps = want.scan(oracle::doubles(u), exact_state, {true, false, false, false, false});
    expect(ran && (*step).commit().ok() && close({state->state(0).begin(), state->state(0).end()}, exact_state),
           "mlgru: state", "after five tokens");
    expect(close(y, steps.out), "mlgru: output", "of five tokens");
  }
}

void glu() {
  constexpr Index width = 10, inner = 14, tokens = 3;
  oracle::Random random(4);
  const Linear both(random, 2 * inner, width), down(random, width, inner);
  const Floats x = random.gaussians(tokens * width);
  const auto layer = heed::BitGlu<>::create(both.make(), down.make());
  Floats y(tokens * width);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  oracle::Numbers product;
  const auto rows = both.exact(oracle::doubles(x));
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t i = 0; i < inner; ++i) {
      product.push_back(oracle::silu(rows[t * 2 * inner + i]) * rows[(2 * t + 1) * inner + i]);
    }
  }
  expect(layer.ok() && layer->forward<heed::Scalar>(x, y, workspace, executor).ok() && close(y, down.exact(product)),
         "glu", "gate rows come first");

  // Two layers of one input, with norms of their own.
  const Linear other(random, 9, width);
  const auto first = both.make(), second = other.make();
  Floats a(tokens * 2 * inner), b(tokens * 9);
  const heed::BitLinearOutput<heed::TwoBit> outputs[] = {{&first, a}, {&second, b}};
  expect(heed::bit_linear<heed::Scalar>(std::span<const heed::BitLinearOutput<heed::TwoBit>>(outputs), x, workspace,
                                        executor)
                 .ok() &&
             close(a, rows) && close(b, other.exact(oracle::doubles(x))),
         "bit_linear: several outputs", "every one with its norm");
}

/// Says that it has so many workers. All tasks run in the first one.
struct Says {
  Index count;
  Index workers() const { return count; }
  void parallel_for(Index tasks, heed::FunctionRef<void(Index, Index)> body) const {
    for (Index task = 0; task < tasks; ++task) body(task, 0);
  }
};

/// A worker too many takes little memory, so that a layer which does not count them ends well.
void workers() {
  oracle::Random random(5);
  const auto linear = [&](Index out) { return Linear(random, out, 1).make(); };
  const heed::BitLinear<> one = linear(1);
  const Floats numbers(2, 0.5f), x(1, 1.0f);
  const std::vector<std::int32_t> ids{0};
  const heed::Tensor row{std::span(numbers).first(1), 1, 1};
  const auto glu = heed::value_or_throw(heed::BitGlu<>::create(linear(2), linear(1)));
  const auto mixer =
      heed::value_or_throw(heed::Mlgru<>::create({linear(1), linear(1), linear(1), linear(1)}, row, row.data));
  const auto model = heed::value_or_throw(heed::MatMulFreeLm<>::from_floats(
      {.vocab_size = 1, .hidden_size = 1, .num_hidden_layers = 1, .intermediate_size = 1},
      [&](const char* name) -> heed::Result<heed::Tensor> {
        if (std::string(name).find("gate_proj.weight") != std::string::npos) return heed::Tensor{numbers, 2, 1};
        return row;
      }));
  auto state = heed::value_or_throw(heed::RecurrentState::create({.layers = 1, .width = 1}));
  const auto all_are = [&](bool good, Index count, const char* what) {
    Says executor{count};
    Floats y(1);
    heed::Workspace workspace;
    const heed::StatusCode want = good ? heed::StatusCode::ok : heed::StatusCode::invalid_argument;
    const auto is = [&](const heed::Status& status, const char* check) { expect(status.code() == want, check, what); };
    is(heed::bit_linear<heed::Scalar>(one, x, y, workspace, executor), "workers: of bit_linear");
    is(glu.forward<heed::Scalar>(x, y, workspace, executor), "workers: of the channel mixer");
    auto step = heed::value_or_throw(state.begin(heed::NumTokens(1)));
    is(mixer.forward<heed::Scalar>(x, heed::value_or_throw(step.layer(0)), y, workspace, executor),
       "workers: of mlgru");
    is(model.forward<heed::Scalar>(ids, step, y, workspace, executor), "workers: of the model");
  };
  all_are(true, 1, "one");
  all_are(false, heed::detail::most_workers + 1, "one too many");
  // Asked alone: a layer would divide by it.
  expect(!heed::detail::check_workers(0).ok() && heed::detail::check_workers(1).ok(), "workers: none", "0");
}

/// The state counts its tokens: number t after token t.
void state() {
  auto made = heed::RecurrentState::create({.layers = 1, .width = 1, .undo_tokens = 2});
  if (!made.ok()) return expect(false, "state", "create");
  heed::RecurrentState& state = *made;
  const auto begin = [&](Index count) {
    auto step = state.begin(heed::NumTokens(count));
    const auto place = (*step).layer(0);
    for (Index t = 0; t < count; ++t) {
      if (float* const to = (*place).after(t)) *to = float(state.seen() + t + 1);
    }
    return step;
  };
  const auto is = [&](Index tokens) { return state.seen() == tokens && state.state(0)[0] == float(tokens); };
  expect((*begin(5)).commit().ok() && is(5), "state: commit", "the last token's state");
  expect(state.rollback_floor() == 3 && !state.truncate(2).ok(), "state: floor", "of three kept states");
  {
    auto step = begin(5);
    expect(!(*step).commit(2).ok() && (*step).commit(4).ok() && is(9), "state: accepted", "four of five");
  }
  expect(state.rollback_floor() == 8 && state.truncate(8).ok() && is(8), "state: truncate", "to a kept state");
  expect((*begin(2)).commit().ok() && is(10) && state.rollback_floor() == 8, "state: floor", "after single tokens");
  static_cast<void>(begin(3).ok());  // and aborted
  expect(is(10) && state.truncate(9).ok() && is(9), "state: truncate", "after an aborted step");
  std::vector<std::byte> bytes(state.snapshot_bytes());
  const bool written = state.snapshot(bytes).ok();
  auto twin = heed::RecurrentState::restore({.layers = 1, .width = 1}, bytes);
  expect(written && twin.ok() && twin->seen() == 9 && twin->state(0)[0] == 9 && twin->rollback_floor() == 9,
         "state: snapshot", "the latest state of two");
  expect(state.clear().ok() && state.seen() == 0 && state.state(0)[0] == 0, "state: clear", "zero again");
}

}  // namespace

int main() {
  quantiser();
  products<heed::TernaryScalar>("product: scalar");
  product<heed::TernaryScalar, heed::TwoBit>("product: long rows", 2, 16500, 5);
#if defined(KILLER_AVX2)
  products<heed::TernaryAvx2>("product: avx2");
#endif
#if defined(KILLER_VNNI)
  products<heed::TernaryVnni512>("product: vnni");
  products<heed::TernaryVnni256>("product: vnni");
#endif
  imports();
  moves();
  mlgru();
  glu();
  workers();
  state();
  return killer::failures == 0 ? 0 : 1;
}
