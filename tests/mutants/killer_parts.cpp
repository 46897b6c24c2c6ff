// Kills mutants outside the kernel: codecs, the merge of results, rotations and windows, each by itself.
#include <cfenv>
#include <cstring>

#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>
#include <heed/kernel/softmax_state.hpp>
#include <heed/retention/window.hpp>
#include <heed/rope/rope.hpp>
#if defined(KILLER_XSIMD)
#include <heed/simd/vector_xsimd.hpp>
#endif

#include "exec/flush_subnormals.hpp"
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
    const float small_tie = float(2 * (i % 500) + 1) * 0x1p-25f;
    small &= stored(heed::F16{}, small_tie) == float(oracle::round_to_f16(small_tie));
  }
  expect(bf16, "codec", "bf16 rounds to nearest even");
  expect(f16, "codec", "f16 rounds to nearest even");
  expect(small, "codec", "f16 has subnormals");
  bool nearest = true;
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::fesetround(mode);
    for (int i = 0; i < 2000; ++i) {
      const volatile float x = float(i) * 0x1p-27f, y = float(i) * 0x1p-12f;
      const float f16_x = stored(heed::F16{}, x), f16_y = stored(heed::F16{}, y), bf16_y = stored(heed::Bf16{}, y);
      std::fesetround(FE_TONEAREST);
      nearest &= f16_x == float(oracle::round_to_f16(x)) && f16_y == float(oracle::round_to_f16(y));
      nearest &= bf16_y == float(oracle::round_to_bf16(y));
      std::fesetround(mode);
    }
  }
  std::fesetround(FE_TONEAREST);
  expect(nearest, "codec", "f16 in every rounding mode");
  {
    const heed_test::FlushSubnormals flush;
    bool exact = true;
    for (std::uint16_t bits = 0; bits < 0x400; ++bits) exact &= heed::F16::to_float(bits) == float(bits) * 0x1p-24f;
    expect(exact, "codec", "f16 subnormals where they are flushed");
#if defined(KILLER_XSIMD)
    using V = heed::XsimdVector<>;
    for (std::uint16_t bits = 0; bits < 0x400; bits = std::uint16_t(bits + V::width)) {
      std::uint16_t from[V::width];
      float to[V::width];
      for (int i = 0; i < V::width; ++i) from[i] = std::uint16_t(bits + i);
      V::store(to, heed::F16::Reader<V>::load(reinterpret_cast<const std::byte*>(from), 0));
      for (int i = 0; i < V::width; ++i) exact &= to[i] == float(from[i]) * 0x1p-24f;
    }
    expect(exact, "codec", "vectors of f16 subnormals where they are flushed");
#endif
  }
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

/// Options that are wrong, alone or together, make no rope.
void rope_options() {
  const auto refused = [](heed::RopeOptions options) {
    options.layout = heed::RopeLayout::half_split;
    options.table_positions = 0;
    return !heed::Rope::create(options).ok();
  };
  expect(!refused({.head_dim = 8, .rotary_dim = 4, .rotary_offset = 4, .theta = 1e4}), "rope: options",
         "the last four");
  expect(refused({.head_dim = 8, .rotary_dim = 4, .rotary_offset = 6, .theta = 1e4}), "rope: options",
         "beyond the row");
  expect(refused({.head_dim = 8, .rotary_dim = 3, .theta = 1e4}), "rope: options", "half a pair");
  expect(refused({.head_dim = 8, .theta = 0}), "rope: options", "a theta of 0");
  expect(refused({.head_dim = 8, .theta = 1e4, .linear_factor = 0}), "rope: options", "a factor of 0");
  expect(refused({.head_dim = 8, .theta = 1e-300, .linear_factor = 1e-300}), "rope: frequency", "infinite");
  const auto stretched = [](double mscale) {
    return heed::Yarn{.factor = 2, .original_max_position = 64, .mscale = mscale};
  };
  expect(!refused({.head_dim = 8, .theta = 1e4, .yarn = stretched(1)}), "rope: amplitude", "of today's models");
  expect(refused({.head_dim = 8, .theta = 1e4, .yarn = stretched(1e300)}), "rope: amplitude", "1e299");
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
      if (first < 30) expect((first >= window.recall({.next = 30}).begin) == kept, "window", "keep");
    }
  }
}

}  // namespace

int main() {
  codecs();
  merges();
  softmax();
  rotations();
  rope_options();
  windows();
  return killer::failures == 0 ? 0 : 1;
}
