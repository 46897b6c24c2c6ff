/// \file
/// After any history a restored cache is the cache: the same bytes, and the same answers from then on.
#include <bit>
#include <cstring>

#include <heed/attend.hpp>
#include <heed/compiled/scalar.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/rotated_keys.hpp>

#include "cache/instances.hpp"
#include "retention/rule_model.hpp"

namespace heed_test::snapshot_walk_test {
namespace {

using heed::Status;
using Bytes = std::vector<std::byte>;
using RotatedGqa = heed::RotatedKeys<heed::Gqa>;

constexpr Index heads = 2, width = 6;
constexpr heed::Gqa gqa{.num_heads = heads, .num_kv_heads = 1, .head_dim = width, .scale = 0.3f};
const heed::Rope& rope() {
  static const heed::Rope made = heed::value_or_throw(
      heed::Rope::create({.head_dim = width, .layout = heed::RopeLayout::half_split, .theta = 100}));
  return made;
}
heed::Gqa policy_of(const heed::Gqa*) { return gqa; }
heed::SharedRow policy_of(const heed::SharedRow*) {
  return {.num_heads = heads, .head_dim = width, .v_head_dim = 4, .scale = 0.3f};
}
RotatedGqa policy_of(const RotatedGqa*) { return {.policy = gqa, .rope = &rope()}; }

template <class Cache>
Bytes snapshot_of(const Cache& cache) {
  Bytes bytes(cache.snapshot_bytes());
  heed::check(cache.snapshot(bytes));
  return bytes;
}

/// A cache and one that was restored from it at some time. Every call goes to both and must have the same effect.
template <class Cache>
class SnapshotWalk : public testing::Test {
 protected:
  using Policy = typename Cache::Policy;
  static constexpr Index layers = 3;

  Index pick(Index least, Index most) { return heed_test::pick(random, least, most); }
  bool one_in(Index n) { return pick(1, n) == 1; }

  void create(const heed::AnyRule& first, const heed::AnyRule& others, heed::Positions positions) {
    rules = {{others, {2, 1}}, {first, {0}}};
    options = {.layers = layers,
               .capacity = one_in(2) ? pick(0, 30) : 0,
               .positions = positions,
               .undo_tokens = one_in(2) ? pick(0, 6) : 0,
               .page_tokens = pick(1, 9)};
    cache.emplace(heed::value_or_throw(Cache::create(policy, options, rules)));
    twin.emplace(heed::value_or_throw(cache->fork()));
  }
  /// The twin is restored from the cache's bytes, with pages of another size.
  void restore() {
    const Bytes bytes = snapshot_of(*cache);
    heed::CacheOptions other = options;
    other.page_tokens = pick(1, 9);
    other.capacity = pick(0, 10);
    auto made = Cache::restore(policy, other, rules, bytes);
    ASSERT_TRUE(made.ok()) << made.status().message();
    *twin = *std::move(made);
    if (one_in(4)) std::swap(*cache, *twin);
  }
  void expect_twins() {
    ASSERT_EQ(snapshot_of(*twin), snapshot_of(*cache));
    ASSERT_EQ(twin->seen(), cache->seen());
    ASSERT_EQ(twin->rollback_floor(), cache->rollback_floor());
    for (Index layer = 0; layer < layers; ++layer) {
      const heed::RetentionCounters a = cache->retention(layer), b = twin->retention(layer);
      ASSERT_EQ(b.kept, a.kept);
      ASSERT_EQ(b.evicted, a.evicted);
      ASSERT_EQ(b.last_seen, a.last_seen);
      ASSERT_EQ(b.calls, a.calls);
      ASSERT_EQ(b.kept_sum, a.kept_sum);
      ASSERT_EQ(b.seen_sum, a.seen_sum);
      for (Index key = 0; key < a.kept; ++key) {
        ASSERT_EQ(twin->position(key, layer), cache->position(key, layer));
        ASSERT_EQ(twin->token_id(key, layer), cache->token_id(key, layer));
      }
      if (a.kept == 0) continue;
      ASSERT_EQ(attended_next(*twin, layer), attended_next(*cache, layer)) << "layer " << layer;
    }
  }
  static void expect_same(const Status& a, const Status& b) {
    ASSERT_EQ(b.code(), a.code()) << a.message() << " / " << b.message();
    ASSERT_EQ(b.message(), a.message());
  }

