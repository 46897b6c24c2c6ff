/// \file
/// The law of prefixes: a cache that was found computes the very bits of one that was fed from the start.
#include <cmath>
#include <cstring>
#include <random>

#include <heed/attend.hpp>
#include <heed/cache/prefix.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>

#include "cache/model.hpp"
#include "lists/rules.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"

namespace heed_test::prefix_bits_test {
namespace {

using heed::AnyRule;
using heed::Positions;
constexpr Index tokens = 300;
constexpr heed::Gqa gqa{.num_heads = 2, .num_kv_heads = 1, .head_dim = 8, .v_head_dim = 4, .scale = 0.3f};

/// Every rule, and streams with other options. The first one keeps all, the second one is a window.
const std::vector<AnyRule>& rules() {
  static const std::vector<AnyRule> all = [] {
    std::vector<AnyRule> made = heed_examples::every_rule({3, 17});
    heed::SeparatorStream stream{.initial = 2, .separators = 4, .local = 8, .capacity = 25, .ids = {1}};
    stream.form = heed::StreamForm::sep_cache;
    stream.prompt = 40;
    made.push_back(stream);
    stream.form = heed::StreamForm::manager;
    stream.prompt = 0;
    stream.accumulate = stream.bounded = false;
    made.push_back(stream);
    return made;
  }();
  return all;
}

struct Run {
  std::vector<float> q, k, v;
  std::vector<std::int32_t> ids;
};
/// Everything depends on the ids before, as it does in a model: two texts have the same numbers where they are the same.
Run run_of(const std::vector<std::int32_t>& ids) {
  Run made;
  made.ids = ids;
  std::uint64_t hash = 1;
  for (const std::int32_t id : ids) {
    hash = (hash ^ std::uint64_t(id)) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
    oracle::Random random(hash);
    for (auto [to, count] : {std::pair(&made.q, 16), std::pair(&made.k, 8), std::pair(&made.v, 4)}) {
      for (const float x : random.gaussians(count)) to->push_back(x);
    }
  }
  return made;
}
std::span<const float> part(const std::vector<float>& all, Index first, Index count) {
  const Index width = Index(all.size()) / tokens;
  return std::span(all).subspan(std::size_t(first * width), std::size_t(count * width));
}

/// Feeds tokens until the text's end and returns what the last `left` of them get, [layer][token][head][v_head_dim].
template <class Cache, class P>
std::vector<float> outputs(const P& policy, Cache& cache, const Run& run, Index chunk,
                           heed::PrefixCache<Cache>* prefixes) {
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  std::vector<float> all;
  while (cache.seen() < tokens) {
    const Index first = cache.seen(), count = std::min(chunk, tokens - first);
    auto step = heed::value_or_throw(cache.begin(std::span(run.ids).subspan(std::size_t(first), std::size_t(count))));
    for (Index layer = 0; layer < cache.layers(); ++layer) {
      heed::check(step.write(layer, part(run.k, first, count), part(run.v, first, count)));
    }
    for (Index token = 0; token < count; ++token) all.resize(all.size() + std::size_t(cache.layers()) * 8);
    for (Index layer = 0; layer < cache.layers(); ++layer) {
      std::vector<float> out(std::size_t(count) * 8);
      heed::check(heed::attend<Backend>(policy, part(run.q, first, count), step.keys(layer), out, workspace, serial));
      for (Index token = 0; token < count; ++token) {
        const auto at = all.end() - std::ptrdiff_t(((count - token) * cache.layers() - layer) * 8);
        std::copy_n(out.begin() + token * 8, 8, at);
      }
    }
    if (prefixes == nullptr) {
      heed::check(step.commit());
    } else {
      const std::span<const std::int32_t> ids(run.ids);
      static_cast<void>(heed::value_or_throw(prefixes->commit(ids.first(std::size_t(first + count)), step)));
    }
  }
  return all;
}

template <class P>
void expect_bits(const P& policy, Positions positions, const AnyRule& first, const AnyRule& other) {
  using Cache = heed::KvCache<P, heed::Bf16>;
  const heed::LayerRule groups[] = {{first, {0}}, {other, {1}}};
  for (const auto& group : groups) {
    if (!heed::supports(heed::CacheFeature::prefix, group.rule, positions, positions == Positions::rank).ok()) return;
  }
  const auto create = [&](Index page_tokens) {
    return heed::value_or_throw(
        Cache::create(policy, {.layers = 2, .positions = positions, .page_tokens = page_tokens}, groups));
  };
  std::mt19937_64 random(5);
  std::vector<std::int32_t> ids;
  for (Index i = 0; i < tokens; ++i) ids.push_back(std::int32_t(random() % 8));
  heed::PrefixCache<Cache> prefixes;
  Cache known = create(16);
  outputs(policy, known, run_of(ids), 37, &prefixes);
  for (const Index same : {1, 30, 48, 75, 149, 222, 299, 300}) {
    SCOPED_TRACE(same);
    std::vector<std::int32_t> prompt(ids.begin(), ids.begin() + same);
    while (Index(prompt.size()) < tokens) prompt.push_back(std::int32_t(random() % 8));
    const Run run = run_of(prompt);
    auto match = heed::value_or_throw(prefixes.find(prompt));
    ASSERT_GE(match.tokens, std::min<Index>(same, tokens - 1));
    const Index hit = match.tokens;
    Cache scratch = create(64);
    const std::vector<float> whole = outputs<Cache>(policy, scratch, run, 61, nullptr);
    const std::vector<float> rest = outputs<Cache>(policy, *match.cache, run, 23, nullptr);
    ASSERT_EQ(rest.size(), std::size_t(tokens - hit) * 16);
    for (const float x : rest) ASSERT_TRUE(std::isfinite(x));
    EXPECT_EQ(std::memcmp(rest.data(), whole.data() + (whole.size() - rest.size()), rest.size() * sizeof(float)), 0);
    EXPECT_FALSE(std::equal(rest.begin(), rest.begin() + 16, whole.begin())) << "not all the same number";
  }
}

TEST(PrefixBits, AreThoseOfTheWholeText) {
  for (std::size_t r = 0; r < rules().size(); ++r) {
    SCOPED_TRACE(rules()[r].name());
    expect_bits(gqa, Positions::absolute, rules()[r], rules()[r]);
    expect_bits(gqa, Positions::absolute, rules()[0], rules()[r]);
    expect_bits(gqa, Positions::absolute, rules()[1], rules()[r]);
  }
}

TEST(PrefixBits, WithInCacheRanks) {
  const heed::Rope rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 8, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  const heed::RotatedKeys<heed::Gqa> policy{.policy = gqa, .rope = &rope};
  for (std::size_t r = 0; r < rules().size(); ++r) {
    SCOPED_TRACE(rules()[r].name());
    expect_bits(policy, Positions::rank, rules()[r], rules()[r]);
    expect_bits(policy, Positions::rank, rules()[1], rules()[r]);
    expect_bits(policy, Positions::absolute, rules()[0], rules()[r]);
  }
}

}  // namespace
}  // namespace heed_test::prefix_bits_test
