// What was moved from, or only default-made. Of layers the memory is gone, so their widths must be 0: every call that
// returns a Status says wrong_state and names the layer, and the others write nothing. Trees, masks and rules are empty or
// what they were. Caches and steps are tested in tests/cache. ASan and UBSan see the rest.
#include "extremes/numbers.hpp"

#include <cstddef>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace heed_test::moved_test {
namespace {

using heed::Status, heed::StatusCode;
using Statuses = std::vector<Status>;
using Model = heed::MatMulFreeLm<>;

constexpr Index tokens = 2;
constexpr float untouched = -7;

/// Some numbers of this shape, none of them 0.
heed::Tensor tensor(Index rows, Index cols) {
  static const std::vector<float> numbers(4096, 0.5f);
  return {std::span(numbers).first(std::size_t(rows * cols)), rows, cols};
}

/// Arguments of a call: of two tokens, or of none.
struct Arguments {
  bool some = true;
  std::vector<float> inputs = std::vector<float>(1024, 0.25f), outputs = std::vector<float>(1024, untouched);
  std::vector<Index> numbers{3, 4};
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  std::size_t at = 0;

  std::span<const float> in(Index width) { return std::span(inputs).first(some ? std::size_t(tokens * width) : 0); }
  std::span<float> out(Index width) {
    const std::size_t count = some ? std::size_t(tokens * width) : 0, first = std::exchange(at, at + count);
    return std::span(outputs).subspan(first, count);
  }
  std::span<const Index> positions() { return std::span(numbers).first(some ? numbers.size() : 0); }
};

/// Every call is refused because of `name`, and writes nothing.
template <class Layer, class Calls>
void expect_refused(const char* name, const Layer& layer, const Calls& calls) {
  for (const bool some : {true, false}) {
    Arguments arguments;
    arguments.some = some;
    for (const Status& status : calls(layer, arguments)) {
      EXPECT_EQ(status.code(), StatusCode::wrong_state) << status.message();
      EXPECT_EQ(status.message().rfind(name, 0), 0u) << status.message();
    }
    for (const float y : arguments.outputs) EXPECT_EQ(y, untouched);
  }
}

template <class Layer, class Calls>
void expect_right(const Layer& layer, const Calls& calls) {
  Arguments arguments;
  for (const Status& status : calls(layer, arguments)) EXPECT_TRUE(status.ok()) << status.message();
}

// NOLINTBEGIN(bugprone-use-after-move)

/// Moves `layer` in every way. `calls(layer, arguments)` are its calls; `empty(layer)` expects its widths to be 0.
template <class Layer, class Calls, class Empty>
void expect_moves(const char* name, Layer layer, const Calls& calls, const Empty& empty) {
  SCOPED_TRACE(name);
  expect_right(layer, calls);
  {
    Layer taken(std::move(layer));
    expect_right(taken, calls);
    expect_refused(name, layer, calls);
    empty(layer);
    layer = std::move(taken);
    expect_right(layer, calls);
    expect_refused(name, taken, calls);
    empty(taken);
    taken = std::move(layer);
    expect_right(taken, calls);
  }
  expect_refused(name, layer, calls);  // now nobody has its memory
  empty(layer);
}

/// A policy that no call accepts.
template <class P>
void expect_no_policy(const P& policy) {
  EXPECT_EQ(policy.validate().code(), StatusCode::invalid_argument);
}

constexpr heed::Gqa shape{.num_heads = 2, .num_kv_heads = 1, .head_dim = 4, .scale = 1};
const heed::RopeOptions rotation{
    .head_dim = 4, .layout = heed::RopeLayout::half_split, .theta = 1e4, .table_positions = 64};
const heed::RopeOptions part_rotation{.head_dim = 6,
                                      .rotary_dim = 4,
                                      .rotary_offset = 1,
                                      .layout = heed::RopeLayout::interleaved,
                                      .theta = 1e4,
                                      .table_positions = 64};

heed::GroupedLayer grouped() {
  return heed::value_or_throw(
      heed::GroupedLayer::create(6, shape, rotation, {tensor(8, 6), tensor(4, 6), tensor(4, 6), tensor(6, 8)}));
}
heed::MlaLayer latent(Index q_rank) {
  const heed::MlaLayerOptions options{.hidden_size = 6,
                                      .num_attention_heads = 2,
                                      .q_lora_rank = q_rank,
                                      .kv_lora_rank = 3,
                                      .qk_nope_head_dim = 2,
                                      .qk_rope_head_dim = 2,
                                      .v_head_dim = 5,
                                      .rope_layout = heed::RopeLayout::half_split,
                                      .rope_theta = 1e4,
                                      .table_positions = 64};
  return heed::value_or_throw(
      heed::MlaLayer::create(options, {tensor(8, 6), tensor(q_rank, 6), tensor(1, q_rank), tensor(8, q_rank),
                                       tensor(5, 6), tensor(1, 3), tensor(14, 3), tensor(6, 10)}));
}
const heed::MfaLayerOptions mfa_options{
    .hidden_size = 6, .num_attention_heads = 2, .head_dim = 4, .share_q_dim = 3, .rope = rotation};
const heed::MfaTensors mfa_tensors{tensor(3, 6), tensor(1, 3), tensor(8, 3), tensor(4, 6),
                                   tensor(4, 6), tensor(6, 8), tensor(4, 4), tensor(1, 4)};

heed::BitLinear<> bit_linear(Index out, Index in, bool norm = true) {
  return heed::value_or_throw(
      heed::BitLinear<>::create("w", tensor(out, in), out, in, norm ? tensor(1, in) : heed::Tensor()));
}
heed::BitGlu<> glu() { return heed::value_or_throw(heed::BitGlu<>::create(bit_linear(16, 4), bit_linear(4, 8))); }
heed::BitGlu<> glu_of_three() {
  return heed::value_or_throw(
      heed::BitGlu<>::create(bit_linear(8, 4), bit_linear(8, 4), bit_linear(4, 8), heed::GluActivation::relu_squared));
}
heed::Mlgru<> mlgru() {
  const std::vector<float> bound(4, 0.5f);
  return heed::value_or_throw(heed::Mlgru<>::create(
      {bit_linear(4, 4), bit_linear(4, 4), bit_linear(4, 4), bit_linear(4, 4)}, tensor(1, 4), bound));
}

constexpr heed::MatMulFreeConfig config{
    .vocab_size = 5, .hidden_size = 4, .num_hidden_layers = 2, .intermediate_size = 8};
const auto weight_of_model = [](const char* name) -> heed::Result<heed::Tensor> {
  const auto ends = [text = std::string(name)](const std::string& end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
  };
  if (ends("embeddings.weight") || ends("lm_head.weight")) return tensor(5, 4);
  if (ends("lower_bounds")) return tensor(2, 4);
  if (ends("gate_proj.weight")) return tensor(16, 4);
  if (ends("down_proj.weight")) return tensor(4, 8);
  if (ends("down_proj.norm.weight")) return tensor(1, 8);
  return ends("_proj.weight") ? tensor(4, 4) : tensor(1, 4);
};

/// An open step for one layer of width 4, or for the model.
struct State {
  explicit State(Index layers)
      : state(heed::value_or_throw(heed::RecurrentState::create({.layers = layers, .width = 4}))),
        step(heed::value_or_throw(state.begin(heed::NumTokens(tokens)))) {}
  heed::RecurrentState state;
  heed::RecurrentState::Step step;
};

const auto calls_of_mtp = [](const heed::MtpModule& layer, Arguments& a) -> Statuses {
  return {layer.combine<heed::Scalar>(a.in(4), a.in(4), a.positions(), a.out(4), a.workspace, a.executor),
          layer.finish(a.in(4), a.out(4))};
};
const auto calls_of_bit_linear = [](const heed::BitLinear<>& layer, Arguments& a) -> Statuses {
  const heed::BitLinearOutput<heed::TwoBit> twice[] = {{&layer, a.out(8)}, {&layer, a.out(8)}};
  return {heed::bit_linear<heed::Scalar>(layer, a.in(4), a.out(8), a.workspace, a.executor),
          heed::bit_linear<heed::Scalar>(std::span<const heed::BitLinearOutput<heed::TwoBit>>(twice), a.in(4),
                                         a.workspace, a.executor)};
};
const auto calls_of_glu = [](const heed::BitGlu<>& layer, Arguments& a) -> Statuses {
  return {layer.forward<heed::Scalar>(a.in(4), a.out(4), a.workspace, a.executor)};
};
const auto calls_of_mlgru = [](const heed::Mlgru<>& layer, Arguments& a) -> Statuses {
  State state(1);
  const auto one = heed::value_or_throw(state.step.layer(0));
  return {layer.forward<heed::Scalar>(a.in(4), one, a.out(4), a.workspace, a.executor)};
};
const auto calls_of_model = [](const Model& model, Arguments& a) -> Statuses {
  State state(2);
  const std::vector<std::int32_t> ids{1, 4};
  return {model.make_state().status(), model.forward<heed::Scalar>(std::span(ids).first(a.some ? 2 : 0), state.step,
                                                                   a.out(5), a.workspace, a.executor)};
};

TEST(Moved, Parts) {
  heed::SerialExecutor executor;
  std::vector<float> x(64, 1), y(64, untouched);
  const std::vector<float> before = y;
  const auto empty_projection = [&](const heed::Projection& part) {
    EXPECT_EQ(part.in(), 0);
    EXPECT_EQ(part.out(), 0);
    EXPECT_EQ(part.bytes(), 0);
    part.apply<heed::Scalar>(tokens, x.data(), y.data(), executor);
    EXPECT_EQ(y, before);
  };
  const auto empty_norm = [&](const heed::RmsNorm& part) {
    EXPECT_EQ(part.width(), 0);
    part.apply(tokens, x.data(), 4, y.data(), 4);
    part.apply(tokens, y.data(), 4);
    EXPECT_EQ(y, before);
  };
  const auto empty_matrix = [&](const heed::TernaryMatrix<>& part) {
    EXPECT_EQ(part.rows(), 0);
    EXPECT_EQ(part.cols(), 0);
    EXPECT_EQ(part.scale(), 0);
    EXPECT_EQ(part.bytes(), 0);
    EXPECT_EQ(part.groups(), 0);
    EXPECT_EQ(part.blocks(), 0);
    std::vector<std::int8_t> row(8, 1);
    part.read_row(0, row);
    EXPECT_EQ(row, std::vector<std::int8_t>(8, 1));
    EXPECT_FALSE((heed::with_layout<heed::FiveTrits>("w", part).ok()));
  };
  const auto empty_latent = [](const heed::PackedMlaWeights& part) { EXPECT_TRUE(part.weights().empty()); };
  empty_projection({});
  empty_norm({});
  empty_matrix({});
  empty_latent({});
  const auto none = [](const auto&, Arguments&) -> Statuses { return {}; };
  expect_moves("Projection", heed::value_or_throw(heed::Projection::create("w", tensor(3, 4), 3, 4)), none,
               empty_projection);
  expect_moves("RmsNorm", heed::value_or_throw(heed::RmsNorm::create("w", tensor(1, 4), 4, 0)), none, empty_norm);
  expect_moves("TernaryMatrix", heed::value_or_throw(heed::ternary_from_floats<>("w", tensor(3, 4))), none,
               empty_matrix);
  const heed::Mla mla{.num_heads = 2, .kv_lora_rank = 3, .qk_rope_head_dim = 2, .qk_nope_head_dim = 2, .v_head_dim = 5};
  expect_moves("PackedMlaWeights", heed::value_or_throw(heed::PackedMlaWeights::create(mla, tensor(14, 3))), none,
               empty_latent);
}

TEST(Moved, Rope) {
  for (const heed::RopeOptions& options : {rotation, part_rotation}) {
    const auto calls = [&](const heed::Rope& rope, Arguments& a) -> Statuses {
      return {rope.apply_rows(a.positions(), 2, a.out(2 * options.head_dim))};
    };
    const auto empty = [](const heed::Rope& rope) {
      EXPECT_EQ(rope.options().head_dim, 0);
      EXPECT_TRUE(rope.frequencies().empty());
      std::vector<float> x(64, 1), y(64, untouched);
      const std::vector<float> x_before = x, y_before = y;
      const std::vector<Index> positions{3, 100};
      rope.apply(3, x.data());
      rope.rotate(positions.data(), 2, 2, x.data(), heed::RopeDirection::inverse);
      rope.rotate(positions.data(), 2, 2, x.data(), 8, y.data());
      rope.rotate_part(positions.data(), 2, 2, x.data(), 8, y.data(), 8);
      EXPECT_EQ(x, x_before);
      EXPECT_EQ(y, y_before);
    };
    expect_moves("Rope", heed::value_or_throw(heed::Rope::create(options)), calls, empty);
  }
  // What points to a rope that was moved from is refused.
  auto rope = heed::value_or_throw(heed::Rope::create(rotation));
  const heed::MfaKr shared{.num_heads = 1, .head_dim = 4, .scale = 1, .rope = &rope};
  const heed::RotatedKeys<heed::Gqa> rotated{.policy = shape, .rope = &rope};
  const heed::Mla latent{.num_heads = 1,
                         .kv_lora_rank = 3,
                         .qk_rope_head_dim = 4,
                         .qk_nope_head_dim = 2,
                         .v_head_dim = 5,
                         .scale = 1,
                         .rope = &rope};
  EXPECT_TRUE(shared.validate().ok() && rotated.validate().ok() && latent.validate().ok());
  const heed::Rope taken(std::move(rope));
  expect_no_policy(shared);
  expect_no_policy(rotated);
  expect_no_policy(latent);
}

TEST(Moved, AttentionLayers) {
  const auto empty = [](const auto& layer) {
    EXPECT_EQ(layer.hidden_size(), 0);
    expect_no_policy(layer.policy());
    if constexpr (requires { layer.unrotated_policy(); }) expect_no_policy(layer.unrotated_policy());
  };
  expect_moves(
      "GroupedLayer", grouped(),
      [](const heed::GroupedLayer& layer, Arguments& a) -> Statuses {
        return {layer.project<heed::Scalar>(a.in(6), a.positions(), a.out(8), a.out(4), a.out(4), a.executor),
                layer.output<heed::Scalar>(a.in(8), a.out(6), a.executor)};
      },
      empty);
  for (const Index q_rank : {0, 3}) {
    expect_moves(
        "MlaLayer", latent(q_rank),
        [](const heed::MlaLayer& layer, Arguments& a) -> Statuses {
          return {layer.project<heed::Scalar>(a.in(6), a.positions(), a.out(8), a.out(5), a.workspace, a.executor),
                  layer.output<heed::Scalar>(a.in(10), a.out(6), a.executor)};
        },
        empty);
  }
  expect_moves(
      "MfaLayer", heed::value_or_throw(heed::MfaLayer::create(mfa_options, mfa_tensors)),
      [](const heed::MfaLayer& layer, Arguments& a) -> Statuses {
        return {
            layer.project<heed::Scalar>(a.in(6), a.positions(), a.out(8), a.out(4), a.out(4), a.workspace, a.executor),
            layer.output<heed::Scalar>(a.in(8), a.out(6), a.executor)};
      },
      empty);
  for (const auto map : {heed::ValueMap::folded, heed::ValueMap::per_query}) {
    expect_moves(
        "MfaKrLayer", heed::value_or_throw(heed::MfaKrLayer::create(mfa_options, mfa_tensors, map)),
        [](const heed::MfaKrLayer& layer, Arguments& a) -> Statuses {
          return {layer.project<heed::Scalar>(a.in(6), a.positions(), a.out(8), a.out(4), a.workspace, a.executor),
                  layer.output<heed::Scalar>(a.in(8), a.out(6), a.executor)};
        },
        empty);
  }
  expect_moves(
      "BitNetAttention",
      heed::value_or_throw(heed::BitNetAttention<>::create(
          6, shape, rotation, {bit_linear(8, 6), bit_linear(4, 6), bit_linear(4, 6), bit_linear(6, 8)})),
      [](const heed::BitNetAttention<>& layer, Arguments& a) -> Statuses {
        return {
            layer.project<heed::Scalar>(a.in(6), a.positions(), a.out(8), a.out(4), a.out(4), a.workspace, a.executor),
            layer.output<heed::Scalar>(a.in(8), a.out(6), a.workspace, a.executor)};
      },
      empty);
}

TEST(Moved, MtpModule) {
  for (const bool zero_first : {false, true}) {
    auto module =
        heed::value_or_throw(heed::MtpModule::create({.hidden_size = 4, .zero_first_embedding = zero_first},
                                                     {tensor(1, 4), tensor(1, 4), tensor(4, 8), tensor(1, 4)}));
    expect_moves("MtpModule", std::move(module), calls_of_mtp,
                 [](const heed::MtpModule& layer) { EXPECT_EQ(layer.hidden_size(), 0); });
  }
}

TEST(Moved, TernaryLayers) {
  std::vector<float> x(64, 1);
  std::vector<float> y(64, untouched);
  const std::vector<float> before = y;
  heed::SerialExecutor executor;
  const auto empty_linear = [](const heed::BitLinear<>& layer) {
    EXPECT_EQ(layer.in(), 0);
    EXPECT_EQ(layer.out(), 0);
    EXPECT_EQ(layer.bytes(), 0);
    EXPECT_EQ(layer.gain(), nullptr);
  };
  std::vector<std::byte> scratch(256);  // not null, because GCC sees the copies that it leaves out
  const auto empty_glu = [&](const heed::BitGlu<>& layer) {
    EXPECT_EQ(layer.hidden_size(), 0);
    EXPECT_EQ(layer.intermediate_size(), 0);
    EXPECT_EQ(layer.bytes(), 0);
    EXPECT_GE(layer.scratch_bytes<heed::Scalar>(tokens, 1), 0);
    layer.forward_in<heed::Scalar>(x.data(), tokens, y.data(), scratch.data(), executor);
    EXPECT_EQ(y, before);
  };
  const auto empty_mlgru = [&](const heed::Mlgru<>& layer) {
    EXPECT_EQ(layer.hidden_size(), 0);
    EXPECT_EQ(layer.bytes(), 0);
    EXPECT_GE(layer.scratch_bytes<heed::Scalar>(tokens, 1), 0);
    layer.forward_in<heed::Scalar>(x.data(), tokens, heed::RecurrentLayer(), y.data(), scratch.data(), executor, {});
    EXPECT_EQ(y, before);
  };
  expect_refused("BitLinear", heed::BitLinear<>(), calls_of_bit_linear);
  expect_refused("BitGlu", heed::BitGlu<>(), calls_of_glu);
  expect_refused("Mlgru", heed::Mlgru<>(), calls_of_mlgru);
  empty_linear({});
  empty_glu({});
  empty_mlgru({});
  for (const bool norm : {true, false}) {
    expect_moves("BitLinear", bit_linear(8, 4, norm), calls_of_bit_linear, empty_linear);
  }
  expect_moves("BitGlu", glu(), calls_of_glu, empty_glu);
  expect_moves("BitGlu", glu_of_three(), calls_of_glu, empty_glu);
  expect_moves("Mlgru", mlgru(), calls_of_mlgru, empty_mlgru);

  // Only one of two layers of a call is empty.
  const heed::BitLinear<> whole = bit_linear(8, 4), nothing;
  Arguments a;
  for (const bool first : {true, false}) {
    const heed::BitLinearOutput<heed::TwoBit> both[] = {{first ? &nothing : &whole, a.out(8)},
                                                        {first ? &whole : &nothing, a.out(8)}};
    EXPECT_EQ(heed::bit_linear<heed::Scalar>(std::span<const heed::BitLinearOutput<heed::TwoBit>>(both), a.in(4),
                                             a.workspace, a.executor)
                  .code(),
              StatusCode::wrong_state);
  }
}

TEST(Moved, MatMulFreeLm) {
  const auto empty = [](const Model& model) {
    EXPECT_EQ(model.config().hidden_size, 0);
    EXPECT_EQ(model.config().num_hidden_layers, 0);
    EXPECT_EQ(model.bytes(), 0);
  };
  expect_refused("MatMulFreeLm", Model(), calls_of_model);
  empty({});
  expect_moves("MatMulFreeLm", heed::value_or_throw(Model::from_floats(config, weight_of_model)), calls_of_model,
               empty);
}

// Nothing is made from what was moved from.
TEST(Moved, PartsOfLayers) {
  EXPECT_FALSE(heed::BitLinear<>::create("w", heed::TernaryMatrix<>()).ok());
  EXPECT_FALSE(heed::BitLinear<>::create("w", heed::TernaryMatrix<>(), tensor(1, 4)).ok());
  EXPECT_FALSE(heed::BitGlu<>::create(heed::BitLinear<>(), heed::BitLinear<>()).ok());
  EXPECT_FALSE(heed::BitGlu<>::create(bit_linear(16, 4), heed::BitLinear<>()).ok());
  EXPECT_FALSE(
      heed::BitGlu<>::create(bit_linear(8, 4), heed::BitLinear<>(), bit_linear(4, 8), heed::GluActivation::swish).ok());
  EXPECT_FALSE(heed::Mlgru<>::create({}, tensor(1, 4), {}).ok());
  EXPECT_FALSE(heed::BitNetAttention<>::create(6, shape, rotation, {}).ok());
  for (const std::string missing : {"lm_head", "model.layers.1.attn.f_proj", "model.layers.0.mlp.down_proj", ""}) {
    const auto projection = [&](const char* name, Index out, Index in) -> heed::Result<heed::BitLinear<>> {
      return name == missing ? heed::BitLinear<>() : bit_linear(out, in);
    };
    const auto made = Model::create(config, {weight_of_model, projection});
    EXPECT_EQ(made.status().code(), missing.empty() ? StatusCode::ok : StatusCode::invalid_argument);
    EXPECT_EQ(made.status().message().rfind(missing, 0), 0u) << made.status().message();
  }
}

/// attend() of one query over `keys`.
template <class Keys>
Status attend(const Keys& keys, const heed::MaskRef& mask = {}) {
  const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 1, .scale = 1};
  const std::vector<float> q{1};
  std::vector<float> out{untouched};
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  Status status = heed::attend<heed::Scalar>(policy, q, keys, mask, out, workspace, executor);
  EXPECT_EQ(out[0] == untouched, !status.ok());
  return status;
}