  /// Bits of the outputs of `queries` queries.
  std::vector<std::uint32_t> attended(const Cache& which, const typename Cache::Keys& view, Index queries,
                                      const std::vector<Index>& positions = {}) {
    const heed::AttentionLayout& layout = which.layout();
    std::vector<float> q(std::size_t(queries * heads * width)), out(std::size_t(queries * heads * layout.value_width));
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = float(i * 37 % 19) * 0.11f - 1;
    heed::check(heed::attend<heed::Scalar>(which.policy(), q, view, heed::MaskRef(), out, workspace, serial, {}, {},
                                           positions));
    std::vector<std::uint32_t> bits;
    for (const float x : out) bits.push_back(std::bit_cast<std::uint32_t>(x));
    return bits;
  }

  /// Bits of what the next query sees of the committed keys. Nothing, if that takes a step to say.
  std::vector<std::uint32_t> attended_next(const Cache& which, Index layer) {
    const bool staged = which.rule(layer).has_history() || which.positions() == heed::Positions::rank;
    return staged ? std::vector<std::uint32_t>{} : attended(which, which.keys(layer), 1, {which.seen()});
  }

  static void write(typename Cache::Step& step, const Cache& to, const std::vector<std::int32_t>& ids) {
    for (Index layer = 0; layer < layers; ++layer) {
      for (int stream = 0; stream < to.layout().num_streams; ++stream) {
        const heed::StreamShape shape = to.layout().streams[std::size_t(stream)];
        std::vector<float> rows;
        for (Index i = 0; i < step.tokens(); ++i) {
          for (Index d = 0; d < shape.num_heads * shape.width; ++d) {
            const Index mixed = ids[std::size_t(i)] * 131 + (to.seen() + i) * 17 + layer * 29 + stream + d;
            rows.push_back(float(mixed * 7919 % 257) * 0.01f - 1);
          }
        }
        heed::check(step.write(layer, stream, rows));
      }
    }
  }
  /// A step that is committed, accepted in part, or aborted.
  void append() {
    std::vector<std::int32_t> ids(std::size_t(one_in(3) ? pick(0, 20) : 1));
    for (std::int32_t& id : ids) id = std::int32_t(pick(0, 6));
    auto a = cache->begin(ids), b = twin->begin(ids);
    ASSERT_TRUE(a.ok() && b.ok());
    write(*a, *cache, ids);
    write(*b, *twin, ids);
    for (Index layer = 0; layer < layers && !ids.empty(); ++layer) {
      ASSERT_EQ(attended(*twin, b->keys(layer), b->tokens()), attended(*cache, a->keys(layer), a->tokens()))
          << "layer " << layer;
    }
    if (one_in(8)) return;  // ends the steps
    std::vector<Index> accepted;
    for (Index i = 0; i < a->tokens(); ++i) {
      if (one_in(2)) accepted.push_back(i);
    }
    const heed::Eviction eviction = one_in(4) ? heed::Eviction::later : heed::Eviction::now;
    const bool all = !one_in(4);
    ASSERT_TRUE((all ? a->commit(eviction) : a->commit(accepted)).ok());
    ASSERT_TRUE((all ? b->commit(eviction) : b->commit(accepted)).ok());
  }
  void truncate() {
    const Index floor = cache->rollback_floor(), seen = cache->seen();
    const Index least = one_in(3) ? std::max<Index>(0, floor - 3) : floor;
    const Index left = one_in(25) ? 0 : pick(std::min(least, seen), seen);
    ASSERT_NO_FATAL_FAILURE(expect_same(cache->truncate(left), twin->truncate(left)));
  }
  void compact() {
    std::vector<Index> keep;
    const Index chance = pick(1, 6);
    for (Index position = 0; position < cache->seen(); ++position) {
      bool everywhere = true;
      for (const Index layer : {0, 1}) {
        bool held = false;
        for (Index key = 0; key < cache->kept(layer); ++key) held |= cache->position(key, layer) == position;
        everywhere &= held;
      }
      if (everywhere && (chance == 1 || !one_in(chance))) keep.push_back(position);
    }
    ASSERT_NO_FATAL_FAILURE(expect_same(cache->compact(keep).status(), twin->compact(keep).status()));
  }
  void remove() {
    const Index seen = cache->seen(), begin = pick(std::max<Index>(0, seen - 20), seen);
    const Index end = std::min(seen, begin + pick(0, 5));
    ASSERT_NO_FATAL_FAILURE(expect_same(cache->remove(begin, end), twin->remove(begin, end)));
  }
  void resume() {
    const Index position = pick(std::max<Index>(0, cache->seen() - 6), cache->seen());
    ASSERT_NO_FATAL_FAILURE(expect_same(cache->resume_at(position), twin->resume_at(position)));
  }
  void fork() {
    auto a = cache->fork(), b = twin->fork();
    ASSERT_TRUE(a.ok() && b.ok());
    *cache = *std::move(a);
    *twin = *std::move(b);
  }

