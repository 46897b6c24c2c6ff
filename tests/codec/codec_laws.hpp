/// \file
/// The laws of a codec: every backend, mechanism and rule on its rows. HEED_CODEC_LAWS(C) makes them tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <heed/heed.hpp>

#include "digest/problems.hpp"
#include "lists/policies.hpp"
#include "oracle/attention.hpp"

namespace heed_test {

using heed::Index;
using heed_digest::NamedRule;

/// A row as codec C stores it, with its entry of the plane.
template <class C>
struct StoredRow {
  std::vector<std::byte> row, entry;
  StoredRow(const float* numbers, Index width)
      : row(std::size_t(C::row_bytes(width))), entry(std::size_t(C::factor_bytes(width))) {
    C::encode(numbers, width, row.data(), entry.data());
  }
  /// Number i, exactly.
  [[nodiscard]] double number(Index i) const {
    float code;
    C::codes(row.data(), i, 1, &code);
    if constexpr (C::factors == heed::Factors::none) {
      return double(code);
    } else {
      const Index at = C::factors == heed::Factors::per_row ? 0 : i / heed::factor_dims;
      return double(code) * double(C::factor(row.data(), entry.data(), at));
    }
  }
};

/// A text of 318 tokens: ids, rows of every stream, queries.
struct Text {
  static constexpr Index tokens = 318;
  heed::AttentionLayout layout;
  std::vector<std::int32_t> ids;
  std::vector<std::vector<float>> rows;  ///< [stream][tokens][heads][width]
  std::vector<float> q;                  ///< [tokens][heads][q_width]
  Index q_row = 0, out_row = 0;

