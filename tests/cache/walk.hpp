/// \file
/// A walk over all that an engine does to a cache, against the oracle's rules and a vector of tokens.
#pragma once

#include <functional>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "retention/rule_model.hpp"

namespace heed_test {

/// A cache and what should be in it.
template <class Cache>
struct Walker {
  Cache cache;
  Seeds tokens;                   ///< all that were committed
  std::vector<RuleModel> groups;  ///< of layer 0, of the others
  Index calls = 0;
  Index most_seen = 0;   ///< tokens at once since it was empty
  bool resumed = false;  ///< before what rules had evicted
};

/// What an engine may do to a cache, as `choose(least, most)` says, each step compared with a plain model.
template <class Cache>
class CacheWalk {
 public:
  using Walk = Walker<Cache>;
  using Choose = std::function<Index(Index least, Index most)>;
  /// Called in an open step whose rows are written.
  using Look = std::function<void(const typename Cache::Step&, const Walk&, const Seeds& added)>;

  explicit CacheWalk(std::uint64_t seed) : random(seed) {}

  Choose choose = [this](Index least, Index most) { return heed_test::pick(random, least, most); };
  Look look = {};

  /// One text: caches that fork and share pages, layer 0 under one rule, layers 1 and 2 under another.
  void walk(const std::string& first_rule, const std::string& other_rule, int moves = 150) {
    memory = {};
    const RuleCase first = random_case(first_rule, random), other = random_case(other_rule, random);
    const heed::CacheOptions options{.layers = 3,
                                     .capacity = one_in(2) ? pick(0, 30) : 0,
                                     .undo_tokens = one_in(2) ? pick(0, 6) : 0,
                                     .page_tokens = pick(1, 9),
                                     .memory = memory.resource()};
    undo = options.undo_tokens;
    const std::vector<heed::LayerRule> rules{{other.rule, {2, 1}}, {first.rule, {0}}};
    auto made =
        Cache::create(random_policy(random, static_cast<const typename Cache::Policy*>(nullptr)), options, rules);
    ASSERT_TRUE(made.ok()) << made.status().message();
    std::vector<Walk> forks;
    forks.push_back(
        {*std::move(made), {}, {RuleModel(first, options.undo_tokens), RuleModel(other, options.undo_tokens)}});
    std::size_t at = 0;
    for (int move = 0; move < moves; ++move) {
      switch (pick(0, 16)) {
        case 16: {
          if (forks.size() > 1) break;
          ASSERT_NO_FATAL_FAILURE(restore(forks[0], options, rules));
          break;
        }
        case 0:
        case 1:
        case 2: {
          ASSERT_NO_FATAL_FAILURE(truncate(forks[at]));
          break;
        }
        case 3: {
          ASSERT_NO_FATAL_FAILURE(remove(forks[at]));
          break;
        }
        case 9: {
          ASSERT_NO_FATAL_FAILURE(resume(forks[at]));
          break;
        }
        case 4: {
          maybe_fail();
          auto fork = forks[at].cache.fork();
          memory.failing_from = -1;
          if (fork.ok() && forks.size() < 4) {
            Walk copy = {*std::move(fork), forks[at].tokens,    forks[at].groups,
                         forks[at].calls,  forks[at].most_seen, forks[at].resumed};
            forks.push_back(std::move(copy));
          }
          break;
        }
        case 5: {
          at = std::size_t(pick(0, Index(forks.size()) - 1));
          break;
        }
        case 6: {
          if (forks.size() < 2 || !one_in(3)) break;
          forks.erase(forks.begin() + pick(0, Index(forks.size()) - 1));  // also moves caches
          at = 0;
          break;
        }
        case 7: {
          maybe_fail();
          const heed::Status status = forks[at].cache.reserve(pick(0, 60));
          if (!status.ok()) expect_no_memory(status);
          break;
        }
        case 8: {
          forks[at].cache.trim();
          break;
        }
        default: {
          ASSERT_NO_FATAL_FAILURE(append(forks[at]));
        }
      }
      memory.failing_from = -1;
      if (forks[at].cache.seen() > 70) {
        ASSERT_TRUE(forks[at].cache.clear().ok());
        cut(forks[at], 0);
      }
      for (std::size_t i = 0; i < forks.size(); ++i) {
        ASSERT_NO_FATAL_FAILURE(expect_all(forks[i], move % 15 == 14)) << "move " << move << ", cache " << i;
      }
    }
    forks.clear();
    ASSERT_EQ(memory.held, 0);
  }

