// The retention rules by hand, and their identities.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "oracle/anchors.hpp"
#include "oracle/golden_cases.hpp"
#include "oracle/random.hpp"
#include "oracle/separator_stream.hpp"
#include "oracle/separators.hpp"
#include "oracle/sequence.hpp"
#include "oracle/sinks.hpp"

namespace heed_test::retention_test {
namespace {

using oracle::Anchors;
using oracle::Answer;
using oracle::Int;
using oracle::Positions;
using oracle::range;
using oracle::Separators;
using oracle::SeparatorStream;
using oracle::Sinks;
using oracle::Tokens;
using oracle::Trace;
using oracle::golden::distance;

oracle::Sequence gaussian_sequence(Int tokens, std::uint64_t seed) {
  oracle::Random random(seed);
  oracle::Problem p{.heads = 4, .kv_heads = 2, .key_dim = 8, .value_dim = 6, .scale = 0.4};
  p.q = oracle::doubles(random.gaussians(tokens * p.heads * p.key_dim));
  p.k = oracle::doubles(random.gaussians(tokens * p.kv_heads * p.key_dim));
  p.v = oracle::doubles(random.gaussians(tokens * p.kv_heads * p.value_dim));
  return {p, {.frequencies = oracle::rope_frequencies(8, 1e4)}};
}
oracle::Marks random_marks(Int tokens, double density, std::uint64_t seed) {
  oracle::Random random(seed);
  Tokens ids;
  for (Int t = 0; t < tokens; ++t) ids.push_back(random.uniform() < density ? 7 : 0);
  return oracle::marked_ids(ids, {7});
}
/// Calls of random sizes, now and then of none, that make `tokens`.
Tokens random_calls(Int tokens, std::uint64_t seed) {
  oracle::Random random(seed);
  Tokens calls;
  for (Int left = tokens; left > 0; left -= calls.back()) calls.push_back(std::min(left, random.below(9)));
  return calls;
}
Int largest_evicted(const Tokens& kept, Int count) {
  Int evicted = count - 1;
  while (evicted >= 0 && oracle::contains(kept, evicted)) --evicted;
  return evicted;
}
double difference(const Answer& a, const Answer& b) { return std::max(distance(a.o, b.o), distance(a.lse, b.lse)); }

/// A rule that is a mask, at work on a sequence.
struct Masked {
  std::string name;
  oracle::Visible visible;
  oracle::Keep keep;
  Int bound;  ///< of what is stored between steps, -1 if there is none
};
template <class Rule>
Masked masked(const std::string& name, const Rule& rule, Int bound) {
  return {name, rule.mask(), [rule](Int key, Int next) { return rule.keep(key, next); }, bound};
}
constexpr Int length = 70;
std::vector<Masked> masked_rules() {
  const auto few = random_marks(length, 0.1, 1), many = random_marks(length, 0.4, 2);
  return {masked("full", Separators{}, -1),
          masked("window", Separators{oracle::no_marks(), 0, 5}, 4),
          masked("sinks", Sinks{3, 6}, 8),
          masked("window of 1", Sinks{0, 1}, 0),
          masked("anchors", Anchors{few}, -1),
          masked("many anchors", Anchors{many}, -1),
          masked("anchors that see anchors", Anchors{few, true}, -1),
          masked("separators", Separators{few, 3, 4}, -1),
          masked("many separators", Separators{many, 0, 1}, -1),
          masked("FixLLM", Separators{oracle::every(7, 3), 2, 5}, -1)};
}

TEST(OracleRetention, CountsOfThreeSegments) {
  const auto counts = [](const Anchors& rule) {
    Tokens sizes;
    for (const auto& step : rule.trace(18)) sizes.push_back(Int(step.seen.size()));
    return sizes;
  };
  const auto anchor = oracle::every(6, 5);
  EXPECT_EQ(counts({anchor}), (Tokens{1, 2, 3, 4, 5, 6, 2, 3, 4, 5, 6, 6, 3, 4, 5, 6, 7, 6}));
  EXPECT_EQ(counts({anchor, true}), (Tokens{1, 2, 3, 4, 5, 6, 2, 3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 8}));
}

TEST(OracleRetention, AnchorsAtTheExtremes) {
  const Trace none = Anchors{}.trace(9), all = Anchors{oracle::every(1, 0)}.trace(9);
  for (Int t = 0; t < 9; ++t) {
    EXPECT_EQ(none[std::size_t(t)].seen, range(0, t + 1));
    EXPECT_EQ(none[std::size_t(t)].kept, range(0, t + 1));
    EXPECT_EQ(all[std::size_t(t)].seen, Tokens{t});
    EXPECT_EQ(all[std::size_t(t)].kept, range(0, t + 1));
  }
}

TEST(OracleRetention, SeparatorStreamByHand) {
  const std::string text = "AB.CDE\nFGHI\nJ,KLMN.OPQ";
  const auto separator = oracle::marked_ids({text.begin(), text.end()}, {'.', ',', '\n'});
  const SeparatorStream rule{.initial = 2, .slots = 2, .local = 4, .capacity = 11, .separator = separator};
  const Trace steps = rule.trace(Int(text.size()));
  EXPECT_EQ(steps[10].kept, range(0, 11));
  EXPECT_EQ(steps[11].seen, range(0, 12));
  EXPECT_EQ(steps[11].kept, (Tokens{0, 1, 2, 6, 8, 9, 10, 11}));
  EXPECT_EQ(steps[15].kept, (Tokens{0, 1, 6, 11, 12, 13, 14, 15}));
  EXPECT_EQ(steps[19].kept, (Tokens{0, 1, 11, 13, 16, 17, 18, 19}));

  SeparatorStream forgetful = rule;  // each compression keeps the separators it finds and no others
  forgetful.accumulate = false;
  const Trace other = forgetful.trace(Int(text.size()));
  EXPECT_EQ(other[11].kept, steps[11].kept);
  EXPECT_EQ(other[15].kept, (Tokens{0, 1, 11, 12, 13, 14, 15}));
  EXPECT_EQ(other[20].kept, (Tokens{0, 1, 13, 17, 18, 19, 20}));
}

TEST(OracleRetention, SepCacheByHand) {
  const auto separator = oracle::marked_ids({10, 11, 9, 2, 8, 3, 7, 6}, {2, 3, 4});
  const SeparatorStream rule{.initial = 2,
                             .slots = 3,
                             .local = 2,
                             .capacity = 8,
                             .separator = separator,
                             .form = SeparatorStream::Form::sep_cache};
  const Trace steps = rule.trace(8, 7), all_prompt = rule.trace(8, 8);
  EXPECT_EQ(steps[6].kept, range(0, 7));
  EXPECT_EQ(steps[7].seen, (Tokens{0, 1, 3, 5, 6, 7}));
  EXPECT_EQ(steps[7].kept, steps[7].seen);
  EXPECT_EQ(all_prompt[7].kept, range(0, 8));
}

TEST(OracleRetention, SepCacheOptionsByHand) {
  SeparatorStream rule{.initial = 2, .slots = 3, .local = 2, .capacity = 8};
  rule.separator = [](Int token) { return token == 2 || token == 3 || token == 5 || token == 7; };
  const auto compressed = [](const SeparatorStream& with) {
    SeparatorStream::State state{range(0, 10), 2, with.slots, with.capacity};
    with.compress(state);
    EXPECT_EQ(state.cache.size(), std::size_t(4 + state.separators));
    return state;
  };
  EXPECT_EQ(compressed(rule).cache, (Tokens{0, 1, 3, 5, 7, 8, 9}));
  rule.bounded = false;
  EXPECT_EQ(compressed(rule).cache, (Tokens{0, 1, 2, 3, 5, 7, 8, 9}));
  EXPECT_EQ(compressed(rule).slots, 4);
  EXPECT_EQ(compressed(rule).capacity, 9);
  rule.accumulate = false;
  EXPECT_EQ(compressed(rule).cache, (Tokens{0, 1, 5, 7, 8, 9}));
  rule.bounded = true;
  EXPECT_EQ(compressed(rule).cache, (Tokens{0, 1, 5, 7, 8, 9}));
}

TEST(OracleRetention, CachedDecodeIsTheMaskedForward) {
  const auto sequence = gaussian_sequence(length, 3);
  for (const Masked& rule : masked_rules()) {
    SCOPED_TRACE(rule.name);
    const Trace steps = oracle::trace(length, rule.visible, rule.keep);
    for (Int t = 0; t < length; ++t) {
      const auto& step = steps[std::size_t(t)];
      EXPECT_EQ(step.seen, oracle::where(range(0, t + 1), [&](Int key) { return rule.visible(t, key); }));
      EXPECT_EQ(step.kept, oracle::where(range(0, t + 1), [&](Int key) { return rule.keep(key, t + 1); }));
      if (rule.bound >= 0) {
        EXPECT_LE(Int(step.kept.size()), rule.bound);
      }
    }
    const Answer answer = sequence.masked(rule.visible);
    EXPECT_LE(difference(sequence.decoded(steps, Tokens(length, 1), Positions::absolute), answer), 1e-13);
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const Tokens calls = random_calls(length, seed);
      EXPECT_LE(difference(sequence.decoded(steps, calls, Positions::absolute), answer), 1e-13);
      Tokens cache;  // forgetting at the end of a call leaves what forgetting after each token does
      Int end = 0;
      for (const Int size : calls) {
        for (Int t = end; t < end + size; ++t) cache.push_back(t);
        end += size;
        cache = oracle::where(cache, [&](Int key) { return rule.keep(key, end); });
        if (end > 0) {
          EXPECT_EQ(cache, steps[std::size_t(end - 1)].kept);
        }
      }
    }
  }
}

/// Rules whose queries see what happened to be kept.
std::vector<Trace> streams(Int tokens) {
  const auto few = random_marks(tokens, 0.15, 4), many = random_marks(tokens, 0.5, 5);
  return {
      SeparatorStream{.initial = 2, .slots = 2, .local = 4, .capacity = 11, .separator = few}.trace(tokens),
      SeparatorStream{.initial = 0, .slots = 3, .local = 3, .capacity = 9, .separator = many}.trace(tokens),
      SeparatorStream{.initial = 1, .slots = 3, .local = 5, .capacity = 12, .separator = many, .accumulate = false}
          .trace(tokens),
      SeparatorStream{.initial = 1, .slots = 2, .local = 5, .capacity = 12, .separator = few, .bounded = false}.trace(
          tokens),
      SeparatorStream{.initial = 2,
                      .slots = 3,
                      .local = 2,
                      .capacity = 9,
                      .separator = few,
                      .form = SeparatorStream::Form::sep_cache}
          .trace(tokens, 20),
      Sinks{4, 8}.trace(tokens, Sinks::Form::evict_after_step),
      Sinks{2, 5}.trace(tokens, Sinks::Form::evict_for_space),
      Sinks{2, 5}.trace(tokens, Sinks::Form::mask),
  };
}

TEST(OracleRetention, RankedDecodeIsAForwardWithPositionsPerRow) {
  const auto sequence = gaussian_sequence(length, 6);
  const oracle::Problem& heads = sequence.heads;
  for (const Trace& steps : streams(length)) {
    const Answer decoded = sequence.decoded(steps, Tokens(length, 1), Positions::rank);
    Answer forward;
    for (Int t = 0; t < length; ++t) {  // every key is there, and what the query does not see is not a number
      const Tokens& seen = steps[std::size_t(t)].seen;
      oracle::Problem p = heads;
      Tokens ranks;
      for (Int j = 0; j < length; ++j) {
        ranks.push_back(std::lower_bound(seen.begin(), seen.end(), j) - seen.begin());
        if (oracle::contains(seen, j)) continue;
        p.k[std::size_t(j * p.kv_heads * p.key_dim)] = std::numeric_limits<double>::quiet_NaN();
        p.v[std::size_t(j * p.kv_heads * p.value_dim)] = std::numeric_limits<double>::quiet_NaN();
      }
      const auto q = heads.q.begin() + t * p.heads * p.key_dim;
      p.q = sequence.rotation.rotated({q, q + p.heads * p.key_dim}, p.key_dim, {ranks[std::size_t(t)]});
      p.k = sequence.rotation.rotated(p.k, p.key_dim, ranks);
      p.query_positions = {t};
      p.visible = oracle::seen_in(steps);
      const Answer row = oracle::attention(p);
      forward.o.insert(forward.o.end(), row.o.begin(), row.o.end());
      forward.lse.insert(forward.lse.end(), row.lse.begin(), row.lse.end());
    }
    EXPECT_LE(difference(decoded, forward), 1e-13);
  }
}

TEST(OracleRetention, AnyCallsGiveWhatOneByOneGives) {
  const auto sequence = gaussian_sequence(length, 7);
  for (const Trace& steps : streams(length)) {
    for (const Positions positions : {Positions::absolute, Positions::rank}) {
      const Answer one_by_one = sequence.decoded(steps, Tokens(length, 1), positions);
      for (std::uint64_t seed = 0; seed < 5; ++seed) {
        EXPECT_EQ(difference(sequence.decoded(steps, random_calls(length, seed), positions), one_by_one), 0);
      }
    }
    EXPECT_LE(difference(sequence.decoded(steps, Tokens(length, 1), Positions::absolute),
                         sequence.masked(oracle::seen_in(steps))),
              1e-13);
  }
}

TEST(OracleRetention, KeptListsAreInOrderAndEndInTheNewest) {
  for (const Trace& steps : streams(200)) {
    for (Int t = 0; t < 200; ++t) {
      const auto& step = steps[std::size_t(t)];
      for (const Tokens& list : {step.seen, step.kept}) {
        EXPECT_EQ(std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()), list.end());
      }
      EXPECT_EQ(step.seen.back(), t);
      EXPECT_EQ(step.kept.back(), t);
      Tokens possible = t == 0 ? Tokens{} : steps[std::size_t(t - 1)].kept;
      possible.push_back(t);
      EXPECT_TRUE(oracle::contains_all(possible, step.seen));
      EXPECT_TRUE(oracle::contains_all(possible, step.kept));
    }
  }
}