  Text(const heed::AttentionLayout& of, Index q_width, Index out_width, std::uint64_t seed)
      : layout(of), q_row(of.num_heads * q_width), out_row(of.num_heads * out_width) {
    heed_digest::Numbers numbers(seed);
    for (Index i = 0; i < tokens; ++i) ids.push_back(std::int32_t(numbers.below(9)));
    for (int s = 0; s < of.num_streams; ++s) {
      const heed::StreamShape shape = of.streams[std::size_t(s)];
      rows.push_back(numbers.rows(tokens * shape.num_heads * shape.width));
      // Rows and blocks of other sizes, so that a wrong factor shows.
      for (std::size_t i = 0; i < rows.back().size(); ++i) {
        const Index row = Index(i) / shape.width, block = Index(i) % shape.width / 32;
        rows.back()[i] *= std::exp2(float((row * 7 + block * 3) % 5) - 2);
      }
    }
    q = numbers.rows(tokens * q_row, 0.5f);
  }
  /// The same text with rows as K and V store them.
  template <class K, class V>
  [[nodiscard]] Text stored(int value_stream) const {
    Text made = *this;
    for (std::size_t s = 0; s < rows.size(); ++s) {
      const Index width = layout.streams[s].width;
      for (std::size_t first = 0; first < rows[s].size(); first += std::size_t(width)) {
        const StoredRow<K> key(rows[s].data() + first, width);
        const StoredRow<V> value(rows[s].data() + first, width);
        for (Index i = 0; i < width; ++i) {
          made.rows[s][first + std::size_t(i)] = float(int(s) == value_stream ? value.number(i) : key.number(i));
        }
      }
    }
    return made;
  }
};

/// How a text goes through a cache.
struct Way {
  std::vector<Index> steps;
  Index page_tokens = 0;
  Index threads = 1;
  bool renews = false;  ///< a fork, then a snapshot, takes the place of the cache after every step
  bool plans = false;   ///< a plan of layer 0, made before rows are written, runs layer 1
};

/// What a kernel of the codecs K and V answers to all queries of the text.
template <class K, class V, class P, class CachePolicy>
std::vector<float> answers_of(const heed::Kernel& kernel, const P& policy, const CachePolicy& cached,
                              const NamedRule& rule, const Text& text, const Way& way) {
  using Cache = heed::KvCache<CachePolicy, K, V>;
  const heed::CacheOptions options{.layers = 2, .positions = rule.positions, .page_tokens = way.page_tokens};
  auto cache = std::make_unique<Cache>(heed::value_or_throw(Cache::create(cached, options, rule.rule)));
  heed::Workspace workspace;
  auto pool = heed::value_or_throw(heed::ThreadPool::create(way.threads));
  std::vector<float> out(std::size_t(Text::tokens * text.out_row));
  heed::Plan plan;
  Index first = 0;
  for (const Index tokens : way.steps) {
    const auto part = [&](const std::vector<float>& all, Index row) {
      return std::span(all).subspan(std::size_t(first * row), std::size_t(tokens * row));
    };
    auto step =
        heed::value_or_throw(cache->begin(std::span(text.ids).subspan(std::size_t(first), std::size_t(tokens))));
    if (way.plans) heed::check(plan.make(policy, step.keys(0), tokens, way.threads));
    for (Index layer = 0; layer < 2; ++layer) {
      for (int s = 0; s < text.layout.num_streams; ++s) {
        const heed::StreamShape shape = text.layout.streams[std::size_t(s)];
        std::vector<float> rows(part(text.rows[std::size_t(s)], shape.num_heads * shape.width).begin(),
                                part(text.rows[std::size_t(s)], shape.num_heads * shape.width).end());
        if (layer == 0) {
          for (float& x : rows) x = -2 * x;  // layer 1 is asked
        }
        heed::check(step.write(layer, s, rows));
      }
    }
    const std::span<const float> q = part(text.q, text.q_row);
    const std::span<float> to =
        std::span(out).subspan(std::size_t(first * text.out_row), std::size_t(tokens * text.out_row));
    heed::check(way.plans ? heed::attend(kernel, plan, policy, q, step.keys(1), to, workspace, *pool)
                          : heed::attend(kernel, policy, q, step.keys(1), to, workspace, *pool));
    heed::check(step.commit());
    first += tokens;
    if (!way.renews) continue;
    cache = std::make_unique<Cache>(heed::value_or_throw(cache->fork()));
    std::vector<std::byte> bytes(cache->snapshot_bytes());
    heed::check(cache->snapshot(bytes));
    cache = std::make_unique<Cache>(heed::value_or_throw(Cache::restore(cached, options, rule.rule, bytes)));
  }
  return out;
}

template <class Backend, class K, class V, class P, class CachePolicy>
std::vector<float> answers(const P& policy, const CachePolicy& cached, const NamedRule& rule, const Text& text,
                           const Way& way) {
  return answers_of<K, V>(heed::kernel<Backend, K, V>(), policy, cached, rule, text, way);
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
/// Largest |a - b|, relative to 1 + |b|; NaN counts as infinite.
inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(double(a[i]) - double(b[i])) / (1 + std::abs(double(b[i])));
    worst = d <= worst ? worst : (d == d ? d : HUGE_VAL);
  }
  return worst;
}

/// Any way through a cache gives the same bits, with every backend; they are near those on the stored numbers in floats.
template <class K, class V, class P, class CachePolicy>
void expect_laws(const char* name, const P& policy, const CachePolicy& cached, const NamedRule& rule, Index q_width,
                 Index out_width) {
  const Text text(policy.layout(), q_width, out_width, 7);
  const Way whole{.steps = {270, 1, 4, 1, 33, 8, 1}};
  const auto want = answers<heed::DefaultBackend, K, V>(policy, cached, rule, text, whole);
  const auto floats = answers<heed::DefaultBackend, heed::F32, heed::F32>(
      policy, cached, rule, text.stored<K, V>(CachePolicy::value_stream), whole);
  EXPECT_LT(distance(want, floats), 3e-5) << name << " " << rule.name;
  for (const Way& way : {Way{.steps = {Text::tokens}, .threads = 3}, Way{.steps = {100, 1, 7, 210}, .page_tokens = 8},
                         Way{.steps = {3, 250, 9, 56}, .page_tokens = 40, .renews = true},
                         Way{.steps = whole.steps, .plans = true},
                         Way{.steps = {3, 250, 9, 56}, .page_tokens = 40, .threads = 3, .plans = true}}) {
    const auto got = answers<heed::DefaultBackend, K, V>(policy, cached, rule, text, way);
    EXPECT_TRUE(same_bits(got, want)) << name << " " << rule.name << " " << way.steps.size() << " steps, "
                                      << distance(got, want) << (way.plans ? ", planned" : "");
  }
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  heed::Backends::for_each([&]<class Backend>() {
    for (const bool plans : {false, true}) {
      const auto got = answers<Backend, K, V>(policy, cached, rule, text, {.steps = whole.steps, .plans = plans});
      EXPECT_TRUE(same_bits(got, want)) << name << " " << rule.name << " " << Backend::name << " "
                                        << distance(got, want) << (plans ? ", planned" : "");
    }
  });
#endif
}

