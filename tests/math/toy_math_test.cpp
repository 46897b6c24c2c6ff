/// \file
/// Two maths written outside the library: queries rounded to bf16, and also weights rounded to bf16. They hold queries,
/// panels and weights in types of their own, and compute with the loops of the backend.
#include <heed/compiled.hpp>

#include "codec/codec_laws.hpp"
#include "codec/scaled_rows.hpp"
#include "oracle/bound.hpp"
#include "oracle/random.hpp"
#include "sanitizers.hpp"

namespace heed_test::toy_math_test {
namespace {

using heed::Index;
using heed::Interval;

struct Half {
  std::uint16_t bits;
  static Half of(float x) {
    Half made;
    heed::Bf16::encode(&x, 1, reinterpret_cast<std::byte*>(&made.bits));
    return made;
  }
  explicit operator float() const {
    float x;
    heed::Bf16::decode(reinterpret_cast<const std::byte*>(&bits), 1, &x);
    return x;
  }
};

/// Scores: those of F32 with q rounded to bf16. Outputs: those of F32, with weights rounded to bf16 if RoundsWeights. The sum
/// of weights is that of the rounded ones.
///
/// Error with a query in bf16: that of F32, and with rounded weights 2 u / (1 - u) sum_k p_k |v_k| more, u = 2^-8.
template <bool RoundsWeights>
struct Toy {
  static constexpr const char* name = RoundsWeights ? "toy weights" : "toy";
  static constexpr Index query_numbers = 2;
  static constexpr Index panel_numbers = 2;
  static constexpr Index weight_place(Index slot) { return slot; }
  struct Query {
    Half number[2];
  };
  struct Panel {
    float number[2];
  };
  using Weight = std::conditional_t<RoundsWeights, Half, float>;

  template <class Backend>
  struct On {
    static constexpr Index few_rows = Backend::few_rows;

    static void queries(const float* q, Index rows, Index width, Query* out) {
      for (Index r = 0; r < rows; ++r, q += width, out += (width + 1) / 2) {
        for (Index d = 0; d < width; ++d) out[d / 2].number[d % 2] = Half::of(q[d]);
      }
    }
    template <class C>
    static void pack_keys(const heed::KeyRows& rows, Index width, Panel* panel) {
      std::vector<float> plain(std::size_t(width * 64));
      Backend::template pack_keys<C>(rows, width, plain.data());
      for (Index i = 0; i < width * 64; ++i) panel[i / 128 * 64 + i % 64].number[i / 64 % 2] = plain[std::size_t(i)];
    }
    template <heed::Factors F>
    static void score_panel(const Query* q, Index q_stride, Index rows, const Panel* panel, Index width, Index count,
                            float scale, float* s, const heed::Ahead& ahead, heed::PanelFactors<F> factors) {
      const std::vector<float> keys = unpacked(panel, width);
      for (Index r = 0; r < rows; ++r) {
        const std::vector<float> row = unpacked(q + r * q_stride, width);
        Backend::score_panel(row.data(), width, 1, keys.data(), width, count, scale, s + r * 256, ahead, factors);
      }
    }
    template <class C>
    static void score_rows(const Query* q, Index q_stride, Index rows, const heed::KeyRows& keys, Index width,
                           float scale, float* s) {
      for (Index r = 0; r < rows; ++r) {
        const std::vector<float> row = unpacked(q + r * q_stride, width);
        Backend::template score_rows<C>(row.data(), width, 1, keys, width, scale, s + r * 256);
      }
    }
    static heed::ChunkSum softmax(float* s, Index count, Weight* p) {
      const heed::ChunkSum exact = Backend::softmax(s, count);
      if constexpr (!RoundsWeights) return exact;
      float lane[16] = {};
      for (Index k = 0; k < (count + 15) / 16 * 16; ++k) {
        p[k] = round(s[k]);
        lane[k % 16] += float(p[k]);
      }
      for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
      }
      return {exact.max, lane[0]};
    }
    template <class C>
    static void pack_values(const heed::KeyRows& rows, Index first_dim, Index dims, Panel* panel) {
      std::vector<float> plain(std::size_t(rows.count * 64));
      Backend::template pack_values<C>(rows, first_dim, dims, plain.data());
      for (Index i = 0; i < rows.count * 64; ++i) {
        panel[i / 128 * 64 + i % 64].number[i / 64 % 2] = plain[std::size_t(i)];
      }
    }
    template <heed::Factors F>
    static void accumulate_panel(const Weight* p, Index rows, const Panel* panel, Interval keys, Index first_dim,
                                 Index dims, heed::RowTarget* targets, heed::Accumulate phase, const heed::Ahead& ahead,
                                 heed::PanelFactors<F> factors) {
      const std::vector<float> values = unpacked(panel, (keys.end + 1) / 2 * 2);
      for (Index r = 0; r < rows; ++r) {
        float row[256];
        for (Index k = keys.begin; k < keys.end; ++k) row[k] = float(p[r * 256 + k]);
        Backend::accumulate_panel(row, 1, values.data(), keys, first_dim, dims, targets + r, phase, ahead, factors);
      }
    }
    template <class C>
    static void accumulate_rows(const Weight* p, Index rows, const heed::KeyRows& values, Interval keys,
                                Index first_dim, Index dims, heed::RowTarget* targets, heed::Accumulate phase) {
      for (Index r = 0; r < rows; ++r) {
        float row[256];
        for (Index k = keys.begin; k < keys.end; ++k) row[k] = float(p[r * 256 + k]);
        Backend::template accumulate_rows<C>(row, 1, values, keys, first_dim, dims, targets + r, phase);
      }
    }

