/// \file
/// Attention over caches from which tokens were removed: the float64 answer of the mask that hides them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>

#include "oracle/bound.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"
#include "retention/rule_model.hpp"

namespace heed_test::remove_attend_test {
namespace {

using heed::AnyRule;
using heed::Index;
using Cache = heed::KvCache<heed::Gqa, heed::F32>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 0.3f};
/// Rules without a history.

std::vector<std::int32_t> as_ids(const Tokens& ids) { return {ids.begin(), ids.end()}; }
Index pick(std::mt19937_64& random, Index least, Index most) {
  return least + Index(random() % std::uint64_t(most - least + 1));
}

/// A text whose rows are drawn as they are needed, and two layers that read it.
class Attended {
 public:
  Attended(const RuleCase& first, const RuleCase& other, const heed::CacheOptions& options, std::uint64_t seed)
      : cache(heed::value_or_throw(
            Cache::create(policy, options, std::vector<heed::LayerRule>{{first.rule, {0}}, {other.rule, {1}}}))),
        models{RuleModel(first, options.undo_tokens), RuleModel(other, options.undo_tokens)},
        random_(seed) {}

  /// A step of both layers, compared with the oracle; `poison`: rows of NaNs and infinities, not compared.
  void append(const Tokens& ids, bool poison = false) {
    const Index count = Index(ids.size());
    const std::vector<float> q = random_.gaussians(count * 4 * 8);
    std::vector<float> k = random_.gaussians(count * 2 * 8), v = random_.gaussians(count * 2 * 8);
    if (poison) {
      std::fill(k.begin(), k.end(), NAN);
      std::fill(v.begin(), v.end(), INFINITY);
    }
    k_.resize(std::size_t(cache.seen() * 16));
    v_.resize(std::size_t(cache.seen() * 16));
    k_.insert(k_.end(), k.begin(), k.end());
    v_.insert(v_.end(), v.begin(), v.end());
    auto step = heed::value_or_throw(cache.begin(as_ids(ids)));
    for (std::size_t layer = 0; layer < 2; ++layer) {
      heed::check(step.write(Index(layer), k, v));
      RuleModel next = models[layer];
      next.append(ids);
      std::vector<float> out(q.size()), lse(std::size_t(count * 4));
      heed::check(heed::attend<Backend>(policy, q, step.keys(Index(layer)), out, workspace_, serial_, {}, lse));
      outputs.insert(outputs.end(), out.begin(), out.end());
      if (!poison) compare(q, out, lse, next, models[layer].held(), step.first_logical_position());
      models[layer] = next;
    }
    heed::check(step.commit());
  }
  void remove(Index begin, Index end) {
    heed::check(cache.remove(begin, end));
    for (RuleModel& model : models) model.remove(begin, end);
  }

  Cache cache;
  std::vector<RuleModel> models;
  std::vector<float> outputs;

 private:
  void compare(const std::vector<float>& q, const std::vector<float>& out, const std::vector<float>& lse,
               const RuleModel& model, const Tokens& held, Index first) {
    oracle::Problem problem{.heads = 4, .kv_heads = 2, .key_dim = 8, .value_dim = 8, .scale = policy.scale};
    problem.q.assign(q.begin(), q.end());
    problem.k.assign(k_.begin(), k_.end());
    problem.v.assign(v_.begin(), v_.end());
    problem.visible = [&](Int query, Int key) {
      if (key < first && !oracle::contains(held, key)) return false;
      return oracle::contains(model.seen_by(query), key);
    };
    const oracle::Answer answer = oracle::attention(problem);
    ASSERT_LE(oracle::worst_output(out, answer), 1) << model.rule().name() << ", " << first << " tokens";
    ASSERT_LE(oracle::worst_lse(lse, answer), 1);
  }

