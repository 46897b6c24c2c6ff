/// \file
/// Random conversations through a PrefixCache, against a list of entries that is searched whole.
#include <list>
#include <map>

#include <heed/cache/prefix.hpp>

#include "cache/instances.hpp"
#include "retention/rule_model.hpp"

namespace heed_test::prefix_walk_test {
namespace {

using Cache = heed::KvCache<heed::Gqa, heed::F32>;
using Prefixes = heed::PrefixCache<Cache>;
using Text = std::vector<std::int32_t>;
constexpr heed::Gqa policy{.num_heads = 2, .num_kv_heads = 1, .head_dim = 3, .v_head_dim = 2, .scale = 1};

/// Rows depend on all ids before and on the scope, as a model's do: whoever mixes texts up writes other rows.
Seeds seeds(const Text& text, std::uint64_t scope) {
  Seeds made;
  std::uint64_t hash = scope + 77;
  for (const std::int32_t id : text) {
    hash = (hash ^ std::uint64_t(id)) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 31;
    made.push_back((hash & ~std::uint64_t{0xffffffff}) | std::uint64_t(id));
  }
  return made;
}

/// What an entry should hold.
struct Entry {
  std::uint64_t key = 0, scope = 0;
  Text ids;
  Index floor = 0;
  std::map<const void*, Index> pages;
};

class PrefixWalk : public testing::Test {
 protected:
  Index pick(Index least, Index most) { return heed_test::pick(random, least, most); }
  bool one_in(Index n) { return pick(1, n) == 1; }
  static heed::PrefixScope scope_of(std::uint64_t scope) {
    return scope == 0 ? heed::PrefixScope() : heed::PrefixScope(scope);
  }

  Cache create() { return heed::value_or_throw(Cache::create(policy, options, rules)); }
  void feed(Cache& cache, const Text& text, std::uint64_t scope, Index count) {
    const Seeds all = seeds(text, scope);
    const auto from = all.begin() + std::ptrdiff_t(cache.seen());
    ASSERT_NO_FATAL_FAILURE(append(cache, Seeds(from, from + std::ptrdiff_t(count))));
  }
  void expect_same(const Cache& a, const Cache& b) {
    ASSERT_EQ(a.seen(), b.seen());
    for (Index layer = 0; layer < a.layers(); ++layer) {
      ASSERT_EQ(a.kept(layer), b.kept(layer));
      for (Index key = 0; key < a.kept(layer); ++key) {
        ASSERT_EQ(a.position(key, layer), b.position(key, layer));
        ASSERT_EQ(a.token_id(key, layer), b.token_id(key, layer));
        for (int stream = 0; stream < 2; ++stream) {
          const auto row = [&](const Cache& of) { return of.keys(layer).row_run(stream, 0, key, 1); };
          ASSERT_EQ(std::memcmp(row(a).data, row(b).data, std::size_t(row(a).stride_bytes)), 0);
        }
      }
    }
  }

  /// Entries in order of use, the latest first; `stored` is what the PrefixCache was given now.
  void note(std::uint64_t key, const Text& text, std::uint64_t scope, const Cache& stored) {
    Entry entry{key, scope, text, stored.rollback_floor(), {}};
    stored.for_each_page([&](const void* page, Index bytes) { entry.pages.emplace(page, bytes); });
    for (auto old = entries.begin(); old != entries.end(); ++old) {
      if (old->scope != scope || old->ids != text) continue;
      ASSERT_EQ(old->key, key) << "the same ids are one entry";
      if (old->floor <= entry.floor) entry = *old;
      entries.erase(old);
      entries.push_front(entry);
      return;
    }
    for (const Entry& other : entries) ASSERT_NE(other.key, key);
    entries.push_front(entry);
  }
  void expect_held(Prefixes& prefixes) {
    ASSERT_LE(prefixes.size(), entries.size());
    while (entries.size() > prefixes.size()) entries.pop_back();  // the oldest ones went
    if (max_bytes > 0) {
      ASSERT_LE(prefixes.bytes().total(), max_bytes);
    }
    std::map<const void*, Index> pages;
    for (const Entry& entry : entries) pages.insert(entry.pages.begin(), entry.pages.end());
    Index bytes = 0;
    for (const auto& [page, size] : pages) bytes += size;
    ASSERT_EQ(prefixes.bytes().pages, bytes);
  }