  std::mt19937_64 random;

 private:
  Index pick(Index least, Index most) { return choose(least, most); }
  bool one_in(Index n) { return pick(1, n) == 1; }
  Seeds text(Index count) {
    Seeds tokens = new_tokens(random, count);
    for (Seed& one : tokens) one = (one & ~Seed{0xffffffff}) | Seed(pick(0, 6));
    return tokens;
  }
  static Tokens as_tokens(const Seeds& seeds) {
    Tokens tokens;
    for (const Seed seed : seeds) tokens.push_back(Int(seed & 0x7fffffff));
    return tokens;
  }

  /// The next allocations may fail.
  void maybe_fail() {
    memory.failing_from = one_in(4) ? memory.allocations + pick(0, 3) : -1;
    memory.failures = 3;
  }
  static void expect_no_memory(const heed::Status& status) {
    ASSERT_EQ(status.code(), heed::StatusCode::out_of_memory) << status.message();
  }

  void expect_all(const Walk& walk, bool rows) {
    const Cache& cache = walk.cache;
    const heed::CacheBytes bytes = cache.bytes();
    ASSERT_EQ(bytes.allocated, memory.held);
    ASSERT_EQ(bytes.peak, memory.peak);
    ASSERT_LE(bytes.live, bytes.allocated_rows);
    Index floor = 0, live = 0;
    for (Index layer = 0; layer < cache.layers(); ++layer) {
      const RuleModel& model = walk.groups[layer == 0 ? 0 : 1];
      const heed::RetentionCounters counters = cache.retention(layer);
      ASSERT_EQ(counters.seen, model.seen());
      ASSERT_EQ(counters.kept, Index(model.held().size()));
      ASSERT_EQ(counters.seen, counters.kept + counters.evicted);
      ASSERT_EQ(counters.calls, walk.calls);
      floor = std::max(floor, model.floor());
      for (int s = 0; s < cache.layout().num_streams; ++s) {
        const heed::StreamShape shape = cache.layout().streams[std::size_t(s)];
        const Index row = s == Cache::Policy::value_stream ? Cache::ValueCodec::row_bytes(shape.width)
                                                           : Cache::KeyCodec::row_bytes(shape.width);
        live += counters.kept * shape.num_heads * heed::round_up(row, heed::row_alignment);
      }
      if (rows) {
        ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, layer, walk.tokens, model.held())) << "layer " << layer;
      }
    }
    ASSERT_EQ(cache.seen(), Index(walk.tokens.size()));
    const bool removed = walk.groups[0].removed() || walk.groups[1].removed();
    if (!removed && !walk.resumed) {
      ASSERT_EQ(cache.rollback_floor(), floor);
      ASSERT_EQ(cache.intact(), cache.seen());
    }
    ASSERT_LE(cache.rollback_floor(), std::min(cache.seen(), std::max<Index>(0, walk.most_seen - undo)));
    ASSERT_EQ(bytes.live, live);
  }

  /// A step that is committed, accepted in part, or aborted.
  void append(Walk& walk) {
    const Seeds added = text(one_in(3) ? pick(0, 20) : 1);
    maybe_fail();
    auto step = walk.cache.begin(ids(added));
    if (!step.ok()) return expect_no_memory(step.status());
    memory.failing_from = -1;
    ASSERT_NO_FATAL_FAILURE(write_all(*step, walk.cache, added));
    if (look) look(*step, walk, added);
    if (one_in(8)) return step->abort();
    Seeds stay = added;
    const bool later = one_in(5);
    if (later) {
      maybe_fail();
      if (const heed::Status status = step->commit(heed::Eviction::later); !status.ok())
        return expect_no_memory(status);
    } else if (one_in(4)) {
      std::vector<Index> accepted;
      stay.clear();
      for (std::size_t i = 0; i < added.size(); ++i) {
        if (one_in(2)) continue;
        accepted.push_back(Index(i));
        stay.push_back(added[i]);
      }
      maybe_fail();
      if (const heed::Status status = step->commit(accepted); !status.ok()) return expect_no_memory(status);
    } else {
      const heed::Status status = step->commit();
      ASSERT_TRUE(status.ok()) << status.message();
    }
    walk.tokens.insert(walk.tokens.end(), stay.begin(), stay.end());
    walk.calls += !stay.empty();
    walk.most_seen = std::max(walk.most_seen, Index(walk.tokens.size()));
    for (RuleModel& group : walk.groups) group.append(as_tokens(stay), later);
  }

  void truncate(Walk& walk) {
    const Index floor = walk.cache.rollback_floor(), seen = walk.cache.seen();
    const Index least = one_in(3) ? std::max<Index>(0, floor - 3) : floor;
    const Index left = one_in(25) ? 0 : pick(least, seen + one_in(5));
    maybe_fail();
    const heed::Status status = walk.cache.truncate(left);
    if (left > seen || (left > 0 && left < floor)) {
      ASSERT_EQ(status.code(), heed::StatusCode::out_of_range);
      return;
    }
    if (!status.ok()) return expect_no_memory(status);
    cut(walk, left);
  }
  static void cut(Walk& walk, Index left) {
    walk.tokens.resize(std::size_t(left));
    for (RuleModel& group : walk.groups) group.truncate(left);
    if (left > 0) return;
    walk.calls = walk.most_seen = 0;
    walk.resumed = false;
  }

  /// Text goes on behind the last token that is kept, or a little later.
  void resume(Walk& walk) {
    Index last = -1;
    for (const RuleModel& group : walk.groups) {
      if (!group.held().empty()) last = std::max(last, group.held().back());
    }
    const Index seen = walk.cache.seen(), position = pick(std::max<Index>(0, last), seen + one_in(5));
    const bool lost = position < walk.cache.rollback_floor();
    maybe_fail();
    const heed::Status status = walk.cache.resume_at(position);
    if (position <= last || position > seen) {
      ASSERT_EQ(status.code(), heed::StatusCode::out_of_range);
      return;
    }
    if (!status.ok()) return expect_no_memory(status);
    walk.resumed |= lost;
    cut(walk, position);
  }

  void remove(Walk& walk) {
    const Index seen = walk.cache.seen();
    const Index begin = pick(std::max<Index>(0, seen - 30), seen), end = std::min(seen, begin + pick(0, 9));
    std::vector<Index> keep;
    for (Index position = 0; position < seen; ++position) {
      const bool held =
          oracle::contains(walk.groups[0].held(), position) || oracle::contains(walk.groups[1].held(), position);
      if (held && !one_in(3)) keep.push_back(position);
    }
    const bool compacts = one_in(3);
    maybe_fail();
    const heed::Status status = compacts ? walk.cache.compact(keep).status() : walk.cache.remove(begin, end);
    if (walk.groups[0].rule().has_history() || walk.groups[1].rule().has_history()) {
      ASSERT_EQ(status.code(), heed::StatusCode::unsupported);
      return;
    }
    if (!status.ok()) return expect_no_memory(status);
    for (RuleModel& group : walk.groups) {
      compacts ? group.compact({keep.begin(), keep.end()}) : group.remove(begin, end);
    }
  }

  /// The cache ends, and another one goes on from its bytes.
  void restore(Walk& walk, heed::CacheOptions options, const std::vector<heed::LayerRule>& rules) {
    std::vector<std::byte> bytes(walk.cache.snapshot_bytes());
    ASSERT_TRUE(walk.cache.snapshot(bytes).ok());
    options.page_tokens = pick(1, 9);
    maybe_fail();
    auto twin = Cache::restore(walk.cache.policy(), options, rules, bytes);
    memory.failing_from = -1;
    if (twin.ok()) walk.cache = *std::move(twin);
    memory.peak = walk.cache.bytes().peak;  // there were two pools
    if (!twin.ok()) return expect_no_memory(twin.status());
    std::vector<std::byte> again(walk.cache.snapshot_bytes());
    ASSERT_TRUE(walk.cache.snapshot(again).ok());
    ASSERT_EQ(again, bytes);
  }

  CountingMemory memory;
  Index undo = 0;
};

}  // namespace heed_test
