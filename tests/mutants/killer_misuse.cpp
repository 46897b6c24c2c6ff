// Kills mutants of what refuses, or makes right, the one-word mistakes of a caller.
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/rule_mask.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/retention/window.hpp>
#include <heed/simd/scalar.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::Index;
using killer::expect;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
using Turning = heed::KvCache<heed::RotatedKeys<heed::Mqa>, heed::F32>;
constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};

/// out of one query, or an empty list if attend() refuses.
template <class P, class View>
std::vector<float> attend(const P& how, const View& keys, heed::MaskRef mask = {}, heed::AttendOptions options = {}) {
  const std::vector<float> q{1, 0};
  std::vector<float> out(2);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::Status status = heed::attend<heed::Scalar>(how, q, keys, mask, out, workspace, executor, options);
  return status.ok() ? out : std::vector<float>{};
}

template <class Cache>
void append(Cache& cache, const std::vector<float>& rows) {
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(Index(rows.size()) / 2)));
  heed::check(step.write(0, rows, rows));
  heed::check(step.commit());
}

void keys() {
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  append(cache, {0, 1});
  const Cache::Keys old = cache.keys(0);
  expect(!attend(policy, old).empty(), "keys", "committed ones are read");
  heed::check(cache.reserve(1000));
  expect(attend(policy, old).empty(), "keys", "stale ones are refused");
  {
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
    expect(attend(policy, step.keys(0)).empty(), "keys", "unwritten ones are refused");
    expect(attend(policy, cache.keys(0)).empty(), "keys", "committed ones alone are refused during a step");
    const std::vector<float> row{2, 3};
    heed::check(step.write(0, row, row));
    expect(!attend(policy, step.keys(0)).empty(), "keys", "written ones are read");
  }
  const auto rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  const heed::RotatedKeys<heed::Mqa> turning{.policy = policy, .rope = &rope};
  Turning turned = heed::value_or_throw(Turning::create(turning, {}));
  append(turned, {0, 1});
  {
    auto window =
        heed::value_or_throw(Turning::create(turning, {.positions = heed::Positions::rank}, heed::SlidingWindow{2}));
    append(window, {0, 1, 2, 3, 4, 5});
    const auto step = heed::value_or_throw(window.begin(heed::NumTokens(1)));
    expect(step.positions(0).size() == 1 && step.positions(0)[0] == 1, "positions", "are ranks");
  }
  expect(!attend(turning, turned.keys(0)).empty() && attend(policy, turned.keys(0)).empty() &&
             attend(turning, cache.keys(0)).empty(),
         "keys", "rotation at read goes with how keys are stored");
}

/// One number of the values that the query at a position is given, or NaN if attend() refuses.
template <class Cache>
double ask(const Cache& cache, Index position, heed::MaskRef mask = {}) {
  const std::vector<float> q{0, 0};
  std::vector<float> out(2);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::Status status = heed::attend<heed::Scalar>(cache.policy(), q, cache.keys(0), mask, out, workspace,
                                                         executor, {}, {}, std::span(&position, 1));
  return status.ok() ? double(out[0]) : std::nan("");
}