   private:
    static Weight round(float x) {
      if constexpr (RoundsWeights) {
        return Half::of(x);
      } else {
        return x;
      }
    }
    static std::vector<float> unpacked(const Query* q, Index width) {
      std::vector<float> row(std::size_t(width), 0.0f);
      for (Index d = 0; d < width; ++d) row[std::size_t(d)] = float(q[d / 2].number[d % 2]);
      return row;
    }
    static std::vector<float> unpacked(const Panel* panel, Index numbers) {
      std::vector<float> plain(std::size_t(numbers * 64));
      float* to = plain.data();
      for (Index n = 0; n < numbers; ++n, to += 64) {
        for (Index i = 0; i < 64; ++i) to[i] = panel[n / 2 * 64 + i].number[n % 2];
      }
      return plain;
    }
  };
};
using RoundedQ = Toy<false>;
using RoundedQAndP = Toy<true>;
static_assert(heed::Math<RoundedQ, heed::Scalar> && heed::Math<RoundedQAndP, heed::DefaultBackend, heed::Bf16>);

/// A policy whose queries are rounded to bf16 right before the kernel.
template <class P>
struct RoundedQueries {
  P policy;
  static constexpr int key_stream = P::key_stream, value_stream = P::value_stream;
  [[nodiscard]] heed::Status validate() const { return policy.validate(); }
  [[nodiscard]] heed::AttentionLayout layout() const { return policy.layout(); }
  [[nodiscard]] decltype(auto) output_map() const { return policy.output_map(); }
  [[nodiscard]] decltype(auto) preparation() const { return policy.preparation(); }