  static Index usable(const Entry& entry, const Text& prompt, Index leave) {
    const auto end = std::mismatch(prompt.begin(), prompt.end(), entry.ids.begin(), entry.ids.end()).first;
    const Index common = std::min<Index>(end - prompt.begin(), Index(prompt.size()) - leave);
    return common >= entry.floor ? std::max<Index>(common, 0) : 0;
  }
  /// The cache to go on with.
  Cache find(Prefixes& prefixes, const Text& prompt, std::uint64_t scope, Index leave) {
    Index want = 0;
    for (const Entry& entry : entries) {
      if (entry.scope == scope) want = std::max(want, usable(entry, prompt, leave));
    }
    auto match = heed::value_or_throw(prefixes.find(prompt, leave, scope_of(scope)));
    EXPECT_EQ(match.tokens, want);
    hits += want > 0;
    if (!match.cache) return create();
    const auto giver = std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.key == match.key; });
    if (giver == entries.end()) {
      ADD_FAILURE() << "no such entry";
      return create();
    }
    EXPECT_EQ(giver->scope, scope);
    EXPECT_EQ(usable(*giver, prompt, leave), want);
    entries.splice(entries.begin(), entries, giver);
    EXPECT_EQ(match.cache->seen(), want);
    return *std::move(match.cache);
  }

  /// Some old text as far as it goes, and more.
  Text new_text() {
    Text text;
    if (!texts.empty()) {
      text = texts[std::size_t(pick(0, Index(texts.size()) - 1))];
      if (one_in(2)) text.resize(std::size_t(pick(0, Index(text.size()))));
    }
    if (text.size() > 120) text.resize(60);
    for (Index more = pick(text.empty() ? 1 : 0, 25); more > 0; --more) text.push_back(std::int32_t(pick(0, 3)));
    if (text.empty()) text.push_back(0);
    texts.push_back(text);
    return text;
  }

  void converse(Prefixes& prefixes) {
    const Text text = new_text();
    const std::uint64_t scope = one_in(4) ? 5 : 0;
    Cache cache = find(prefixes, text, scope, pick(0, 2));
    while (cache.seen() < Index(text.size())) {
      const Index count = pick(1, std::min<Index>(12, Index(text.size()) - cache.seen()));
      const Text so_far(text.begin(), text.begin() + std::ptrdiff_t(cache.seen() + count));
      if (one_in(2)) {
        const Seeds all = seeds(so_far, scope);
        const Seeds added(all.begin() + std::ptrdiff_t(cache.seen()), all.end());
        auto step = heed::value_or_throw(cache.begin(ids(added)));
        write_all(step, cache, added);
        const auto key = prefixes.commit(so_far, step, scope_of(scope));
        if (key.ok()) {
          ASSERT_NO_FATAL_FAILURE(note(*key, so_far, scope, cache));
        } else {
          ASSERT_EQ(key.status().code(), heed::StatusCode::out_of_range) << key.status().message();
          ASSERT_GT(max_bytes, 0);
        }
      } else {
        ASSERT_NO_FATAL_FAILURE(feed(cache, text, scope, count));
        if (one_in(3)) {
          const auto key = prefixes.insert(so_far, cache, scope_of(scope));
          if (key.ok()) {
            ASSERT_NO_FATAL_FAILURE(note(*key, so_far, scope, cache));
          } else {
            ASSERT_EQ(key.status().code(), heed::StatusCode::out_of_range) << key.status().message();
          }
        }
      }
      ASSERT_NO_FATAL_FAILURE(expect_held(prefixes));
    }
    // So many tokens more that nothing of the past waits or is missing to go back to: the same as from scratch.
    const Index more = 1 + options.undo_tokens;
    Text all = text;
    all.resize(text.size() + std::size_t(more), 2);
    ASSERT_NO_FATAL_FAILURE(feed(cache, all, scope, more));
    Cache plain = create();
    ASSERT_NO_FATAL_FAILURE(feed(plain, all, scope, Index(all.size())));
    ASSERT_NO_FATAL_FAILURE(expect_same(cache, plain));
    ASSERT_GE(cache.rollback_floor(), plain.rollback_floor());
  }

