/// \file
/// The laws of a backend: every tile function gives the bits of simd/scalar.hpp where the ISA fuses multiply and add.
/// One file per backend instantiates them.
#pragma once

#include <heed/rope/rope.hpp>

#include "lists/plain_codecs.hpp"
#include "simd/tiles.hpp"

namespace heed_test {

template <class Backend>
class TileLaws : public testing::Test {};
TYPED_TEST_SUITE_P(TileLaws);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TileLaws);  // there may be neither xsimd nor Eigen

TYPED_TEST_P(TileLaws, PackKeys) {
  oracle::Random random(1);
  PlainCodecs::for_each([&]<class C>() {
    for (int i = 0; i < 60; ++i) {
      const Index count = 1 + random.below(heed::panel_keys), width = 1 + random.below(i % 8 == 0 ? 600 : 80);
      const Index view = i % 3 * random.below(40);
      const Rows<C> rows(random, count, view + width, C::row_bytes(view + width));
      std::vector<float> got(std::size_t(width * heed::panel_keys), nan), want = got;
      TypeParam::template pack_keys<C>(rows.keys(view), width, got.data());
      Scalar::pack_keys<C>(rows.keys(view), width, want.data());
      for (Index d = 0; d < width; ++d) {
        ASSERT_TRUE(same(&got[std::size_t(d * heed::panel_keys)], &want[std::size_t(d * heed::panel_keys)], count))
            << C::name << " count " << count << " width " << width << " dim " << d;
      }
    }
  });
}

TYPED_TEST_P(TileLaws, DecodeRows) {
  oracle::Random random(12);
  PlainCodecs::for_each([&]<class C>() {
    for (int i = 0; i < 40; ++i) {
      const Index count = 1 + random.below(70), width = 1 + random.below(150);
      const Rows<C> rows(random, count, width, C::row_bytes(width));
      std::vector<float> got(std::size_t(count * width + 1), nan), want = got;
      TypeParam::template decode_rows<C>(rows.keys(), width, got.data());
      Scalar::decode_rows<C>(rows.keys(), width, want.data());
      ASSERT_TRUE(same(got.data(), want.data(), count * width + 1)) << C::name << " " << count << " rows of " << width;
    }
  });
}

TYPED_TEST_P(TileLaws, PackValues) {
  oracle::Random random(2);
  PlainCodecs::for_each([&]<class C>() {
    for (int i = 0; i < 60; ++i) {
      const Index count = 1 + random.below(heed::chunk_keys), dims = 1 + random.below(heed::panel_dims);
      const Index first = heed::panel_dims * random.below(3), view = i % 3 * random.below(40);
      const Index width = view + first + dims;
      const Rows<C> rows(random, count, width, C::row_bytes(width));
      std::vector<float> got(heed::chunk_keys * heed::panel_dims, nan), want = got;
      TypeParam::template pack_values<C>(rows.keys(view), first, dims, got.data());
      Scalar::pack_values<C>(rows.keys(view), first, dims, want.data());
      for (Index k = 0; k < count; ++k) {
        const Index padded = heed::round_up(dims, heed::state_align);
        ASSERT_TRUE(same(&got[std::size_t(k * heed::panel_dims)], &want[std::size_t(k * heed::panel_dims)], padded))
            << C::name << " count " << count << " first " << first << " dims " << dims << " key " << k;
      }
    }
  });
}