  struct Map {
    std::remove_cvref_t<decltype(std::declval<const P&>().query_map())> map;
    Index width;
    static constexpr bool none = std::is_same_v<decltype(Map::map), heed::Identity>;
    [[nodiscard]] Index in_width() const {
      if constexpr (none) {
        return width;
      } else {
        return map.in_width();
      }
    }
    [[nodiscard]] Index out_width() const { return width; }
    void apply(Index head, Index rows, const float* in, Index in_stride, float* out, Index out_stride,
               heed::Linear linear) const {
      if constexpr (!none) map.apply(head, rows, in, in_stride, out, out_stride, linear);
      for (Index r = 0; r < rows; ++r) {
        for (Index d = 0; d < width; ++d) {
          float& to = out[r * out_stride + d];
          to = float(oracle::round_to_bf16(double(none ? in[r * in_stride + d] : to)));
        }
      }
    }
  };
  [[nodiscard]] Map query_map() const { return {policy.query_map(), policy.layout().key_width}; }
};

/// The kernels of one backend.
struct Kernels {
  const heed::Kernel* f32;
  const heed::Kernel* toy;
  const heed::Kernel* toy_weights;
};
template <class K, class V>
std::vector<Kernels> kernels() {
  std::vector<Kernels> all;
  // What workers share, and ThreadSanitizer looks at, is the same code for all backends.
  using Looked = std::conditional_t<HEED_TEST_TSAN != 0, heed::List<heed::Backends::First>, heed::Backends>;
  Looked::for_each([&]<class Backend>() {
    all.push_back({&heed::kernel<Backend, K, V>(), &heed::kernel<Backend, K, V, RoundedQ>(),
                   &heed::kernel<Backend, K, V, RoundedQAndP>()});
  });
  return all;
}

std::size_t calls = 0;  // of expect_math, whatever its types

/// RoundedQ has the bits of F32 on queries that were rounded, and not those on queries that were not. RoundedQAndP has the same
/// bits however a text goes through a cache, and on all backends. Each math and backend goes one way besides the whole, the
/// next backend and the next call another: a policy and a rule meet every way, and so do a backend and a rule.
template <class K, class V, class P>
void expect_math(const char* name, const P& policy, const auto& cached, const NamedRule& rule, Index q_width,
                 Index out_width) {
  const Text text(policy.layout(), q_width, out_width, 7);
  const Way whole{.steps = {270, 1, 4, 1, 33, 8, 1}};
  const Way other{.steps = {3, 250, 9, 56}, .page_tokens = 40, .threads = 3};
  const Way planned{.steps = whole.steps, .page_tokens = 24, .plans = true};
  const Way planned_by_three{.steps = other.steps, .threads = 3, .plans = true};
  const Way* const ways[] = {&other, &planned, &planned_by_three};
  std::size_t turn = calls + calls / 4;  // the calls of a rule are a multiple of three or of four
  ++calls;
  std::vector<float> weighted;
  for (const Kernels& kernel : kernels<K, V>()) {
    SCOPED_TRACE(std::string(name) + " " + rule.name + " " + kernel.f32->backend);
    const auto want = answers_of<K, V>(*kernel.f32, RoundedQueries<P>{policy}, cached, rule, text, whole);
    EXPECT_TRUE(same_bits(answers_of<K, V>(*kernel.toy, policy, cached, rule, text, whole), want));
    const Way &toy_way = *ways[turn % 3], &weights_way = *ways[(turn + 1) % 3];
    ++turn;
    EXPECT_TRUE(same_bits(answers_of<K, V>(*kernel.toy, policy, cached, rule, text, toy_way), want)) << turn;
    if (weighted.empty()) {  // once: the rounding of queries shows
      EXPECT_FALSE(same_bits(answers_of<K, V>(*kernel.f32, policy, cached, rule, text, whole), want));
    }
    const auto p = answers_of<K, V>(*kernel.toy_weights, policy, cached, rule, text, whole);
    EXPECT_TRUE(same_bits(answers_of<K, V>(*kernel.toy_weights, policy, cached, rule, text, weights_way), p)) << turn;
    EXPECT_FALSE(same_bits(p, want));
    EXPECT_LT(distance(p, want), 0.05);
    if (weighted.empty()) weighted = p;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    EXPECT_TRUE(same_bits(p, weighted)) << distance(p, weighted);
#endif
  }
}

TEST(ToyMath, EveryPolicyAndRule) {
  using K = heed::Bf16;
  const auto expect_every = [](const NamedRule& rule) {
    const auto expect = [&](const auto& one) {
      expect_math<K, K>(one.name, one.policy, one.cached, rule, one.q_width, one.out_width);
    };
    if (rule.positions == heed::Positions::rank) return for_each_turning_policy(law_sizes, expect);
    for_each_policy(law_sizes, expect);
    // An object of Query holds two numbers: a row that does not fill its last one.
    const heed::Gqa gqa{.num_heads = 9, .num_kv_heads = 3, .head_dim = 39, .v_head_dim = 24, .scale = 0.2f};
    expect_math<K, K>("gqa of odd width", gqa, gqa, rule, 39, 24);
  };
  for (const NamedRule& rule : heed_digest::rules()) expect_every(rule);
  for (const NamedRule& rule : heed_digest::rank_rules()) expect_every(rule);
}

TEST(ToyMath, OtherCodecs) {
  const heed::Gqa gqa{.num_heads = 9, .num_kv_heads = 3, .head_dim = 40, .v_head_dim = 24, .scale = 0.2f};
  for (const NamedRule& rule : heed_digest::rules()) {
    expect_math<heed::F32, heed::F32>("f32", gqa, gqa, rule, 40, 24);
    expect_math<Scaled, Scaled>("scaled", gqa, gqa, rule, 40, 24);
  }
}

/// A problem of few or many queries on rows that lie apart, and its answer in float64 for queries in bf16.
struct Sequence {
  static constexpr Index keys = 300, heads = 6, kv_heads = 2, width = 73, v_width = 40;
  heed::Gqa policy{
      .num_heads = heads, .num_kv_heads = kv_heads, .head_dim = width, .v_head_dim = v_width, .scale = 0.12f};
  Index queries;
  std::vector<float> q;
  std::vector<std::byte> rows[2];
  oracle::Problem problem{.heads = heads,
                          .kv_heads = kv_heads,
                          .key_dim = width,
                          .value_dim = v_width,
                          .scale = double(policy.scale),
                          .visible = oracle::causal()};

