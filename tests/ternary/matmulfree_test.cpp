/// \file
/// The MatMul-free language model from a checkpoint's tensors to its logits, and its state over many calls.
#include <map>

#include <heed/codec/f32.hpp>
#include <heed/ternary/matmulfree_lm.hpp>

#include "oracle/matmulfree.hpp"
#include "ternary/ternary.hpp"

namespace heed_test::matmulfree_test {
namespace {

using heed::GateOrder;
using heed::MatMulFreeConfig;
using Ids = std::vector<std::int32_t>;
template <class L>
using Lm = heed::MatMulFreeLm<L, heed::F32>;

/// A checkpoint of random float weights.
struct Checkpoint {
  MatMulFreeConfig config;
  std::map<std::string, std::pair<Floats, Index>> tensors;  ///< and their columns

  Checkpoint(std::uint64_t seed, const MatMulFreeConfig& made) : config(made) {
    oracle::Random random(seed);
    const Index width = config.hidden_size, inner = config.intermediate_size;
    const auto add = [&](const std::string& name, Index rows, Index cols, double mean, double deviation) {
      Floats numbers = random.gaussians(rows * cols, deviation);
      for (float& x : numbers) x += float(mean);
      tensors[name] = {std::move(numbers), cols};
    };
    const auto projection = [&](const std::string& name, Index out, Index in) {
      add(name + ".weight", out, in, 0, 0.3);
      add(name + ".norm.weight", 1, in, 1, 0.2);
    };
    add("model.embeddings.weight", config.vocab_size, width, 0, 1);
    add("model.lower_bounds", config.num_hidden_layers, width, 0, 0.5);
    add("model.norm.weight", 1, width, 1, 0.2);
    projection("lm_head", config.vocab_size, width);
    for (Index l = 0; l < config.num_hidden_layers; ++l) {
      const std::string name = "model.layers." + std::to_string(l) + ".";
      for (const char* norm : {"attn_norm", "mlp_norm", "attn.g_norm"}) add(name + norm + ".weight", 1, width, 1, 0.2);
      for (const char* one : {"attn.i_proj", "attn.f_proj", "attn.g_proj", "attn.o_proj"}) {
        projection(name + one, width, width);
      }
      projection(name + "mlp.gate_proj", 2 * inner, width);
      projection(name + "mlp.down_proj", width, inner);
    }
  }