TEST(OracleRetention, RankIsAbsoluteWhenNothingBeforeTheWindowStays) {
  const auto sequence = gaussian_sequence(length, 8);
  const Trace window = Sinks{0, 6}.trace(length, Sinks::Form::evict_after_step);
  const Trace sinks = Sinks{2, 6}.trace(length, Sinks::Form::evict_after_step);
  const auto both = [&](const Trace& steps) {
    return difference(sequence.decoded(steps, Tokens(length, 1), Positions::rank),
                      sequence.decoded(steps, Tokens(length, 1), Positions::absolute));
  };
  EXPECT_LE(both(window), 1e-12);
  EXPECT_GT(both(sinks), 1e-3);
}

bool same(const Trace& a, const Trace& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.seen == y.seen && x.kept == y.kept; });
}

TEST(OracleRetention, FormsOfSinks) {
  const Sinks rule{3, 6}, wider{3, 7};
  const Trace mask = rule.trace(50, Sinks::Form::mask), after = rule.trace(50, Sinks::Form::evict_after_step),
              before = rule.trace(50, Sinks::Form::evict_for_space);
  // What the code form sees is the mask with a window one wider.
  EXPECT_TRUE(same(after, wider.trace(50, Sinks::Form::mask)));
  EXPECT_EQ(Int(after.back().kept.size()), 9);
  EXPECT_EQ(Int(after.back().seen.size()), 10);
  for (std::size_t t = 0; t < 50; ++t) EXPECT_EQ(before[t].seen, mask[t].seen);
  EXPECT_EQ(Int(before.back().kept.size()), 9);
  EXPECT_EQ(Int(mask.back().kept.size()), 8);
  EXPECT_FALSE(same(after, mask));
  EXPECT_TRUE(same(Separators{oracle::no_marks(), 3, 6}.trace(50), mask));
  // Room for no separators, compressed as soon as possible, is the code form.
  EXPECT_TRUE(same(SeparatorStream{.initial = 3, .local = 6, .capacity = 9}.trace(50), after));
  EXPECT_EQ(rule.evicted_for_space(range(0, 20), 10), (Tokens{0, 1, 2}));  // more than the window has room for
}

