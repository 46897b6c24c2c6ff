/// \file
/// The support matrix tells the truth: what supports() allows works, what it refuses is refused with its message.
#include <heed/cache/prefix.hpp>
#include <heed/cache/rule_mask.hpp>
#include <heed/policy/rotated_keys.hpp>

#include "cache/instances.hpp"
#include "lists/rules.hpp"

namespace heed_test::support_test {
namespace {

using heed::CacheFeature;
using heed::Positions;
using heed::Status;

const heed::Rope& rope() {
  static const heed::Rope made =
      heed::value_or_throw(heed::Rope::create({.head_dim = 8, .layout = heed::RopeLayout::half_split, .theta = 10000}));
  return made;
}
constexpr heed::Gqa plain{.num_heads = 2, .num_kv_heads = 1, .head_dim = 8, .scale = 1};

template <class P>
class Prober {
 public:
  using Cache = heed::KvCache<P, heed::Bf16>;
  Prober(P policy, heed::AnyRule rule, Positions positions)
      : policy_(policy), rule_(std::move(rule)), positions_(positions) {}

  /// What happens when the feature is used.
  Status use(CacheFeature feature) {
    heed::Result<Cache> made = create(feature == CacheFeature::undo ? 3 : 0);
    if (!made.ok()) return made.status();
    Cache& cache = *made;
    const std::vector<Index> steps =
        feature == CacheFeature::append ? std::vector<Index>{7, 1, 30, 2} : std::vector<Index>(40, 1);
    for (const Index count : steps) {
      if (Status status = feed(cache, count); !status.ok()) return status;
    }
    switch (feature) {
      case CacheFeature::mask: return heed::RuleMask::create(rule_, std::vector<std::int32_t>{1, 2, 3}).status();
      case CacheFeature::truncate: return cache.truncate(std::max<Index>(cache.rollback_floor(), 1));
      case CacheFeature::undo: return cache.truncate(cache.seen() - 3);
      case CacheFeature::accept: {
        auto step = cache.begin(std::vector<std::int32_t>{1, 2, 3});
        if (!step.ok()) return step.status();
        write_all(*step, cache, {1, 2, 3});
        return step->commit(std::vector<Index>{0, 2});
      }
      case CacheFeature::fork: {
        auto fork = cache.fork();
        return fork.ok() ? feed(*fork, 2) : fork.status();
      }
      case CacheFeature::compact: return cache.compact(std::vector<Index>{cache.position(0)}).status();
      case CacheFeature::remove: return cache.remove(cache.seen() - 3, cache.seen() - 1);
      case CacheFeature::snapshot: {
        std::vector<std::byte> bytes(cache.snapshot_bytes());
        if (Status status = cache.snapshot(bytes); !status.ok()) return status;
        return Cache::restore(policy_, {.positions = positions_}, rule_, bytes).status();
      }
      case CacheFeature::prefix: {
        heed::PrefixCache<Cache> prefixes;
        std::vector<std::int32_t> ids;
        for (Index i = 0; i < cache.seen(); ++i) ids.push_back(std::int32_t(i % 4));
        if (auto key = prefixes.insert(ids, cache); !key.ok()) return key.status();
        auto match = prefixes.find(ids, 0);
        return match.ok() && match->tokens != cache.seen() ? heed::fail(heed::StatusCode::wrong_state, "not found")
                                                           : match.status();
      }
      default: return {};
    }
  }

 private:
  heed::Result<Cache> create(Index undo) const {
    return Cache::create(policy_, {.positions = positions_, .undo_tokens = undo}, rule_);
  }
  Status feed(Cache& cache, Index count) const {
    Seeds tokens;
    for (Index i = 0; i < count; ++i) tokens.push_back(Seed((cache.seen() + i) % 4));
    auto step = cache.begin(ids(tokens));
    if (!step.ok()) return step.status();
    write_all(*step, cache, tokens);
    return step->commit();
  }

  P policy_;
  heed::AnyRule rule_;
  Positions positions_;
};

template <class P>
void expect_the_truth(const P& policy, bool rotates) {
  for (const heed_examples::RuleKind& kind : heed_examples::rule_kinds()) {
    const heed::AnyRule rule = kind.rule();
    for (const Positions positions : {Positions::absolute, Positions::rank}) {
      for (const CacheFeature feature : heed::all_cache_features) {
        const Status said = heed::supports(feature, rule, positions, rotates);
        if (feature == CacheFeature::mask && positions == Positions::rank) continue;  // a mask has no positions option
        const Status done = Prober<P>(policy, rule, positions).use(feature);
        EXPECT_EQ(done.ok(), said.ok()) << kind.name << ", " << heed::name_of(feature) << ": " << done.message();
        if (said.ok()) continue;
        EXPECT_EQ(done.code(), heed::StatusCode::unsupported) << kind.name;
        const Status created = heed::supports(CacheFeature::create, rule, positions, rotates);
        EXPECT_EQ(done.message(), created.ok() ? said.message() : created.message());
      }
    }
  }
}

TEST(Support, IsWhatHappens) {
  expect_the_truth(plain, false);
  expect_the_truth(heed::RotatedKeys<heed::Gqa>{.policy = plain, .rope = &rope()}, true);
}

}  // namespace
}  // namespace heed_test::support_test