/// Values are positions, weights are equal.
void committed() {
  std::vector<float> rows;
  for (Index i = 0; i < 8; ++i) rows.insert(rows.end(), 2, float(i));
  const auto fed = [&](const heed::AnyRule& rule, Index undo) {
    Cache cache = heed::value_or_throw(Cache::create(policy, {.undo_tokens = undo}, rule));
    append(cache, rows);
    return cache;
  };
  const Cache window = fed(heed::SlidingWindow{3}, 1), young = fed(heed::SlidingWindow{9}, 0);
  expect(std::isnan(ask(window, 6)), "committed", "a query whose keys are gone is refused");
  expect(ask(window, 7) == 6 && ask(window, 8) == 6.5, "committed", "one whose keys are there is answered");
  expect(std::isnan(ask(window, 9)), "committed", "one that nobody knows is refused");
  expect(ask(young, 7) == 3.5 && ask(young, 4) == 2, "committed", "any is answered while nothing is forgotten");
  const Cache all = fed(heed::SlidingWindow{3}, 8);
  const auto other =
      heed::value_or_throw(heed::RuleMask::create(heed::SlidingWindow{5}, std::vector<std::int32_t>(8, 1)));
  expect(std::isnan(ask(all, 7, heed::Unmasked{})) && std::isnan(ask(all, 7, heed::SlidingWindow{5})), "committed",
         "a mask that does not know the rule is refused");
  expect(std::isnan(ask(all, 7, other.mask())), "committed", "another rule's mask is refused");
  auto moved = heed::value_or_throw(heed::RuleMask::create(heed::Causal{}, std::vector<std::int32_t>(8, 1)));
  const auto taken = std::move(moved);
  const Cache plain = fed(heed::Causal{}, 0);
  expect(ask(plain, 7, taken.mask()) == 3.5 && std::isnan(ask(plain, 7, moved.mask())),  // NOLINT(*-use-after-move)
         "committed", "the mask of what was moved from is refused");
  expect(ask(all, 7, heed::SlidingWindow{3}) == 6 && ask(all, 7, all.keys(0).mask()) == 6, "committed",
         "a mask that is the rule is taken");
  Cache twin = fed(heed::SlidingWindow{3}, 8);
  expect(std::isnan(ask(twin, 7, all.keys(0).mask())), "committed", "another cache's mask is refused");
  const heed::LandmarkMask before = twin.keys(0).mask();
  heed::check(twin.truncate(7));
  append(twin, {7, 7});
  expect(std::isnan(ask(twin, 7, before)) && ask(twin, 7, twin.keys(0).mask()) == 6, "committed",
         "its mask of before is refused");
  Cache removed = fed(heed::Causal{}, 0);
  heed::check(removed.remove(4, 6));
  expect(ask(removed, 2) == 1 && ask(removed, 7) == 19 / 6.0f, "committed", "no far key is later than its query");
  const std::vector<float> q(6 * 2);
  std::vector<float> out(6 * 2);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::check(heed::attend<heed::Scalar>(policy, q, removed.keys(0), out, workspace, executor));
  expect(out[0] == 1 && out[10] == 19 / 6.0f, "committed", "no far key is later than its query among others");
  Cache cut = fed(heed::SlidingWindow{3}, 8);
  heed::check(cut.remove(6, 8));
  heed::check(heed::attend<heed::Scalar>(policy, std::span(q).first(2), cut.keys(0), std::span(out).first(2), workspace,
                                         executor));
  expect(out[0] == 4, "committed", "the last key's query is the last one");
  const auto rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  Turning ranks = heed::value_or_throw(
      Turning::create({.policy = policy, .rope = &rope}, {.positions = heed::Positions::rank}, heed::SlidingWindow{3}));
  append(ranks, rows);
  expect(std::isnan(ask(ranks, 8)), "committed", "ranks are a step's to know");
}

void mask() {
  auto window = std::make_unique<heed::SlidingWindow>(heed::SlidingWindow{4});
  const heed::MaskRef ref(*window);
  window->window = 1;  // as whatever comes next on the stack of a temporary
  expect(ref.coverage({5, 6}, {2, 6}, 0) == heed::Coverage::full, "mask", "outlives its temporary");
}

void alibi() {
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  append(cache, {0, 1, 0, 2, 0, 4});
  const float slope = 1;
  const std::vector<Index> in_the_middle{1};
  const std::vector<float> q{1, 0};
  std::vector<float> out(2);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::check(heed::attend<heed::Scalar>(policy, q, cache.keys(0), heed::Unmasked{}, out, workspace, executor,
                                         {.alibi_slopes = {&slope, 1}}, {}, in_the_middle));
  const double near = std::exp(-1.0), want = (1 * near + 2 + 4 * near) / (1 + 2 * near);
  expect(std::abs(double(out[1]) - want) < 1e-5, "alibi", "symmetric");
}

