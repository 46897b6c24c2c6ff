/// \file
/// Snapshots that say what no history leads to, written by hand: rules say where recent tokens begin, and restore() asks them.
#include <cstring>
#include <functional>

#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::snapshot_rule_test {
namespace {

using heed::AnyRule;
using heed::StatusCode;
using Bytes = std::vector<std::byte>;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 1, .scale = 1};

/// What a snapshot says of a layer group.
struct Group {
  Index floor = 0, first_removed = -1, reach_first = 0, begin = 0, first_landmark = 0, most_landmarks = 0;
  std::vector<Index> distant = {};
  std::vector<heed::Interval> holes = {};
};
struct Text {
  std::vector<std::int32_t> ids;
  [[nodiscard]] Index size() const { return Index(ids.size()); }
};
void seal(Bytes& bytes) {
  const std::uint64_t size = bytes.size();
  std::memcpy(bytes.data() + 16, &size, sizeof size);
  const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - sizeof crc});
  std::memcpy(bytes.data() + bytes.size() - sizeof crc, &crc, sizeof crc);
}
/// A snapshot of these groups, all rows zero. `empty`: a snapshot of an empty cache, which begins like it.
Bytes written(const Bytes& empty, const Text& text, const std::vector<Group>& groups, std::size_t row_bytes) {
  Bytes bytes(empty.begin(), empty.begin() + 72);
  const auto add = [&](const auto& number) {
    const auto* const from = reinterpret_cast<const std::byte*>(&number);
    bytes.insert(bytes.end(), from, from + sizeof number);
  };
  add(text.size());
  for (const Group& g : groups) {
    for (const Index n : {g.floor, g.first_removed, g.reach_first, g.begin, g.first_landmark, g.most_landmarks}) add(n);
    for (const Index n : {1, 1}) add(n);
    for (const double sum : {1.0, 1.0}) add(sum);
    add(Index(g.distant.size()));
    for (const Index position : g.distant) {
      add(position);
      add(text.ids[std::size_t(position)]);
    }
    for (Index i = g.begin; i < text.size(); ++i) add(text.ids[std::size_t(i)]);
    add(Index(g.holes.size()));
    for (const heed::Interval& hole : g.holes) {
      add(hole.begin);
      add(hole.end);
    }
    bytes.resize(bytes.size() + (g.distant.size() + std::size_t(text.size() - g.begin)) * row_bytes);
  }
  bytes.resize(bytes.size() + sizeof(std::uint32_t));
  seal(bytes);
  return bytes;
}
template <class C>
Bytes snapshot_of(const C& cache) {
  Bytes bytes(cache.snapshot_bytes());
  heed::check(cache.snapshot(bytes));
  return bytes;
}
heed::Result<Cache> restored(const AnyRule& rule, const Text& text, const Group& group) {
  const Bytes empty = snapshot_of(heed::value_or_throw(Cache::create(policy, {}, rule)));
  return Cache::restore(policy, {}, rule, written(empty, text, {group}, 2 * sizeof(float)));
}
void expect_refused(const heed::Status& status, const std::string& what) {
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_TRUE(status.message().starts_with("snapshot: " + what + " is ")) << status.message() << ", not " << what;
}

Text some_text(Index tokens) {
  std::mt19937_64 random(std::uint64_t(tokens) + 1);
  Text text;
  for (Index i = 0; i < tokens; ++i) text.ids.push_back(std::int32_t(random() % 4));
  return text;
}

/// A rule without a history, and its definition.
struct Masked {
  AnyRule rule;
  std::function<bool(Index)> landmark;  // position
  std::function<Index(Index)> begin;    // of a query
};

