// Counts, layers and positions at the ends of 64 bits, for everything that a cache is asked.
#include "extremes/numbers.hpp"

#include <optional>
#include <vector>

namespace heed_test::caches_test {
namespace {

using Cache = heed::KvCache<heed::Gqa, heed::F32>;
using heed::NumTokens;

constexpr heed::Gqa policy{.num_heads = 2, .num_kv_heads = 1, .head_dim = 2, .scale = 1};

/// A cache of two layers that has seen five tokens.
struct Five {
  Cache cache;

  explicit Five(const heed::AnyRule& rule = {}, heed::CacheOptions options = {})
      : cache(heed::value_or_throw(Cache::create(policy, with(options), rule))) {
    auto step = heed::value_or_throw(cache.begin(std::vector<std::int32_t>{1, 2, 3, 4, 5}));
    write(step);
    heed::check(step.commit());
  }
  static heed::CacheOptions with(heed::CacheOptions options) {
    options.layers = 2;
    options.undo_tokens = 2;
    options.memory = little_memory();
    return options;
  }
  static void write(Cache::Step& step) {
    const std::vector<float> rows(std::size_t(step.tokens() * 2), 0.5f);
    for (Index layer = 0; layer < 2; ++layer) heed::check(step.write(layer, rows, rows));
  }
  /// Still works, and has seen so many tokens.
  void expect_seen(Index tokens) {
    EXPECT_EQ(cache.seen(), tokens);
    auto step = cache.begin(NumTokens(1));
    ASSERT_TRUE(step.ok()) << step.status().message();
    write(*step);
  }
};

TEST(Extremes, CacheOptions) {
  for_extremes([](Index n, Index m) {
    for (int field = 0; field < 5; ++field) {
      heed::CacheOptions options{.memory = little_memory()};
      (field == 0   ? options.layers
       : field == 1 ? options.capacity
       : field == 2 ? options.max_tokens
       : field == 3 ? options.undo_tokens
                    : options.page_tokens) = n;
      (field == 0   ? options.capacity
       : field == 1 ? options.page_tokens
       : field == 2 ? options.capacity
       : field == 3 ? options.max_tokens
                    : options.layers) = m;
      for (const heed::AnyRule& rule : {heed::AnyRule(), heed::AnyRule(heed::SlidingWindow{n})}) {
        const auto made = Cache::create(policy, options, rule);
        expect_said(made);
        if (n < 0 || n > Index{1} << 48) {
          EXPECT_FALSE(made.ok());
        }
      }
    }
    const std::vector<heed::LayerRule> rules{{heed::Causal{}, {n, m}}};
    expect_said(Cache::create(policy, {.layers = 2, .memory = little_memory()}, rules));
  });
}

TEST(Extremes, Cache) {
  for_extremes([](Index n) {
    for (const heed::AnyRule& rule : {heed::AnyRule(), heed::AnyRule(heed::SlidingWindow{3})}) {
      Five five(rule);
      Cache& cache = five.cache;
      const bool layer = n == 0 || n == 1;
      if (n < 0 || n > Index{1} << 48) {
        expect_refused(cache.begin(NumTokens(n)), n);
        expect_refused(cache.truncate(n), n);
      }
      expect_said(cache.reserve(n));
      expect_said(cache.begin(NumTokens(n)));
      five.expect_seen(5);
      EXPECT_LE(cache.size(n), 5);
      EXPECT_GE(cache.kept(n), 0);
      EXPECT_GE(cache.evicted(n), 0);
      std::ignore = cache.rule(n).name();
      EXPECT_EQ(cache.retention(n).seen, 5);

      heed::Workspace workspace;
      heed::SerialExecutor executor;
      const std::vector<float> q(4);
      std::vector<float> out(4);
      EXPECT_EQ(heed::attend<heed::Scalar>(policy, q, cache.keys(n), out, workspace, executor).ok(), layer);
      {
        auto step = cache.begin(NumTokens(1));
        ASSERT_TRUE(step.ok());
        const std::vector<float> row(2);
        EXPECT_EQ(step->write(n, row, row).ok(), layer);
        EXPECT_EQ(step->write(0, int(std::clamp<Index>(n, INT32_MIN, INT32_MAX)), row).ok(), layer);
        EXPECT_EQ(step->positions(n).size(), layer ? 1u : 0u);
        Five::write(*step);
        EXPECT_EQ(heed::attend<heed::Scalar>(policy, q, step->keys(n), out, workspace, executor).ok(), layer);
        const std::vector<Index> accepted{n};
        const heed::Status status = step->commit(accepted);
        EXPECT_EQ(status.ok(), n == 0);
        if (!status.ok()) {
          EXPECT_NE(status.message().find(std::to_string(n)), std::string::npos) << status.message();
        }
      }
      const std::vector<Index> keep{n}, pair{0, n}, twice{n, n};
      for (const auto& list : {twice, pair, keep}) expect_said(cache.compact(list));
      expect_said(cache.truncate(n));
    }
  });
}

TEST(Extremes, PagePoolsAndPrefixes) {
  for_extremes([](Index n, Index m) {
    heed::PrefixCache<Cache> prefixes;
    Five five;
    const std::vector<std::int32_t> ids{1, 2, 3, 4, 5};
    ASSERT_TRUE(prefixes.insert(ids, five.cache).ok());
    const auto match = prefixes.find(ids, n);
    expect_said(match);
    if (match.ok()) {
      EXPECT_EQ(match->tokens, n >= 5 ? 0 : 5 - n);
    }
    EXPECT_EQ(prefixes.set_max_bytes(m).ok(), m >= 0);
  });
}

TEST(Extremes, RecurrentOptions) {
  for_extremes([](Index layers, Index width, Index n) {
    for (const bool undo : {false, true}) {
      const auto made = heed::RecurrentState::create({.layers = layers,
                                                      .width = width,
                                                      .max_tokens = undo ? 0 : n,
                                                      .undo_tokens = undo ? n : 0,
                                                      .memory = little_memory()});
      expect_said(made);
      if (std::min(layers, width) < 1 || n < 0 || std::max({layers, width, n}) > Index{1} << 48) {
        EXPECT_FALSE(made.ok());
      }
    }
  });
}

TEST(Extremes, RecurrentState) {
  for_extremes([](Index n) {
    auto state = heed::value_or_throw(
        heed::RecurrentState::create({.layers = 2, .width = 3, .undo_tokens = 2, .memory = little_memory()}));
    const bool layer = n == 0 || n == 1;
    EXPECT_EQ(state.state(n).size(), layer ? 3u : 0u);
    if (n < 0 || n > Index{1} << 48) {
      expect_refused(state.begin(NumTokens(n)), n);
      expect_refused(state.truncate(n), n);
    }
    expect_said(state.begin(NumTokens(n)));
    auto step = heed::value_or_throw(state.begin(NumTokens(2)));
    EXPECT_EQ(step.layer(n).ok(), layer);
    for (Index l = 0; l < 2; ++l) {
      const heed::RecurrentLayer of = heed::value_or_throw(step.layer(l));
      EXPECT_EQ(of.after(n) != nullptr, layer);
      for (Index t = 0; t < 2; ++t) std::fill_n(of.after(t), 3, 1.0f);
    }
    expect_said(step.commit(n));
    step.abort();
    expect_said(state.truncate(n));
  });
}

TEST(Extremes, Drafts) {
  for_extremes([](Index n, Index m) {
    const std::vector<std::uint8_t> none, one(1);
    EXPECT_EQ(heed::suffix_bits(none, n).ok(), n == 0);
    EXPECT_EQ(heed::suffix_bits(one, n).ok(), n == 1);
    EXPECT_EQ(heed::DraftTree::chain(n).ok(), n == 0 || n == 1);
    const std::vector<Index> parents{n, m}, child{n}, sibling{m};
    const auto tree = heed::DraftTree::create(parents);
    EXPECT_EQ(tree.ok(), n == -1 && (m == -1 || m == 0));
    std::vector<Index> order;
    EXPECT_EQ(heed::DraftTree::from_links(child, sibling, order).ok(), n == -1 && m == -1);
    const heed::DraftTree chain = heed::value_or_throw(heed::DraftTree::chain(3));
    EXPECT_EQ(chain.positions(n).size(), 3u);
    std::ignore = chain.mask(n).visible(m, n);
    std::ignore = chain.mask(n).coverage({m, m == largest ? m : m + 1}, {0, 1});
  });
}

/// A model that fails at once, with any vocabulary.
struct NoModel {
  Index vocabulary = 0;
  Index vocab_size() const { return vocabulary; }
  heed::Result<std::span<const heed::Token>> draft(heed::Token, Index) { return std::span<const heed::Token>(); }
  heed::Result<std::span<const float>> verify(std::span<const heed::Token>) { return std::span<const float>(); }
  heed::Status commit(Index) { return {}; }
};

TEST(Extremes, SpeculativeLoop) {
  for_extremes([](Index count, Index drafts, Index vocabulary) {
    NoModel model{vocabulary};
    const auto made = heed::speculate_greedy(model, 0, count, drafts, [](heed::Token) {});
    expect_said(made);
    if (count > 0) {
      EXPECT_FALSE(made.ok());
    }
  });
}

}  // namespace
}  // namespace heed_test::caches_test