void infinities() {
  const float infinity = std::numeric_limits<float>::infinity(), huge = 1e38f;
  const auto read = [](const std::vector<float>& k, const std::vector<float>& v) {
    Cache cache = heed::value_or_throw(Cache::create(policy, {}));
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(2)));
    heed::check(step.write(0, k, v));
    const std::vector<float> q{1, 1};
    std::vector<float> out(2);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    heed::check(heed::attend<heed::Scalar>(policy, q, step.keys(0), heed::Unmasked{}, out, workspace, executor));
    return out;
  };
  const auto one = read({-infinity, 0, 1, 0}, {huge, huge, 3, 4});
  expect(one[0] == 3 && one[1] == 4, "infinities", "a logit of -inf has no weight");
  const auto all = read({infinity, 0, 1, 0}, {1, 2, 3, 4});
  expect(std::isnan(all[0]) && std::isnan(all[1]), "infinities", "a logit of +inf is seen");
}

void errors() {
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  append(cache, {0, 1});
  const auto refused = [&](std::size_t numbers, float soft_cap, std::vector<Index> positions) {
    const std::vector<float> q(numbers);
    std::vector<float> out(numbers / 2 * 2);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    return !heed::attend<heed::Scalar>(policy, q, cache.keys(0), heed::Causal{}, out, workspace, executor,
                                       {.soft_cap = soft_cap}, {}, positions)
                .ok();
  };
  expect(!refused(2, 0, {}) && !refused(2, 5, {0}), "errors", "a good call");
  expect(refused(2, -1, {}), "errors", "soft_cap");
  expect(refused(3, 0, {}), "errors", "a number too many in q");
  expect(refused(2, 0, {0, 0}), "errors", "query_positions");
  const std::vector<float> q(2);
  std::vector<float> out(2);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const auto& halves = heed::kernel<heed::Scalar, heed::F16, heed::F16>();
  expect(!heed::attend(halves, policy, q, cache.keys(0), heed::Causal{}, out, workspace, executor).ok(), "errors",
         "a kernel of other codecs");
}

/// A mask in two lists that says so many far keys, all of them key `at`.
struct Lists {
  Index far = 0, at = 0;
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  bool visible(Index, Index) const { return true; }
  heed::NearKeys near_keys() const { return {}; }
  Index far_keys() const { return far; }
  Index far_key(Index) const { return at; }
  heed::Coverage near_coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  bool near_visible(Index, Index) const { return true; }
  heed::Coverage far_coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  bool far_visible(Index, Index) const { return false; }
};

void lists() {
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  append(cache, {0, 1});
  const Cache::Keys keys = cache.keys(0);
  expect(!attend(policy, keys, Lists{0}).empty() && !attend(policy, keys, Lists{1}).empty(), "lists", "good ones");
  expect(attend(policy, keys, Lists{2}).empty() && attend(policy, keys, Lists{-1}).empty(), "lists", "their length");
  expect(attend(policy, keys, Lists{1, -1}).empty() && attend(policy, keys, Lists{1, 1}).empty(), "lists",
         "their keys");
  expect(!attend(policy, keys, heed::SlidingWindow{1}).empty() && attend(policy, keys, heed::SlidingWindow{0}).empty(),
         "masks", "numbers of their own");
  // Unlike signed numbers, these have a difference wherever they lie.
  constexpr Index last = std::numeric_limits<Index>::max();
  expect(heed::SlidingWindow{last}.visible(last - 1, 0) && !heed::SlidingWindow{last}.visible(last - 1, -2), "lists",
         "a window across 0");
}

void codec() {
  const auto stored = []<class C>(C, float x) { return C::to_float(C::from_float(x)); };
  expect(stored(heed::F16{}, 1e6f) == 65504 && stored(heed::F16{}, -65520) == -65504, "codec", "finite in f16");
  expect(std::isfinite(stored(heed::Bf16{}, 3.4e38f)), "codec", "finite in bf16");
}

void merge() {
  const float infinity = std::numeric_limits<float>::infinity(), garbage = 9, number = 3;
  float out = 0, lse = 0;
  heed::merge_results(infinity, &garbage, 1, &number, 1, &out, &lse);
  expect(out == 3 && lse == 1, "merge", "empty by +inf");
  heed::merge_results(infinity, &garbage, infinity, &number, 1, &out, &lse);
  expect(out == 0 && lse == -infinity, "merge", "empty on both sides");
}

}  // namespace

int main() {
  keys();
  committed();
  mask();
  alibi();
  merge();
  errors();
  lists();
  codec();
  infinities();
  return killer::failures == 0 ? 0 : 1;
}
