// Every mechanism once, with plain arrays, so that whatever this unit shares with another one comes from heed's headers.
// Returns 0, or the line that failed.
#include <heed/heed.hpp>

#define EXPECT(...)                      \
  do {                                   \
    if (!(__VA_ARGS__)) return __LINE__; \
  } while (false)

namespace {

using heed::Index;
using Backend = heed::DefaultBackend;

heed::Workspace workspace;
heed::SerialExecutor executor;

constexpr Index most = 1 << 15;
float numbers[most], q[most], k[most], v[most], rows[most], out[most], lse[64];

std::span<const float> some(Index n) { return {numbers, std::size_t(n)}; }
std::span<float> all(float* memory, Index n) { return {memory, std::size_t(n)}; }
heed::Tensor tensor(Index height, Index width) { return {some(height * width), height, width}; }

/// A few tokens through a cache of `policy`, with queries and rows of these widths.
template <class P, class C>
int decode(const P& policy, Index q_width, Index out_width, const heed::AnyRule& rule = {},
           heed::Positions positions = heed::Positions::absolute, const heed::AttendOptions& options = {}) {
  auto cache = heed::KvCache<P, C>::create(policy, {.layers = 1, .positions = positions, .undo_tokens = 2}, rule);
  EXPECT(cache.ok());
  const heed::AttentionLayout layout = policy.layout();
  for (std::int32_t token = 0; token < 24; ++token) {
    const std::int32_t ids[] = {token % 5, 3};
    auto step = cache->begin(std::span<const std::int32_t>(ids));
    EXPECT(step.ok());
    for (int stream = 0; stream < layout.num_streams; ++stream) {
      const heed::StreamShape shape = layout.streams[std::size_t(stream)];
      EXPECT(step->write(0, stream, some(2 * shape.num_heads * shape.width)).ok());
    }
    const auto keys = step->keys(0);
    const std::span<float> to = all(out, 2 * out_width);
    EXPECT(heed::attend<Backend>(policy, some(2 * q_width), keys, to, workspace, executor, options).ok());
    EXPECT(heed::attend<heed::Scalar>(policy, some(2 * q_width), keys, to, workspace, executor, options).ok());
#if HEED_HAS_EIGEN
    EXPECT(heed::attend<heed::EigenPackets>(policy, some(2 * q_width), keys, to, workspace, executor, options).ok());
#endif
    EXPECT(step->commit().ok());
  }
  auto fork = cache->fork();
  EXPECT(fork.ok() && fork->truncate(fork->seen() - 1).ok());
  EXPECT(heed::detail::is_finite(out[0]));
  return 0;
}

int grouped() {
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = heed::default_scale(16)};
  heed::AttendOptions options;
  options.soft_cap = 30;
  static const float four[] = {0.5f, 0.25f, 0.125f, 0.0625f};
  options.alibi_slopes = four;
  options.sink_logits = four;
  if (int line = decode<heed::Gqa, heed::F32>(policy, 64, 64, {}, {}, options)) return line;
  if (int line = decode<heed::Gqa, heed::Bf16>(policy, 64, 64, heed::SlidingWindow{8})) return line;
  if (int line = decode<heed::Gqa, heed::F16>(policy, 64, 64, heed::SinkWindow{4, 12})) return line;
  const heed::TokenSet ids{3};
  if (int line = decode<heed::Gqa, heed::Bf16>(policy, 64, 64, heed::Separators{1, 4, ids})) return line;
  if (int line = decode<heed::Gqa, heed::Bf16>(policy, 64, 64, heed::Anchors{.ids = ids})) return line;
  const heed::SeparatorStream stream{.initial = 1, .separators = 2, .local = 4, .capacity = 12, .ids = ids};
  const auto rope = heed::Rope::create({.head_dim = 16, .layout = heed::RopeLayout::interleaved, .theta = 1e4});
  EXPECT(rope.ok());
  const heed::RotatedKeys<heed::Gqa> rotated{.policy = policy, .rope = &*rope};
  if (int line = decode<heed::RotatedKeys<heed::Gqa>, heed::Bf16>(rotated, 64, 64, stream, heed::Positions::rank)) {
    return line;
  }
  const heed::SharedRow shared{.num_heads = 4, .num_kv_heads = 1, .head_dim = 16, .v_head_dim = 16, .scale = 1};
  if (int line = decode<heed::SharedRow, heed::F32>(shared, 64, 64)) return line;
  options.soft_cap = -1;  // a number in a message
  auto cache = heed::KvCache<heed::Gqa, heed::F32>::create(policy, {.layers = 1});
  EXPECT(cache.ok());
  EXPECT(
      !heed::attend<heed::Scalar>(policy, some(64), cache->keys(0), all(out, 64), workspace, executor, options).ok());