TYPED_TEST_P(TileLaws, ScoreRows) {
  oracle::Random random(3);
  PlainCodecs::for_each([&]<class C>() {
    for (int i = 0; i < 80; ++i) {
      const Index rows = 1 + random.below(TypeParam::few_rows), width = 1 + random.below(i % 8 == 0 ? 600 : 80);
      const Index count = 1 + random.below(heed::chunk_keys), stride = width + random.below(5);
      const Index view = i % 3 * random.below(40);
      const Rows<C> keys(random, count, view + width, C::offset_bytes(view) + heed::round_up(C::row_bytes(width), 64));
      const std::vector<float> q = random.gaussians(rows * stride);
      std::vector<float> got(std::size_t(rows * heed::chunk_keys), nan), want = got;
      TypeParam::template score_rows<C>(q.data(), stride, rows, keys.keys(view), width, 0.3f, got.data());
      Scalar::score_rows<C>(q.data(), stride, rows, keys.keys(view), width, 0.3f, want.data());
      for (Index r = 0; r < rows; ++r) {
        ASSERT_TRUE(same(&got[std::size_t(r * heed::chunk_keys)], &want[std::size_t(r * heed::chunk_keys)], count))
            << C::name << " rows " << rows << " count " << count << " width " << width;
      }
    }
  });
}

/// Where the number of an input and an output lies in panels of 64 outputs, the last one narrower.
inline Index panel_index(Index in, Index out, Index i, Index o) {
  Index before = 0;
  while (o >= 64) before += 64 * in, o -= 64, out -= 64;
  return before + i * std::min<Index>(out, 64) + o;
}

TYPED_TEST_P(TileLaws, Linear) {
  oracle::Random random(11);
  for (int i = 0; i < 240; ++i) {
    const bool is_bf16 = i % 2 == 1, panels = i / 2 % 2 == 1;
    const Index in = i % 10 == 0 ? 0 : 1 + random.below(i % 8 < 2 ? 600 : 80);
    const Index out = 1 + random.below(i % 8 > 5 ? 600 : 90), rows = 1 + random.below(20);
    const Index stride = out + random.below(5), x_stride = in + random.below(5), y_stride = out + random.below(5);
    std::vector<float> weights = random.gaussians(in * stride + 1);
    const std::vector<float> x = random.gaussians(rows * x_stride + 1);
    std::vector<std::uint16_t> halves;
    for (float& w : weights) {
      halves.push_back(heed::Bf16::from_float(w));
      if (is_bf16) w = heed::Bf16::to_float(halves.back());
    }
    std::vector<float> got(std::size_t(rows * y_stride), nan), want = got, widened = got, alone(std::size_t(out), nan);
    heed::Matrix floats{.data = weights.data(), .in = in, .out = out, .stride = stride, .panels = panels}, m = floats;
    if (is_bf16) m.data = nullptr, m.bf16 = halves.data();
    TypeParam::linear(m, rows, x.data(), x_stride, got.data(), y_stride);
    Scalar::linear(m, rows, x.data(), x_stride, want.data(), y_stride);
    ASSERT_TRUE(same(got.data(), want.data(), rows * y_stride)) << in << " to " << out << ", " << rows << " rows";
    TypeParam::linear(floats, rows, x.data(), x_stride, widened.data(), y_stride);
    ASSERT_TRUE(same(got.data(), widened.data(), rows * y_stride)) << "of floats";
    const Index row = random.below(rows);
    TypeParam::linear(m, 1, x.data() + row * x_stride, x_stride, alone.data(), out);
    ASSERT_TRUE(same(alone.data(), &got[std::size_t(row * y_stride)], out)) << "row " << row << " alone";
    if (!panels) continue;
    // The same numbers as a matrix of one panel after the other.
    std::vector<float> plain(std::size_t(in * out + 1));
    for (Index a = 0; a < in; ++a) {
      for (Index o = 0; o < out; ++o)
        plain[std::size_t(a * out + o)] = weights[std::size_t(panel_index(in, out, a, o))];
    }
    TypeParam::linear({.data = plain.data(), .in = in, .out = out}, rows, x.data(), x_stride, widened.data(), y_stride);
    ASSERT_TRUE(same(got.data(), widened.data(), rows * y_stride)) << "without panels";
  }
}