  oracle::Random random_;
  std::vector<float> k_, v_;
  heed::Workspace workspace_;
  heed::SerialExecutor serial_;
};

TEST(RemoveAttend, IsTheMaskedAnswer) {
  std::mt19937_64 random(8);
  for (const char* kind : mask_kinds) {
    for (int repeat = 0; repeat < 6; ++repeat) {
      const RuleCase first = random_case(kind, random),
                     other = random_case(mask_kinds[random() % mask_kinds.size()], random);
      Attended text(first, other, {.layers = 2, .undo_tokens = pick(random, 0, 3), .page_tokens = pick(random, 1, 9)},
                    random());
      for (int move = 0; move < 60; ++move) {
        Tokens ids(std::size_t(pick(random, 1, 4)));
        for (Int& id : ids) id = pick(random, 0, 6);
        const Index seen = text.cache.seen();
        switch (pick(random, 0, 6)) {
          case 0: {
            const Index begin = pick(random, std::max<Index>(0, seen - 25), seen);
            text.remove(begin, std::min(seen, begin + pick(random, 1, 4)));
            break;
          }
          case 1: {  // nobody saw them but they themselves
            ASSERT_NO_FATAL_FAILURE(text.append(ids, true));
            text.remove(seen, text.cache.seen());
            break;
          }
          case 2: {
            const Index floor = text.cache.rollback_floor(), to = pick(random, floor, seen);
            ASSERT_TRUE(text.cache.truncate(to).ok());
            for (RuleModel& model : text.models) model.truncate(to);
            break;
          }
          default: ASSERT_NO_FATAL_FAILURE(text.append(ids)) << kind;
        }
      }
    }
  }
}

/// When rules evict, and how tokens come, changes no bit.
TEST(RemoveAttend, BitsDoNotDependOnEviction) {
  std::mt19937_64 random(9);
  for (const char* kind : mask_kinds) {
    for (int repeat = 0; repeat < 4; ++repeat) {
      const RuleCase first = random_case(kind, random), other = random_case("separators", random);
      const std::uint64_t seed = random();
      std::vector<float> expected;
      for (const heed::CacheOptions& options :
           {heed::CacheOptions{.layers = 2, .page_tokens = 3}, {.layers = 2, .undo_tokens = 30, .page_tokens = 7}}) {
        Attended text(first, other, options, seed);
        std::mt19937_64 same(seed);
        for (int move = 0; move < 80; ++move) {
          const Index seen = text.cache.seen();
          ASSERT_NO_FATAL_FAILURE(text.append({pick(same, 0, 4)}));
          if (pick(same, 0, 3) > 0) continue;
          const Index begin = pick(same, std::max<Index>(0, seen - 25), seen);
          const Index end = std::min(seen, begin + pick(same, 1, 4));
          // What one of them has evicted and the other holds is not in question.
          text.remove(begin, end);
        }
        if (expected.empty()) expected = text.outputs;
        ASSERT_EQ(std::memcmp(expected.data(), text.outputs.data(), expected.size() * sizeof(float)), 0) << kind;
      }
    }
  }
}

/// A window with holes has the bits of a mask over everything; and a mask of the caller's does not bring tokens back.
TEST(RemoveAttend, HasTheBitsOfAMask) {
  struct Mask {
    [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
    [[nodiscard]] bool visible(Index query, Index key) const {
      return key <= query && query - key < window && (key < begin || key >= end);
    }
    Index window, begin, end;
  };
  constexpr Index tokens = 700, begin = 500, end = 603;
  oracle::Random random(10);
  const std::vector<float> q = random.gaussians(4 * 8), k = random.gaussians(tokens * 16),
                           v = random.gaussians(tokens * 16);
  for (const Index window : {300, 2000}) {
    const AnyRule rule = heed::SlidingWindow{window};
    Cache cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = 16}, rule));
    Cache whole = heed::value_or_throw(Cache::create(policy, {}));
    const std::span<const float> keys(k), values(v);
    for (Cache* one : {&cache, &whole}) {
      auto step = heed::value_or_throw(one->begin(as_ids(Tokens(std::size_t(tokens - 1), 0))));
      heed::check(step.write(0, keys.first((tokens - 1) * 16), values.first((tokens - 1) * 16)));
      heed::check(step.commit());
    }
    heed::check(cache.remove(begin, end));
    auto step = heed::value_or_throw(cache.begin(as_ids({0}))),
         whole_step = heed::value_or_throw(whole.begin(as_ids({0})));
    heed::check(step.write(0, keys.last(16), values.last(16)));
    heed::check(whole_step.write(0, keys.last(16), values.last(16)));
    const Mask mask{window, begin, end};
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    std::vector<float> expected(q.size()), got(q.size()), with_mask(q.size());
    heed::check(heed::attend<Backend>(policy, q, whole_step.keys(0), mask, expected, workspace, serial));
    heed::check(heed::attend<Backend>(policy, q, step.keys(0), got, workspace, serial));
    EXPECT_EQ(expected, got) << window;
    const heed::SlidingWindow own{window};
    heed::check(heed::attend<Backend>(policy, q, step.keys(0), own, with_mask, workspace, serial));
    for (std::size_t i = 0; i < q.size(); ++i) EXPECT_NEAR(expected[i], with_mask[i], 1e-5) << window;
  }
}

}  // namespace
}  // namespace heed_test::remove_attend_test