/// Every place where recent tokens could begin, for every query that a snapshot could begin with.
TEST(CacheSnapshotRule, RecentTokensBeginWhereTheRuleSays) {
  constexpr Index tokens = 24, wide = Index{1} << 40;  // a window that has an end
  const Text text = some_text(tokens);
  const auto is_one = [&](Index i) { return text.ids[std::size_t(i)] == 1; };
  const auto window = [](Index size) { return [size](Index query) { return std::max<Index>(0, query + 1 - size); }; };
  const Masked all[] = {
      {heed::SlidingWindow{4}, [](Index) { return false; }, window(4)},
      {heed::SlidingWindow{wide}, [](Index) { return false; }, [](Index) { return Index{0}; }},
      {heed::SinkWindow{3, 5}, [](Index i) { return i < 3; }, window(5)},
      {heed::SinkWindow{2, 5, heed::SinkForm::evict_after_step}, [](Index i) { return i < 2; }, window(6)},
      {heed::Separators{1, 6, {1}}, [&](Index i) { return i < 1 || is_one(i); }, window(6)},
      {heed::FixedGrid{2, 4, 5, 1}, [](Index i) { return i < 2 || i % 5 == 1; }, window(4)},
      {heed::Anchors{.ids = {1}}, is_one,
       [&](Index query) {
         while (query > 0 && !is_one(query - 1)) --query;
         return query;
       }},
  };
  int accepted = 0, refused = 0;
  for (const Masked& mask : all) {
    for (Index query = 0; query <= tokens; ++query) {
      for (Index begin = 0; begin <= query; ++begin) {
        SCOPED_TRACE(std::string(mask.rule.name()) + ", query " + std::to_string(query) + ", begin " +
                     std::to_string(begin));
        Group group{.reach_first = query, .begin = begin};
        for (Index i = 0; i < begin; ++i) {
          if (mask.landmark(i)) group.distant.push_back(i);
        }
        const Index right = mask.begin(query);
        const auto whole = restored(mask.rule, text, group);
        ASSERT_EQ(whole.ok(), begin == right) << whole.status().message();
        if (!whole.ok()) expect_refused(whole.status(), "begin");
        (whole.ok() ? accepted : refused)++;
        // Fewer are recent behind a place where text went on.
        group.first_removed = query;
        const auto resumed = restored(mask.rule, text, group);
        ASSERT_EQ(resumed.ok(), begin >= right) << resumed.status().message();
        if (query == tokens) continue;
        group.first_removed = query + 1;
        ASSERT_EQ(restored(mask.rule, text, group).ok(), begin == right);
      }
    }
  }
  EXPECT_GT(accepted, 150);
  EXPECT_GT(refused, 1000);
}

/// What a stream holds without a compression, and what compressions leave, is what a cache holds that was fed.
TEST(CacheSnapshotRule, StreamsAreWhatTheirTokensLeave) {
  const Text text = some_text(40);
  const heed::SeparatorStream manager{.initial = 2, .separators = 2, .local = 3, .capacity = 9, .ids = {1}};
  heed::SeparatorStream before = manager, prompt = manager, grows = manager;
  before.form = heed::StreamForm::sep_cache;
  prompt.prompt = 17;
  grows.bounded = false;
  for (const heed::SeparatorStream& rule : {manager, before, prompt, grows}) {
    Cache cache = heed::value_or_throw(Cache::create(policy, {}, rule));
    bool whole = true;  // nothing was evicted so far
    for (Index i = 0; i < text.size(); ++i) {
      auto step = heed::value_or_throw(cache.begin(std::span(&text.ids[std::size_t(i)], 1)));
      const float row[] = {0};
      heed::check(step.write(0, row, row));
      heed::check(step.commit());
      const Bytes good = snapshot_of(cache);
      const auto number = [&](std::size_t at) {
        Index value = 0;
        std::memcpy(&value, good.data() + at, sizeof value);
        return value;
      };
      constexpr std::size_t floor_at = 80, reach_first = 96, begin_at = 104, first_landmark = 112;
      whole &= number(begin_at) == 0;
      // Everything is held, as if the cache were never full.
      const Text so_far{{text.ids.begin(), text.ids.begin() + i + 1}};
      const auto held = restored(rule, so_far, {.reach_first = number(reach_first)});
      ASSERT_EQ(held.ok(), whole) << "after " << i << ": " << held.status().message();
      const auto refused = [&](std::size_t at, Index value, const char* what) {
        Bytes bytes = good;
        std::memcpy(bytes.data() + at, &value, sizeof value);
        seal(bytes);
        expect_refused(Cache::restore(policy, {}, rule, bytes).status(), what);
      };
      ASSERT_TRUE(Cache::restore(policy, {}, rule, good).ok());
      for (Index other = number(begin_at); other <= i + 1; ++other) {
        if (other != number(floor_at)) refused(floor_at, other, "floor");
      }
      refused(first_landmark, rule.initial + 1, "first_landmark");
    }
    EXPECT_FALSE(whole);
  }
}

