// Kills mutants outside the kernel: codecs, the merge of results, rotations and the cache, each by itself.
#include <cstring>

#include <heed/cache/kv_cache.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/full.hpp>
#include <heed/retention/window.hpp>
#include <heed/rope/rope.hpp>
#include <heed/softmax_state.hpp>

#include "mutants/expect.hpp"
#include "oracle/bound.hpp"
#include "oracle/merge.hpp"
#include "oracle/random.hpp"
#include "oracle/rope.hpp"

namespace {

using heed::Index;
using killer::expect;

void codecs() {
  oracle::Random random(1);
  bool bf16 = true, f16 = true, small = true;
  const auto stored = [](auto codec, float x) { return codec.to_float(codec.from_float(x)); };
  for (int i = 0; i < 2000; ++i) {
    const float x = float(random.gaussian() * 50), tiny = x * 0x1p-20f, tie = 1 + float(i) * 0x1p-8f;
    bf16 &= stored(heed::Bf16{}, x) == float(oracle::round_to_bf16(x));
    bf16 &= stored(heed::Bf16{}, tie) == float(oracle::round_to_bf16(tie));
    f16 &= stored(heed::F16{}, x) == float(oracle::round_to_f16(x));
    small &= stored(heed::F16{}, tiny) == float(oracle::round_to_f16(tiny));
  }
  expect(bf16, "codec", "bf16 rounds to nearest even");
  expect(f16, "codec", "f16 rounds to nearest even");
  expect(small, "codec", "f16 has subnormals");
  expect(std::isnan(stored(heed::Bf16{}, std::bit_cast<float>(0x7fc0ffffu))), "codec", "bf16 keeps NaN");
}

void merges() {
  const float a[] = {1, -2, 3}, b[] = {0.5f, 4, -1}, none = -INFINITY;
  float out[3], lse;
  for (const float lse_b : {-3.0f, 1.5f, 2.0f, 700.0f}) {
    const oracle::State want = oracle::merge({{1.5, {1, -2, 3}}, {lse_b, {0.5, 4, -1}}});
    heed::merge_results(1.5f, a, lse_b, b, 3, out, &lse);
    bool close = std::abs(lse - want.lse) <= 1e-6 * std::abs(want.lse) + 1e-6;
    for (std::size_t d = 0; d < 3; ++d) close &= std::abs(out[d] - want.o[d]) <= 2e-6;
    expect(close, "merge", "weights");
  }
  heed::merge_results(none, a, 1.5f, b, 3, out, &lse);
  expect(std::memcmp(out, b, sizeof b) == 0 && lse == 1.5f, "merge", "empty left is an identity");
  heed::merge_results(1.5f, a, none, b, 3, out, &lse);
  expect(std::memcmp(out, a, sizeof a) == 0 && lse == 1.5f, "merge", "empty right is an identity");
  heed::merge_results(none, a, none, b, 3, out, &lse);
  expect(out[0] == 0 && out[2] == 0 && lse == none, "merge", "two empty sides are empty");
}

void softmax() {
  float logits[32];
  std::fill(logits, logits + 32, -INFINITY);
  const heed::ChunkSum sum = heed::Scalar::softmax(logits, 20);
  expect(sum.max == -INFINITY && sum.sum == 0 && logits[3] == 0, "softmax", "nothing but -inf is an identity");
}

void rotations() {
  for (const bool interleaved : {false, true}) {
    const auto layout = interleaved ? heed::RopeLayout::interleaved : heed::RopeLayout::half_split;
    const auto rope = heed::Rope::create({.head_dim = 8, .layout = layout, .theta = 10000, .table_positions = 100});
    if (!rope.ok()) return expect(false, "rope", "create");
    for (const Index position : {0, 3, 63, 64, 130, 5000}) {
      float x[8] = {1, 2, -3, 4, 0.5f, -6, 7, 8}, back[8];
      double want[8];
      std::copy(x, x + 8, want);
      std::copy(x, x + 8, back);
      oracle::rotate(want, double(position), oracle::rope_frequencies(8, 10000), interleaved);
      (*rope).apply(position, x);
      bool close = true;
      for (int d = 0; d < 8; ++d) close &= std::abs(x[d] - want[d]) <= 4e-6;
      expect(close, "rope", interleaved ? "interleaved pairs" : "half-split pairs");
      (*rope).apply(position, back);
      (*rope).apply(position, back, heed::RopeDirection::inverse);
      expect(std::abs(back[1] - 2) <= 4e-6 && std::abs(back[6] - 7) <= 4e-6, "rope", "inverse");
    }
  }
}

void windows() {
  const heed::SlidingWindow window{10};
  for (Index first = 20; first < 45; ++first) {
    for (Index last = first; last < first + 12; ++last) {
      bool any = false, all = true, kept = false;
      for (Index query = 30; query < 33; ++query) {
        for (Index key = first; key <= last; ++key) {
          any |= window.visible(query, key);
          all &= window.visible(query, key);
        }
      }
      for (Index query = 30; query < 60; ++query) kept |= window.visible(query, first);
      const heed::Coverage answer = window.coverage({30, 33}, {first, last + 1});
      expect((answer != heed::Coverage::none || !any) && (answer != heed::Coverage::full || all), "window", "coverage");
      if (first < 30) expect(window.keep(first, 30) == kept, "window", "keep");
    }
  }
}

Index held = 0;
void* take(void*, std::size_t bytes, std::size_t alignment) {
  held += Index(bytes);
  return ::operator new(bytes, std::align_val_t{alignment});
}
void give(void*, void* block, std::size_t bytes, std::size_t alignment) {
  held -= Index(bytes);
  ::operator delete(block, std::align_val_t{alignment});
}

void cache() {
  using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 5, .v_head_dim = 8, .scale = 1};
  auto made = Cache::create(policy, {.layers = 2, .capacity = 3, .max_tokens = 40, .memory = {nullptr, take, give}});
  if (!made.ok()) return expect(false, "cache", "create");
  Cache& cache = *made;
  const auto write = [](Cache::Step& step, Index layer, float base) {
    std::vector<float> k, v;
    for (Index i = 0; i < step.tokens() * 2 * 5; ++i) k.push_back(base + float(i));
    for (Index i = 0; i < step.tokens() * 2 * 8; ++i) v.push_back(-base - float(i));
    return step.write(layer, k, v).ok();
  };
  const auto number = [&](Index layer, int stream, Index head, Index key, Index d) {
    float x = 0;
    const heed::Tile tile = cache.keys(layer).tile(stream, head, key, 1);
    heed::Bf16::decode(tile.data + d * 2, 1, &x);
    return x;
  };
  {
    auto step = cache.begin(2);
    expect(step.ok() && !(*step).commit().ok(), "cache", "commit without a write is refused");
    expect(write(*step, 0, 1) && !(*step).commit().ok(), "cache", "commit needs every layer");
    expect(write(*step, 1, 101) && (*step).commit().ok(), "cache", "commit");
  }
  {
    auto step = cache.begin(1);
    expect(!(*step).commit().ok(), "cache", "an earlier step's writes do not count");
    expect(!cache.truncate(0).ok(), "cache", "no truncate while a step is open");
  }
  expect(cache.size() == 2, "cache", "an uncommitted step leaves nothing");
  expect(!cache.begin(39).ok() && cache.begin(38).ok(), "cache", "max_tokens");
  {
    auto step = cache.begin(9);  // grows
    expect(step.ok() && (*step).first_position() == 2 && write(*step, 0, 50) && write(*step, 1, 150), "cache", "write");
    expect((*step).keys(1).size() == 11 && cache.keys(1).size() == 2, "cache", "a step's view has the new tokens");
    expect((*step).commit().ok() && cache.size() == 11, "cache", "commit");
  }
  const bool old = number(0, 0, 0, 0, 0) == 1 && number(1, 0, 1, 1, 4) == 120 && number(0, 1, 1, 1, 7) == -32;
  expect(old && number(1, 0, 1, 2, 3) == 158, "cache", "rows survive growth");
  expect(cache.truncate(2).ok() && cache.size() == 2 && cache.keys(0).size() == 2, "cache", "truncate forgets");
  expect(!cache.truncate(3).ok(), "cache", "truncate refuses what was never seen");
  const heed::CacheBytes bytes = cache.bytes();
  // A bf16 row of 5 takes 10 bytes and one of 8 takes 16; both are stored in 16.
  expect(bytes.live == 2 * 2 * 2 * (16 + 16), "cache", "live bytes");
  expect(bytes.allocated == held && bytes.peak > held, "cache", "allocated and peak bytes");
  expect(cache.row_bytes_per_token() == 2 * 2 * (10 + 16), "cache", "bytes per token");
}

}  // namespace

int main() {
  codecs();
  merges();
  softmax();
  rotations();
  windows();
  cache();
  return killer::failures == 0 ? 0 : 1;
}
