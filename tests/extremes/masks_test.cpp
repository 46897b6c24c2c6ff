// Positions, lists and rules at the ends of 64 bits, for masks and for batches of several sequences.
#include "compile/concepts/minimal.hpp"
#include "extremes/numbers.hpp"

#include <vector>

namespace heed_test::masks_test {
namespace {

using heed::Interval, heed::Scalar;
using Source = heed::StridedSource<heed::F32>;

/// Everything that a mask can be asked. Coverage must not contradict visible() where the ranges end.
template <class M>
void ask(const M& mask, Index query, Index key) {
  const bool seen = mask.visible(query, key);
  const Interval one_query{query == largest ? query - 1 : query, query == largest ? query : query + 1};
  const Interval one_key{key == largest ? key - 1 : key, key == largest ? key : key + 1};
  const bool exact = one_query.begin == query && one_key.begin == key;
  const heed::Coverage one = mask.coverage(one_query, one_key);
  if (exact) {
    EXPECT_TRUE(one == heed::Coverage::partial || (one == heed::Coverage::full) == seen) << query << " sees " << key;
  }
  const Interval all{std::min(query, key), std::max(query, key)};
  if (all.begin < all.end) {
    for (const Interval queries : {one_query, all}) {
      for (const Interval keys : {one_key, all}) {
        const heed::Coverage coverage = mask.coverage(queries, keys);
        const bool both = query >= queries.begin && query < queries.end && key >= keys.begin && key < keys.end;
        if (both && coverage == heed::Coverage::full) {
          EXPECT_TRUE(seen) << query << " sees " << key;
        }
        if (both && coverage == heed::Coverage::none) {
          EXPECT_FALSE(seen) << query << " sees " << key;
        }
      }
    }
  }
  if constexpr (heed::SplitMask<M>) {
    EXPECT_TRUE(!mask.near_visible(query, key) || seen);
    std::ignore = mask.near_coverage(one_query, one_key);
    for (Index i = 0; i < mask.far_keys(); ++i) {
      std::ignore = mask.far_visible(query, i);
      std::ignore = mask.far_coverage(one_query, {i, i + 1});
    }
  }
}
template <class M>
void ask_both(const M& mask, Index query, Index key) {
  ask(mask, query, key);
  const heed::MaskRef ref(mask);
  EXPECT_EQ(ref.text_position(query), query);
  std::uint64_t bit = 0;
  ref.fill(query, &key, 1, 0, &bit);
  EXPECT_EQ(bit == 1, mask.visible(query, key));
  if (ref.split()) {
    const Interval run = ref.near_run(query, {std::min(key, largest - 1), std::min(key, largest - 1) + 1});
    EXPECT_LE(run.begin, run.end);
  }
}

TEST(Extremes, MasksOfPositions) {
  for_extremes([](Index query, Index key, Index n) {
    ask_both(heed::Causal{}, query, key);
    ask_both(heed::Unmasked{}, query, key);
    if (n >= 1) ask_both(heed::SlidingWindow{n}, query, key);
  });
  EXPECT_FALSE(heed::SlidingWindow{5}.visible(largest, smallest));
  EXPECT_FALSE(heed::SlidingWindow{largest}.visible(largest, smallest));
  EXPECT_TRUE(heed::SlidingWindow{largest}.visible(largest, 1));
}

TEST(Extremes, RuleMasks) {
  const std::vector<std::int32_t> ids{3, 1, 4, 1, 5, INT32_MAX, 0, 1};
  const std::vector<std::int32_t> odd{-1, INT32_MIN};
  for_extremes([&](Index a, Index b) {
    const heed::TokenSet set{1};
    for (const heed::AnyRule& rule :
         {heed::AnyRule(), heed::AnyRule(heed::SlidingWindow{a}), heed::AnyRule(heed::SinkWindow{a, b}),
          heed::AnyRule(heed::Separators{a, b, set}), heed::AnyRule(heed::FixedGrid{a, b, 3, 2}),
          heed::AnyRule(heed::FixedGrid{1, 2, a, b}), heed::AnyRule(heed::Anchors{set})}) {
      const auto made = heed::RuleMask::create(rule, ids, little_memory());
      expect_said(made);
      EXPECT_EQ(made.ok(), rule.validate().ok());
      expect_said(heed::RuleMask::create(rule, odd, little_memory()));
      if (!made.ok()) continue;
      EXPECT_EQ(made->tokens(), 8);
      const heed::LandmarkMask mask = made->mask();
      ask_both(mask, a, b);
      for (const Index slots : {Index{8}, a}) {
        std::ignore = mask.fits(
            {.queries = 1, .positions = {a, a == largest ? a : a + 1}, .slots = slots, .end = b, .slots_end = b});
      }
      for (const heed::CacheFeature feature : heed::all_cache_features) {
        for (const heed::Positions positions : {heed::Positions::absolute, heed::Positions::rank}) {
          expect_said(heed::supports(feature, rule, positions, true));
          expect_said(heed::supports(feature, rule, positions, false));
        }
      }
    }
  });
  for (const std::int32_t id : {INT32_MIN, -1, 0, INT32_MAX}) {
    const heed::Anchors anchors{{id}};
    EXPECT_EQ(anchors.validate().ok(), id >= 0);
    const auto mask = heed::RuleMask::create(anchors, ids);
    EXPECT_EQ(mask.ok(), id >= 0);
    expect_said(mask);
  }
}

TEST(Extremes, LandmarkMasks) {
  for_extremes([](Index l, Index m, Index n) {
    const std::vector<heed::Reach> reach{{.begin = l}, {.begin = m, .blind = true}};
    const std::vector<heed::FarToken> far{{.position = std::min(m, n)}, {.position = std::max(m, n)}};
    const heed::LandmarkMask mask(reach, l, far, 1, m, 1);
    ask(mask, n, m);
    ask(mask, l, n);
    EXPECT_EQ(mask.far_keys(), 2);
    EXPECT_EQ(mask.far_key(0), 0);
    std::ignore = mask.far_key(1);
    std::ignore = mask.near_keys();
    std::ignore = mask.fits({.queries = 1, .positions = {n, n == largest ? n : n + 1}, .slots = m, .slots_end = l});
  });
}

/// A rule that answers with any numbers.
struct Odd : minimal::Rule {
  Index a = 0, b = 0;
  Odd(Index first, Index second) : a(first), b(second) {}
  static constexpr const char* name = "odd";
  heed::Recall recall(const heed::History&) const { return {.begin = a}; }
  Index rollback_floor(Index, Index) const { return b; }
  heed::MostKept most_kept() const { return {.recent = a, .landmarks = b, .total = a}; }
  template <class Field>
  void describe(Field&& field) const {
    field("a", a);
    field("b", b);
  }
};

TEST(Extremes, RulesOfTheCaller) {
  using Cache = heed::KvCache<heed::Mqa, heed::F32>;
  for_extremes([](Index a, Index b) {
    auto cache = Cache::create({.num_heads = 1, .head_dim = 2, .scale = 1},
                               {.undo_tokens = 1, .memory = little_memory()}, Odd{a, b});
    expect_said(cache);
    if (!cache.ok()) return;
    const std::vector<float> rows(10, 0.5f);
    for (int round = 0; round < 3; ++round) {
      auto step = cache->begin(heed::NumTokens(5));
      ASSERT_TRUE(step.ok()) << step.status().message();
      ASSERT_TRUE(step->write(0, rows, rows).ok());
      ASSERT_TRUE(step->commit().ok());
    }
    EXPECT_LE(cache->size(), 15);
    expect_said(cache->truncate(14));
    std::ignore = heed::RuleMask::create(Odd{a, b}, std::vector<std::int32_t>(5));
  });
}

TEST(Extremes, PageChoice) {
  for_extremes([](Index l, Index m, Index n) {
    for (const bool evicts : {false, true}) {
      for (const heed::MostKept& kept : {heed::MostKept{l, m, n}, heed::MostKept{}, heed::MostKept{l, 0}}) {
        const Index tokens = heed::automatic_page_tokens(kept, evicts, m, n);
        EXPECT_GE(tokens, 4);
        EXPECT_LE(tokens, 1024);
      }
    }
    heed::detail::StepLengths lengths;
    lengths.began(l);
    lengths.began(m);
    EXPECT_EQ(lengths.longest(), std::max({l, m, Index{1}}));
    for (Index i = 1; i <= heed::detail::StepLengths::period; ++i)
      EXPECT_EQ(lengths.committed(), i == heed::detail::StepLengths::period);
    EXPECT_EQ(lengths.longest(), std::max({l, m, Index{1}}));
  });
}

/// Three keys of one head of width 2, all of 0.5.
const std::vector<float> some(16, 0.5f);
const heed::StridedStream stream{reinterpret_cast<const std::byte*>(some.data()), 8, 0, 8};
constexpr heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 2, .scale = 1};

/// One sequence of the caller's numbers between a usual one and an empty one.
template <class S>
heed::Status attend_among(const S& keys, const heed::MaskRef& mask, std::span<const Index> positions) {
  const std::vector<float> q(2, 1.0f);
  const Source usual(3, stream, stream), none(0, {}, {});
  std::vector<float> out(6, -1.0f);
  const auto sequence = [&](const S* from, const heed::MaskRef& its, std::span<const Index> at, std::size_t number) {
    return heed::Sequence<S>{
        .keys = from, .mask = its, .q = q, .out = std::span(out).subspan(2 * number, 2), .query_positions = at};
  };
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const std::vector<Index> first{2};
  const S other = [&] {
    if constexpr (std::is_same_v<S, Source>) {
      return usual;
    } else {
      return S{};
    }
  }();
  std::vector<heed::Sequence<S>> batch{sequence(&other, heed::Causal{}, first, 0), sequence(&keys, mask, positions, 1)};
  batch.push_back({.keys = &other, .mask = heed::Causal{}, .q = {}, .out = {}});  // no query
  batch.push_back({.keys = &keys, .mask = mask, .q = {}, .out = {}});
  const heed::Status status =
      heed::attend_batch<Scalar>(policy, std::span<const heed::Sequence<S>>(batch), workspace, executor);
  expect_said(status);
  if (!status.ok()) {
    EXPECT_EQ(out, std::vector<float>(6, -1.0f));
    EXPECT_EQ(status.message().rfind("sequence ", 0), 0u) << status.message();
  } else {
    for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(out[i], 0.5f);
    for (std::size_t i = 2; i < 4; ++i) EXPECT_TRUE(out[i] == 0.5f || out[i] == 0.0f) << out[i];
  }
  return status;
}

TEST(Extremes, Batches) {
  for_extremes([](Index position, Index first, Index window) {
    for (const Index tokens : {Index{0}, Index{3}, position}) {
      if (tokens > 3 && tokens <= Index{1} << 48) continue;  // the same row 2^31 times: right, but long
      for (const bool given : {false, true}) {
        const std::vector<Index> positions(given ? 1u : 0u, position);
        const Source keys(tokens, stream, stream, first);
        const heed::Status status = attend_among(keys, heed::SlidingWindow{window}, positions);
        const bool far = given && (position > Index{1} << 48 || position < -(Index{1} << 48));
        if (far || tokens < 0 || (tokens > 0 && (first > Index{1} << 48 || first == smallest))) {
          EXPECT_FALSE(status.ok());
        }
        std::ignore = attend_among(keys, heed::Causal{}, positions);
        std::ignore = attend_among(keys, heed::Unmasked{}, positions);
      }
    }
  });
}

TEST(Extremes, AskedSequences) {
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const std::vector<heed::Sequence<Source>> nothing;
  EXPECT_TRUE(
      heed::attend_batch<Scalar>(policy, std::span<const heed::Sequence<Source>>(nothing), workspace, executor).ok());
  std::vector<heed::Sequence<Source>> null(2);
  EXPECT_FALSE(
      heed::attend_batch<Scalar>(policy, std::span<const heed::Sequence<Source>>(null), workspace, executor).ok());
}

/// A SplitMask over three keys that answers with any numbers about its lists.
struct Lists {
  Index first_key = 0, first_slot = 0, far = 0, far_at = 0;
  heed::Coverage coverage(Interval, Interval) const { return heed::Coverage::partial; }
  bool visible(Index query, Index key) const { return key <= query; }
  heed::NearKeys near_keys() const { return {first_key, first_slot}; }
  Index far_keys() const { return far; }
  Index far_key(Index) const { return far_at; }
  heed::Coverage near_coverage(Interval, Interval) const { return heed::Coverage::partial; }
  bool near_visible(Index query, Index key) const { return key <= query; }
  heed::Coverage far_coverage(Interval, Interval) const { return heed::Coverage::partial; }
  bool far_visible(Index, Index) const { return true; }
};

TEST(Extremes, ListsOfMasks) {
  const Source keys(3, stream, stream);
  for_extremes([&](Index l, Index m) {
    for (const Lists& lists : {Lists{l, m, 0, 0}, Lists{0, l, m, 0}, Lists{3, 0, l, m}, Lists{1, 1, l, 0},
                               Lists{1, l, 1, m}, Lists{l, l, m, m}}) {
      const heed::Status status = attend_among(keys, heed::MaskRef(lists), {});
      if (lists.far < 0 || lists.far > 3 || lists.first_key < 0 || lists.first_key > 3 ||
          (lists.far > 0 && (lists.far_at < 0 || lists.far_at > 2))) {
        EXPECT_FALSE(status.ok());
      }
    }
  });
}

/// A source of the caller's that answers with any numbers.
struct Claims {
  using KeyCodec = heed::F32;
  using ValueCodec = heed::F32;
  Index keys = 3, first = 0, last = 2;
  Index size() const { return keys; }
  Index position(Index key) const { return key == 0 ? first : key >= keys - 1 ? last : first + key; }
  heed::RowRun row_run(int, Index, Index at, Index max) const {
    return {stream.data, std::min(max, std::max<Index>(keys - at, 1)), 0, 8};
  }
};
/// The same as one with slots.
struct ClaimsSlots : Claims {
  Index all = 3, end = 2;
  Index slots() const { return all; }
  Index slot_position(Index slot) const { return slot == 0 ? first : slot >= all - 1 ? end : first + slot; }
  heed::RowRun slot_row_run(int s, Index h, Index at, Index max) const { return row_run(s, h, at, max); }
  Interval next_hole(Index) const { return {all, all}; }
};

TEST(Extremes, SourcesOfTheCaller) {
  for_extremes([](Index l, Index m) {
    for (const bool given : {false, true}) {
      const std::vector<Index> positions(given ? 1u : 0u, 2);
      const bool far = std::max(std::abs(l + (l == smallest)), std::abs(m + (m == smallest))) > Index{1} << 48;
      for (const Claims& claims : {Claims{3, l, m}, Claims{3, 0, m}, Claims{1, l, l}}) {
        const heed::Status status = attend_among(claims, heed::Unmasked{}, positions);
        if (far && (claims.first == l || claims.last == m) && claims.keys == 3 && claims.first == l) {
          EXPECT_FALSE(status.ok());
        }
        std::ignore = attend_among(claims, heed::Causal{}, positions);
      }
      if (l < 0 || l > Index{1} << 48) {
        EXPECT_FALSE(attend_among(Claims{l, 0, 2}, heed::Unmasked{}, positions).ok());
        EXPECT_FALSE(attend_among(ClaimsSlots{{3, 0, 2}, l, 2}, heed::Unmasked{}, positions).ok());
      }
      if (m < -(Index{1} << 48) || m > Index{1} << 48) {
        EXPECT_FALSE(attend_among(ClaimsSlots{{3, 0, 2}, 4, m}, heed::Unmasked{}, positions).ok());
      }
    }
  });
}

}  // namespace
}  // namespace heed_test::masks_test