/// Keys and values are slices of one row, and neither begins it.
struct Slices {
  Index num_heads = 0;
  static constexpr int key_stream = 0, value_stream = 0;
  [[nodiscard]] heed::Status validate() const { return {}; }
  [[nodiscard]] heed::AttentionLayout layout() const {
    return {.num_streams = 1,
            .streams = {heed::StreamShape{1, 170}},
            .key = {.stream = 0, .offset = 32, .width = 72},
            .value = {.stream = 0, .offset = 96, .width = 56},
            .num_heads = num_heads,
            .num_kv_heads = 1,
            .key_width = 72,
            .value_width = 56,
            .scale = 0.12f};
  }
  [[nodiscard]] heed::Identity query_map() const { return {}; }
  [[nodiscard]] heed::Identity output_map() const { return {}; }
  [[nodiscard]] heed::Identity preparation() const { return {}; }
};

/// Widths of more than two blocks of factors.
inline constexpr PolicySizes law_sizes{.heads = 6, .kv_heads = 2, .width = 72, .v_width = 40, .scale = 0.12f};

template <class C>
void expect_policies(const NamedRule& rule) {
  const auto expect = [&](const auto& one) {
    expect_laws<C, C>(one.name, one.policy, one.cached, rule, one.q_width, one.out_width);
  };
  if (rule.positions == heed::Positions::rank) {
    for_each_turning_policy(law_sizes, expect);
  } else {
    for_each_policy(law_sizes, expect);
    const Slices slices{.num_heads = 3};
    expect_laws<C, C>("slices", slices, slices, rule, 72, 56);
  }
}

