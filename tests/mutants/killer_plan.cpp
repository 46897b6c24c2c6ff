// Kills mutants of plans: what they remember for all layers and heads, and what they refuse.
#include <cstring>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/f32.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/window.hpp>
#include <heed/simd/scalar.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::Index;
using killer::expect;
using Cache = heed::KvCache<heed::Gqa, heed::F32>;
constexpr heed::Gqa policy{.num_heads = 2, .num_kv_heads = 2, .head_dim = 4, .scale = 1};
constexpr Index row = 2 * 4;

float noise(Index i) { return float((i * 2654435761u >> 7) % 1000) / 500.0f - 1.0f; }
std::vector<float> numbers(Index count, Index seed) {
  std::vector<float> made;
  for (Index i = 0; i < count; ++i) made.push_back(noise(i * 7 + seed * 9973 + 1));
  return made;
}
bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// out of `queries` queries, or an empty list if attend() refuses.
template <class View>
std::vector<float> by_plan(const heed::Plan& plan, const View& keys, Index queries) {
  const std::vector<float> q = numbers(queries * row, 1);
  std::vector<float> out(q.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::Status status = heed::attend<heed::Scalar>(plan, policy, q, keys, out, workspace, executor);
  return status.ok() ? out : std::vector<float>{};
}
template <class View>
std::vector<float> alone(const View& keys, const std::vector<float>& q, heed::MaskRef mask = {}) {
  std::vector<float> out(q.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::check(heed::attend<heed::Scalar>(policy, q, keys, mask, out, workspace, executor));
  return out;
}
template <class View>
std::vector<float> alone(const View& keys, Index queries, heed::MaskRef mask = {}) {
  return alone(keys, numbers(queries * row, 1), mask);
}
template <class View>
heed::Plan plan_of(const View& keys, Index queries, heed::MaskRef mask = {}) {
  heed::Plan plan;
  heed::check(plan.make(policy, keys, queries, 1, mask));
  return plan;
}
Cache::Step begin(Cache& cache, Index tokens) {
  Cache::Step step = heed::value_or_throw(cache.begin(heed::NumTokens(tokens)));
  for (Index layer = 0; layer < cache.layers(); ++layer) {
    heed::check(step.write(layer, numbers(tokens * row, 3 * layer), numbers(tokens * row, 3 * layer + 5)));
  }
  return step;
}

void layers() {
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 2, .page_tokens = 8}));
  heed::check(begin(cache, 30).commit());
  heed::Plan plan;
  {
    Cache::Step step = begin(cache, 1);
    const Cache::View first = step.keys(0);  // outlives the plan, so that a mutant may read it
    plan = plan_of(first, 1);
    for (Index layer = 0; layer < 2; ++layer) {
      expect(same(by_plan(plan, step.keys(layer), 1), alone(step.keys(layer), 1)), "plan", "bits of layers");
    }
  }
  Cache::Step step = begin(cache, 1);
  expect(by_plan(plan, step.keys(0), 1).empty(), "plan", "another step");
}

void many_queries() {
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 1, .page_tokens = 64}));
  Cache::Step step = begin(cache, 400);
  const std::vector<float> all = by_plan(plan_of(step.keys(0), 400), step.keys(0), 400), q = numbers(400 * row, 1);
  const std::vector<float> last(all.end() - row,
                                all.end());  // attend() makes a plan as well, so the last query is asked alone
  expect(same(last, alone(step.keys(0), std::vector<float>(q.end() - row, q.end()))), "plan", "bits of many queries");
}

void window() {
  const std::vector<float> k = numbers(200 * row, 7), v = numbers(200 * row, 8);
  const auto stream = [](const std::vector<float>& from) {
    return heed::StridedStream{reinterpret_cast<const std::byte*>(from.data()), row * 4, 16, 16};
  };
  const heed::StridedSource<heed::F32> keys(200, stream(k), stream(v));
  const heed::Plan plan = plan_of(keys, 1, heed::SlidingWindow{20});
  expect(same(by_plan(plan, keys, 1), alone(keys, 1, heed::SlidingWindow{20})), "plan", "bits of a window");
}

void groups() {
  const std::vector<heed::LayerRule> rules{{heed::Causal{}, {0}}, {heed::SlidingWindow{100}, {1}}};
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 2}, rules));
  Cache::Step step = begin(cache, 5);
  expect(by_plan(plan_of(step.keys(0), 5), step.keys(1), 5).empty(), "plan", "another layer group");
}

void memory() {
  const std::vector<float> k = numbers(40 * row, 7);
  const auto source = [&](Index stride) {
    const heed::StridedStream stream{reinterpret_cast<const std::byte*>(k.data()), stride, 16, 16};
    return heed::StridedSource<heed::F32>(10, stream, stream);
  };
  const heed::Plan plan = plan_of(source(row * 4), 1, heed::Causal{});
  expect(!by_plan(plan, source(row * 4), 1).empty(), "plan", "the same strides");
  expect(by_plan(plan, source(row * 8), 1).empty(), "plan", "other strides");
}

/// Keys with gaps between their positions.
struct Gaps {
  using KeyCodec = heed::F32;
  using ValueCodec = heed::F32;
  const float* rows = nullptr;
  Index second = 1;

  [[nodiscard]] Index size() const { return 3; }
  [[nodiscard]] Index position(Index key) const { return key == 0 ? 0 : key == 1 ? second : 5; }
  [[nodiscard]] heed::Tile tile(int, Index head, Index first, Index max) const {
    return {reinterpret_cast<const std::byte*>(rows + first * row + head * 4), max, row * 4, 16};
  }
};
void positions() {
  const std::vector<float> k = numbers(3 * row, 9);
  const Gaps keys{k.data(), 1}, others{k.data(), 2};
  const heed::Plan plan = plan_of(keys, 1, heed::SlidingWindow{4});
  expect(same(by_plan(plan, keys, 1), alone(keys, 1, heed::SlidingWindow{4})), "plan", "gaps");
  expect(by_plan(plan, others, 1).empty(), "plan", "other positions");
}

}  // namespace

int main() {
  layers();
  many_queries();
  window();
  groups();
  memory();
  positions();
  return killer::failures == 0 ? 0 : 1;
}