TEST(OracleRetention, WindowsPerLayer) {
  const auto separator = random_marks(length, 0.2, 9);
  const Tokens whole = {0, 5, 11};
  const auto layers = oracle::layered({separator, 3, 8}, oracle::layer_windows(12, 8, whole));
  ASSERT_EQ(layers.size(), 12u);
  for (Int layer = 0; layer < 12; ++layer) {
    const Trace steps = layers[std::size_t(layer)].trace(length);
    const bool all = oracle::contains(whole, layer);
    EXPECT_TRUE(same(steps, all ? Separators{}.trace(length) : Separators{separator, 3, 8}.trace(length))) << layer;
  }
}

TEST(OracleRetention, RollbackFloors) {
  for (const auto& [rule, reach] : {std::pair{Separators{oracle::no_marks(), 0, 5}, Int(5)},
                                    {Separators{oracle::no_marks(), 3, 6}, Int(6)},
                                    {Separators{random_marks(length, 0.2, 10), 3, 6}, Int(6)}}) {
    const Trace steps = rule.trace(length);
    for (Int n = 1; n <= length; ++n) {
      const Int evicted = largest_evicted(steps[std::size_t(n - 1)].kept, n);
      EXPECT_EQ(oracle::rollback_floor(steps, n), evicted < 0 ? 0 : std::min(n, evicted + reach)) << n;
    }
  }
  const Trace after = Sinks{3, 6}.trace(length, Sinks::Form::evict_after_step);
  for (Int n = 1; n <= length; ++n) {
    const Int evicted = largest_evicted(after[std::size_t(n - 1)].kept, n);
    EXPECT_EQ(oracle::rollback_floor(after, n), evicted < 0 ? 0 : evicted + 6 + 1) << n;
  }
}