  explicit Sequence(Index count, bool ones = false) : queries(count) {
    heed_digest::Numbers numbers(5);
    q = numbers.rows(queries * heads * width);
    for (const float x : q) problem.q.push_back(oracle::round_to_bf16(double(x)));
    for (int s = 0; s < 2; ++s) {
      auto made = numbers.rows(keys * kv_heads * (s == 0 ? width : v_width));
      if (ones && s == 1) made.assign(made.size(), 1.0f);
      rows[s].resize(made.size() * 2);
      heed::Bf16::encode(made.data(), Index(made.size()), rows[s].data());
      heed::Bf16::decode(rows[s].data(), Index(made.size()), made.data());
      for (const float x : made) (s == 0 ? problem.k : problem.v).push_back(double(x));
    }
  }
  [[nodiscard]] heed::StridedSource<heed::Bf16> source() const {
    const auto stream = [&](int s, Index n) {
      return heed::StridedStream{.data = rows[s].data(),
                                 .token_stride_bytes = kv_heads * n * 2,
                                 .head_stride_bytes = n * 2,
                                 .row_bytes = n * 2};
    };
    return {keys, stream(0, width), stream(1, v_width)};
  }
  [[nodiscard]] std::vector<float> out() const { return std::vector<float>(std::size_t(queries * heads * v_width)); }
};

TEST(ToyMath, RoundedWeightsAreWithinTheBoundOfTheMath) {
  constexpr double u = 0x1p-8, weights = 2 * u / (1 - u);
  for (const Index queries : {Index{1}, Index{40}}) {
    const Sequence sequence(queries);
    const oracle::Answer want = oracle::attention(sequence.problem);
    heed::Backends::for_each([&]<class Backend>() {
      heed::Workspace workspace;
      heed::SerialExecutor serial;
      std::vector<float> out = sequence.out(), lse(std::size_t(queries * Sequence::heads));
      heed::check(heed::attend<Backend, RoundedQAndP>(sequence.policy, sequence.q, sequence.source(), heed::Causal{},
                                                      out, workspace, serial, {}, lse));
      double worst = 0, worst_f32 = 0;
      for (std::size_t i = 0; i < out.size(); ++i) {
        const double size = want.logit_size[i / std::size_t(Sequence::v_width)];
        const double f32 = oracle::eps32 * std::abs(want.o[i]) + 4 * oracle::eps32 * want.abs_values[i] * (1 + size);
        worst = std::max(worst, oracle::ratio(double(out[i]), want.o[i], f32 + weights * want.abs_values[i]));
        worst_f32 = std::max(worst_f32, oracle::ratio(double(out[i]), want.o[i], f32));
      }
      EXPECT_LE(worst, 1) << Backend::name << " " << queries;
      EXPECT_GT(worst_f32, 1) << Backend::name << ": no weight was rounded";
      for (std::size_t i = 0; i < lse.size(); ++i) {
        EXPECT_LE(std::abs(double(lse[i]) - want.lse[i]), 1.01 * u) << Backend::name << " " << i;
      }
      heed::Plan plan;
      heed::check(plan.make(sequence.policy, sequence.source(), queries, 1, heed::Causal{}));
      std::vector<float> planned = sequence.out();
      heed::check(heed::attend<Backend, RoundedQAndP>(plan, sequence.policy, sequence.q, sequence.source(), planned,
                                                      workspace, serial));
      EXPECT_TRUE(same_bits(planned, out)) << Backend::name << " " << queries;
      // Queries in bf16 are exact, so without rounded weights the bound is that of F32.
      heed::check(heed::attend<Backend, RoundedQ>(sequence.policy, sequence.q, sequence.source(), heed::Causal{}, out,
                                                  workspace, serial, {}, lse));
      EXPECT_LE(oracle::worst_output(out, want), 1) << Backend::name;
      EXPECT_LE(oracle::worst_lse(lse, want), 1) << Backend::name;
      heed::check(heed::attend<Backend, RoundedQ>(plan, sequence.policy, sequence.q, sequence.source(), planned,
                                                  workspace, serial));
      EXPECT_TRUE(same_bits(planned, out)) << Backend::name << " " << queries;
    });
  }
}

TEST(ToyMath, TheSumIsThatOfTheRoundedWeights) {
  const Sequence sequence(40, true);
  const oracle::Answer want = oracle::attention(sequence.problem);
  heed::Backends::for_each([&]<class Backend>() {
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    std::vector<float> out = sequence.out();
    heed::check(heed::attend<Backend, RoundedQAndP>(sequence.policy, sequence.q, sequence.source(), heed::Causal{}, out,
                                                    workspace, serial));
    EXPECT_LE(oracle::worst_output(out, want), 1) << "all values are 1, and so is their mean";
  });
}

/// Sees every third key, and more of them for KV head 1.
struct Blocks {
  [[nodiscard]] heed::Coverage coverage(Interval, Interval, Index) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key, Index kv_head) const {
    return key <= query && (key % 3 == 1 || (kv_head == 1 && key / 64 % 2 == 0));
  }
};
/// Queries of odd positions see nothing, and others not every fifth key.
struct Gaps {
  [[nodiscard]] heed::Coverage coverage(Interval, Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key) const { return key <= query && query % 2 == 0 && key % 5 != 3; }
};