TEST(CacheSnapshotRule, InitialTokensAreThereOrRemoved) {
  const Text text = some_text(20);
  const AnyRule rule = heed::SinkWindow{3, 4};
  Group group{.reach_first = 20, .begin = 17, .distant = {0, 2}};
  expect_refused(restored(rule, text, group).status(), "first_removed");
  group.first_removed = 2;
  expect_refused(restored(rule, text, group).status(), "first_removed");
  group.first_removed = 1;
  EXPECT_TRUE(restored(rule, text, group).ok());
  group = {.reach_first = 20, .begin = 17, .distant = {0, 1, 2}};
  EXPECT_TRUE(restored(rule, text, group).ok());
}

TEST(CacheSnapshotRule, IdsAreWhatBeginTakes) {
  Text text = some_text(9);
  const AnyRule window = heed::SlidingWindow{4}, marks = heed::Separators{1, 4, {1}};
  text.ids[7] = heed::no_token_id;
  EXPECT_TRUE(restored(window, text, {.reach_first = 9, .begin = 6}).ok());
  expect_refused(restored(marks, text, {.reach_first = 9, .begin = 6, .distant = {0}}).status(), "token id");
  text.ids[7] = -2;
  expect_refused(restored(window, text, {.reach_first = 9, .begin = 6}).status(), "token id");
}

/// Groups of one cache have seen one text, and what is removed is removed from all of them.
TEST(CacheSnapshotRule, LayerGroupsAreOfOneText) {
  const Text text = some_text(12);
  const std::vector<heed::LayerRule> rules{
      {heed::SlidingWindow{4}, {0}}, {heed::Separators{1, 6, {1}}, {1}}, {heed::Causal{}, {2}}};
  const Bytes empty = snapshot_of(heed::value_or_throw(Cache::create(policy, {.layers = 3}, rules)));
  std::vector<Group> groups{{.reach_first = 12, .begin = 9}, {.reach_first = 12, .begin = 7}, {.reach_first = 12}};
  for (Index i = 0; i < 7; ++i) {
    if (i == 0 || text.ids[std::size_t(i)] == 1) groups[1].distant.push_back(i);
  }
  const auto made = [&](std::size_t at = 0, std::int64_t value = 0, std::size_t size = 0) {
    Bytes bytes = written(empty, text, groups, 2 * sizeof(float));
    std::memcpy(bytes.data() + at, &value, size);
    seal(bytes);
    return Cache::restore(policy, {.layers = 3}, rules, bytes).status();
  };
  EXPECT_TRUE(made().ok()) << made().message();
  constexpr std::size_t calls = 136 - 8, seen_sum = 152;
  expect_refused(made(calls + 8, 2, 8), "calls");
  expect_refused(made(seen_sum, 0x4000000000000000, 8), "seen_sum");       // 2.0
  expect_refused(made(168 + 4, 9, 4), "token id of another layer group");  // of position 10 in the window
  groups[0].holes = {{10, 11}};
  groups[0].first_removed = 10;
  expect_refused(made(), "position of a removed token");
  groups[1].holes = groups[0].holes;
  groups[1].first_removed = 10;
  expect_refused(made(), "position of a removed token");
  groups[2] = {.first_removed = 10, .reach_first = 12, .begin = 11};
  for (Index i = 0; i < 10; ++i) groups[2].distant.push_back(i);
  EXPECT_TRUE(made().ok()) << made().message();
}

/// A hole has no row to be seen, and still takes memory: the bytes for it must be there.
TEST(CacheSnapshotRule, HolesAreNoFreeMemory) {
  constexpr heed::Gqa wide{.num_heads = 2, .num_kv_heads = 2, .head_dim = 4096, .scale = 1};
  using Wide = heed::KvCache<heed::Gqa, heed::F32>;
  const AnyRule rule = heed::SlidingWindow{16};
  const Text text = some_text(3000);
  const Bytes empty = snapshot_of(heed::value_or_throw(Wide::create(wide, {}, rule)));
  Group group{.first_removed = 0, .holes = {{0, text.size() - 1}}};
  Bytes bytes = written(empty, text, {group}, 0);
  bytes.insert(bytes.end() - 4, std::size_t(2 * 2 * 4096 * 4), std::byte{0});  // the row that is there
  seal(bytes);
  CountingMemory memory;
  const auto made = Wide::restore(wide, {.memory = memory.resource()}, rule, bytes);
  EXPECT_EQ(made.status().message(), "snapshot: it ends before its rows");
  EXPECT_LT(memory.peak, 1 << 20) << "for " << bytes.size() << " bytes";
}

}  // namespace
}  // namespace heed_test::snapshot_rule_test
