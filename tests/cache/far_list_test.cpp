/// \file
/// Thousands of far tokens, whose list lies in blocks: everything an engine does to them, against a vector of positions.
#include <heed/retention/separators.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::far_list_test {
namespace {

using heed::StatusCode;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};
constexpr Index initial = 2, window = 8;

class FarList : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] bool keeps_all() const { return GetParam(); }
  [[nodiscard]] heed::AnyRule rule() const {
    return keeps_all() ? heed::AnyRule(heed::Causal{}) : heed::AnyRule(heed::Separators{initial, window, {1}});
  }
  [[nodiscard]] Index pick(Index least, Index most) { return heed_test::pick(random, least, most); }
  [[nodiscard]] bool landmark(Index position) const {
    return position < initial || (tokens[std::size_t(position)] & 0x7fffffff) == 1;
  }
  /// Four of five tokens are separators.
  [[nodiscard]] Seeds text(Index count) {
    Seeds made = new_tokens(random, count);
    for (Seed& token : made) token = (token & ~Seed{0xffffffff}) | Seed(pick(0, 4) > 0);
    return made;
  }
  void evict() {
    const Index seen = Index(tokens.size());
    if (!keeps_all()) std::erase_if(held, [&](Index p) { return !landmark(p) && seen - p >= window; });
  }
  void expect_same() const { expect_keeps(*cache, 0, tokens, held); }

  /// A query of the open step sees what is held, by every way of asking.
  void look(const Cache::Step& step, Index added) {
    const auto view = step.keys(0);
    const heed::LandmarkMask& mask = view.mask();
    const heed::NearKeys near = mask.near_keys();
    const Index query = Index(tokens.size()) - 1 - pick(0, added - 1);
    std::vector<Index> want, far, all;
    for (const Index p : held) {
      if (p <= query && (keeps_all() || landmark(p) || query - p < window)) want.push_back(p);
    }
    for (Index i = 0; i < mask.far_keys(); ++i) {
      if (mask.far_visible(query, i)) far.push_back(view.slot_position(mask.far_key(i)));
    }
    for (Index slot = near.first_key; slot < view.slots(); ++slot) {
      const Index key_slot = near.first_slot + slot - near.first_key;
      if (view.next_hole(slot).begin != slot && mask.near_visible(query, key_slot)) far.push_back(key_slot);
    }
    for (Index key = 0; key < view.size(); ++key) {
      if (mask.visible(query, view.position(key))) all.push_back(view.position(key));
    }
    if (!keeps_all()) {
      ASSERT_EQ(far, want);
    }
    ASSERT_EQ(all, want);
  }

  void append(bool fails) {
    const Seeds added = text(pick(0, 2) == 0 ? pick(1, 900) : 1);
    const Index bookkeeping = cache->bookkeeping_bytes(), had = memory.held;
    if (fails) memory.failing_from = memory.allocations + pick(0, 6), memory.failures = 1000;
    auto step = cache->begin(ids(added));
    memory.failing_from = -1;
    if (!step.ok()) {
      ASSERT_EQ(step.status().code(), StatusCode::out_of_memory);
      ASSERT_EQ(cache->bookkeeping_bytes(), bookkeeping);
      ASSERT_LE(memory.held, had);  // idle pages may have gone
      return;
    }
    ASSERT_NO_FATAL_FAILURE(write_all(*step, *cache, added));
    const Seeds before = tokens;
    const std::vector<Index> held_before = held;
    for (const Seed token : added) {
      held.push_back(Index(tokens.size()));
      tokens.push_back(token);
    }
    ASSERT_NO_FATAL_FAILURE(look(*step, Index(added.size())));
    const Index end = pick(0, 9);
    if (end > 1) {
      ASSERT_TRUE(step->commit().ok());
      return evict();
    }
    tokens = before;
    held = held_before;
    if (end == 0) return step->abort();
    std::vector<Index> accepted;
    for (std::size_t i = 0; i < added.size(); ++i) {
      if (pick(0, 3) == 0) continue;
      accepted.push_back(Index(i));
      held.push_back(Index(tokens.size()));
      tokens.push_back(added[i]);
    }
    ASSERT_TRUE(step->commit(accepted).ok());
    evict();
  }
  void truncate() {
    const Index seen = cache->seen();
    const Index least = std::max(cache->rollback_floor(), std::max<Index>(1, seen - (pick(0, 4) == 0 ? seen / 2 : 6)));
    const Index left = pick(std::min(least, seen), seen);
    ASSERT_TRUE(cache->truncate(left).ok());
    tokens.resize(std::size_t(left));
    std::erase_if(held, [&](Index p) { return p >= left; });
  }
  void remove() {
    const Index seen = cache->seen(), begin = pick(0, seen), end = std::min(seen, begin + pick(0, 60));
    ASSERT_TRUE(cache->remove(begin, end).ok());
    std::erase_if(held, [&](Index p) { return begin <= p && p < end; });
  }
  void restore() {
    std::vector<std::byte> bytes(cache->snapshot_bytes()), again(bytes.size());
    ASSERT_TRUE(cache->snapshot(bytes).ok());
    auto twin = Cache::restore(policy, options, rule(), bytes);
    ASSERT_TRUE(twin.ok()) << twin.status().message();
    *cache = *std::move(twin);
    ASSERT_TRUE(cache->snapshot(again).ok());
    ASSERT_EQ(again, bytes);
  }
  void fork() {
    auto copy = cache->fork();
    ASSERT_TRUE(copy.ok());
    *cache = *std::move(copy);
  }

  std::mt19937_64 random{3};
  CountingMemory memory;
  heed::CacheOptions options{.page_tokens = 32, .memory = memory.resource()};
  Seeds tokens;
  std::vector<Index> held;
  std::optional<Cache> cache;
};

TEST_P(FarList, GrowsShrinksAndGoesBackByBlocks) {
  Index longest = 0;
  for (int walk = 0; walk < 6; ++walk) {
    tokens.clear();
    held.clear();
    cache.emplace(heed::value_or_throw(Cache::create(policy, options, rule())));
    for (int move = 0; move < 120; ++move) {
      SCOPED_TRACE("walk " + std::to_string(walk) + ", move " + std::to_string(move));
      switch (pick(0, 15)) {
        case 0:
        case 1: ASSERT_NO_FATAL_FAILURE(truncate()); break;
        case 2:
        case 3: ASSERT_NO_FATAL_FAILURE(remove()); break;
        case 4: ASSERT_NO_FATAL_FAILURE(fork()); break;
        case 5: ASSERT_NO_FATAL_FAILURE(restore()); break;
        case 6:
        case 7: ASSERT_NO_FATAL_FAILURE(append(true)); break;
        default: ASSERT_NO_FATAL_FAILURE(append(false));
      }
      ASSERT_NO_FATAL_FAILURE(expect_same());
      ASSERT_EQ(cache->bytes().allocated, memory.held);
      longest = std::max(longest, Index(held.size()));
    }
    cache.reset();
    ASSERT_EQ(memory.held, 0);
  }
  EXPECT_GT(longest, 4000);
}

INSTANTIATE_TEST_SUITE_P(Rules, FarList, testing::Bool(),
                         [](const auto& param) { return param.param ? "Full" : "Separators"; });

}  // namespace
}  // namespace heed_test::far_list_test