TEST(ToyMath, MasksOptionsAndBatches) {
  std::vector<float> slopes, sinks;
  for (int h = 0; h < 6; ++h) slopes.push_back(0.01f * float(h)), sinks.push_back(float(h) - 2);
  const heed::AttendOptions all_options[] = {{},
                                             {.soft_cap = 5},
                                             {.alibi_slopes = slopes},
                                             {.sink_logits = sinks},
                                             {.soft_cap = 9, .alibi_slopes = slopes, .sink_logits = sinks}};
  const heed::SlidingWindow window{70};
  const Gaps gaps;
  const Blocks blocks;
  const heed::MaskRef masks[] = {heed::Causal{}, window, gaps, blocks};
  const Sequence few(1), many(40);
  const auto few_keys = few.source(), many_keys = many.source();
  heed::Workspace workspace;
  const auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  heed::Backends::for_each([&]<class Backend>() {
    for (const heed::MaskRef& mask : masks) {
      for (const heed::AttendOptions& options : all_options) {
        std::vector<float> got[2] = {few.out(), many.out()}, want[2] = {few.out(), many.out()};
        const auto batch = [&](std::vector<float>* out) {
          using S = heed::Sequence<heed::StridedSource<heed::Bf16>>;
          return std::vector<S>{{.keys = &few_keys, .mask = mask, .q = few.q, .out = out[0]},
                                {.keys = &many_keys, .mask = mask, .q = many.q, .out = out[1]}};
        };
        const auto toy = batch(got), f32 = batch(want);
        using Batch = std::span<const heed::Sequence<heed::StridedSource<heed::Bf16>>>;
        heed::check(heed::attend_batch<Backend, RoundedQ>(few.policy, Batch(toy), workspace, *pool, options));
        heed::check(
            heed::attend_batch<Backend>(RoundedQueries<heed::Gqa>{few.policy}, Batch(f32), workspace, *pool, options));
        EXPECT_TRUE(same_bits(got[0], want[0])) << Backend::name;
        EXPECT_TRUE(same_bits(got[1], want[1])) << Backend::name;

        using Source = heed::StridedSource<heed::Bf16>;
        const std::vector<heed::PlannedSequence<Source>> planned{
            {.keys = &few_keys, .num_queries = few.queries, .mask = mask},
            {.keys = &many_keys, .num_queries = many.queries, .mask = mask}};
        heed::Plan plan;
        heed::check(plan.make(few.policy, std::span<const heed::PlannedSequence<Source>>(planned), 3));
        std::vector<float> by_plan[2] = {few.out(), many.out()};
        const std::vector<heed::LayerIo<Source>> io{{.keys = &few_keys, .q = few.q, .out = by_plan[0]},
                                                    {.keys = &many_keys, .q = many.q, .out = by_plan[1]}};
        heed::check(heed::attend<Backend, RoundedQ>(plan, few.policy, std::span<const heed::LayerIo<Source>>(io),
                                                    workspace, *pool, options));
        EXPECT_TRUE(same_bits(by_plan[0], want[0])) << Backend::name << ", planned";
        EXPECT_TRUE(same_bits(by_plan[1], want[1])) << Backend::name << ", planned";
      }
    }
  });
}