  void walk() {
    for (int move = 0; move < 120; ++move) {
      SCOPED_TRACE("move " + std::to_string(move));
      switch (pick(0, 19)) {
        case 0:
        case 1:
        case 2:
        case 3: ASSERT_NO_FATAL_FAILURE(truncate()); break;
        case 4: ASSERT_NO_FATAL_FAILURE(compact()); break;
        case 5: ASSERT_NO_FATAL_FAILURE(fork()); break;
        case 6:
        case 7:
        case 8: ASSERT_NO_FATAL_FAILURE(restore()); break;
        case 9:
        case 10: ASSERT_NO_FATAL_FAILURE(remove()); break;
        case 11: ASSERT_NO_FATAL_FAILURE(resume()); break;
        default: ASSERT_NO_FATAL_FAILURE(append());
      }
      if (cache->seen() > 70) {
        ASSERT_NO_FATAL_FAILURE(expect_same(cache->clear(), twin->clear()));
      }
      ASSERT_NO_FATAL_FAILURE(expect_twins());
    }
  }

  const Policy policy = policy_of(static_cast<const Policy*>(nullptr));
  std::vector<heed::LayerRule> rules;
  heed::CacheOptions options;
  std::optional<Cache> cache, twin;
  std::mt19937_64 random{7};
  heed::Workspace workspace;
  heed::SerialExecutor serial;
};

using Walked =
    testing::Types<heed::KvCache<heed::Gqa, heed::F32, heed::Bf16>, heed::KvCache<heed::SharedRow, heed::F16>,
                   heed::KvCache<RotatedGqa, heed::Bf16, heed::F32>>;
TYPED_TEST_SUITE(SnapshotWalk, Walked);

TYPED_TEST(SnapshotWalk, EveryRuleBesideAnother) {
  for (const char* first : rule_kinds) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      const char* const other = rule_kinds[this->random() % std::size(rule_kinds)];
      this->create(random_case(first, this->random).rule, random_case(other, this->random).rule,
                   heed::Positions::absolute);
      ASSERT_NO_FATAL_FAILURE(this->walk()) << first << " and " << other << ", repeat " << repeat;
    }
  }
}

/// The only rules of which tokens can be removed, and the widest window there is.
TYPED_TEST(SnapshotWalk, RulesWithoutHistory) {
  for (const char* first : rule_kinds) {
    heed::AnyRule rule = random_case(first, this->random).rule;
    if (rule.has_history()) rule = heed::SlidingWindow{heed::unlimited};
    const char* const other = mask_kinds[this->random() % mask_kinds.size()];
    for (int repeat = 0; repeat < 3; ++repeat) {
      this->create(rule, random_case(other, this->random).rule, heed::Positions::absolute);
      ASSERT_NO_FATAL_FAILURE(this->walk()) << first << " and " << other << ", repeat " << repeat;
    }
  }
}

/// Their keys are rotated when they are read.
class RankSnapshotWalk : public SnapshotWalk<heed::KvCache<RotatedGqa, heed::F32>> {};

TEST_F(RankSnapshotWalk, EveryRuleBesideAnother) {
  std::vector<const char*> kinds;
  for (const heed_examples::RuleKind& kind : heed_examples::rule_kinds()) {
    if (kind.rule().has_ranks()) kinds.push_back(kind.name);
  }
  for (const char* first : kinds) {
    for (const char* other : kinds) {
      create(random_case(first, random).rule, random_case(other, random).rule, heed::Positions::rank);
      ASSERT_NO_FATAL_FAILURE(walk()) << first << " and " << other;
    }
  }
}

}  // namespace
}  // namespace heed_test::snapshot_walk_test