/// Keys that turn while they are scored have the scores of turned keys.
TYPED_TEST_P(TileLaws, ScoreTurnedRows) {
  oracle::Random random(14);
  PlainCodecs::for_each([&]<class C>() {
    for (int i = 0; i < 60; ++i) {
      const bool interleaved = i % 2 == 1;
      const Index step = interleaved ? 32 : 64, blocks = 1 + random.below(3), after = 32 * random.below(3);
      const heed::RopeOptions options{
          .head_dim = 32 * (i % 3) + step * blocks + after,
          .rotary_dim = step * blocks,
          .rotary_offset = 32 * (i % 3),
          .layout = interleaved ? heed::RopeLayout::interleaved : heed::RopeLayout::half_split,
          .theta = 1e4,
          .read_positions = 1000};
      const auto rope = heed::value_or_throw(heed::Rope::create(options));
      const Index width = options.head_dim, rows = 1 + random.below(TypeParam::few_rows);
      const Index count = 1 + random.below(heed::chunk_keys), position = 16 * random.below(40);
      const Index view = i % 3 * random.below(40);
      ASSERT_TRUE(TypeParam::template can_turn<C>(rope.turns(), width));
      const Rows<C> keys(random, count, view + width, C::offset_bytes(view) + heed::round_up(C::row_bytes(width), 64));
      const std::vector<float> q = random.gaussians(rows * width);
      std::vector<float> got(std::size_t(rows * heed::chunk_keys), nan), want = got;
      TypeParam::template score_turned_rows<C>(q.data(), width, rows, keys.keys(view), width, rope.turns(), position,
                                               0.3f, got.data());
      std::vector<float> turned(std::size_t(count * width));
      std::vector<const std::byte*> pointers;
      for (Index k = 0; k < count; ++k) {
        float* const key = turned.data() + k * width;
        C::codes(keys.keys(view).row[k], view, width, key);
        rope.apply(position + k, key);
        pointers.push_back(reinterpret_cast<const std::byte*>(key));
      }
      Scalar::score_rows<heed::F32>(q.data(), width, rows, {.row = pointers.data(), .count = count}, width, 0.3f,
                                    want.data());
      for (Index r = 0; r < rows; ++r) {
        ASSERT_TRUE(same(&got[std::size_t(r * heed::chunk_keys)], &want[std::size_t(r * heed::chunk_keys)], count))
            << C::name << " rows " << rows << " count " << count << " width " << width;
      }
    }
  });
}

TYPED_TEST_P(TileLaws, ScorePanel) {
  oracle::Random random(4);
  for (int i = 0; i < 80; ++i) {
    const Index rows = 1 + random.below(40), count = 1 + random.below(heed::panel_keys);
    const Index width = 1 + random.below(i % 8 == 0 ? 600 : 80), stride = width + random.below(5);
    const std::vector<float> q = random.gaussians(rows * stride), panel = random.gaussians(width * heed::panel_keys);
    std::vector<float> got(std::size_t(rows * heed::chunk_keys), nan), want = got;
    TypeParam::score_panel(q.data(), stride, rows, panel.data(), width, count, 0.3f, got.data(), {});
    Scalar::score_panel(q.data(), stride, rows, panel.data(), width, count, 0.3f, want.data(), {});
    for (Index r = 0; r < rows; ++r) {
      ASSERT_TRUE(same(&got[std::size_t(r * heed::chunk_keys)], &want[std::size_t(r * heed::chunk_keys)], count))
          << "rows " << rows << " count " << count << " width " << width;
    }
  }
}

/// Logits with holes, ties, infinities and NaN: the same weights, maximum and sum; a NaN makes the sum NaN.
TYPED_TEST_P(TileLaws, Softmax) {
  oracle::Random random(5);
  for (int i = 0; i < 400; ++i) {
    const Index count = 1 + random.below(heed::chunk_keys);
    std::vector<float> got = random.gaussians(heed::chunk_keys, i % 3 == 0 ? 100 : 3);
    const double hidden = random.uniform();
    for (float& x : got) {
      if (i % 4 == 1 && random.uniform() < hidden) x = -infinity;
      if (i % 4 == 2) x = std::round(x);
    }
    if (i % 10 == 9) std::fill(got.begin(), got.end(), -infinity);
    const bool bad = i % 7 == 6;
    if (bad) got[std::size_t(random.below(count))] = i % 2 == 0 ? nan : infinity;
    std::vector<float> want = got;
    const heed::ChunkSum a = TypeParam::softmax(got.data(), count), b = Scalar::softmax(want.data(), count);
    ASSERT_TRUE(same(a.max, b.max) && same(a.sum, b.sum)) << count << ": " << a.max << " " << b.max;
    ASSERT_EQ(std::isnan(a.sum), bad) << count;
    if (!bad) {
      ASSERT_TRUE(same(got.data(), want.data(), heed::round_up(count, 16))) << count;
    }
  }
}