  [[nodiscard]] heed::Result<heed::Tensor> tensor(const std::string& name) const {
    const auto found = tensors.find(name);
    if (found == tensors.end()) return heed::fail(StatusCode::out_of_range, "there is no ", name);
    const auto& [numbers, cols] = found->second;
    return heed::Tensor{numbers, Index(numbers.size()) / cols, cols};
  }
  template <class Model>
  [[nodiscard]] heed::Result<Model> load() const {
    return Model::from_floats(config, [this](const char* name) { return tensor(name); });
  }
  template <class L>
  [[nodiscard]] Lm<L> make() const {
    return heed::value_or_throw(load<Lm<L>>());
  }
  /// `nudge` moves every embedding by that much of itself.
  [[nodiscard]] oracle::MatmulFreeLm exact(double nudge = 0, std::uint64_t seed = 0) const {
    const oracle::MatmulFreeConfig same{.hidden_size = config.hidden_size,
                                        .num_hidden_layers = config.num_hidden_layers,
                                        .rms_norm_eps = config.rms_norm_eps,
                                        .bitlinear_norm_eps = config.bitlinear_norm_eps,
                                        .use_lower_bound = config.use_lower_bound,
                                        .gate_order = oracle::GateOrder(int(config.gate_order))};
    auto made = oracle::MatmulFreeLm::load(
        same, [this](const std::string& name) { return oracle::doubles(tensors.at(name).first); });
    oracle::Random random(seed);
    for (double& x : made.embeddings) x *= 1 + nudge * random.gaussian();
    return made;
  }
};
static_assert(int(GateOrder::norm_h_swish_gate) == int(oracle::GateOrder::norm_h_swish_gate) &&
              int(GateOrder::sigmoid_gate) == int(oracle::GateOrder::sigmoid_gate));

constexpr MatMulFreeConfig small{.vocab_size = 29, .hidden_size = 24, .num_hidden_layers = 3, .intermediate_size = 40};

Ids random_ids(oracle::Random& random, Index count, Index vocabulary = 29) {
  Ids ids;
  for (Index i = 0; i < count; ++i) ids.push_back(std::int32_t(random.below(vocabulary)));
  return ids;
}

/// Logits of new tokens, which become part of the state.
template <class B, class Model, class E>
Floats call(const Model& lm, heed::RecurrentState& state, const Ids& ids, E& executor, const Bytes& masked = {}) {
  heed::Workspace workspace;
  auto step = heed::value_or_throw(state.begin(ids));
  Floats logits(ids.size() * std::size_t(lm.config().vocab_size), nan_float);
  heed::check(lm.template forward<B>(ids, step, logits, workspace, executor, masked));
  heed::check(step.commit());
  return logits;
}
template <class B = Backend, class Model>
Floats call(const Model& lm, heed::RecurrentState& state, const Ids& ids, const Bytes& masked = {}) {
  heed::SerialExecutor executor;
  return call<B>(lm, state, ids, executor, masked);
}
Floats states_of(const heed::RecurrentState& state) {
  Floats all;
  for (Index l = 0; l < state.layers(); ++l) {
    all.insert(all.end(), state.state(l).begin(), state.state(l).end());
  }
  return all;
}

double farthest(const oracle::Numbers& got, const oracle::Numbers& want) {
  double most = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (!(std::abs(got[i] - want[i]) <= most)) most = std::abs(got[i] - want[i]);
    size = std::max(size, std::abs(want[i]));
  }
  return most / size;
}

/// Float32 differs from float64 by 2e-5 of the largest logit (tests/golden), but for models in which some activation is so
/// near to a tie that rounding moves it. Those are found without the library: moving the embeddings by a few roundings
/// moves their logits, too.
TEST(MatMulFreeLm, IsTheOracle) {
  int compared = 0;
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    MatMulFreeConfig config = small;
    config.gate_order = GateOrder(int(seed) % 3);
    config.use_lower_bound = seed % 2 == 0;
    config.bitlinear_norm_eps = seed % 4 < 2 ? 1e-6 : 1e-8;
    const Checkpoint checkpoint(seed, config);
    oracle::Random random(seed);
    const Ids ids = random_ids(random, 7);
    const std::vector<oracle::Int> wide(ids.begin(), ids.end());
    const auto want = checkpoint.exact().forward(wide, {7});
    bool tie = false;
    for (std::uint64_t nudge = 1; nudge <= 8; ++nudge) {
      tie = tie || !(farthest(checkpoint.exact(5e-7, nudge).forward(wide, {7}).logits, want.logits) <= 1e-4);
    }
    if (tie) continue;
    ++compared;
    const auto lm = checkpoint.make<heed::TwoBit>();
    auto state = heed::value_or_throw(lm.make_state());
    const Floats logits = call(lm, state, ids);
    EXPECT_TRUE(farthest(oracle::doubles(logits), want.logits) <= 2e-5) << seed;
    EXPECT_TRUE(farthest(oracle::doubles(states_of(state)), want.states) <= 2e-5) << seed;
  }
  EXPECT_GE(compared, 10);
}

TEST(MatMulFreeLm, SameBitsInEveryFormAndSplit) {
  for (int order = 0; order < 3; ++order) {
    MatMulFreeConfig config = small;
    config.gate_order = GateOrder(order);
    const Checkpoint checkpoint(7, config);
    oracle::Random random(1);
    const Ids ids = random_ids(random, 18);
    Floats want, end;
    with_every_form([&]<class B, class L>(const std::string& form) {
      const auto lm = checkpoint.make<L>();
      for (const Index each : {18, 1, 5}) {
        auto state = heed::value_or_throw(lm.make_state());
        Floats logits;
        for (Index at = 0; at < 18; at += each) {
          const Floats part = call<B>(lm, state, rows_of(ids, at, std::min(each, 18 - at), 1));
          logits.insert(logits.end(), part.begin(), part.end());
        }
        if (want.empty()) {
          want = logits;
          end = states_of(state);
        }
        ASSERT_TRUE(same_bits(logits, want)) << form << ", " << each << " tokens a call";
        ASSERT_TRUE(same_bits(states_of(state), end)) << form << ", " << each << " tokens a call";
      }
    });
  }
}

TEST(MatMulFreeLm, WorkersChangeNothing) {
  const auto lm = Checkpoint(2, small).make<heed::TwoBit>();
  oracle::Random random(2);
  const Ids ids = random_ids(random, 9);
  auto serial = heed::value_or_throw(lm.make_state());
  const Floats want = call(lm, serial, ids);
  for (const Index workers : {2, 3, 7}) {
    auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
    auto state = heed::value_or_throw(lm.make_state());
    EXPECT_TRUE(same_bits(call<Backend>(lm, state, ids, *pool), want)) << workers;
  }
}