  // A step of drafts, and what other engines merge.
  auto step = cache->begin(heed::NumTokens(4));
  EXPECT(step.ok() && step->write(0, some(4 * 32), some(4 * 32)).ok());
  const Index parents[] = {-1, 0, 0, 1};
  const auto tree = heed::DraftTree::create(parents);
  EXPECT(tree.ok());
  const auto keys = step->keys(0);
  const auto mask = heed::TreeMask::create(keys, *tree);
  EXPECT(mask.ok());
  EXPECT(
      heed::attend<Backend>(policy, some(4 * 64), keys, *mask, all(out, 4 * 64), workspace, executor, {}, all(lse, 16))
          .ok());
  const auto paths = heed::TreePaths::create(keys, *tree);
  EXPECT(paths.ok());
  EXPECT(heed::attend<Backend>(policy, some(4 * 64), paths->keys(keys), {}, all(q, 4 * 64), workspace, executor).ok());
  EXPECT(heed::attend<Backend>(policy, some(4 * 64), keys, tree->mask(0), all(q, 4 * 64), workspace, executor).ok());
  EXPECT(step->commit().ok());
  static std::byte saved[1 << 15];
  const auto saved_to = std::span(saved).first(std::size_t(cache->snapshot_bytes()));
  EXPECT(cache->snapshot(saved_to).ok());
  EXPECT(heed::KvCache<heed::Gqa, heed::F32>::restore(policy, {.layers = 1}, heed::AnyRule(), saved_to).ok());
  return 0;
}

/// What an engine has besides: foreign rows, its own pages, threads, prompts that begin alike, and partial results.
int engine() {
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 0.25f};
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(numbers), 128, 64, 64};
  const heed::StridedSource<heed::F32> foreign(300, stream, stream);
  const auto threads = heed::ThreadPool::create(2);
  EXPECT(threads.ok());
  EXPECT(heed::attend<Backend>(policy, some(64 * 40), foreign, heed::Causal{}, all(out, 64 * 40), workspace, **threads)
             .ok());
  const std::uint64_t bits[] = {1};
  const heed::SuffixMask suffix(299, bits, 1);
  EXPECT(heed::attend<Backend>(policy, some(64), foreign, suffix, all(out, 64), workspace, executor).ok());
  EXPECT(heed::workspace_bytes(policy, 40, 300, 2).ok());
  EXPECT(!heed::workspace_bytes(heed::Gqa{.num_heads = 1, .num_kv_heads = 1, .head_dim = 1}, 1, 1, 1).ok());
  float merged = 0;
  heed::merge_results(1.0f, numbers, 2.0f, out, 16, out, &merged);
  heed::merge_results(-heed::detail::infinity, numbers, merged, out, 16, out, &merged);
  EXPECT(heed::detail::is_finite(merged));

  using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
  heed::PagePool pages;
  const heed::LayerRule rules[] = {{heed::Causal{}, {0}}, {heed::SlidingWindow{4}, {1}}};
  auto cache = Cache::create(policy, {.layers = 2, .pool = &pages}, rules);
  EXPECT(cache.ok());
  heed::PrefixCache<Cache> prefixes;
  const std::int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
  auto step = cache->begin(std::span<const std::int32_t>(ids));
  EXPECT(step.ok());
  for (Index layer = 0; layer < 2; ++layer) EXPECT(step->write(layer, some(8 * 32), some(8 * 32)).ok());
  EXPECT(prefixes.commit(ids, *step).ok());
  const auto match = prefixes.find(ids);
  EXPECT(match.ok() && match->tokens == 7);
  EXPECT(cache->remove(1, 3).ok());
  return 0;
}