TYPED_TEST_P(TileLaws, AddBias) {
  oracle::Random random(6);
  for (int i = 0; i < 50; ++i) {
    const Index count = 1 + random.below(heed::chunk_keys);
    std::vector<float> got = random.gaussians(heed::chunk_keys), want = got,
                       position = random.gaussians(heed::chunk_keys, 100);
    TypeParam::add_bias(got.data(), count, 0.37f, position.data(), -1234.0f);
    Scalar::add_bias(want.data(), count, 0.37f, position.data(), -1234.0f);
    ASSERT_TRUE(same(got.data(), want.data(), count)) << count;
  }
}

/// Not the same bits: tanh is each backend's own. Two roundings and the 4 ulp of tanh.
TYPED_TEST_P(TileLaws, SoftCap) {
  oracle::Random random(7);
  for (const float cap : {0.5f, 30.0f, 1000.0f}) {
    std::vector<float> s = random.gaussians(heed::chunk_keys, cap);
    const std::vector<float> in = s;
    TypeParam::soft_cap(s.data(), heed::chunk_keys, cap);
    for (std::size_t k = 0; k < s.size(); ++k) {
      const double want = double(cap) * std::tanh(double(in[k]) / double(cap));
      ASSERT_TRUE(std::abs(double(s[k]) - want) <= 6 * 0x1p-23 * std::abs(want)) << in[k] << " cap " << cap;
    }
  }
}

TYPED_TEST_P(TileLaws, AccumulatePanel) {
  oracle::Random random(8);
  for (int i = 0; i < 80; ++i) {
    const Index rows = 1 + random.below(30), dims = 1 + random.below(heed::panel_dims), first = 64 * random.below(3);
    const heed::Interval keys{random.below(100), 100 + random.below(157)};
    const std::vector<float> p = random.gaussians(rows * heed::chunk_keys);
    const std::vector<float> panel = random.gaussians(heed::chunk_keys * heed::panel_dims);
    const heed::Accumulate phase{.resume = random.below(2) == 0, .finish = random.below(2) == 0};
    Targets got(std::uint64_t(i), rows), want(std::uint64_t(i), rows);
    TypeParam::accumulate_panel(p.data(), rows, panel.data(), keys, first, dims, got.rows.data(), phase, {});
    Scalar::accumulate_panel(p.data(), rows, panel.data(), keys, first, dims, want.rows.data(), phase, {});
    for (Index r = 0; r < rows; ++r) {
      const auto at = std::size_t(r * Targets::width);
      ASSERT_TRUE(same(&got.out[at + std::size_t(first)], &want.out[at + std::size_t(first)], dims))
          << "rows " << rows << " dims " << dims;
      ASSERT_TRUE(same(&got.out[at], &want.out[at], first)) << "wrote before its dims";
    }
  }
}