/// Attention over the stored numbers in float64, on a StridedSource of rows with gaps and of entries apart from them, has
/// its bits for few and many queries, and for a plan that runs on a copy of the rows.
template <class C>
void expect_float64() {
  constexpr Index queries = 40, keys = 300, heads = 6, kv_heads = 2, width = 72, v_width = 64;
  const heed::Gqa policy{
      .num_heads = heads, .num_kv_heads = kv_heads, .head_dim = width, .v_head_dim = v_width, .scale = 0.12f};
  heed_digest::Numbers numbers(5);
  oracle::Problem problem{
      .heads = heads, .kv_heads = kv_heads, .key_dim = width, .value_dim = v_width, .scale = double(policy.scale)};
  const auto q = numbers.rows(queries * heads * width);
  for (const float x : q) problem.q.push_back(double(x));
  std::vector<std::byte> rows[2], entries[2];
  heed::StridedStream streams[2];
  for (int s = 0; s < 2; ++s) {
    const Index n = s == 0 ? width : v_width, row = C::row_bytes(n) + 3, entry = C::factor_bytes(n) + 2;
    rows[s].assign(std::size_t(keys * kv_heads * row), std::byte{0xff});
    entries[s].assign(std::size_t(keys * kv_heads * entry), std::byte{0xff});
    for (Index i = 0; i < keys * kv_heads; ++i) {
      const StoredRow<C> stored(numbers.rows(n, std::exp2(float(i % 4) - 2)).data(), n);
      std::copy(stored.row.begin(), stored.row.end(), rows[s].begin() + i * row);
      std::copy(stored.entry.begin(), stored.entry.end(), entries[s].begin() + i * entry);
      for (Index d = 0; d < n; ++d) (s == 0 ? problem.k : problem.v).push_back(stored.number(d));
    }
    streams[s] = {.data = rows[s].data(),
                  .token_stride_bytes = kv_heads * row,
                  .head_stride_bytes = row,
                  .row_bytes = C::row_bytes(n)};
    if (C::factor_bytes(n) == 0) continue;
    streams[s].factors = entries[s].data();
    streams[s].factor_token_stride_bytes = kv_heads * entry;
    streams[s].factor_head_stride_bytes = entry;
  }
  problem.visible = oracle::causal();
  const oracle::Answer want = oracle::attention(problem);
  const heed::StridedSource<C> source(keys, streams[0], streams[1]);
  const std::vector<std::byte> copied_rows[2] = {rows[0], rows[1]}, copied_entries[2] = {entries[0], entries[1]};
  for (int s = 0; s < 2; ++s) {
    streams[s].data = copied_rows[s].data();
    if (streams[s].factors != nullptr) streams[s].factors = copied_entries[s].data();
  }
  const heed::StridedSource<C> copied(keys, streams[0], streams[1]);
  heed::Backends::for_each([&]<class Backend>() {
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    std::vector<float> out(std::size_t(queries * heads * v_width)), one(std::size_t(heads * v_width));
    heed::check(heed::attend<Backend>(policy, q, source, heed::Causal{}, out, workspace, serial));
    for (std::size_t i = 0; i < out.size(); ++i) {
      ASSERT_TRUE(std::abs(double(out[i]) - want.o[i]) <= 40 * 0x1p-23 * want.abs_values[i])
          << Backend::name << " " << i << ": " << out[i] << ", must be " << want.o[i];
    }
    heed::Plan plan;
    heed::check(plan.make(policy, source, queries, 1, heed::Causal{}));
    std::vector<float> planned(out.size());
    heed::check(heed::attend<Backend>(plan, policy, q, copied, planned, workspace, serial));
    EXPECT_TRUE(same_bits(planned, out)) << Backend::name;
    for (const Index query : {Index{0}, Index{17}, queries - 1}) {
      const Index position[] = {keys - queries + query};
      heed::check(heed::attend<Backend>(
          policy, std::span(q).subspan(std::size_t(query * heads * width), std::size_t(heads * width)), source,
          heed::Causal{}, one, workspace, serial, {}, {}, position));
      EXPECT_EQ(std::memcmp(one.data(), &out[std::size_t(query * heads * v_width)], one.size() * sizeof(float)), 0)
          << Backend::name << " query " << query;
      std::vector<float> planned_one(one.size());
      heed::check(plan.make(policy, source, 1, 1, heed::Causal{}, position));
      heed::check(heed::attend<Backend>(
          plan, policy, std::span(q).subspan(std::size_t(query * heads * width), std::size_t(heads * width)), copied,
          planned_one, workspace, serial));
      EXPECT_TRUE(same_bits(planned_one, one)) << Backend::name << " query " << query << ", planned";
    }
  });
}

}  // namespace heed_test

// Test names are those of the file's suite; a macro, because gtest registers tests by tokens.
#define HEED_CODEC_LAWS(C)                                                                   \
  TEST(C, Float64) { expect_float64<C>(); }                                                  \
  TEST(C, EveryPolicyAndRule) {                                                              \
    for (const auto& rule : heed_digest::rules()) expect_policies<C>(rule);                  \
    for (const auto& rule : heed_digest::later_rules()) expect_policies<C>(rule);            \
  }                                                                                          \
  TEST(C, KeysThatTurnWhenTheyAreRead) {                                                     \
    for (const auto& rule : heed_digest::rank_rules()) expect_policies<C>(rule);             \
  }                                                                                          \
  TEST(C, KeysAndValuesInOtherCodecs) {                                                      \
    const heed::Gqa gqa{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .scale = 0.125f}; \
    for (const auto& rule : heed_digest::rules()) {                                          \
      expect_laws<C, heed::Bf16>("gqa, values in bf16", gqa, gqa, rule, 64, 64);             \
      expect_laws<heed::F32, C>("gqa, keys in f32", gqa, gqa, rule, 64, 64);                 \
    }                                                                                        \
  }                                                                                          \
  static_assert(true, "the macro ends with a semicolon")