TEST(MatMulFreeLm, LogitsOfTheLastTokenAlone) {
  const auto lm = Checkpoint(3, small).make<heed::TwoBit>();
  oracle::Random random(3);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  for (const Index tokens : {1, 2, 6, 13}) {
    const Ids ids = random_ids(random, tokens);
    auto state = heed::value_or_throw(lm.make_state()), other = heed::value_or_throw(lm.make_state());
    const Floats all = call(lm, state, ids);
    auto step = heed::value_or_throw(other.begin(ids));
    Floats last(29, nan_float);
    heed::check(lm.forward<Backend>(ids, step, last, workspace, executor));
    heed::check(step.commit());
    EXPECT_TRUE(same_bits(last, rows_of(all, tokens - 1, 1, 29)));
    EXPECT_TRUE(same_bits(states_of(other), states_of(state)));
  }
}

TEST(MatMulFreeLm, LeftPadding) {
  const auto lm = Checkpoint(4, small).make<heed::TwoBit>();
  oracle::Random random(4);
  const Ids ids = random_ids(random, 8);
  auto plain = heed::value_or_throw(lm.make_state());
  const Floats want = call(lm, plain, ids);
  for (const Index padding : {1, 5}) {
    Ids padded(std::size_t(padding), 0);
    padded.insert(padded.end(), ids.begin(), ids.end());
    Bytes masked(padded.size(), 0);
    std::fill_n(masked.begin(), padding, std::uint8_t{1});
    auto state = heed::value_or_throw(lm.make_state());
    EXPECT_TRUE(same_bits(rows_of(call(lm, state, padded, masked), padding, 8, 29), want));
    EXPECT_TRUE(same_bits(states_of(state), states_of(plain)));
  }
}

/// Two answers to one prompt, an undone one, and one from a snapshot: each as if it had been alone.
TEST(MatMulFreeLm, ForkedStatesGoDifferentWays) {
  const auto lm = Checkpoint(5, small).make<heed::TwoBit>();
  const Ids prompt{3, 14, 15, 9}, first{2, 6, 5}, second{27, 18};
  const auto whole = [&](const Ids& answer) {
    auto state = heed::value_or_throw(lm.make_state());
    Ids ids = prompt;
    ids.insert(ids.end(), answer.begin(), answer.end());
    return rows_of(call(lm, state, ids), 4, Index(answer.size()), 29);
  };
  const Floats want_first = whole(first), want_second = whole(second);
  auto state = heed::value_or_throw(lm.make_state({.undo_tokens = 3}));
  call(lm, state, prompt);
  auto fork = heed::value_or_throw(state.fork());
  std::vector<std::byte> snapshot(state.snapshot_bytes());
  heed::check(state.snapshot(snapshot));
  EXPECT_TRUE(same_bits(call(lm, state, first), want_first));
  EXPECT_TRUE(same_bits(call(lm, fork, second), want_second));
  heed::check(state.truncate(4));
  EXPECT_TRUE(same_bits(call(lm, state, second), want_second));
  EXPECT_TRUE(same_bits(states_of(state), states_of(fork)));
  auto restored = heed::value_or_throw(heed::RecurrentState::restore({.layers = 3, .width = 24}, snapshot));
  EXPECT_TRUE(same_bits(call(lm, restored, first), want_first));
}

/// Embeddings are rounded to the codec, bf16 unless said otherwise, and nothing else is.
TEST(MatMulFreeLm, EmbeddingsAreStoredByTheCodec) {
  Checkpoint checkpoint(6, small);
  const auto stored = heed::value_or_throw(checkpoint.load<heed::MatMulFreeLm<>>());
  for (float& x : checkpoint.tensors["model.embeddings.weight"].first) x = float(oracle::round_to_bf16(double(x)));
  const auto rounded = checkpoint.make<heed::TwoBit>();
  const Ids ids{1, 2, 3, 28};
  auto a = heed::value_or_throw(stored.make_state()), b = heed::value_or_throw(rounded.make_state());
  EXPECT_TRUE(same_bits(call(stored, a, ids), call(rounded, b, ids)));
}