  void walk(const std::string& first, const std::string& other) {
    heed::PagePool pool;
    options = {.layers = 3, .undo_tokens = one_in(2) ? pick(0, 6) : 0, .page_tokens = pick(1, 9), .pool = &pool};
    rules = {{random_case(other, random).rule, {2, 1}}, {random_case(first, random).rule, {0}}};
    entries.clear();
    texts.clear();
    max_bytes = 0;
    Prefixes prefixes;
    for (int turn = 0; turn < 70; ++turn) {
      SCOPED_TRACE(turn);
      ASSERT_NO_FATAL_FAILURE(converse(prefixes));
      if (HasFailure()) return;
      if (one_in(5) && !entries.empty()) {
        const auto victim = std::next(entries.begin(), pick(0, Index(entries.size()) - 1));
        ASSERT_TRUE(prefixes.erase(victim->key));
        ASSERT_FALSE(prefixes.erase(victim->key));
        entries.erase(victim);
      }
      if (one_in(8)) {
        max_bytes = one_in(2) ? 0 : prefixes.bytes().total() * pick(1, 3) / 2;
        ASSERT_TRUE(prefixes.set_max_bytes(max_bytes).ok());
      }
      ASSERT_NO_FATAL_FAILURE(expect_held(prefixes));
    }
    prefixes.clear();
    ASSERT_EQ(prefixes.bytes().total(), 0);
  }

  std::mt19937_64 random{31};
  heed::CacheOptions options;
  std::vector<heed::LayerRule> rules;
  std::vector<Text> texts;
  std::list<Entry> entries;
  Index max_bytes = 0;
  Index hits = 0;
};

/// Every pair of rules, as two groups of layers.
TEST_F(PrefixWalk, FindsTheLongestThatAnyEntryCanGive) {
  for (const std::string first : rule_kinds) {
    for (const std::string other : rule_kinds) {
      SCOPED_TRACE(first + " and " + other);
      ASSERT_NO_FATAL_FAILURE(walk(first, other));
      ASSERT_FALSE(HasFailure());
    }
  }
  EXPECT_GT(hits, 2000) << "of 5670 prompts";
}

/// From the step's first token on every length is found; before it what the rule could go back to then. By the oracle.
TEST_F(PrefixWalk, CommitKeepsWhatItsStepCouldSee) {
  for (int repeat = 0; repeat < 300; ++repeat) {
    const std::string kind = rule_kinds[std::size_t(repeat) % std::size(rule_kinds)];
    SCOPED_TRACE(kind);
    const RuleCase rule = random_case(kind, random);
    options = {.layers = 1, .undo_tokens = one_in(2) ? pick(0, 6) : 0, .page_tokens = pick(1, 9)};
    rules = {{rule.rule, {0}}};
    const Index before = pick(0, 50), step_tokens = pick(1, 30);
    Text text;
    for (Index i = 0; i < before + step_tokens; ++i) text.push_back(std::int32_t(pick(0, 3)));
    Cache cache = create();
    for (Index left = before, count = 0; left > 0; left -= count) {
      count = pick(1, left);
      ASSERT_NO_FATAL_FAILURE(feed(cache, text, 0, count));
    }
    const Seeds all = seeds(text, 0);
    const Seeds added(all.begin() + before, all.end());
    auto step = heed::value_or_throw(cache.begin(ids(added)));
    write_all(step, cache, added);
    Prefixes prefixes;
    ASSERT_TRUE(prefixes.commit(text, step).ok());
    RuleModel model(rule, std::max(options.undo_tokens, step_tokens));
    model.append(Tokens(text.begin(), text.end()));
    ASSERT_LE(model.floor(), before);
    ASSERT_EQ(cache.rollback_floor(), model.floor());
    for (Index same = 0; same < Index(text.size()); ++same) {
      Text prompt(text.begin(), text.begin() + same);
      prompt.push_back(9);
      const auto match = heed::value_or_throw(prefixes.find(prompt));
      ASSERT_EQ(match.tokens, same >= model.floor() ? same : 0) << "floor " << model.floor();
    }
    // The next commit evicts what waited.
    text.push_back(0);
    ASSERT_NO_FATAL_FAILURE(feed(cache, text, 0, 1));
    Cache plain = create();
    ASSERT_NO_FATAL_FAILURE(feed(plain, text, 0, Index(text.size())));
    ASSERT_NO_FATAL_FAILURE(expect_same(cache, plain));
    ASSERT_EQ(cache.rollback_floor(), plain.rollback_floor());
  }
}

}  // namespace
}  // namespace heed_test::prefix_walk_test