/// Adds a bias, and keeps the weights that it is given.
struct Hooks {
  std::vector<float> weights;
  double worst_sum = 0;
  void logits(const heed::LogitChunk& chunk) const {
    for (std::size_t i = 0; i < chunk.logits.size(); ++i) chunk.logits[i] += float(chunk.positions[i] % 7) * 0.25f;
  }
  void chunk(const heed::ChunkProbabilities& chunk) {
    double sum = 0;
    for (const float weight : chunk.weights) {
      weights.push_back(weight);
      sum += double(weight);
    }
    worst_sum = std::max(worst_sum, std::abs(sum / double(chunk.sum) - 1));
  }
  void finish(const heed::FinishedRow&) const {}
};

TEST(ToyMath, Hooks) {
  for (const Index queries : {Index{1}, Index{40}}) {
    const Sequence sequence(queries);
    const auto keys = sequence.source();
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    const auto ask = [&](const heed::Kernel& kernel, const auto& policy) {
      std::vector<float> out = sequence.out();
      heed::check(heed::attend(kernel, policy, sequence.q, keys, heed::Causal{}, out, workspace, serial));
      return out;
    };
    using Backend = heed::DefaultBackend;
    using K = heed::Bf16;
    Hooks plain, rounded_q, rounded_p;
    const auto want = ask(heed::kernel<Backend, K, K>(plain), RoundedQueries<heed::Gqa>{sequence.policy});
    EXPECT_TRUE(same_bits(ask(heed::kernel<Backend, K, K, RoundedQ>(rounded_q), sequence.policy), want));
    EXPECT_TRUE(same_bits(rounded_q.weights, plain.weights));
    EXPECT_FALSE(same_bits(ask(heed::kernel<Backend, K, K, RoundedQ>(), sequence.policy), want));

    std::vector<float> out = sequence.out();
    heed::check(heed::attend<Backend, RoundedQAndP>(sequence.policy, sequence.q, keys, heed::Causal{}, out, workspace,
                                                    serial, {}, rounded_p));
    ASSERT_EQ(rounded_p.weights.size(), plain.weights.size());
    for (std::size_t i = 0; i < plain.weights.size(); ++i) {
      ASSERT_EQ(rounded_p.weights[i], float(oracle::round_to_bf16(double(plain.weights[i])))) << i;
    }
    EXPECT_LT(rounded_p.worst_sum, 1e-6) << "the sum is that of the weights";
  }
}

