// Kills mutants of plans: what they remember for all layers and heads, and what they refuse.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/f32.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/window.hpp>
#include <heed/simd/scalar.hpp>

#include "codec/signed_bytes.hpp"
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
    const Cache::Keys first = step.keys(0);  // outlives the plan, so that a mutant may read it
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
  [[nodiscard]] heed::RowRun row_run(int, Index head, Index first, Index max) const {
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

/// A mask that depends on the KV head. attend() remembers answers as a plan does, so each head is asked alone.
struct PerHead {
  [[nodiscard]] bool visible(Index query, Index key, Index kv_head) const { return key <= query && key % 2 == kv_head; }
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval, Index) const {
    return heed::Coverage::partial;
  }
};
struct OfHead {
  Index head = 0;
  [[nodiscard]] bool visible(Index query, Index key) const { return PerHead{}.visible(query, key, head); }
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
};
void heads() {
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  Cache::Step step = begin(cache, 40);
  const Cache::Keys keys = step.keys(0);
  const std::vector<float> got = by_plan(plan_of(keys, 40, PerHead{}), keys, 40);
  bool right = got.size() == 40 * row;
  for (Index head = 0; right && head < 2; ++head) {
    const std::vector<float> want = alone(keys, 40, OfHead{head});
    for (Index query = 0; query < 40; ++query) {
      const auto at = std::size_t(query * row + head * 4);
      right = right && std::memcmp(&got[at], &want[at], 4 * sizeof(float)) == 0;
    }
  }
  expect(right, "plan", "a mask for each KV head");
}

/// Each head, and each layer, has factors of its own in the plane: those of layer 1 are larger. Rows with a factor of the
/// caller's memory lie apart.
struct Plane : heed_test::SignedBytes<> {
  static constexpr const char* name = "plane";
  static constexpr heed::Factors factors = heed::Factors::per_row;
  static constexpr Index view_step = 4;
  static constexpr Index row_alignment = 4;
  static Index row_bytes(Index width) { return width; }
  static Index factor_bytes(Index) { return Index(sizeof(float)); }
  static void encode(const float* in, Index width, std::byte* to, std::byte* entry) {
    float most = 0;
    for (Index i = 0; i < width; ++i) most = std::max(most, std::abs(in[i]));
    const float factor = most / 127;
    std::memcpy(entry, &factor, sizeof factor);
    for (Index i = 0; i < width; ++i) to[i] = std::byte(most > 0 ? int(in[i] / factor) & 255 : 0);
  }
  static float factor(const std::byte*, const std::byte* entry, Index) {
    float factor;
    std::memcpy(&factor, entry, sizeof factor);
    return factor;
  }
};
void factors() {
  using Coded = heed::KvCache<heed::Gqa, Plane>;
  Coded cache = heed::value_or_throw(Coded::create(policy, {.layers = 2, .page_tokens = 8}));
  Coded::Step step = heed::value_or_throw(cache.begin(heed::NumTokens(30)));
  const heed::Plan plan = plan_of(step.keys(0), 30);
  for (Index layer = 0; layer < 2; ++layer) {
    std::vector<float> k = numbers(30 * row, layer), v = numbers(30 * row, layer + 5);
    for (std::size_t i = 0; i < k.size(); ++i) {
      const float size = float((1 + layer) * (1 + Index(i) / 4 % 7));  // another one for each row
      k[i] *= size;
      v[i] *= size;
    }
    heed::check(step.write(layer, k, v));
    // attend() remembers where rows lie only if it makes a plan, so it reads without one.
    expect(same(by_plan(plan, step.keys(layer), 30), alone(step.keys(layer), 30)), "plan", "factors of layers");
  }

  constexpr Index keys = 200;
  const auto rows = [](const std::vector<float>& from, std::vector<std::byte>& bytes, std::vector<std::byte>& entries) {
    bytes.resize(keys * 2 * 32), entries.resize(keys * 2 * 8);
    for (Index i = 0; i < keys * 2; ++i) {
      Plane::encode(from.data() + i * 4, 4, bytes.data() + i * 32, entries.data() + i * 8);
    }
    return heed::StridedStream{.data = bytes.data(),
                               .token_stride_bytes = 64,
                               .head_stride_bytes = 32,
                               .row_bytes = 32,
                               .factors = entries.data(),
                               .factor_token_stride_bytes = 16,
                               .factor_head_stride_bytes = 8};
  };
  std::vector<std::byte> bytes[4], entries[4];
  heed::StridedStream streams[4];
  for (Index i = 0; i < 4; ++i) {
    std::vector<float> from = numbers(keys * row, 20 + i);
    for (std::size_t n = 0; n < from.size(); ++n) from[n] *= float((1 + i) * (1 + Index(n) / 4 % 7));
    streams[i] = rows(from, bytes[i], entries[i]);
  }
  const heed::StridedSource<Plane> first(keys, streams[0], streams[1]), second(keys, streams[2], streams[3]);
  for (const Index queries : {30, 1}) {
    const heed::SlidingWindow mask{queries == 1 ? 20 : keys};
    expect(same(by_plan(plan_of(first, queries, mask), second, queries), alone(second, queries, mask)), "plan",
           "factors of the caller's rows");
  }
}

/// F32 with weights in memory of their own, and queries of three numbers.
struct Apart {
  static constexpr const char* name = "apart";
  static constexpr Index query_numbers = 1, panel_numbers = 1;
  using Query = float;
  using Panel = float;
  struct Weight {
    float one, unused[3];
    explicit operator float() const { return one; }
  };
};
/// A plan is made for no math: its tasks get the sizes of the kernel's.
void maths() {
  const heed::MathSizes sizes = heed::detail::sizes_of<Apart>();
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  Cache::Step step = begin(cache, 30);
  const Cache::Keys keys = step.keys(0);
  const heed::Plan plan = plan_of(keys, 1);
  // Kernels are plain data: this one says the sizes of another math, and tells what its loops are given.
  static Index given = 0;
  heed::Kernel kernel = heed::kernel<heed::Scalar, heed::F32, heed::F32>();
  kernel.math_sizes = sizes;
  kernel.run = [](const heed::detail::PlannedCall& call) { given = call.tasks.shape().math.weight_bytes; };
  std::vector<float> q(row), out(row);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::check(heed::attend(kernel, plan, policy, q, keys, out, workspace, executor));
  expect(given == sizes.weight_bytes, "plan", "sizes of the kernel's math");
}

void identity() {
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  Cache other = heed::value_or_throw(Cache::create(policy, {}));
  Cache::Step step = begin(cache, 5), of_other = begin(other, 5);
  expect(by_plan(plan_of(step.keys(0), 5), of_other.keys(0), 5).empty(), "plan", "another cache");
  const Cache fork = heed::value_or_throw([&] {
    heed::check(of_other.commit());
    return other.fork();
  }());
  const heed::Plan plan = plan_of(other.keys(0), 5);
  expect(!by_plan(plan, other.keys(0), 5).empty() && by_plan(plan, fork.keys(0), 5).empty(), "plan", "a fork");
  const Cache moved = std::move(other);
  expect(!by_plan(plan, moved.keys(0), 5).empty(), "plan", "a cache that moved");
}

}  // namespace

int main() {
  heads();
  factors();
  maths();
  identity();
  layers();
  many_queries();
  window();
  groups();
  memory();
  positions();
  return killer::failures == 0 ? 0 : 1;
}