TEST(MatMulFreeLm, BytesAreThoseOfItsParts) {
  const Index width = 24, inner = 40, layers = 3, vocabulary = 29, four = sizeof(float);
  const auto expected = [&]<class L>(Index number, GateOrder order, bool bounded) {
    const Index norms = order == GateOrder::sigmoid_gate ? 2 : 3;  // attn_norm, mlp_norm, g_norm
    const Index layer = 4 * (L::bytes(width, width) + width * four) + L::bytes(2 * inner, width) + width * four +
                        L::bytes(width, inner) + inner * four + norms * width * four;
    return vocabulary * width * number + L::bytes(vocabulary, width) + 2 * width * four + layers * layer +
           (bounded ? (layers - 1) * width * four : 0);
  };
  for (const bool bounded : {false, true}) {
    for (const GateOrder order : {GateOrder::norm_gate_swish_h, GateOrder::sigmoid_gate}) {
      MatMulFreeConfig config = small;
      config.use_lower_bound = bounded;
      config.gate_order = order;
      const Checkpoint checkpoint(7, config);
      EXPECT_EQ(heed::value_or_throw(checkpoint.load<heed::MatMulFreeLm<>>()).bytes(),
                expected.operator()<heed::TwoBit>(2, order, bounded));
      EXPECT_EQ(checkpoint.make<heed::FiveTrits>().bytes(), expected.operator()<heed::FiveTrits>(4, order, bounded));
    }
  }
}

TEST(MatMulFreeLm, StateHasTheModelsShape) {
  const auto lm = Checkpoint(8, small).make<heed::TwoBit>();
  const auto state = heed::value_or_throw(lm.make_state({.layers = 99, .width = 1, .max_tokens = 5}));
  EXPECT_EQ(state.layers(), 3);
  EXPECT_EQ(state.width(), 24);
  EXPECT_EQ(state.state_bytes(), small.state_bytes());
  EXPECT_EQ(states_of(state), Floats(72, 0.0f));
}

/// The table of the released models, and the 13B of the paper's measurements.
TEST(MatMulFreeConfig, CountsOfThePublishedModels) {
  MatMulFreeConfig largest{.hidden_size = 5120, .num_hidden_layers = 40, .intermediate_size = 13824};
  const std::tuple<MatMulFreeConfig, Index, Index, Index> table[] = {
      {heed::matmulfree_370m, 341'049'344, 32'768'000, 98'304},
      {heed::matmulfree_1_3b, 1'298'661'376, 65'536'000, 196'608},
      {heed::matmulfree_2_7b, 2'619'473'920, 81'920'000, 327'680},
      {largest, 12'851'609'600, 163'840'000, 819'200}};
  for (const auto& [config, ternary, embedding, state] : table) {
    EXPECT_EQ(config.ternary_parameters(), ternary);
    EXPECT_EQ(config.embedding_parameters(), embedding);
    EXPECT_EQ(config.state_bytes(), state);
    EXPECT_EQ(config.intermediate_size, MatMulFreeConfig::default_intermediate_size(config.hidden_size));
    EXPECT_EQ(config.intermediate_size, oracle::matmul_free_intermediate_size(config.hidden_size));
    EXPECT_EQ(config.vocab_size, 32000);
    EXPECT_EQ(config.rms_norm_eps, 1e-6);
    EXPECT_EQ(config.bitlinear_norm_eps, 1e-6);
    EXPECT_EQ(config.gate_order, GateOrder::norm_gate_swish_h);
  }
}

TEST(MatMulFreeLmErrors, CallsChangeNothing) {
  const auto lm = Checkpoint(9, small).make<heed::TwoBit>();
  heed::Workspace workspace, none(std::span<std::byte>{});
  heed::SerialExecutor executor;
  auto state = heed::value_or_throw(lm.make_state());
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(3)));
  Floats logits(3 * 29, -77.0f);
  const auto forward = [&](const Ids& ids, std::size_t numbers, std::size_t masked = 0) {
    return lm.forward<Backend>(ids, step, std::span(logits).first(numbers), workspace, executor, Bytes(masked, 1));
  };
  expect_invalid(forward({1, 29, 3}, 87), "ids[1] is 29, must be in 0 .. 28");
  expect_invalid(forward({1, 2, -1}, 29), "ids[2] is -1, must be in 0 .. 28");
  expect_invalid(forward({1, 2, 3}, 86), "logits has 86 numbers, must have 87 for 3 tokens");
  expect_invalid(forward({1, 2, 3}, 0), "logits has 0 numbers, must have 87 for 3 tokens");
  expect_invalid(forward({1, 2, 3}, 87, 2), "masked has 2 numbers, must have 3 for 3 tokens");
  expect_invalid(forward({1, 2}, 58), "step has 3 tokens, ids 2");
  EXPECT_EQ(lm.forward<Backend>(Ids{1, 2, 3}, step, logits, none, executor).code(), StatusCode::out_of_memory);
  EXPECT_EQ(logits, Floats(87, -77.0f));
  EXPECT_EQ(step.commit().code(), StatusCode::wrong_state);  // no layer was touched
  step.abort();
  EXPECT_EQ(forward({1, 2, 3}, 87).code(), StatusCode::wrong_state);
  EXPECT_EQ(states_of(state), Floats(72, 0.0f));
}