TEST(ToyMath, PlannedHooks) {
  using Backend = heed::DefaultBackend;
  using K = heed::Bf16;
  for (const Index queries : {Index{1}, Index{40}}) {
    const Sequence sequence(queries);
    const auto keys = sequence.source();
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    Hooks alone, planned;
    std::vector<float> want = sequence.out(), got = sequence.out();
    heed::check(heed::attend(heed::kernel<Backend, K, K, RoundedQAndP>(alone), sequence.policy, sequence.q, keys,
                             heed::Causal{}, want, workspace, serial));
    heed::Plan plan;
    heed::check(plan.make(sequence.policy, keys, queries, 1, heed::Causal{}));
    heed::check(heed::attend(heed::kernel<Backend, K, K, RoundedQAndP>(planned), plan, sequence.policy, sequence.q,
                             keys, got, workspace, serial));
    EXPECT_TRUE(same_bits(got, want)) << queries;
    EXPECT_TRUE(same_bits(planned.weights, alone.weights)) << queries;
  }
}

/// The states of a part; a math is an argument, so that states of several can meet.
template <class Backend, class M>
heed::PartialStates part_of(const Sequence& sequence, const heed::KeyRange& range) {
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  heed::PartialStates states;
  heed::check(heed::attend_partial<Backend, M>(sequence.policy, sequence.q, sequence.source(), heed::Causal{}, range,
                                               states, workspace, serial));
  return states;
}

TEST(ToyMath, PartsHaveTheBitsOfTheWhole) {
  const auto check_math = []<class Backend, class M>(const Sequence& sequence) {
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    std::vector<float> want = sequence.out(), got = sequence.out();
    heed::check(heed::attend<Backend, M>(sequence.policy, sequence.q, sequence.source(), heed::Causal{}, want,
                                         workspace, serial));
    const heed::PartialStates early = part_of<Backend, M>(sequence, heed::KeyRange::before(1)),
                              late = part_of<Backend, M>(sequence, heed::KeyRange::from(1));
    EXPECT_EQ(early.math(), M::name);
    const heed::PartialView parts[] = {late, early};
    heed::check(heed::attend_finish<Backend, M>(sequence.policy, parts, got, workspace, serial));
    EXPECT_TRUE(same_bits(got, want)) << Backend::name << " " << M::name << " " << sequence.queries;
    const auto& kernel = heed::kernel<Backend, heed::Bf16, heed::Bf16, M>();
    got = sequence.out();
    heed::check(heed::attend_finish(kernel, sequence.policy, parts, got, workspace, serial));
    EXPECT_TRUE(same_bits(got, want)) << Backend::name << " " << M::name << " " << sequence.queries;
  };
  for (const Index queries : {Index{1}, Index{40}}) {
    const Sequence sequence(queries);
    heed::Backends::for_each([&]<class Backend>() {
      check_math.template operator()<Backend, RoundedQ>(sequence);
      check_math.template operator()<Backend, RoundedQAndP>(sequence);
      check_math.template operator()<Backend, heed::math::F32>(sequence);
    });
  }
}

