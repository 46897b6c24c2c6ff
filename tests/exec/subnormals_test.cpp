/// \file
/// A host that flushes subnormal numbers gets one answer: f16 rows keep theirs, and decode, prefill and every worker agree.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/compiled.hpp>
#include <heed/heed.hpp>

#include "exec/flush_subnormals.hpp"

namespace heed_test::subnormals_test {
namespace {

using heed::Index;

/// The number an f16 pattern means, by the definition of the format.
double f16_number(int bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

/// Every pattern, through the scalar codec and through both ways vectors take.
TEST(Subnormals, F16IsWidenedExactlyWhereTheyAreFlushed) {
  const FlushSubnormals flush;
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = std::uint16_t(i);
  std::vector<float> scalar(65536), loaded(65536), packed(65536);
  const auto* bytes = reinterpret_cast<const std::byte*>(patterns.data());
  heed::F16::decode(bytes, 65536, scalar.data());
#if HEED_HAS_XSIMD
  using V = heed::XsimdVector<>;
  using Read = heed::F16::Reader<V>;
  for (Index i = 0; i < 65536; i += V::width) V::store(loaded.data() + i, Read::load(bytes, i));
  for (Index i = 0; i < 65536; i += 2 * V::width) {
    const V::Reg words = V::load_words(bytes + 2 * i);
    float first[V::width], second[V::width];
    V::store(first, Read::number(&words, 0));
    V::store(second, Read::number(&words, 1));
    for (Index j = 0; j < V::width; ++j) {
      packed[std::size_t(i + 2 * j)] = first[j];
      packed[std::size_t(i + 2 * j + 1)] = second[j];
    }
  }
#else
  loaded = packed = scalar;
#endif
  Index wrong = 0;
  for (int i = 0; i < 65536; ++i) {
    const double want = f16_number(i);
    for (const float got : {scalar[std::size_t(i)], loaded[std::size_t(i)], packed[std::size_t(i)]}) {
      // By its bits: a comparison would flush, too.
      const auto bits = std::bit_cast<std::uint32_t>(got);
      const auto expected = std::bit_cast<std::uint32_t>(float(want));
      wrong += std::isnan(want) ? (bits & 0x7fffffffu) <= 0x7f800000u : bits != expected;
    }
  }
  EXPECT_EQ(wrong, 0);
}

/// Numbers of all sizes, half of them subnormal in what they are stored as.
template <class C>
std::vector<float> rows(Index numbers, unsigned seed) {
  std::vector<float> made;
  std::uint32_t state = seed;
  for (Index i = 0; i < numbers; ++i) {
    state = state * 1664525u + 1013904223u;
    const std::uint32_t random = state >> 8;
    float number = float(random % 2000) / 1000 - 1;
    if ((random & 1u) != 0) {
      number = std::bit_cast<float>((random << 8) & 0x807fffffu);
      if constexpr (std::is_same_v<C, heed::F16>) number = float(int(random % 2047) - 1023) * 0x1p-24f;
    }
    made.push_back(number);
  }
  return made;
}

template <class Backend, class C>
void expect_one_answer(const char* name) {
  SCOPED_TRACE(name);
  constexpr Index keys = 300, queries = 40, heads = 4, kv_heads = 2, width = 24;
  const heed::Gqa policy{.num_heads = heads, .num_kv_heads = kv_heads, .head_dim = width, .scale = 0x1p-3f};
  const auto k = rows<C>(keys * kv_heads * width, 1), v = rows<C>(keys * kv_heads * width, 2);
  auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, C>::create(policy, {}));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(keys)));
  ASSERT_TRUE(step.write(0, k, v).ok() && step.commit().ok());
  const auto source = cache.keys(0);
  // Queries large enough that products with f16's subnormals decide the weights.
  std::vector<float> q(std::size_t(queries * heads * width));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = float(int(i * 37 % 101) - 50) * (i % 3 == 0 ? 0x1p12f : 0x1p-2f);
  const auto serial = heed::value_or_throw(heed::ThreadPool::create(1)),
             pool = heed::value_or_throw(heed::ThreadPool::create(3));
  heed::Workspace workspace;
  const auto run = [&](heed::ThreadPool& executor, Index first, Index count, std::vector<float>& out) {
    std::vector<Index> positions;
    for (Index i = 0; i < count; ++i) positions.push_back(keys - queries + first + i);
    const auto part = [&](auto& all) {
      return std::span(all).subspan(std::size_t(first * heads * width), std::size_t(count * heads * width));
    };
    ASSERT_TRUE(heed::attend<Backend>(policy, part(std::as_const(q)), source, heed::Causal{}, part(out), workspace,
                                      executor, {}, {}, positions)
                    .ok());
  };
  const FlushSubnormals flush;
  std::vector<float> prefill(q.size()), decode(q.size()), threaded(q.size());
  run(*serial, 0, queries, prefill);
  for (Index i = 0; i < queries; ++i) run(*serial, i, 1, decode);
  for (int repeat = 0; repeat < 20; ++repeat) {
    run(*pool, 0, queries, threaded);
    EXPECT_EQ(std::memcmp(prefill.data(), threaded.data(), q.size() * sizeof(float)), 0) << "threads";
  }
  Index differ = 0;
  for (std::size_t i = 0; i < q.size(); ++i) {
    differ += std::bit_cast<std::uint32_t>(prefill[i]) != std::bit_cast<std::uint32_t>(decode[i]);
  }
  EXPECT_EQ(differ, 0) << "of " << q.size() << " outputs of decode steps";
}

TEST(Subnormals, DecodePrefillAndThreadsAgreeWhereTheyAreFlushed) {
  expect_one_answer<heed::Scalar, heed::F16>("scalar f16");  // its subnormals are numbers of other bits
  heed::Codecs::for_each([]<class C>() { expect_one_answer<heed::DefaultBackend, C>(C::name); });
}

}  // namespace
}  // namespace heed_test::subnormals_test