TEST(OracleRetention, RollbackFloorOfAnchors) {
  for (const double density : {0.05, 0.2, 0.6}) {
    const Anchors rule{random_marks(length, density, 11)};
    const Trace steps = rule.trace(length);
    for (Int n = 1; n <= length; ++n) {
      // A segment of one token loses nothing, so the last longer one decides; one past the last anchor is enough.
      Int anchor = rule.last_anchor(n);
      EXPECT_LE(oracle::rollback_floor(steps, n), anchor + 1);
      while (anchor >= 0 && rule.last_anchor(anchor) == anchor - 1) anchor = rule.last_anchor(anchor);
      EXPECT_EQ(oracle::rollback_floor(steps, n), anchor + 1) << n;
    }
  }
}

TEST(OracleRetention, RollbackFloorOfSeparatorStream) {
  const SeparatorStream rule{
      .initial = 2, .slots = 2, .local = 4, .capacity = 11, .separator = random_marks(length, 0.2, 12)};
  const Trace steps = rule.trace(length);
  Int compression = 0;
  for (Int n = 1; n <= length; ++n) {
    const auto& step = steps[std::size_t(n - 1)];
    if (step.kept.size() < step.seen.size()) compression = n;
    EXPECT_EQ(oracle::rollback_floor(steps, n), compression) << n;
  }
}

TEST(OracleRetention, NaNFailsComparisons) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(distance({nan}, {nan}) <= 1e300);
  EXPECT_FALSE(distance({1, nan}, {1, 2}) <= 1e300);
  auto sequence = gaussian_sequence(12, 14);
  const Trace steps = Sinks{2, 3}.trace(12, Sinks::Form::evict_after_step);
  const Answer clean = sequence.decoded(steps, Tokens(12, 1), Positions::rank);
  sequence.heads.v[0] = nan;  // of a sink, which every query sees
  EXPECT_FALSE(difference(sequence.decoded(steps, Tokens(12, 1), Positions::rank), clean) <= 1e300);
}

}  // namespace
}  // namespace heed_test::retention_test
