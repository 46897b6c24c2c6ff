/// \file
/// A host may round as it likes, and flush subnormal numbers: rows are stored and read the same.
#include <gtest/gtest.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <vector>

#include <heed/compiled.hpp>
#include <heed/heed.hpp>

#include "codec/vectors.hpp"
#include "exec/flush_subnormals.hpp"
#include "oracle/random.hpp"
#include "sanitizers.hpp"

namespace heed_test::rounding_modes_test {
namespace {

using heed::Index;

/// A rounding mode, for a while.
class Rounding {
 public:
  explicit Rounding(int mode) { EXPECT_EQ(std::fesetround(mode), 0); }
  ~Rounding() { std::fesetround(before_); }
  Rounding(const Rounding&) = delete;
  Rounding& operator=(const Rounding&) = delete;

 private:
  int before_ = std::fegetround();
};

/// Numbers of every size and sign, most of them around what f16 rounds: all exponents, fractions at and next to midpoints.
std::vector<float> numbers() {
  std::vector<float> made;
  for (std::uint32_t exponent = 0; exponent < 256; ++exponent) {
    for (std::uint32_t i = 0; i < 4096; i += std::uint32_t(one_of(7))) {
      for (const std::uint32_t last : {0u, 1u, 0x7ffu}) {
        for (const std::uint32_t sign : {0u, 1u}) {
          made.push_back(std::bit_cast<float>(sign << 31 | exponent << 23 | i << 11 | last));
        }
      }
    }
  }
  return made;
}

/// Encodes with vectors of type V, and decodes, runs of other lengths, so that loops of vectors and their rests take part.
template <class C, class V>
void expect_stored_alike(double (*round)(double)) {
  const std::vector<float> all = numbers();
  const auto store = [&](std::vector<std::byte>& bytes, std::vector<float>& back) {
    const auto size = std::size_t(C::element_bytes);
    for (std::size_t first = 0, run = 1; first < all.size(); first += run, run = run % 61 + 1) {
      const std::size_t n = std::min(run, all.size() - first);
      C::template encode_by<V>(all.data() + first, Index(n), bytes.data() + first * size);
      C::decode(bytes.data() + first * size, Index(n), back.data() + first);
    }
  };
  std::vector<std::byte> want_bytes(all.size() * std::size_t(C::element_bytes));
  std::vector<float> want(all.size());
  store(want_bytes, want);
  for (std::size_t i = 0; i < all.size(); i += 7) {
    if (std::isnan(all[i])) continue;
    ASSERT_EQ(double(want[i]), round(double(all[i]))) << all[i];
  }
  for (const int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    for (const bool flushes : {false, true}) {
      std::vector<std::byte> bytes(want_bytes.size());
      std::vector<float> back(all.size());
      {
        const Rounding rounding(mode);
        if (flushes) {
          const FlushSubnormals flush;
          store(bytes, back);
        } else {
          store(bytes, back);
        }
      }
      Index stored = 0, read = 0;
      for (std::size_t i = 0; i < all.size(); ++i) {
        const auto at = i * std::size_t(C::element_bytes);
        stored += std::memcmp(bytes.data() + at, want_bytes.data() + at, std::size_t(C::element_bytes)) != 0;
        read += std::memcmp(&back[i], &want[i], sizeof(float)) != 0;
      }
      EXPECT_EQ(stored, 0) << "stored otherwise, mode " << mode << ", flushes " << flushes;
      EXPECT_EQ(read, 0) << "read otherwise, mode " << mode << ", flushes " << flushes;
    }
  }
}

template <class V>
class StoredRows : public testing::Test {};
TYPED_TEST_SUITE(StoredRows, Vectors);

TYPED_TEST(StoredRows, AreRoundedToNearestInEachMode) {
  expect_stored_alike<heed::F16, TypeParam>(oracle::round_to_f16);
  expect_stored_alike<heed::Bf16, TypeParam>(oracle::round_to_bf16);
  expect_stored_alike<heed::F32, TypeParam>([](double x) { return x; });
}

/// As the kernel reads rows: numbers from memory, and numbers inside the words of a register.
template <class V>
void expect_read_alike() {
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = std::uint16_t(i);
  const auto* const bytes = reinterpret_cast<const std::byte*>(patterns.data());
  const auto read = [&]<class C>(C) {
    std::vector<float> all(4 * 65536);
    for (Index i = 0; i + 2 * V::width <= 65536; i += V::width) {
      const auto words = V::load_words(bytes + 2 * i);
      V::store(all.data() + i, C::template Reader<V>::load(bytes, i));
      V::store(all.data() + 65536 + i, C::template Reader<V>::number(&words, 0));
      V::store(all.data() + 2 * 65536 + i, C::template Reader<V>::number(&words, 1));
    }
    return all;
  };
  const auto f16 = read(heed::F16{}), bf16 = read(heed::Bf16{});
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::vector<float> f16_now, bf16_now;
    {
      const Rounding rounding(mode);
      f16_now = read(heed::F16{});
      bf16_now = read(heed::Bf16{});
    }
    EXPECT_EQ(std::memcmp(f16.data(), f16_now.data(), f16.size() * sizeof(float)), 0) << mode;
    EXPECT_EQ(std::memcmp(bf16.data(), bf16_now.data(), bf16.size() * sizeof(float)), 0) << mode;
  }
}

TEST(RoundingModes, VectorsReadRowsAlike) {
  EXPECT_EQ(heed::F16::to_float(1), 0x1p-24f);
#if HEED_HAS_XSIMD
  expect_read_alike<heed::XsimdVector<>>();
#endif
#if HEED_HAS_EIGEN
  expect_read_alike<heed::EigenVector>();
#endif
}

/// The arithmetic between them follows the host: the answer is near that of rounding to nearest, and the same for decode,
/// prefill and every worker.
TEST(RoundingModes, AttentionAnswersInEach) {
  constexpr Index keys = 300, queries = 20, heads = 4, kv_heads = 2, width = 24;
  const heed::Gqa policy{.num_heads = heads, .num_kv_heads = kv_heads, .head_dim = width, .scale = 0x1p-3f};
  std::vector<float> k(keys * kv_heads * width), v(k.size()), q(queries * heads * width);
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = float(i * 37 % 101) / 50 - 1, v[i] = float(i * 41 % 103) / 50 - 1;
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = float(i * 43 % 97) / 24 - 2;
  auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  const auto run = [&](Index at_once, std::vector<float>& out) {
    heed::Workspace workspace;
    auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, heed::F16>::create(policy, {}));
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(keys)));
    heed::check(step.write(0, k, v));
    heed::check(step.commit());
    for (Index first = 0; first < queries; first += at_once) {
      std::vector<Index> positions;
      for (Index i = 0; i < at_once; ++i) positions.push_back(keys - queries + first + i);
      const auto begin = std::size_t(first * heads * width), count = std::size_t(at_once * heads * width);
      heed::check(heed::attend<heed::DefaultBackend>(
          policy, std::span<const float>(q).subspan(begin, count), cache.keys(0), heed::Causal{},
          std::span(out).subspan(begin, count), workspace, *pool, {}, {}, positions));
    }
  };
  std::vector<float> nearest(q.size());
  run(queries, nearest);
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::vector<float> prefill(q.size()), decode(q.size());
    {
      const Rounding rounding(mode);
      run(queries, prefill);
      run(1, decode);
    }
    EXPECT_EQ(std::memcmp(prefill.data(), decode.data(), q.size() * sizeof(float)), 0) << mode;
    float worst = 0;
    for (std::size_t i = 0; i < q.size(); ++i) worst = std::max(worst, std::abs(prefill[i] - nearest[i]));
    EXPECT_TRUE(worst < 1e-5f) << worst << " in mode " << mode;
  }
}

}  // namespace
}  // namespace heed_test::rounding_modes_test