int layers() {
  constexpr Index hidden = 32, dim = 16, heads = 4;
  const Index positions[] = {3, 70000};
  const heed::RopeOptions turned{.head_dim = dim, .layout = heed::RopeLayout::half_split, .theta = 1e4};
  const heed::Gqa shape{.num_heads = heads, .num_kv_heads = 2, .head_dim = dim, .scale = heed::default_scale(dim)};
  const auto grouped = heed::GroupedLayer::create(
      hidden, shape, turned,
      {tensor(heads * dim, hidden), tensor(2 * dim, hidden), tensor(2 * dim, hidden), tensor(hidden, heads * dim)});
  EXPECT(grouped.ok());
  EXPECT(grouped
             ->project<Backend>(some(2 * hidden), positions, all(q, 2 * heads * dim), all(k, 4 * dim), all(v, 4 * dim),
                                executor)
             .ok());
  EXPECT(grouped->output<Backend>(some(2 * heads * dim), all(out, 2 * hidden), executor).ok());

  const heed::MlaLayerOptions options{.hidden_size = hidden,
                                      .num_attention_heads = heads,
                                      .q_lora_rank = 8,
                                      .kv_lora_rank = 32,
                                      .qk_nope_head_dim = 16,
                                      .qk_rope_head_dim = 8,
                                      .v_head_dim = 16,
                                      .rope_layout = heed::RopeLayout::interleaved,
                                      .rope_theta = 1e4,
                                      .yarn = heed::Yarn{.factor = 4, .original_max_position = 64}};
  const auto mla = heed::MlaLayer::create(options, {.q_proj = {},
                                                    .q_a_proj = tensor(8, hidden),
                                                    .q_a_layernorm = tensor(1, 8),
                                                    .q_b_proj = tensor(heads * 24, 8),
                                                    .kv_a_proj_with_mqa = tensor(40, hidden),
                                                    .kv_a_layernorm = tensor(1, 32),
                                                    .kv_b_proj = tensor(heads * 32, 32),
                                                    .o_proj = tensor(hidden, heads * 16)});
  EXPECT(mla.ok());
  EXPECT(
      mla->project<Backend>(some(2 * hidden), positions, all(q, 2 * heads * 24), all(rows, 2 * 40), workspace, executor)
          .ok());
  EXPECT(mla->output<Backend>(some(2 * heads * 16), all(out, 2 * hidden), executor).ok());
  if (int line = decode<heed::Mla, heed::Bf16>(mla->policy(), heads * 24, heads * 16, heed::SlidingWindow{8}))
    return line;
  if (int line = decode<heed::MlaExpanded, heed::F16>(heed::MlaExpanded{mla->policy()}, heads * 24, heads * 16))
    return line;
  if (int line = decode<heed::Mla, heed::F32>(mla->unrotated_policy(), heads * 24, heads * 16)) return line;

  const heed::MfaLayerOptions mfa_options{
      .hidden_size = hidden, .num_attention_heads = heads, .head_dim = dim, .share_q_dim = 8, .rope = turned};
  const heed::MfaTensors tensors{.q_proj = tensor(8, hidden),
                                 .inter_norm = tensor(1, 8),
                                 .wq = tensor(heads * dim, 8),
                                 .k_proj = tensor(dim, hidden),
                                 .v_proj = tensor(dim, hidden),
                                 .o_proj = tensor(hidden, heads * dim),
                                 .kr_n = tensor(dim, dim),
                                 .kr_alpha = tensor(1, dim)};
  const auto mfa = heed::MfaLayer::create(mfa_options, tensors);
  EXPECT(mfa.ok());
  EXPECT(mfa->project<Backend>(some(2 * hidden), positions, all(q, 2 * heads * dim), all(k, 2 * dim), all(v, 2 * dim),
                               workspace, executor)
             .ok());
  EXPECT(mfa->output<Backend>(some(2 * heads * dim), all(out, 2 * hidden), executor).ok());
  if (int line = decode<heed::Mfa, heed::Bf16>(mfa->policy(), heads * dim, heads * dim)) return line;
  for (const heed::ValueMap map : {heed::ValueMap::folded, heed::ValueMap::per_query}) {
    const auto kr = heed::MfaKrLayer::create(mfa_options, tensors, map);
    EXPECT(kr.ok());
    EXPECT(
        kr->project<Backend>(some(2 * hidden), positions, all(q, 2 * heads * dim), all(k, 2 * dim), workspace, executor)
            .ok());
    if (int line = decode<heed::MfaKr, heed::Bf16>(kr->policy(), heads * dim, heads * dim)) return line;
  }

  const auto mtp =
      heed::MtpModule::create({.hidden_size = hidden, .zero_first_embedding = true},
                              {tensor(1, hidden), tensor(1, hidden), tensor(hidden, 2 * hidden), tensor(1, hidden)});
  EXPECT(mtp.ok());
  const Index slots[] = {0, 1};
  EXPECT(
      mtp->combine<Backend>(some(2 * hidden), some(2 * hidden), slots, all(out, 2 * hidden), workspace, executor).ok());
  EXPECT(mtp->finish(some(2 * hidden), all(out, 2 * hidden)).ok());
  return 0;
}

