// Kills mutants of prefixes: what is found, what is held, what is refused.
#include <vector>

#include <heed/cache/prefix.hpp>
#include <heed/codec/f32.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/window.hpp>

#include "counting_new.hpp"
#include "mutants/expect.hpp"

namespace {

using heed::Index;
using killer::expect;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
using Prefixes = heed::PrefixCache<Cache>;
using Ids = std::vector<std::int32_t>;
constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};

Ids numbers(Index count, std::int32_t first = 10) {
  Ids ids;
  for (Index i = 0; i < count; ++i) ids.push_back(first + std::int32_t(i));
  return ids;
}
/// The first `same` numbers, then others.
Ids parted(Index same) {
  Ids ids = numbers(same);
  ids.insert(ids.end(), 5, 1);
  return ids;
}

/// Feeds the rest of `text` in a step.
Cache::Step step_of(Cache& cache, const Ids& text) {
  const std::span<const std::int32_t> rest = std::span(text).subspan(std::size_t(cache.seen()));
  auto step = heed::value_or_throw(cache.begin(rest));
  std::vector<float> rows;
  for (const std::int32_t id : rest) rows.insert(rows.end(), 2, float(id));
  for (Index layer = 0; layer < cache.layers(); ++layer) heed::check(step.write(layer, rows, rows));
  return step;
}
Cache empty(heed::AnyRule rule = {}, heed::PagePool* pool = nullptr) {
  return heed::value_or_throw(Cache::create(policy, {.page_tokens = 4, .pool = pool}, std::move(rule)));
}
Cache fed(const Ids& text, heed::AnyRule rule = {}, heed::PagePool* pool = nullptr) {
  Cache cache = empty(std::move(rule), pool);
  heed::check(step_of(cache, text).commit());
  return cache;
}
std::uint64_t insert(Prefixes& prefixes, const Ids& ids, const Cache& cache, const heed::PrefixScope& scope = {}) {
  return heed::value_or_throw(prefixes.insert(ids, cache, scope));
}
Index found(Prefixes& prefixes, const Ids& prompt, Index leave = 1, const heed::PrefixScope& scope = {}) {
  const auto match = prefixes.find(prompt, leave, scope);
  return match.ok() ? match->tokens : -1;
}

void find() {
  const heed::AnyRule window = heed::SlidingWindow{8};
  {
    Prefixes prefixes;
    insert(prefixes, numbers(50), fed(numbers(50), window));
    expect(found(prefixes, numbers(60)) == 50, "find", "a conversation hits");
    expect(found(prefixes, parted(45)) == 0, "find", "nothing that the rule cannot go back to");
  }
  {
    Prefixes prefixes;
    Cache cache = empty(window);
    for (const Index n : {20, 55}) {
      Cache::Step step = step_of(cache, numbers(n));
      heed::check(prefixes.commit(numbers(n), step).status());
    }
    expect(found(prefixes, parted(48)) == 48, "find", "what the step could see");
    expect(found(prefixes, parted(20)) == 20 && found(prefixes, parted(7)) == 7, "find", "earlier steps");
    expect(found(prefixes, numbers(55)) == 54, "find", "a token is left");
    heed::check(step_of(cache, numbers(56)).commit());
    expect(cache.size() == 7, "find", "what waited goes");
  }
  Prefixes prefixes;
  const auto key = insert(prefixes, numbers(30), fed(numbers(30)));
  expect(insert(prefixes, numbers(30), fed(numbers(30))) == key && prefixes.size() == 1, "find",
         "the same ids are one entry");
  expect(found(prefixes, parted(21)) == 21, "find", "ids are compared");
  insert(prefixes, numbers(40), fed(numbers(40)), heed::PrefixScope(1));
  expect(found(prefixes, numbers(50)) == 30, "find", "in its scope");
}

void hold() {
  heed::PagePool pool;
  Prefixes prefixes;
  Cache cache = fed(numbers(40), {}, &pool);
  insert(prefixes, numbers(40), cache);
  const Index page = prefixes.bytes().pages / 10;
  heed::check(step_of(cache, numbers(44)).commit());
  insert(prefixes, numbers(44), cache);
  expect(prefixes.bytes().pages == 11 * page, "hold", "shared pages count once");
  prefixes.clear();
  expect(prefixes.bytes().total() == 0, "hold", "nothing after all is gone");
  for (std::int32_t i = 0; i < 3; ++i) {
    insert(prefixes, numbers(20, 100 * i), fed(numbers(20, 100 * i), {}, &pool));
  }
  const Index most = prefixes.bytes().total();
  heed::check(prefixes.set_max_bytes(most));
  expect(found(prefixes, numbers(21, 0)) == 20, "hold", "what fits");
  insert(prefixes, numbers(20, 300), fed(numbers(20, 300), {}, &pool));
  expect(prefixes.bytes().total() <= most, "hold", "the bound");
  expect(found(prefixes, numbers(21, 0)) == 20 && found(prefixes, numbers(21, 100)) == 0, "hold",
         "the least used goes");
}

void refuse() {
  Prefixes prefixes;
  expect(!prefixes.insert(numbers(9, 11), fed(numbers(9))).ok(), "refuse", "other ids");
  Cache edited = fed(numbers(9));
  heed::check(edited.compact(std::vector<Index>{0, 1, 7, 8}).status());
  expect(!prefixes.insert(numbers(9), edited).ok(), "refuse", "compacted");
  insert(prefixes, numbers(9), fed(numbers(9)));
  expect(!prefixes.insert(numbers(8), fed(numbers(8), heed::SlidingWindow{4})).ok(), "refuse", "another rule");
}

/// Whichever allocation fails, the entries are what they were. The text parts from others within a run of ids.
void without_memory() {
  bool reached = true, says = true, same = true, throws = false, text = true;
  for (long k = 0; reached && k < 1000; ++k) {
    heed::PagePool pool;
    Prefixes prefixes;
    insert(prefixes, numbers(40), fed(numbers(40), {}, &pool));
    const Cache cache = fed(parted(21), {}, &pool);
    const Ids ids = parted(21);
    const Index before = prefixes.bytes().total();
    heed_test::HeapFails fails(k, k % 2 == 0 ? 1 : heed_test::HeapFails::all);
    heed::Status status;
    try {
      status = prefixes.insert(ids, cache).status();
    } catch (...) {
      throws = true;
    }
    fails.stop();
    reached = fails.reached();
    if (reached && !throws) says = says && status.code() == heed::StatusCode::out_of_memory;
    if (reached) text = text && !status.message().empty();
    if (reached) same = same && prefixes.size() == 1 && prefixes.bytes().total() == before && prefixes.erase(1);
    if (reached) same = same && prefixes.bytes().total() == 0 && found(prefixes, numbers(41)) == 0;
  }
  expect(!throws && says && text && !reached, "memory", "a status, no exception");
  expect(same, "memory", "nothing changes");

  Prefixes prefixes;
  const auto first = insert(prefixes, numbers(20), fed(numbers(20)));
  insert(prefixes, numbers(20, 500), fed(numbers(20, 500)));
  const Ids prompt = numbers(21);
  {
    const heed_test::HeapFails fails(0);
    try {
      says = !prefixes.find(prompt).ok();
    } catch (...) {
      says = false;
    }
  }
  heed::check(prefixes.set_max_bytes(prefixes.bytes().total() - 1));
  expect(says && !prefixes.erase(first), "memory", "a find that failed is no use");
}

}  // namespace

int main() {
  without_memory();
  find();
  hold();
  refuse();
  return killer::failures == 0 ? 0 : 1;
}
