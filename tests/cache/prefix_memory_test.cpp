/// \file
/// A PrefixCache without memory: whichever allocation fails, from whichever heap, it stays as it was and says so.
#include <array>
#include <functional>
#include <stdexcept>

#include <heed/cache/prefix.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "heap.hpp"

namespace heed_test::prefix_memory_test {
namespace {

using heed::PrefixScope;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
using Prefixes = heed::PrefixCache<Cache>;
using Ids = std::vector<std::int32_t>;
constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};

/// The first `same` numbers, then others.
Ids parted(Index same, Index others, std::int32_t other) {
  Ids text;
  for (Index i = 0; i < same; ++i) text.push_back(100 + std::int32_t(i));
  text.insert(text.end(), std::size_t(others), other);
  return text;
}
const PrefixScope adapter("an adapter's name that no short string holds");

/// Entries in two scopes, and caches that are to be stored: the same every time.
struct Subject {
  CountingMemory memory;
  heed::PagePool pool{memory.resource()};
  std::vector<Cache> caches;
  Prefixes prefixes;
  std::vector<std::uint64_t> keys;

  Cache fed(const Ids& text, Index undo_tokens = 6) {
    const heed::CacheOptions options{.undo_tokens = undo_tokens, .page_tokens = 4, .pool = &pool};
    auto cache = heed::value_or_throw(Cache::create(policy, options, heed::SlidingWindow{9}));
    append(cache, Seeds(text.begin(), text.end()));
    return cache;
  }
  Subject() {
    for (const Ids& text : {parted(20, 0, 0), parted(20, 12, 1), parted(26, 4, 2)}) {
      keys.push_back(heed::value_or_throw(prefixes.insert(text, fed(text))));
    }
    keys.push_back(heed::value_or_throw(prefixes.insert(parted(9, 3, 3), fed(parted(9, 3, 3)), adapter)));
  }
};

/// All that can be asked of the entries, the order of use included. Uses them up.
std::vector<Index> description(Prefixes& prefixes) {
  std::vector<Index> all;
  const auto sizes = [&] {
    const heed::PrefixCounters& counters = prefixes.counters();
    for (const Index n :
         {Index(prefixes.size()), prefixes.bytes().pages, prefixes.bytes().bookkeeping, counters.finds, counters.hits,
          counters.asked_tokens, counters.found_tokens, counters.compared, counters.evicted}) {
      all.push_back(n);
    }
  };
  sizes();
  heed::check(prefixes.set_max_bytes(0));
  for (Index left = Index(prefixes.size()); left > 0; --left) {  // who goes first
    heed::check(prefixes.set_max_bytes(prefixes.bytes().total() - 1));
    sizes();
  }
  return all;
}
/// What prompts find; each is a use.
std::vector<Index> finds(Prefixes& prefixes) {
  std::vector<Index> all;
  for (const PrefixScope& scope : {PrefixScope(), adapter}) {
    for (const Index same : {5, 12, 18, 20, 23, 26, 29}) {
      for (const std::int32_t other : {1, 2, 3}) {
        const auto match = heed::value_or_throw(prefixes.find(parted(same, 12, other), 1, scope));
        all.push_back(match.tokens);
        all.push_back(Index(match.key));
      }
    }
  }
  return all;
}

using Call = std::function<heed::Status(Subject&)>;
enum class Failing { heap, resource, both };

/// Fails allocation k = 0, 1, ... of `call` in turn, that one alone or all from it on, until none is left to fail. A call
/// that can be repeated works then.
void expect_all_or_nothing(const std::function<void(Subject&)>& prepare, const Call& call, bool repeatable = true) {
  ASSERT_TRUE(counts_news());
  const auto outcome = [&](bool called, bool by_finds) {
    Subject subject;
    prepare(subject);
    if (called) heed::check(call(subject));
    return by_finds ? finds(subject.prefixes) : description(subject.prefixes);
  };
  const std::vector<Index> before = outcome(false, false), after = outcome(true, false);
  const std::vector<Index> finds_before = outcome(false, true), finds_after = outcome(true, true);
  for (const Failing failing : {Failing::heap, Failing::resource, Failing::both}) {
    for (const bool all : {false, true}) {
      bool reached = true;
      for (Index k = 0; reached; ++k) {
        for (const int asked : {0, 1, 2}) {
          const bool by_finds = asked > 0, again = asked == 2 && repeatable;
          SCOPED_TRACE(testing::Message() << "failing " << int(failing) << ", all " << all << ", from " << k);
          ASSERT_LT(k, 1000);
          Subject subject;
          prepare(subject);
          if (failing != Failing::heap) {
            subject.memory.failures = all ? Index{1} << 40 : 1;
            subject.memory.failing_from = subject.memory.allocations + (failing == Failing::both ? 0 : k);
          }
          const Index tried = subject.memory.failing_from;
          heed::Status status;
          {
            HeapFails fails(failing == Failing::resource ? HeapFails::all : long(k), all ? HeapFails::all : 1);
            status = call(subject);
            fails.stop();
            reached = fails.reached() || (failing == Failing::resource && subject.memory.allocations > tried);
          }
          subject.memory.failing_from = -1;
          if (!reached) {
            ASSERT_TRUE(status.ok() || failing == Failing::both) << status.message();
          }
          if (!status.ok()) {
            ASSERT_EQ(status.code(), heed::StatusCode::out_of_memory);
          }
          if (!status.ok() && again) status = call(subject);
          const auto& want = status.ok() ? (by_finds ? finds_after : after) : (by_finds ? finds_before : before);
          ASSERT_EQ(by_finds ? finds(subject.prefixes) : description(subject.prefixes), want);
        }
      }
    }
  }
}

/// Where a text leaves the others: within a run, at its end, as a beginning of one, in a scope of its own.
TEST(PrefixMemory, Insert) {
  for (const PrefixScope& scope : {PrefixScope(), adapter, PrefixScope(7)}) {
    for (const Ids& text : {parted(9, 5, 9), parted(20, 5, 9), parted(23, 0, 0), parted(26, 4, 9), parted(0, 5, 8)}) {
      expect_all_or_nothing([&](Subject& s) { s.caches.push_back(s.fed(text)); },
                            [&](Subject& s) { return s.prefixes.insert(text, s.caches[0], scope).status(); });
    }
  }
}

/// The same ids, with a cache that can go back further.
TEST(PrefixMemory, Replace) {
  const Ids text = parted(20, 12, 1);
  const auto prepare = [&](Subject& s) {
    s.prefixes = Prefixes();
    for (const Ids& other : {text, parted(26, 4, 2)}) {
      heed::check(s.prefixes.insert(other, s.fed(other)).status());
    }
    auto cache = s.fed(Ids(text.begin(), text.end() - 8));
    auto step = heed::value_or_throw(cache.begin(std::span(text).last(8)));
    const std::vector<float> rows(16, 1);
    heed::check(step.write(0, rows, rows));
    heed::check(step.commit(heed::Eviction::later));
    s.caches.push_back(std::move(cache));
    ASSERT_LT(s.caches[0].rollback_floor(), Index(text.size()) - 6);
  };
  expect_all_or_nothing(prepare, [&](Subject& s) { return s.prefixes.insert(text, s.caches[0]).status(); });
}

TEST(PrefixMemory, Find) {
  for (const Ids& prompt : {parted(18, 4, 9), parted(26, 9, 2)}) {
    expect_all_or_nothing([](Subject&) {}, [&](Subject& s) { return s.prefixes.find(prompt).status(); });
  }
}

/// The entries; of the step, that what was stored is closed.
TEST(PrefixMemory, Commit) {
  const Ids text = parted(26, 9, 5);
  const auto prepare = [&](Subject& s) { s.caches.push_back(s.fed(parted(26, 0, 0))); };
  expect_all_or_nothing(
      prepare,
      [&](Subject& s) -> heed::Status {
        constexpr std::array<float, 18> rows{};
        auto step = s.caches[0].begin(std::span(text).last(9));
        if (!step.ok()) return step.status();
        if (heed::Status status = step->write(0, rows, rows); !status.ok()) return status;
        heed::Status status = s.prefixes.commit(text, *step).status();
        if (status.ok() && step->open()) throw std::logic_error("a step that was stored is open");
        return status;
      },
      false);
}

/// What goes needs no memory.
TEST(PrefixMemory, Erase) {
  for (std::size_t first = 0; first < 4; ++first) {
    Subject subject;
    HeapFails fails(0);
    for (std::size_t i = 0; i < 4; ++i) {
      subject.prefixes.erase(subject.keys[(first + i) % 4]);
    }
    fails.stop();
    EXPECT_EQ(subject.prefixes.bytes().total(), 0);
  }
  Subject subject;
  HeapFails fails(0);
  const heed::Status status = subject.prefixes.set_max_bytes(1);
  fails.stop();
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(subject.prefixes.bytes().total(), 0);
}

}  // namespace
}  // namespace heed_test::prefix_memory_test
