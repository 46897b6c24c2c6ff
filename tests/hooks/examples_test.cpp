// The examples of docs/hooks.md, against float64: T5's bias, scores of heavy hitters, blocks selected for each KV head.
#include <fstream>
#include <sstream>

#include <heed/cache/kv_cache.hpp>
#include <heed/policy/grouped.hpp>

#include "hooks/block_selection.hpp"
#include "hooks/heavy_hitters.hpp"
#include "hooks/recorder.hpp"
#include "hooks/t5_bias.hpp"
#include "policy/backend.hpp"

namespace heed_test::examples_test {
namespace {

using Cache32 = heed::KvCache<heed::Gqa, heed::F32>;
constexpr Index heads = 4, kv_heads = 2, dim = 32;
const heed::Gqa policy{.num_heads = heads, .num_kv_heads = kv_heads, .head_dim = dim, .v_head_dim = dim, .scale = 1};

/// One sequence in a cache, its numbers for the oracle, and what attend() answers.
struct Sequence {
  Sequence(Index queries, Index keys, std::uint64_t seed) : cache(heed::value_or_throw(Cache32::create(policy, {}))) {
    oracle::Random random(seed);
    q = random.gaussians(queries * heads * dim, 0.2);
    const std::vector<float> k = random.gaussians(keys * kv_heads * dim, 0.9),
                             v = random.gaussians(keys * kv_heads * dim);
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(keys)));
    heed::check(step.write(0, k, v));
    heed::check(step.commit());
    problem = {.heads = heads, .kv_heads = kv_heads, .key_dim = dim, .value_dim = dim};
    problem.q = oracle::doubles(q);
    problem.k = oracle::doubles(k);
    problem.v = oracle::doubles(v);
    out.assign(q.size(), nan);
    lse.assign(std::size_t(queries * heads), nan);
  }
  Cache32 cache;
  std::vector<float> q, out, lse;
  oracle::Problem problem;
  heed::Workspace workspace;
};