/// States say in which math they were made, also after they were sent as bytes. Another one is refused by name.
TEST(ToyMath, PartsOfAnotherMathAreRefused) {
  using Backend = heed::DefaultBackend;
  const Sequence sequence(1);
  const heed::PartialStates toy = part_of<Backend, RoundedQAndP>(sequence, heed::KeyRange::before(1)),
                            f32 = part_of<Backend, heed::math::F32>(sequence, heed::KeyRange::from(1));
  heed::PartialStates sent;
  heed::check(sent.assign(toy.bytes()));
  EXPECT_EQ(sent.math(), "toy weights");
  EXPECT_EQ(heed::PartialStates().math(), "");
  const auto refused = [&](std::vector<heed::PartialView> parts, const heed::Kernel& kernel) {
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    std::vector<float> out(sequence.out().size(), 7.0f);
    const heed::Status status = heed::attend_finish(kernel, sequence.policy, parts, out, workspace, serial);
    EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
    EXPECT_EQ(out, std::vector<float>(out.size(), 7.0f));
    return status.message();
  };
  const auto& in_f32 = heed::kernel<Backend, heed::F32, heed::F32>();
  const auto& in_toy = heed::kernel<Backend, heed::Bf16, heed::Bf16, RoundedQ>();
  EXPECT_EQ(refused({toy, f32}, in_f32),
            "sequence 0: part 0: states were made in math toy weights, the kernel computes in f32");
  EXPECT_EQ(refused({f32, sent}, in_f32),
            "sequence 0: part 1: states were made in math toy weights, the kernel computes in f32");
  EXPECT_EQ(refused({toy}, in_toy),
            "sequence 0: part 0: states were made in math toy weights, the kernel computes in toy");
  EXPECT_EQ(refused({f32}, in_toy), "sequence 0: part 0: states were made in math f32, the kernel computes in toy");
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  std::vector<float> out = sequence.out();
  const heed::PartialView parts[] = {toy};
  EXPECT_EQ(heed::attend_finish<Backend>(sequence.policy, parts, out, workspace, serial).message(),
            "sequence 0: part 0: states were made in math toy weights, the kernel computes in f32");
  EXPECT_TRUE((heed::attend_finish<Backend, RoundedQAndP>(sequence.policy, parts, out, workspace, serial).ok()));
}

TEST(ToyMath, WorkspaceHasTheSizesOfTheMath) {
  const Sequence sequence(40);
  const auto bytes = [&](const heed::Kernel& kernel) {
    return heed::value_or_throw(heed::workspace_bytes(kernel, sequence.policy, sequence.queries, Sequence::keys, 1));
  };
  using Backend = heed::DefaultBackend;
  using K = heed::Bf16;
  const auto& toy = heed::kernel<Backend, K, K, RoundedQAndP>();
  const std::size_t wanted = bytes(toy);
  EXPECT_EQ(wanted, heed::value_or_throw(
                        heed::workspace_bytes<RoundedQAndP>(sequence.policy, sequence.queries, Sequence::keys, 1)));
  EXPECT_EQ(bytes(heed::kernel<Backend, K, K>()),
            heed::value_or_throw(heed::workspace_bytes(sequence.policy, sequence.queries, Sequence::keys, 1)));
  EXPECT_NE(wanted, bytes(heed::kernel<Backend, K, K>()));
  EXPECT_STREQ(toy.math, "toy weights");
  EXPECT_STREQ((heed::kernel<Backend, K, K>().math), "f32");
  // Exactly as many bytes as are asked for, so that AddressSanitizer sees one more.
  std::vector<std::byte> memory(wanted);
  heed::Workspace workspace{std::span(memory)};
  heed::SerialExecutor serial;
  std::vector<float> out = sequence.out();
  heed::check(
      heed::attend(toy, sequence.policy, sequence.q, sequence.source(), heed::Causal{}, out, workspace, serial));
}

}  // namespace
}  // namespace heed_test::toy_math_test