int ternary() {
  constexpr Index width = 256;
  const auto linear = [](Index rows_of, Index cols, bool norm) {
    return heed::BitLinear<>::create("w", tensor(rows_of, cols), rows_of, cols,
                                     norm ? tensor(1, cols) : heed::Tensor());
  };
  const heed::Gqa shape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 0.25f};
  auto q_proj = linear(64, 64, true), k_proj = linear(32, 64, true), v_proj = linear(32, 64, true);
  auto o_proj = linear(64, 64, false);
  EXPECT(q_proj.ok() && k_proj.ok() && v_proj.ok() && o_proj.ok());
  const heed::RopeOptions turned{.head_dim = 16, .layout = heed::RopeLayout::half_split, .theta = 1e4};
  const auto attention = heed::BitNetAttention<>::create(
      64, shape, turned, {*std::move(q_proj), *std::move(k_proj), *std::move(v_proj), *std::move(o_proj)});
  EXPECT(attention.ok());
  const Index positions[] = {0, 1};
  EXPECT(
      attention->project<Backend>(some(128), positions, all(q, 128), all(k, 64), all(v, 64), workspace, executor).ok());
  EXPECT(attention->output<Backend>(some(128), all(out, 128), workspace, executor).ok());

  for (const heed::GluActivation activation : {heed::GluActivation::swish, heed::GluActivation::relu_squared}) {
    auto gate = linear(96, 32, false), up = linear(96, 32, false), down = linear(32, 96, true);
    EXPECT(gate.ok() && up.ok() && down.ok());
    const auto glu = heed::BitGlu<>::create(*std::move(gate), *std::move(up), *std::move(down), activation);
    EXPECT(glu.ok() && glu->forward<Backend>(some(64), all(out, 64), workspace, executor).ok());
  }

  // The smallest MatMul-free model: embedding, MLGRU with lower bounds and GLU in two layers, head.
  for (const heed::GateOrder order : {heed::GateOrder::norm_gate_swish_h, heed::GateOrder::norm_h_swish_gate}) {
    const heed::MatMulFreeConfig config{
        .vocab_size = 8, .hidden_size = 32, .num_hidden_layers = 2, .intermediate_size = 64, .gate_order = order};
    const auto source = [](const char* name) -> heed::Result<heed::Tensor> {
      const std::string_view what = name;
      const auto is = [&](std::string_view part) { return what.find(part) != what.npos; };
      if (is("proj.norm") || is("head.norm")) return tensor(1, is("down") ? 64 : 32);
      if (is("norm")) return tensor(1, 32);
      if (is("lower_bounds")) return tensor(2, 32);
      if (is("embeddings") || is("lm_head")) return tensor(8, 32);
      if (is("gate_proj")) return tensor(128, 32);
      if (is("down_proj")) return tensor(32, 64);
      return tensor(32, 32);
    };
    const auto model = heed::MatMulFreeLm<>::from_floats(config, source);
    EXPECT(model.ok());
    auto state = model->make_state();
    EXPECT(state.ok());
    auto step = state->begin(heed::NumTokens(3));
    EXPECT(step.ok());
    const std::int32_t ids[] = {1, 2, 7};
    EXPECT(model->forward<Backend>(ids, *step, all(out, 24), workspace, executor).ok());
    EXPECT(step->commit().ok());
    static std::byte saved[4096];
    const auto saved_to = std::span(saved).first(std::size_t(state->snapshot_bytes()));
    EXPECT(state->snapshot(saved_to).ok());
    EXPECT(heed::RecurrentState::restore({.layers = 2, .width = 32}, saved_to).ok());
  }

  // Readers. A block of zeros, one of TQ2_0 with the scale 1, and one of I2_S.
  static std::uint8_t bytes[width];
  for (std::uint8_t& byte : bytes) byte = 0x55;
  EXPECT(heed::ternary_from_hugging_face<>("w", std::span(bytes, 64), 4, 64, 2.0f, heed::WeightScale::divisor).ok());
  bytes[64] = 0x00, bytes[65] = 0x3c;
  EXPECT(heed::ternary_from_ggml<>("w", std::span(bytes, 66), 1, 256, heed::GgmlTernary::tq2_0).ok());
  bytes[64] = bytes[65] = 0;
  bytes[66] = 0x80, bytes[67] = 0x3f;
  EXPECT(heed::ternary_from_i2_s<heed::FiveTrits>("w", std::span(bytes, 68), 2, 128, heed::I2sBlock::x86).ok());
  return 0;
}