TEST(MatMulFreeLmErrors, AStateOfAnotherModel) {
  const auto lm = Checkpoint(9, small).make<heed::TwoBit>();
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  Floats logits(29, -77.0f);
  for (const auto& [layers, width] : {std::pair<Index, Index>{2, 24}, {4, 24}, {3, 23}, {3, 25}}) {
    auto state = heed::value_or_throw(heed::RecurrentState::create({.layers = layers, .width = width}));
    auto step = heed::value_or_throw(state.begin(heed::NumTokens(1)));
    expect_invalid(
        lm.forward<Backend>(Ids{1}, step, logits, workspace, executor),
        "step has " + std::to_string(layers) + " layers of " + std::to_string(width) + ", must have 3 of 24");
    EXPECT_EQ(logits, Floats(29, -77.0f));
  }
}

TEST(MatMulFreeLmErrors, Configs) {
  const auto refused = [](const auto& change) {
    MatMulFreeConfig config = small;
    change(config);
    const auto tensor = [](const char*) -> heed::Result<heed::Tensor> { return heed::Tensor{}; };
    return heed::MatMulFreeLm<>::from_floats(config, tensor).status();
  };
  expect_invalid(refused([](auto& c) { c.hidden_size = 0; }), "hidden_size is 0, must be in 1 .. 500000");
  expect_invalid(refused([](auto& c) { c.num_hidden_layers = 0; }), "num_hidden_layers is 0, must be in 1 .. 65536");
  expect_invalid(refused([](auto& c) { c.intermediate_size = -1; }), "intermediate_size is -1, must be in 1 .. 500000");
  expect_invalid(refused([](auto& c) { c.vocab_size = 0; }), "vocab_size is 0, must be in 1 .. 16777216");
}

/// Every tensor that is missing or of another shape is named.
TEST(MatMulFreeLmErrors, Tensors) {
  const Checkpoint good(10, small);
  for (const auto& [name, tensor] : good.tensors) {
    Checkpoint checkpoint = good;
    checkpoint.tensors.erase(name);
    expect_failure(checkpoint.load<Lm<heed::TwoBit>>().status(), StatusCode::out_of_range, "there is no " + name);
    const Index cols = tensor.second, rows = Index(tensor.first.size()) / cols;  // without the last row, or column
    checkpoint.tensors[name] = rows > 1 ? std::pair{rows_of(tensor.first, 0, rows - 1, cols), cols}
                                        : std::pair{rows_of(tensor.first, 0, cols - 1, 1), cols - 1};
    const Status status = checkpoint.load<Lm<heed::TwoBit>>().status();
    EXPECT_EQ(status.code(), StatusCode::invalid_argument) << name;
    std::string last = name.substr(0, name.find(".weight"));
    if (last.ends_with(".norm") && last != "model.norm") last = last.substr(0, last.size() - 5);
    if (const auto at = last.find("attn.g_norm"); at != std::string::npos) last = "g_norm";
    EXPECT_NE(status.message().find(last), std::string::npos) << name << ": " << status.message();
    EXPECT_NE(status.message().find("must be ["), std::string::npos) << name << ": " << status.message();
  }
  Checkpoint without = good;
  without.config.gate_order = GateOrder::sigmoid_gate;
  without.config.use_lower_bound = false;
  for (const char* name : {"model.layers.0.attn.g_norm.weight", "model.layers.1.attn.g_norm.weight",
                           "model.layers.2.attn.g_norm.weight", "model.lower_bounds"}) {
    without.tensors.erase(name);
  }
  EXPECT_TRUE(without.load<Lm<heed::TwoBit>>().ok());  // what a model has not is not asked for
}

}  // namespace
}  // namespace heed_test::matmulfree_test