/// The first distance of buckets 8 to 15 and 16 to 31 of the published models: 32 buckets, 128 positions. HuggingFace's
/// T5Attention computes them with a logarithm.
double t5_bucket(oracle::Int query, oracle::Int key, bool bidirectional) {
  static constexpr oracle::Int both[] = {8, 12, 16, 23, 32, 46, 64, 91};
  static constexpr oracle::Int earlier[] = {16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
  const oracle::Int exact = bidirectional ? 8 : 16, distance = bidirectional ? std::abs(key - query) : query - key;
  oracle::Int bucket = std::min(distance, exact);
  if (distance >= exact) {
    --bucket;
    const auto firsts = bidirectional ? std::span<const oracle::Int>(both) : std::span<const oracle::Int>(earlier);
    for (const oracle::Int first : firsts) bucket += distance >= first;
  }
  return double(bucket + (bidirectional && key > query ? 16 : 0));
}

TEST(HookExamples, T5BiasAgainstTheOracle) {
  oracle::Random random(1);
  const std::vector<float> table = random.gaussians(32 * heads);
  for (const bool bidirectional : {false, true}) {
    for (const float cap : {0.0f, 5.0f}) {
      Sequence s(bidirectional ? 400 : 7, 400, 2);
      const heed_examples::T5Bias bias(table, heads, bidirectional);
      const heed::MaskRef mask = bidirectional ? heed::MaskRef(heed::Unmasked{}) : heed::MaskRef(heed::Causal{});
      const auto pool = heed::value_or_throw(heed::ThreadPool::create(2));
      heed::check(heed::attend<Backend>(policy, s.q, s.cache.keys(0), mask, s.out, s.workspace, *pool,
                                        {.soft_cap = cap}, bias, s.lse));
      s.problem.soft_cap = double(cap);
      if (bidirectional) s.problem.visible = [](oracle::Int, oracle::Int) { return true; };
      s.problem.bias = [&](oracle::Int head, oracle::Int query, oracle::Int key) {
        return double(table[std::size_t(t5_bucket(query, key, bidirectional)) * heads + std::size_t(head)]);
      };
      const oracle::Answer want = oracle::attention(s.problem);
      EXPECT_LE(oracle::worst_output(s.out, want), 1) << bidirectional << " " << cap;
      EXPECT_LE(oracle::worst_lse(s.lse, want), 1) << bidirectional << " " << cap;
    }
  }
}

TEST(HookExamples, HeavyHittersAgainstTheOracle) {
  constexpr Index queries = 16, keys = 600;
  Sequence s(queries, keys, 3);
  const auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  heed_examples::HeavyHitters hitters(queries, heads, kv_heads, keys), again(queries, heads, kv_heads, keys);
  heed::SerialExecutor serial;
  heed::check(heed::attend<Backend>(policy, s.q, s.cache.keys(0), s.out, s.workspace, *pool, {}, hitters, s.lse));
  heed::check(heed::attend<Backend>(policy, s.q, s.cache.keys(0), s.out, s.workspace, serial, {}, again));
  EXPECT_EQ(hitters.scores(), again.scores()) << "scores depend on the workers";
  const oracle::Answer sizes = oracle::attention(s.problem);
  s.problem.value_dim = keys;  // values that are unit vectors: outputs are probabilities
  s.problem.v.assign(std::size_t(keys * kv_heads * keys), 0.0);
  for (Index key = 0; key < keys; ++key) {
    for (Index g = 0; g < kv_heads; ++g) s.problem.v[std::size_t((key * kv_heads + g) * keys + key)] = 1;
  }
  const oracle::Answer want = oracle::attention(s.problem);
  const double size = *std::max_element(sizes.logit_size.begin(), sizes.logit_size.end());
  const std::vector<float> scores = hitters.scores();
  for (Index g = 0; g < kv_heads; ++g) {
    for (Index key = 0; key < keys; ++key) {
      double sum = 0;
      for (Index row = 0; row < queries * heads; ++row) {
        if (row % heads / 2 == g) sum += want.o[std::size_t(row * keys + key)];
      }
      // A sum of 32 positive numbers adds at most 31 roundings to theirs.
      EXPECT_LE(oracle::ratio(scores[std::size_t(g * keys + key)], sum, (36 + 4 * size) * oracle::eps32 * sum), 1);
    }
  }
}

TEST(HookExamples, BlockSelectionAgainstTheOracleOfEachKvHead) {
  constexpr Index queries = 70, keys = 900;
  Sequence s(queries, keys, 4);
  oracle::Random random(5);
  heed_examples::BlockSelection mask{.block = 64, .selected = {}};
  for (Index g = 0; g < kv_heads; ++g) {
    mask.selected.emplace_back();
    for (Index b = 0; b < 15; ++b) mask.selected.back().push_back(random.below(3) == 0);
  }
  heed::SerialExecutor serial;
  heed::check(heed::attend<Backend>(policy, s.q, s.cache.keys(0), mask, s.out, s.workspace, serial, {}, s.lse));
  for (Index g = 0; g < kv_heads; ++g) {
    s.problem.visible = [&](oracle::Int query, oracle::Int key) { return mask.visible(query, key, g); };
    const oracle::Answer want = oracle::attention(s.problem);
    for (std::size_t i = 0; i < s.out.size(); ++i) {
      const std::size_t row = i / dim;
      if (Index(row) % heads / 2 != g) continue;
      EXPECT_LE(oracle::output_ratio(s.out[i], want.o[i], want.abs_values[i], want.logit_size[row]), 1);
      EXPECT_LE(oracle::lse_ratio(s.lse[row], want.lse[row], want.logit_size[row]), 1);
    }
  }
}

std::string text_of(const std::string& path) {
  std::ifstream file(std::string(HEED_SOURCE_DIR) + "/" + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// What docs/hooks.md shows is what is compiled here.
TEST(HookExamples, DocsShowThisCode) {
  const std::string docs = text_of("docs/hooks.md");
  std::string code;
  for (const char* name : {"t5_bias", "heavy_hitters", "block_selection"}) {
    code += text_of(std::string("examples/hooks/") + name + ".hpp");
  }
  code += text_of("tests/hooks/examples_test.cpp");
  int blocks = 0;
  for (std::size_t at = docs.find("```cpp\n"); at != std::string::npos; at = docs.find("```cpp\n", at)) {
    at += 7;
    const std::size_t end = docs.find("```", at);
    ASSERT_NE(end, std::string::npos);
    EXPECT_NE(code.find(docs.substr(at, end - at)), std::string::npos) << docs.substr(at, end - at);
    ++blocks;
  }
  EXPECT_GE(blocks, 4);
}

}  // namespace
}  // namespace heed_test::examples_test