const std::vector<float> two_rows{1, 2};
const heed::StridedStream two_rows_stream{reinterpret_cast<const std::byte*>(two_rows.data()), 4, 4, 4};
const heed::StridedSource<heed::F32> two_keys(2, two_rows_stream);

TEST(Moved, DraftTree) {
  const auto empty = [](const heed::DraftTree& tree) {
    EXPECT_EQ(tree.size(), 0);
    EXPECT_TRUE(tree.positions(7).empty());
    EXPECT_TRUE(heed::value_or_throw(heed::accept_greedy(tree, {}, {})).empty());
    EXPECT_EQ(heed::accept_greedy(tree, std::vector<heed::Token>{1}, {}).status().message(),
              "tokens has 1 token, must have 0 for 0 nodes");
    EXPECT_EQ(heed::TreeMask::create(two_keys, tree).status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(heed::TreePaths::create(two_keys, tree).status().code(), StatusCode::invalid_argument);
    for (const Index prefix : {0, 1, 2}) {
      const heed::SuffixMask mask = tree.mask(prefix);
      EXPECT_FALSE(mask.visible(prefix, prefix));
      EXPECT_EQ(mask.text_position(prefix), prefix);
      const Status status = attend(two_keys, mask);
      EXPECT_EQ(status.code(), StatusCode::invalid_argument);
      EXPECT_NE(status.message().find(prefix == 2 ? "step 0 tokens" : "a step of 0 tokens"), std::string::npos)
          << status.message();
    }
  };
  empty({});
  const heed::DraftTree whole = heed::value_or_throw(heed::DraftTree::create(std::vector<Index>{-1, 0, 0, 1}));
  heed::DraftTree tree = whole;
  heed::DraftTree taken(std::move(tree));
  empty(tree);
  tree = std::move(taken);
  empty(taken);
  EXPECT_EQ(tree.size(), 4);
  EXPECT_TRUE(tree.on_path(1, 3));
  // What refers to the tree says that it does not fit any more.
  const heed::DraftTree one = heed::value_or_throw(heed::DraftTree::chain(1));
  heed::DraftTree gone = one;
  const auto mask = heed::value_or_throw(heed::TreeMask::create(two_keys, gone));
  const auto paths = heed::value_or_throw(heed::TreePaths::create(two_keys, gone));
  EXPECT_TRUE(attend(two_keys, mask).ok());
  EXPECT_TRUE(attend(paths.keys(two_keys)).ok());
  const heed::DraftTree other(std::move(gone));
  EXPECT_EQ(attend(two_keys, mask).code(), StatusCode::invalid_argument);
  EXPECT_EQ(attend(paths.keys(two_keys)).code(), StatusCode::invalid_argument);
  EXPECT_FALSE(mask.visible(1, 1));
  EXPECT_TRUE(mask.positions().empty());
}

TEST(Moved, TreeMaskAndPaths) {
  const heed::DraftTree tree = heed::value_or_throw(heed::DraftTree::chain(1));
  auto mask = heed::value_or_throw(heed::TreeMask::create(two_keys, tree));
  auto paths = heed::value_or_throw(heed::TreePaths::create(two_keys, tree));
  const heed::TreeMask mask_taken(std::move(mask));
  const heed::TreePaths paths_taken(std::move(paths));
  EXPECT_TRUE(attend(two_keys, mask_taken).ok());
  EXPECT_TRUE(attend(paths_taken.keys(two_keys)).ok());
  EXPECT_TRUE(mask.positions().empty() && paths.positions().empty());
  EXPECT_FALSE(mask.visible(1, 0));
  EXPECT_EQ(mask.coverage({1, 2}, {0, 1}), heed::Coverage::none);
  EXPECT_EQ(mask.text_position(1), 1);
  for (const Status& status : {attend(two_keys, mask), attend(paths.keys(two_keys))}) {
    EXPECT_EQ(status.code(), StatusCode::wrong_state);
    EXPECT_NE(status.message().find("of the tree"), std::string::npos) << status.message();
  }
}

TEST(Moved, Rules) {
  heed::AnyRule rule(heed::SlidingWindow{5});
  heed::AnyRule taken(std::move(rule));
  EXPECT_TRUE(rule.same_as(taken));
  rule = std::move(taken);
  EXPECT_TRUE(taken.same_as(rule));
  EXPECT_TRUE(taken.validate().ok());
  heed::TokenSet set{1, 2};
  const heed::TokenSet set_taken(std::move(set));
  EXPECT_TRUE(set.empty() && !set.contains(1) && !set.validate("ids").ok());
  EXPECT_TRUE(set_taken.contains(2));
}

TEST(Moved, RuleMask) {
  for (const heed::AnyRule& rule : {heed::AnyRule(), heed::AnyRule(heed::Anchors{heed::TokenSet{1}})}) {
    auto whole = heed::value_or_throw(heed::RuleMask::create(rule, std::vector<std::int32_t>{1, 3}));
    EXPECT_EQ(whole.tokens(), 2);
    auto taken = std::move(whole);
    EXPECT_EQ(taken.tokens(), 2);
    EXPECT_TRUE(attend(two_keys, taken.mask()).ok());
    EXPECT_EQ(whole.tokens(), 0);
    const heed::LandmarkMask mask = whole.mask();
    for (const Index query : {-1, 0, 1, 9}) {
      EXPECT_FALSE(mask.visible(query, 0));
      EXPECT_FALSE(mask.near_visible(query, 0));
      EXPECT_EQ(mask.coverage({query, query + 1}, {0, 1}) == heed::Coverage::full, false);
    }
    EXPECT_EQ(mask.far_keys(), 0);
    const Status status = attend(two_keys, mask);
    EXPECT_EQ(status.code(), StatusCode::wrong_state);
    EXPECT_NE(status.message().find("mask knows no query"), std::string::npos) << status.message();
    whole = std::move(taken);
    EXPECT_TRUE(attend(two_keys, whole.mask()).ok());
  }
}

// NOLINTEND(bugprone-use-after-move)

}  // namespace
}  // namespace heed_test::moved_test