TYPED_TEST_P(TileLaws, AccumulateRows) {
  oracle::Random random(9);
  PlainCodecs::for_each([&]<class C>() {
    for (int i = 0; i < 80; ++i) {
      const Index rows = 1 + random.below(TypeParam::few_rows), dims = 1 + random.below(200);
      const Index count = 1 + random.below(heed::chunk_keys), begin = random.below(count + 1);
      const heed::Interval keys{begin, begin + random.below(count - begin + 1)};  // may be empty
      const Index view = i % 3 * random.below(40);
      const Rows<C> values(random, count, view + dims, C::offset_bytes(view) + heed::round_up(C::row_bytes(dims), 64));
      const std::vector<float> p = random.gaussians(rows * heed::chunk_keys);
      const heed::Accumulate phase{.resume = random.below(2) == 0, .finish = random.below(2) == 0};
      Targets got(std::uint64_t(i), rows), want(std::uint64_t(i), rows);
      TypeParam::template accumulate_rows<C>(p.data(), rows, values.keys(view), keys, 0, dims, got.rows.data(), phase);
      Scalar::accumulate_rows<C>(p.data(), rows, values.keys(view), keys, 0, dims, want.rows.data(), phase);
      for (Index r = 0; r < rows; ++r) {
        const auto at = std::size_t(r * Targets::width);
        ASSERT_TRUE(same(&got.out[at], &want.out[at], dims)) << C::name << " rows " << rows << " dims " << dims;
        const auto padded = std::size_t(heed::round_up(dims, heed::state_align));
        ASSERT_TRUE(same(&got.out[at + padded], &want.out[at + padded], Targets::width - Index(padded)))
            << "wrote beyond its dims";
      }
    }
  });
}

TYPED_TEST_P(TileLaws, FinishAndMerge) {
  oracle::Random random(10);
  for (int i = 0; i < 50; ++i) {
    const Index rows = 1 + random.below(9), dims = 1 + random.below(200);
    Targets got(std::uint64_t(i), rows), want(std::uint64_t(i), rows);
    TypeParam::finish(got.rows.data(), rows, dims);
    Scalar::finish(want.rows.data(), rows, dims);
    for (Index r = 0; r < rows; ++r) {
      ASSERT_TRUE(same(got.rows[std::size_t(r)].out, want.rows[std::size_t(r)].out, dims)) << rows << " " << dims;
    }
    std::vector<float> a = random.gaussians(208), b = random.gaussians(208), c = a;
    TypeParam::merge(0.3f, a.data(), 0.7f, b.data(), dims, a.data());  // in place, as the tree does
    Scalar::merge(0.3f, c.data(), 0.7f, b.data(), dims, c.data());
    ASSERT_TRUE(same(a.data(), c.data(), dims));
  }
}

/// All 16-bit patterns, through both ways that rows are read.
TYPED_TEST_P(TileLaws, WidensEveryHalf) {
  PlainCodecs::for_each([&]<class C>() {
    if constexpr (sizeof(typename C::Element) == 2) {
      std::vector<std::uint16_t> patterns(65536);
      for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = std::uint16_t(i);
      std::vector<const std::byte*> row;
      for (std::size_t i = 0; i < 65536; i += 64) row.push_back(reinterpret_cast<const std::byte*>(&patterns[i]));
      std::vector<float> panel(heed::chunk_keys * heed::panel_dims), keys(64 * heed::panel_keys);
      for (std::size_t first = 0; first < row.size(); first += 64) {
        const heed::KeyRows rows{row.data() + first, nullptr, 64};
        TypeParam::template pack_values<C>(rows, 0, 64, panel.data());
        TypeParam::template pack_keys<C>(rows, 64, keys.data());
        for (std::size_t i = 0; i < 64 * 64; ++i) {
          const float want = C::to_float(std::uint16_t(first * 64 + i));
          ASSERT_TRUE(same(panel[i], want)) << C::name << " " << first * 64 + i;
          ASSERT_TRUE(same(keys[i % 64 * heed::panel_keys + i / 64], want)) << C::name << " " << first * 64 + i;
        }
      }
    }
  });
}

REGISTER_TYPED_TEST_SUITE_P(TileLaws, Linear, PackKeys, PackValues, DecodeRows, ScoreRows, ScoreTurnedRows, ScorePanel,
                            Softmax, AddBias, SoftCap, AccumulatePanel, AccumulateRows, FinishAndMerge,
                            WidensEveryHalf);

}  // namespace heed_test