/// Guesses token 1 always, with these odds. The model thinks otherwise.
struct Guesser {
  heed::Token tokens[4] = {1, 1, 1, 1};
  double odds[4 * 4] = {};
  float logits[4 * 4] = {};
  Index vocab_size() const { return 4; }
  heed::Result<std::span<const heed::Token>> draft(heed::Token, Index n) {
    return std::span<const heed::Token>(tokens, std::size_t(n));
  }
  std::span<const double> draft_probabilities() const { return odds; }
  heed::Result<std::span<const float>> verify(std::span<const heed::Token> of) {
    return std::span<const float>(logits, of.size() * 4);
  }
  heed::Status commit(Index) { return {}; }
};

int speculative() {
  Guesser model;
  for (int i = 0; i < 16; ++i) {
    model.odds[i] = i % 4 == 1 ? 0.5 : i % 4 == 2 ? 0.5 : 0;
    model.logits[i] = i % 4 == 1 ? 0.25f : 0.125f;
  }
  int seen = 0;
  const auto emit = [&](heed::Token) { ++seen; };
  EXPECT(heed::speculate_greedy(model, 0, 9, 2, emit).ok());
  double next = 0;
  const auto uniform = [&] { return next = next < 0.9 ? next + 0.1 : 0; };
  EXPECT(heed::speculate_sampled(model, 0, 60, 3, 1.0, uniform, emit).ok());
  EXPECT(seen == 69);
  const heed::Token draft[] = {1};
  EXPECT(heed::accept_sampled(draft, std::span(model.odds, 4), std::span(model.odds, 8), 4, uniform).ok());
  EXPECT(heed::sample(model.odds, 0.5).ok());
  return 0;
}

int analysis() {
  namespace a = heed::analysis;
  double usd = 0;
  for (const a::ReportRow& row : a::step3_report) {
    usd += a::best_placement(row.work(8192), a::step3_report_accelerators).usd_per_token;
  }
  EXPECT(usd > 0 && a::round_significant(123456, 3) == 123000);
  return 0;
}

}  // namespace

int UNIT() {
  for (Index i = 0; i < most; ++i) numbers[i] = float(i * 7 % 11 - 5) / 64 + 0.125f;
  for (int (*part)() : {grouped, engine, layers, ternary, speculative, analysis}) {
    if (int line = part()) return line;
  }
  return 0;
}
